//! The laws: what is written reads back as the same, and no text breaks the reader.

use proptest::prelude::*;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, HasIdentifier};
use segue_query::{NESTING_MAX, TEXT_BYTES_MAX, format, format_span, format_value, normalise, parse, parse_span};

use super::arbitrary;

/// What a text says is said again by its usual form.
fn is_stable(text: &str) -> Result<(), TestCaseError> {
    if let Ok(condition) = parse(text) {
        let usual = format(&condition).expect("what was read can be written");
        if usual.len() <= TEXT_BYTES_MAX {
            let again = parse(&usual).expect("what was written can be read");
            prop_assert_eq!(&normalise(&condition), &condition, "what is read is normal");
            prop_assert_eq!(&again, &condition);
            prop_assert_eq!(format(&again), Ok(usual));
        }
    }
    Ok(())
}

/// Pieces of which texts could be made.
fn pieces() -> impl Strategy<Value = String> {
    let words = "did never anything then where with within of items and or not ( ) , at least 3 times once days hours in the last from to \
        before below is one any every item no all \"a\" a 5 1.5 1e3 2026-01-01T00:00:00Z true sum price × quantity first touch trait has \
        email bucket exists does contain contains without between ever everyone json infinity persons base64";
    let words: Vec<&str> = words.split_whitespace().collect();
    proptest::collection::vec(proptest::sample::select(words), 0..30).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn what_is_written_reads_back_as_the_same(condition in arbitrary::condition()) {
        let text = format(&condition).expect("a text");
        let normal = normalise(&condition);
        prop_assert_eq!(&normalise(&normal), &normal);
        if text.len() <= TEXT_BYTES_MAX {
            let read = parse(&text).unwrap_or_else(|error| panic!("{error}"));
            prop_assert_eq!(&read, &normal, "{}", text);
            prop_assert_eq!(format(&read), Ok(text));
        }
    }

    #[test]
    fn no_text_breaks_the_reader(text in any::<String>()) {
        is_stable(&text)?;
        let _ = parse_span(&text);
    }

    #[test]
    fn no_text_of_the_language_s_words_breaks_the_reader(text in pieces()) {
        is_stable(&text)?;
    }

    #[test]
    fn no_change_of_a_text_breaks_the_reader(
        condition in arbitrary::condition(),
        at in any::<prop::sample::Index>(),
        length in 0_usize..20,
        put in prop_oneof![any::<String>(), pieces()],
    ) {
        let text = format(&condition).expect("a text");
        let mut characters: Vec<char> = text.chars().collect();
        let start = at.index(characters.len());
        let end = (start + length).min(characters.len());
        characters.splice(start..end, put.chars());
        is_stable(&characters.into_iter().collect::<String>())?;
    }

    #[test]
    fn the_place_of_a_fault_lies_in_the_text(text in prop_oneof![pieces(), any::<String>()]) {
        if let Err(error) = parse(&text) {
            prop_assert!(text.is_char_boundary(error.byte()));
            prop_assert_eq!(text.chars().count() + 1 >= error.character(), true);
            prop_assert_eq!(text[..error.byte()].chars().count() + 1, error.character());
            prop_assert_eq!(error.to_string().lines().count(), 3, "{}", error);
        }
    }

    #[test]
    fn values_and_spans_read_back_by_themselves(value in arbitrary::value(), span in arbitrary::span()) {
        prop_assert_eq!(parse_span(&format_span(&span).expect("a text")), Ok(span));
        let text = format!("trait t is {}", format_value(&value).expect("a text"));
        let Some(Node::Attribute(attribute)) = parse(&text).expect("a condition").node else { panic!("no attribute: {text}") };
        prop_assert_eq!(attribute.values, vec![value]);
    }
}

fn nested(levels: usize) -> Condition {
    let mut condition = Condition { node: Some(Node::HasIdentifier(HasIdentifier { kind: "email".to_owned() })) };
    for _ in 0..levels {
        condition = Condition { node: Some(Node::Not(Box::new(condition))) };
    }
    condition
}

#[test]
fn what_is_nested_as_deep_as_may_be_reads_back() {
    let deepest = nested(NESTING_MAX);
    assert_eq!(parse(&format(&deepest).expect("a text")), Ok(deepest));
    let error = format(&nested(NESTING_MAX + 1)).expect_err("too deep");
    assert!(error.to_string().ends_with(": nested deeper than 32 levels"), "{error}");
}

#[test]
fn texts_that_nest_without_end_are_refused() {
    let most = TEXT_BYTES_MAX / 8;
    let texts = [
        "(".repeat(TEXT_BYTES_MAX),
        "not ".repeat(most),
        "not (".repeat(most),
        "all of (".repeat(most),
        "any of (has a, ".repeat(most / 2),
        // Its parentheses alone are few enough; those of its usual form are not.
        format!("{}has a{}", "(has a or has a and ".repeat(NESTING_MAX), ")".repeat(NESTING_MAX)),
        format!("did a where {}", "(".repeat(most)),
        format!("did a where {}", "not ".repeat(most)),
        format!("did a of items where {}", "all of (".repeat(most - 10)),
    ];
    for text in texts {
        let error = parse(&text).expect_err("too deep");
        assert!(error.hint().is_some_and(|hint| hint.starts_with("nested deeper than 32 levels")), "{}", error.summary());
    }
}

#[test]
fn a_text_is_at_most_64_kib_long() {
    let longest = format!("has {}", "a".repeat(TEXT_BYTES_MAX - 4));
    assert!(parse(&longest).is_ok());
    let error = parse(&(longest + "한")).expect_err("too long");
    assert_eq!((error.byte(), error.hint()), (TEXT_BYTES_MAX, Some("a text has at most 65536 bytes")));
}
