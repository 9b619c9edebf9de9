//! Comparisons, values, spans and times.

use chrono::DateTime;
use prost_types::Timestamp;
use segue_model::Decimal4;
use segue_proto::events::v1::{Value, value};
use segue_proto::query::v1::{Operator, Span};

use super::{Parser, Wanted};
use crate::error::ParseError;
use crate::lexer::{Kind, Token};
use crate::names::{ORDERS, UNITS};
use crate::time::is_moment;

const TIME: &str = "a time, like 2026-11-22T12:00:00Z";

impl Parser<'_> {
    /// An operator and its values.
    pub(super) fn compared(&mut self) -> Result<(Operator, Vec<Value>), ParseError> {
        for (phrase, operator) in [("exists", Operator::Exists), ("does not exist", Operator::NotExists)] {
            if self.eat(phrase) {
                return Ok((operator, Vec::new()));
            }
        }
        let of_values = [
            ("contains", Operator::Contains),
            ("does not contain", Operator::NotContains),
            ("starts with", Operator::StartsWith),
            ("ends with", Operator::EndsWith),
            ("is not", Operator::NotIn),
            ("!=", Operator::NotIn),
            ("≠", Operator::NotIn),
        ];
        for (phrase, operator) in of_values {
            if self.eat(phrase) {
                return Ok((operator, self.values()?));
            }
        }
        let is_led = self.eat("is");
        let is_here = |(_, phrases): &&(Operator, &[&'static str])| phrases.iter().any(|phrase| self.eat(phrase));
        if let Some((operator, _)) = ORDERS.iter().find(is_here) {
            return Ok((*operator, vec![self.value()?]));
        }
        if self.eat("from") {
            return Ok((Operator::Between, self.bounds()?));
        }
        if self.peek("between") {
            return self.fail_here("is written `from 10 to below 20`: the first value is included, the second is not");
        }
        if is_led || self.eat("=") { Ok((Operator::In, self.values()?)) } else { self.fail() }
    }

    /// Behind `from`.
    fn bounds(&mut self) -> Result<Vec<Value>, ParseError> {
        let first = self.value()?;
        self.expect("to")?;
        if !self.eat("below") && !self.eat("before") {
            return self.fail_with("the second value is not included: write `to below` or, of times, `to before`");
        }
        Ok(vec![first, self.value()?])
    }

    /// One value, or one of several.
    fn values(&mut self) -> Result<Vec<Value>, ParseError> {
        if !self.eat("one of") && !self.eat("any of") {
            return Ok(vec![self.value()?]);
        }
        self.expect("(")?;
        let mut values = Vec::new();
        loop {
            values.push(self.value()?);
            if self.eat(")") {
                return Ok(values);
            }
            self.expect(",")?;
        }
    }

    fn value(&mut self) -> Result<Value, ParseError> {
        let kind = match self.token().cloned() {
            Some(Token { kind: Kind::Quoted(text), .. }) => {
                self.at += 1;
                value::Kind::StringValue(text)
            }
            Some(Token { kind: Kind::Time, .. }) => value::Kind::TimestampValue(self.time()?),
            Some(Token { kind: Kind::Number, text, .. }) => match number(text) {
                Ok(number) => {
                    self.at += 1;
                    number
                }
                Err(why) => return self.fail_here(why),
            },
            _ if self.eat("true") => value::Kind::BoolValue(true),
            _ if self.eat("false") => value::Kind::BoolValue(false),
            _ if self.eat("json") => value::Kind::JsonValue(self.quoted("JSON as a text in quotes")?),
            _ if self.eat("infinity") => value::Kind::DoubleValue(f64::INFINITY),
            _ => {
                self.want(self.at, Wanted::Kind("a text in quotes"));
                self.want(self.at, Wanted::Kind("a number"));
                self.want(self.at, Wanted::Kind(TIME));
                return self.fail_with("texts stand in double quotes, like \"gold\"");
            }
        };
        Ok(Value { kind: Some(kind) })
    }

    /// A whole number as a value.
    pub(super) fn whole_number(&mut self, what: &'static str) -> Result<Value, ParseError> {
        self.want(self.at, Wanted::Kind(what));
        let Some(Token { kind: Kind::Number, text, .. }) = self.token() else { return self.fail() };
        match number(text) {
            Ok(kind @ value::Kind::IntValue(_)) => {
                self.at += 1;
                Ok(Value { kind: Some(kind) })
            }
            Ok(_) => self.fail_here("is not a whole number"),
            Err(why) => self.fail_here(why),
        }
    }

    /// A whole number from 0 to 4,294,967,295.
    pub(super) fn count(&mut self) -> Result<u32, ParseError> {
        self.want(self.at, Wanted::Kind("a whole number"));
        let Some(Token { kind: Kind::Number, text, .. }) = self.token() else { return self.fail() };
        match plain(text).parse() {
            Ok(count) => {
                self.at += 1;
                Ok(count)
            }
            Err(_) => self.fail_here(format!("is not a whole number from 0 to {}", u32::MAX)),
        }
    }

    pub(super) fn span(&mut self) -> Result<Span, ParseError> {
        let count = self.count()?;
        for (unit, one, several) in UNITS {
            if self.eat(several) || self.eat(one) {
                return Ok(Span { count, unit: unit.into() });
            }
        }
        self.fail_with("years are written in months: `12 months`")
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, ParseError> {
        let Some(Token { kind: Kind::Time, text, .. }) = self.token() else {
            self.want(self.at, Wanted::Kind(TIME));
            return self.fail();
        };
        let read = DateTime::parse_from_rfc3339(text).ok();
        let time = read.map(|time| Timestamp {
            seconds: time.timestamp(),
            // A leap second has more than a second's worth, which is refused below.
            nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(i32::MAX),
        });
        match time {
            Some(time) if is_moment(&time) => {
                self.at += 1;
                Ok(time)
            }
            _ => self.fail_here("a time has a date, a time and a zone, as in 2026-11-22T12:00:00Z or 2026-11-22T21:00:00+09:00"),
        }
    }
}

fn plain(number: &str) -> String {
    number.replace('_', "")
}

/// With an exponent a double, with a point a decimal, else a whole number.
fn number(text: &str) -> Result<value::Kind, String> {
    if text == "-infinity" {
        return Ok(value::Kind::DoubleValue(f64::NEG_INFINITY));
    }
    let number = plain(text);
    if number.contains(['e', 'E']) {
        return match number.parse::<f64>() {
            Ok(double) if double.is_finite() => Ok(value::Kind::DoubleValue(double)),
            Ok(_) | Err(_) => Err("is beyond every number; write `infinity`".to_owned()),
        };
    }
    if number.contains('.') {
        return match number.parse::<Decimal4>() {
            Ok(decimal) => Ok(value::Kind::DecimalE4Value(decimal.0)),
            Err(error) => Err(format!("{error}; with an exponent, as in 1.5e0, it is a number that need not be exact")),
        };
    }
    match number.parse() {
        Ok(whole) => Ok(value::Kind::IntValue(whole)),
        Err(_) => Err("is beyond 64 bits; with an exponent, as in 1e20, it is a number that need not be exact".to_owned()),
    }
}
