//! Pages of lists: sizes, and tokens that are the key of the last entry.

use crate::IngestError;

/// The size of a page: the default when none is asked for, at most `most`.
pub(crate) fn size(asked: i32, default: usize, most: usize) -> Result<usize, IngestError> {
    match usize::try_from(asked) {
        Ok(0) => Ok(default),
        Ok(size) => Ok(size.min(most)),
        Err(_) => Err(IngestError::invalid("page_size", "is negative: use 0 for the default")),
    }
}

/// The fault of a token that no list gave out.
pub(crate) fn bad_token() -> IngestError {
    IngestError::invalid("page_token", "is not one that this list gave out: begin without a token")
}

/// Cuts what was read down to a page. `entries` were read after the token's key, one more than the page holds if there are
/// more; answers with the token of the next page, empty at the end.
pub(crate) fn cut<T>(entries: &mut Vec<T>, size: usize, key: impl FnOnce(&T) -> String) -> String {
    if entries.len() <= size {
        return String::new();
    }
    entries.truncate(size);
    entries.last().map(key).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_has_no_token() {
        let mut entries = vec![1, 2, 3];
        assert_eq!(cut(&mut entries, 2, i32::to_string), "2");
        assert_eq!(entries, [1, 2]);
        assert_eq!(cut(&mut entries, 2, i32::to_string), "");
        assert!(size(-1, 1, 2).is_err());
        assert_eq!(size(7, 1, 2).ok(), Some(2));
    }
}
