//! Pages of lists: sizes, and tokens that are the key of the last entry.

use crate::fields::InvalidFields;

/// Entries of one page take no more than so many bytes as stored, however many were asked for: an answer has to fit into a message.
pub const BYTES_MAX: usize = 8 << 20;

/// The fault of a token that no list gave out.
pub fn bad_token() -> InvalidFields {
    InvalidFields::one("page_token", "is not one that this list gave out: begin without a token")
}

/// The size of a page: the default when none is asked for, at most `most`.
pub fn size(asked: i32, default: usize, most: usize) -> Result<usize, InvalidFields> {
    match usize::try_from(asked) {
        Ok(0) => Ok(default),
        Ok(size) => Ok(size.min(most)),
        Err(_) => Err(InvalidFields::one("page_size", "is negative: use 0 for the default")),
    }
}

/// Cuts what was read down to a page. `entries` were read after the token's key, one more than the page holds if there are more; answers
/// with the token of the next page, empty at the end.
pub fn cut<T>(entries: &mut Vec<T>, size: usize, key: impl FnOnce(&T) -> String) -> String {
    if entries.len() <= size {
        return String::new();
    }
    entries.truncate(size);
    entries.last().map(key).unwrap_or_default()
}

/// The same for entries of any size: a page holds no more than fit into [`BYTES_MAX`], but at least one.
pub fn cut_to_fit<T>(entries: &mut Vec<T>, size: usize, bytes: impl Fn(&T) -> usize, key: impl FnOnce(&T) -> String) -> String {
    let mut left = BYTES_MAX;
    let mut fitting = 0;
    for entry in entries.iter().take(size) {
        match left.checked_sub(bytes(entry)) {
            Some(rest) => left = rest,
            None if fitting == 0 => left = 0,
            None => break,
        }
        fitting += 1;
    }
    cut(entries, fitting, key)
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
        assert_eq!(size(0, 1, 2).ok(), Some(1));
        assert_eq!(size(7, 1, 2).ok(), Some(2));
    }

    #[test]
    fn large_entries_make_short_pages_that_are_never_empty() {
        let cut_of = |sizes: &[usize], size: usize| {
            let mut entries = sizes.to_vec();
            let token = cut_to_fit(&mut entries, size, |bytes| *bytes, usize::to_string);
            (entries.len(), token)
        };
        assert_eq!(cut_of(&[1, 2, 3], 3), (3, String::new()));
        assert_eq!(cut_of(&[1, 2, 3], 2), (2, "2".to_owned()));
        assert_eq!(cut_of(&[BYTES_MAX - 1, 1, 3], 3), (2, "1".to_owned()));
        assert_eq!(cut_of(&[BYTES_MAX + 1, 1], 2), (1, (BYTES_MAX + 1).to_string()));
        assert_eq!(cut_of(&[], 2), (0, String::new()));
    }
}
