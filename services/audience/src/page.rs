//! Pages of lists: sizes, and tokens that are the key of the last entry.

use crate::error::AudienceError;

/// The size of a page: the default when none is asked for, at most `most`.
pub(crate) fn size(asked: i32, default: usize, most: usize) -> Result<usize, AudienceError> {
    match usize::try_from(asked) {
        Ok(0) => Ok(default),
        Ok(size) => Ok(size.min(most)),
        Err(_) => Err(AudienceError::field("page_size", "is negative: use 0 for the default")),
    }
}

/// Cuts what was read down to a page. `entries` were read after the token's key, one more than the page holds if there are more; answers
/// with the token of the next page, empty at the end.
pub(crate) fn cut<T>(entries: &mut Vec<T>, size: usize, key: impl FnOnce(&T) -> String) -> String {
    if entries.len() <= size {
        return String::new();
    }
    entries.truncate(size);
    entries.last().map(key).unwrap_or_default()
}
