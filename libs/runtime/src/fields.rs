//! What the fields of definitions may hold: ids, names, descriptions, masks. Faults are collected, so that all are told at once.

use prost_types::FieldMask;
use segue_model::FieldViolation;
use xxhash_rust::xxh3::xxh3_64;

const ID_BYTES_MAX: usize = 63;
const NAME_CHARS_MAX: usize = 200;
const DESCRIPTION_CHARS_MAX: usize = 2_000;

/// Fields of a request hold what they may not. The error enum of a service takes it in as its own `Invalid`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the request is invalid: {}", list(.0))]
pub struct InvalidFields(pub Vec<FieldViolation>);

impl InvalidFields {
    /// One wrong field.
    pub fn one(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self(vec![FieldViolation::new(field, description)])
    }
}

/// All violations on one line: each is its field, followed by what is wrong with it.
pub fn list(violations: &[FieldViolation]) -> String {
    violations.iter().map(|violation| format!("{} {}", violation.field, violation.description)).collect::<Vec<_>>().join("; ")
}

/// Whether something may have this id.
pub fn is_id(id: &str) -> bool {
    id.len() <= ID_BYTES_MAX
        && id.starts_with(|first: char| first.is_ascii_lowercase())
        && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

/// Adds a fault unless it is an id.
pub fn check_id(faults: &mut Vec<FieldViolation>, field: &str, id: &str) {
    if !is_id(id) {
        faults
            .push(FieldViolation::new(field, format!("1 to {ID_BYTES_MAX} characters of a-z, 0-9, '_' and '-', beginning with a letter")));
    }
}

/// Adds a fault unless it can be the name of something, for people.
pub fn check_name(faults: &mut Vec<FieldViolation>, field: &str, name: &str) {
    if name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        faults.push(FieldViolation::new(field, format!("1 to {NAME_CHARS_MAX} characters, without control characters")));
    }
}

/// Adds a fault unless it can be the description of something. May be empty.
pub fn check_description(faults: &mut Vec<FieldViolation>, field: &str, text: &str) {
    // PostgreSQL cannot store the NUL character.
    if text.chars().count() > DESCRIPTION_CHARS_MAX || text.contains('\0') {
        faults.push(FieldViolation::new(field, format!("at most {DESCRIPTION_CHARS_MAX} characters")));
    }
}

/// Fails if there are faults.
pub fn refuse(faults: Vec<FieldViolation>) -> Result<(), InvalidFields> {
    if faults.is_empty() { Ok(()) } else { Err(InvalidFields(faults)) }
}

/// Which fields are to be changed: those of the mask, without one all.
pub fn masked(mask: Option<&FieldMask>, changeable: &'static [&'static str]) -> Result<Vec<&'static str>, InvalidFields> {
    let paths = mask.map_or(&[][..], |mask| &mask.paths);
    if paths.is_empty() || paths == ["*"] {
        return Ok(changeable.to_vec());
    }
    let mut masked = Vec::new();
    let mut faults = Vec::new();
    for (at, path) in paths.iter().enumerate() {
        match changeable.iter().find(|field| *field == path) {
            Some(field) => masked.push(*field),
            None => {
                let allowed = changeable.join(", ");
                faults.push(FieldViolation::new(format!("update_mask.paths[{at}]"), format!("cannot be changed: use any of {allowed}")));
            }
        }
    }
    refuse(faults)?;
    Ok(masked)
}

/// Stands for one state of one thing: another state of it has another one, and so has every state of another thing.
pub fn etag(kind: &str, id: &str, revision: u64, updated_us: i64) -> String {
    format!("{revision}-{:08x}", xxh3_64(format!("{kind}/{id}/{revision}/{updated_us}").as_bytes()) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_words_that_begin_with_a_letter() {
        let longest = "a".repeat(63);
        for id in ["a", "big_spenders-2", longest.as_str()] {
            assert!(is_id(id), "{id}");
        }
        let too_long = "a".repeat(64);
        for id in ["", "1a", "_a", "-a", "A", "a b", "a.b", "é", "a\0", too_long.as_str()] {
            assert!(!is_id(id), "{id:?}");
        }
    }

    #[test]
    fn a_mask_names_what_may_be_changed_and_nothing_else() {
        const FIELDS: &[&str] = &["name", "condition"];
        let mask = |paths: &[&str]| masked(Some(&FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }), FIELDS);
        assert_eq!(masked(None, FIELDS).ok().as_deref(), Some(FIELDS));
        assert_eq!(mask(&[]).ok().as_deref(), Some(FIELDS));
        assert_eq!(mask(&["*"]).ok().as_deref(), Some(FIELDS));
        assert_eq!(mask(&["condition"]).ok(), Some(vec!["condition"]));
        let InvalidFields(faults) = mask(&["name", "id", "version"]).expect_err("not these");
        let told = "update_mask.paths[1] cannot be changed: use any of name, condition; update_mask.paths[2] cannot be changed: \
            use any of name, condition";
        assert_eq!(list(&faults), told);
        assert_eq!(faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), ["update_mask.paths[1]", "update_mask.paths[2]"]);
    }

    #[test]
    fn names_and_descriptions_are_counted_in_characters() {
        let told = |name: &str, description: &str| {
            let mut faults = Vec::new();
            check_name(&mut faults, "name", name);
            check_description(&mut faults, "description", description);
            faults.len()
        };
        assert_eq!(told(&"홍".repeat(200), &"홍".repeat(2_000)), 0);
        assert_eq!(told(&"a".repeat(201), &"a".repeat(2_001)), 2);
        assert_eq!(told(" ", "a\0"), 2);
        assert_eq!(told("a\nb", "a\nb"), 1);
    }
}
