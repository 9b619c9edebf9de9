//! Words that both directions share: how names are written, which field a bare name means, what operators and units are called.

use std::fmt::Write as _;

use segue_model::dimension;
use segue_proto::query::v1::{Field, Operator, TimeUnit, field};

use crate::lexer::is_word;

/// Words that stand where a name could: a name that is one of them is written in quotes.
const RESERVED: [&str; 26] = [
    "all",
    "and",
    "any",
    "anything",
    "contains",
    "did",
    "dimension",
    "does",
    "every",
    "exists",
    "false",
    "is",
    "item",
    "items",
    "never",
    "no",
    "not",
    "of",
    "one",
    "or",
    "property",
    "then",
    "true",
    "where",
    "with",
    "within",
];
/// Further ones after a name of an event in a sequence.
const RESERVED_BESIDE: [&str; 2] = ["without", "between"];

/// Built-in dimensions up to this code are meant by their bare name. Later ones are written with `dimension`, so that a text does not
/// change its meaning when a dimension is added.
const BARE_DIMENSION_CODE_MAX: u32 = 51;
/// Those without a code.
const BARE_DIMENSIONS: [&str; 2] = ["event", "source"];

/// Orders: the usual phrase, then others that mean the same.
pub(crate) const ORDERS: [(Operator, &[&str]); 4] = [
    (Operator::GreaterOrEqual, &["at least", ">=", "≥", "at or after"]),
    (Operator::LessOrEqual, &["at most", "<=", "≤", "at or before"]),
    (Operator::Greater, &["more than", ">", "after"]),
    (Operator::Less, &["less than", "<", "fewer than", "before"]),
];

/// How often: the usual phrase, then others that mean the same.
pub(crate) const AMOUNTS: [(Operator, &[&str]); 5] = [
    (Operator::GreaterOrEqual, &["at least"]),
    (Operator::LessOrEqual, &["at most"]),
    (Operator::Greater, &["more than"]),
    (Operator::Less, &["fewer than", "less than"]),
    (Operator::In, &["exactly"]),
];

/// Units of spans: of one, of several.
pub(crate) const UNITS: [(TimeUnit, &str, &str); 6] = [
    (TimeUnit::Second, "second", "seconds"),
    (TimeUnit::Minute, "minute", "minutes"),
    (TimeUnit::Hour, "hour", "hours"),
    (TimeUnit::Day, "day", "days"),
    (TimeUnit::Week, "week", "weeks"),
    (TimeUnit::Month, "month", "months"),
];

/// Whether a name is a word of the language where names stand.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.iter().chain(&RESERVED_BESIDE).any(|word| word.eq_ignore_ascii_case(name))
}

/// A name as it is written: bare where that can be read back, else in quotes.
pub(crate) fn name(name: &str) -> String {
    if is_word(name) && !is_reserved(name) { name.to_owned() } else { quoted(name) }
}

/// A text in quotes. Line breaks, control characters, and those that turn the direction of writing are escaped: what is seen is what is
/// meant.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ if is_unseen(character) => {
                // Writing to a string does not fail.
                let _ = write!(quoted, "\\u{{{:x}}}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

fn is_unseen(character: char) -> bool {
    let turns_or_joins = matches!(character, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}');
    character.is_control() || turns_or_joins || matches!(character, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Whether a name alone means the built-in dimension, not a property of the event.
pub(crate) fn is_bare_dimension(name: &str) -> bool {
    BARE_DIMENSIONS.contains(&name) || dimension::by_name(name).is_some_and(|known| known.code <= BARE_DIMENSION_CODE_MAX)
}

/// The field that a name alone means.
pub(crate) fn bare_field(name: String) -> Field {
    let field = if is_bare_dimension(&name) { field::Field::Dimension(name) } else { field::Field::Property(name) };
    Field { field: Some(field) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_quotes_where_they_would_read_as_something_else() {
        for (plain, written) in [
            ("df_purchase", "df_purchase"),
            ("price", "price"),
            ("Where", "\"Where\""),
            ("Order Completed", "\"Order Completed\""),
            ("", "\"\""),
            ("a\"b\u{202e}c\u{7}", "\"a\\\"b\\u{202e}c\\u{7}\""),
        ] {
            assert_eq!(name(plain), written);
        }
    }

    #[test]
    fn a_later_dimension_needs_its_prefix() {
        assert!(is_bare_dimension("ad_partner") && is_bare_dimension("event") && !is_bare_dimension("df_keyword"));
        let later = dimension::DIMENSIONS.iter().filter(|known| known.code > BARE_DIMENSION_CODE_MAX);
        for known in later {
            assert!(!is_bare_dimension(known.name), "{}", known.name);
        }
    }
}
