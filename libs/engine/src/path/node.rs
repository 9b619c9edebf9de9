//! From raw values to the names of nodes: pages lose their queries, products become one node, noise is hidden.
//!
//! A value (an event's name, a page's path or URL, a screen, a property's value) goes through [`NodeRules::name`]:
//!
//! 1. `strip_query` cuts it at the first `?` or `#`.
//! 2. `strip_trailing_slash` takes all slashes from its end, but leaves a value of slashes alone as `/`.
//! 3. The first rule whose pattern matches what is left decides the name, or hides the event. No rule is applied to its result.
//!    Without a matching rule, what is left is the name; if nothing is left, [`EMPTY`].
//!
//! Names that come out equal are one node.

use std::borrow::Cow;

/// The name of a value that is empty: a name that is not, so that it can be asked for.
pub const EMPTY: &str = "(empty)";

/// A pattern that a whole value has to match. `*` stands for any characters, also none and also slashes; everything else for
/// itself, upper and lower case apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// Every text is a pattern.
    pub fn new(text: impl Into<String>) -> Pattern {
        Pattern(text.into())
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole value matches. Takes at most (length of the pattern) × (length of the value).
    pub fn matches(&self, value: &str) -> bool {
        let (pattern, value) = (self.0.as_bytes(), value.as_bytes());
        let (mut p, mut v) = (0, 0);
        // Behind the last star, and where what it stands for ends so far.
        let mut star: Option<(usize, usize)> = None;
        while v < value.len() {
            match (pattern.get(p), star) {
                (Some(b'*'), _) => {
                    star = Some((p + 1, v));
                    p += 1;
                }
                (Some(byte), _) if value.get(v) == Some(byte) => {
                    p += 1;
                    v += 1;
                }
                (_, Some((behind, until))) => {
                    star = Some((behind, until + 1));
                    (p, v) = (behind, until + 1);
                }
                (_, None) => return false,
            }
        }
        pattern.iter().skip(p).all(|byte| *byte == b'*')
    }
}

/// What becomes of a value that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// One node that is named after the pattern, as in `/product/*`.
    Group,
    /// One node of this name.
    Name(String),
    /// No node: dropped after sessions are cut.
    Hide,
}

/// A pattern and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeRule {
    /// Which values.
    pub pattern: Pattern,
    /// What becomes of them.
    pub outcome: Outcome,
}

/// How values become nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct NodeRules {
    /// Cut at the first `?` or `#`.
    pub strip_query: bool,
    /// Take slashes from the end.
    pub strip_trailing_slash: bool,
    /// The first match decides.
    pub rules: Vec<NodeRule>,
}

impl NodeRules {
    /// The node of a value; nothing if it is hidden.
    pub fn name<'a>(&'a self, value: &'a str) -> Option<Cow<'a, str>> {
        let value = self.strip(value);
        match self.rules.iter().find(|rule| rule.pattern.matches(value)) {
            None => Some(Cow::Borrowed(if value.is_empty() { EMPTY } else { value })),
            Some(NodeRule { outcome: Outcome::Hide, .. }) => None,
            Some(NodeRule { outcome: Outcome::Name(name), .. }) => Some(Cow::Borrowed(name)),
            Some(NodeRule { outcome: Outcome::Group, pattern }) => Some(Cow::Borrowed(pattern.as_str())),
        }
    }

    fn strip<'a>(&self, value: &'a str) -> &'a str {
        let mut value = value;
        if self.strip_query {
            value = value.split(['?', '#']).next().unwrap_or(value);
        }
        if self.strip_trailing_slash {
            let stripped = value.trim_end_matches('/');
            value = if stripped.is_empty() && !value.is_empty() { "/" } else { stripped };
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_matches_whole_values_with_stars_for_anything() {
        for (pattern, value, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "/any/thing?x=1", true),
            ("/product/*", "/product/1", true),
            ("/product/*", "/product/1/reviews", true),
            ("/product/*", "/product/", true),
            ("/product/*", "/product", false),
            ("/product/*", "/shop/product/1", false),
            ("/product/*", "/Product/1", false),
            ("*/reviews", "/product/1/reviews", true),
            ("*/reviews", "/product/1/reviews/2", false),
            ("/a/*/c/*", "/a/b/c/d", true),
            ("/a/*/c/*", "/a/c/d", false),
            ("*ab", "aab", true),
            ("a*ba", "abaaba", true),
            ("a**b", "ab", true),
            ("a.c", "abc", false),
            ("상품/*", "상품/사과", true),
            ("상*", "물", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(value), expected, "{pattern} {value}");
        }
    }

    #[test]
    fn queries_and_trailing_slashes_are_stripped_before_rules_are_asked() {
        let rule = |pattern: &str, outcome| NodeRule { pattern: Pattern::new(pattern), outcome };
        let rules = NodeRules {
            strip_query: true,
            strip_trailing_slash: true,
            rules: vec![
                rule("/product/special", Outcome::Name("the special".into())),
                rule("/product/*", Outcome::Group),
                rule("/health*", Outcome::Hide),
                rule("https://shop.example", Outcome::Name("/".into())),
                rule("/", Outcome::Name("home".into())),
                rule("*", Outcome::Hide),
            ],
        };
        for (value, expected) in [
            ("/product/1?color=red", Some("/product/*")),
            ("/product/special/", Some("the special")),
            ("/product/1/#reviews", Some("/product/*")),
            ("/health/live", None),
            // The result of a rule is no input of another one.
            ("https://shop.example/?utm_source=x", Some("/")),
            ("/", Some("home")),
            ("//", Some("home")),
            ("?q=1", None),
            ("elsewhere", None),
        ] {
            assert_eq!(rules.name(value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn without_rules_a_value_is_its_own_node() {
        let rules = NodeRules::default();
        assert_eq!(rules.name("/a/?b#c").as_deref(), Some("/a/?b#c"));
        let rules = NodeRules { strip_trailing_slash: true, ..NodeRules::default() };
        assert_eq!(rules.name("/a/?b=/").as_deref(), Some("/a/?b="));
        assert_eq!(rules.name("").as_deref(), Some("(empty)"));
        let rules = NodeRules { strip_query: true, ..NodeRules::default() };
        assert_eq!(rules.name("#top").as_deref(), Some("(empty)"));
    }

    /// Says the same by trying every length of what a star stands for.
    fn matches_plainly(pattern: &[u8], value: &[u8]) -> bool {
        match pattern.split_first() {
            None => value.is_empty(),
            Some((b'*', rest)) => (0..=value.len()).any(|skip| matches_plainly(rest, &value[skip..])),
            Some((first, rest)) => value.split_first().is_some_and(|(byte, value)| byte == first && matches_plainly(rest, value)),
        }
    }

    proptest! {
        #[test]
        fn patterns_match_what_a_plain_search_matches(pattern in "[ab*]{0,6}", value in "[ab*]{0,9}") {
            prop_assert_eq!(Pattern::new(pattern.as_str()).matches(&value), matches_plainly(pattern.as_bytes(), value.as_bytes()));
        }
    }
}
