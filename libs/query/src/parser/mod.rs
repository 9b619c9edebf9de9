//! Text to conditions: a recursive descent that always knows its way from the next words. This file holds the cursor; the grammar is in
//! the files beside it, one per part, and in the documentation of the crate.
//!
//! Whatever is asked of the cursor and not found there is remembered, so that a fault can say what could have stood there: at the furthest
//! token that anything was asked of.

mod behavior;
mod condition;
mod tests_of_events;
mod value;

use std::fmt;

use segue_proto::query::v1::{Condition, Span};

use crate::depth::depth;
use crate::error::ParseError;
use crate::lexer::{Kind, Token, tokens};
use crate::names;
use crate::{NESTING_MAX, TEXT_BYTES_MAX};

/// Reads a condition; what comes back is in its normal form. Not checked against what is known of events and properties.
pub fn parse(text: &str) -> Result<Condition, ParseError> {
    whole(text, |parser| {
        let condition = parser.condition()?;
        // Every `and` beside an `or` is a level too, and stands in parentheses in the usual form.
        if depth(&condition) > NESTING_MAX { parser.fail_at(0, too_deep()) } else { Ok(condition) }
    })
}

/// Reads a span, for example `3 months`.
pub fn parse_span(text: &str) -> Result<Span, ParseError> {
    whole(text, Parser::span)
}

fn whole<'t, T>(text: &'t str, read: impl FnOnce(&mut Parser<'t>) -> Result<T, ParseError>) -> Result<T, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        let at = text.floor_char_boundary(TEXT_BYTES_MAX);
        let hint = format!("a text has at most {TEXT_BYTES_MAX} bytes");
        return Err(ParseError::new(text, at, 1, Vec::new(), Some(hint)));
    }
    let mut parser = Parser { text, tokens: tokens(text), at: 0, depth: 0, furthest: 0, wanted: Vec::new() };
    let read = read(&mut parser)?;
    if parser.is_end() { Ok(read) } else { parser.fail() }
}

/// What could stand somewhere.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    /// These words or signs.
    Words(&'static str),
    /// Something of this kind.
    Kind(&'static str),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Words(words) => write!(f, "`{words}`"),
            Wanted::Kind(kind) => f.write_str(kind),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token<'t>>,
    /// The next token.
    at: usize,
    depth: usize,
    /// The furthest token that something was wanted at, and what.
    furthest: usize,
    wanted: Vec<Wanted>,
}

impl<'t> Parser<'t> {
    fn token(&self) -> Option<&Token<'t>> {
        self.tokens.get(self.at)
    }

    fn kind(&self) -> Option<&Kind> {
        self.token().map(|token| &token.kind)
    }

    fn is_end(&mut self) -> bool {
        if self.kind() == Some(&Kind::End) {
            return true;
        }
        self.want(self.at, Wanted::Kind("the end"));
        false
    }

    fn want(&mut self, at: usize, wanted: Wanted) {
        if at > self.furthest {
            self.furthest = at;
            self.wanted.clear();
        }
        if at == self.furthest && !self.wanted.contains(&wanted) {
            self.wanted.push(wanted);
        }
    }

    /// How many tokens from `ahead` on are these words or signs. What keeps them from being so is remembered.
    fn is_ahead(&mut self, ahead: usize, phrase: &'static str) -> Option<usize> {
        let mut count = 0;
        let mut rest = phrase;
        while !rest.is_empty() {
            let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
            let there = self.at + ahead + count;
            if !self.tokens.get(there).is_some_and(|token| is(token, word)) {
                self.want(there, Wanted::Words(rest));
                return None;
            }
            count += 1;
            rest = behind;
        }
        Some(count)
    }

    /// Whether these words or signs stand here.
    fn peek(&mut self, phrase: &'static str) -> bool {
        self.is_ahead(0, phrase).is_some()
    }

    /// Takes these words or signs if they stand here.
    fn eat(&mut self, phrase: &'static str) -> bool {
        match self.is_ahead(0, phrase) {
            Some(count) => {
                self.at += count;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, phrase: &'static str) -> Result<(), ParseError> {
        if self.eat(phrase) { Ok(()) } else { self.fail() }
    }

    /// The text in quotes that must stand here.
    fn quoted(&mut self, what: &'static str) -> Result<String, ParseError> {
        match self.kind() {
            Some(Kind::Quoted(text)) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => {
                self.want(self.at, Wanted::Kind(what));
                self.fail()
            }
        }
    }

    /// The name that must stand here, bare or in quotes.
    fn name(&mut self, what: &'static str) -> Result<String, ParseError> {
        self.want(self.at, Wanted::Kind(what));
        match self.token() {
            Some(Token { kind: Kind::Word, text, .. }) if names::is_reserved(text) => {
                let hint = format!("`{text}` is a word of the language: a name that is the same stands in quotes");
                self.fail_with(hint)
            }
            Some(Token { kind: Kind::Word, text, .. }) => {
                let name = (*text).to_owned();
                self.at += 1;
                Ok(name)
            }
            Some(Token { kind: Kind::Quoted(name), .. }) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.fail(),
        }
    }

    /// Reads what stands one level deeper.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.depth == NESTING_MAX {
            return self.fail_here(too_deep());
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// What is wanted next is not there.
    fn fail<T>(&self) -> Result<T, ParseError> {
        self.fault(None)
    }

    fn fail_with<T>(&self, hint: impl Into<String>) -> Result<T, ParseError> {
        self.fault(Some(hint.into()))
    }

    fn fault<T>(&self, hint: Option<String>) -> Result<T, ParseError> {
        let at = self.furthest.max(self.at);
        let wanted: &[Wanted] = if at == self.furthest { &self.wanted } else { &[] };
        let Some(token) = self.tokens.get(at).or(self.tokens.last()) else {
            return Err(ParseError::new(self.text, 0, 0, Vec::new(), hint));
        };
        let (expected, hint) = match token.kind {
            Kind::Bad(why) => (Vec::new(), Some(why.to_owned())),
            _ => (wanted.iter().map(Wanted::to_string).collect(), hint),
        };
        Err(ParseError::new(self.text, token.at, token.text.len(), expected, hint))
    }

    /// The token here is one that could stand here, but not with this content.
    fn fail_here<T>(&self, hint: impl Into<String>) -> Result<T, ParseError> {
        self.fail_at(self.at, hint)
    }

    fn fail_at<T>(&self, at: usize, hint: impl Into<String>) -> Result<T, ParseError> {
        let (byte, bytes) = self.tokens.get(at).map_or((self.text.len(), 0), |token| (token.at, token.text.len()));
        Err(ParseError::new(self.text, byte, bytes, Vec::new(), Some(hint.into())))
    }
}

fn too_deep() -> String {
    format!("nested deeper than {NESTING_MAX} levels")
}

fn is(token: &Token<'_>, word: &str) -> bool {
    match token.kind {
        Kind::Word => token.text.eq_ignore_ascii_case(word),
        Kind::Sign => token.text == word,
        Kind::Quoted(_) | Kind::Number | Kind::Time | Kind::Bad(_) | Kind::End => false,
    }
}
