//! What can be wrong with a text, and which conditions have none.

use std::fmt;

/// How much of a line is shown to each side of the fault, in characters.
const SHOWN_AROUND: usize = 60;
/// How much of a token is shown, in characters.
const FOUND_SHOWN_MAX: usize = 40;

/// Why a text is no condition: at which character, what stands there, and what could.
///
/// `Display` draws the line with a mark below the place; [`ParseError::summary`] says the same in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError(Box<Fault>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    byte: usize,
    character: usize,
    found: String,
    expected: Vec<String>,
    hint: Option<String>,
    line: String,
    mark: (usize, usize),
}

impl ParseError {
    /// A fault at a byte of `text`, over so many bytes.
    pub(crate) fn new(text: &str, byte: usize, bytes: usize, expected: Vec<String>, hint: Option<String>) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let there = text.get(byte..).unwrap_or_default();
        let token = there.get(..bytes).unwrap_or(there);
        let line_before: Vec<char> = before.rsplit('\n').next().unwrap_or_default().chars().collect();
        let left = line_before.len().saturating_sub(SHOWN_AROUND);
        let mut line: String = line_before.iter().skip(left).collect();
        line.extend(there.lines().next().unwrap_or_default().chars().take(SHOWN_AROUND));
        // A tab or control character would move the mark.
        let line = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned();
        let width = token.lines().next().unwrap_or_default().chars().count().clamp(1, SHOWN_AROUND);
        let found = match token.chars().count() {
            0 => "the end of the text".to_owned(),
            1..=FOUND_SHOWN_MAX => format!("`{token}`"),
            _ => format!("`{}…`", token.chars().take(FOUND_SHOWN_MAX).collect::<String>()),
        };
        let mark = (line_before.len() - left, width);
        Self(Box::new(Fault { byte, character: before.chars().count() + 1, found, expected, hint, line, mark }))
    }

    /// The byte at which it stands, from 0.
    pub fn byte(&self) -> usize {
        self.0.byte
    }

    /// The character at which it stands, from 1.
    pub fn character(&self) -> usize {
        self.0.character
    }

    /// What stands there.
    pub fn found(&self) -> &str {
        &self.0.found
    }

    /// What could stand there; empty where the fault is of another kind, which the hint says.
    pub fn expected(&self) -> &[String] {
        &self.0.expected
    }

    /// What to do.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// All of it in one line.
    pub fn summary(&self) -> String {
        let Fault { character, found, expected, hint, .. } = &*self.0;
        let mut summary = format!("at character {character}: found {found}");
        match expected.as_slice() {
            [] => {}
            [only] => summary.push_str(&format!(", expected {only}")),
            [others @ .., last] => summary.push_str(&format!(", expected one of {} and {last}", others.join(", "))),
        }
        if let Some(hint) = hint {
            summary.push_str("; ");
            summary.push_str(hint);
        }
        summary
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (column, width) = self.0.mark;
        write!(f, "{}\n{}\n{}{}", self.summary(), self.0.line, " ".repeat(column), "^".repeat(width))
    }
}

impl std::error::Error for ParseError {}

/// A condition that has no text, since it is not valid: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct FormatError {
    /// For example `condition.all.conditions[0].behavior.operator`.
    pub path: String,
    /// What is wrong there.
    pub fault: FormatFault,
}

/// What keeps a condition from having a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatFault {
    /// One of the alternatives must be set.
    #[error("nothing is set; set {0}")]
    Unset(&'static str),
    /// A number of an enumeration that this version does not know.
    #[error("not known to this version")]
    Unknown,
    /// So many values do not go with the operator.
    #[error("the operator takes {wanted}, {given} given")]
    Values {
        /// How many would do.
        wanted: &'static str,
        /// How many there are.
        given: usize,
    },
    /// Set what does not belong there.
    #[error("{0}")]
    Misplaced(&'static str),
    /// Not a moment of the years 1 to 9999 with 0 to 999,999,999 nanoseconds.
    #[error("not a timestamp between the years 1 and 9999")]
    Time,
    /// Not a number.
    #[error("NaN is not a number to compare with")]
    NotANumber,
    /// A sequence has at least two steps.
    #[error("a sequence has at least two steps")]
    Steps,
    /// Nested too deep to be read back.
    #[error("nested deeper than {} levels", crate::NESTING_MAX)]
    TooDeep,
}

impl FormatError {
    /// At the place that is being written.
    pub(crate) fn here(fault: FormatFault) -> Self {
        Self { path: String::new(), fault }
    }

    /// At a field.
    pub(crate) fn at(field: impl fmt::Display, fault: FormatFault) -> Self {
        Self::here(fault).under(field)
    }

    /// The same, seen from one level above.
    pub(crate) fn under(self, field: impl fmt::Display) -> Self {
        let path = if self.path.is_empty() { field.to_string() } else { format!("{field}.{}", self.path) };
        Self { path, ..self }
    }
}
