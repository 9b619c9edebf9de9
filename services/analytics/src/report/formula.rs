//! Formulas over metrics: numbers, metric names, + - * / and parentheses, with the usual precedence.
//!
//! A name is a word of letters, digits and `_` that does not begin with a digit; any other name stands in double quotes. Sums,
//! differences and whole multiples of exact numbers stay exact; everything else is floating point.

use super::figure::Figure;

/// Parentheses and signs may be nested this deep.
const DEPTH_MAX: usize = 32;
/// Longest expression, in bytes.
pub(super) const EXPRESSION_BYTES_MAX: usize = 1_000;

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: {message}")]
pub(super) struct FormulaError {
    /// Character, from 1.
    pub(super) position: usize,
    /// What is wrong.
    pub(super) message: String,
}

/// A parsed formula.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Formula {
    /// A number of the expression.
    Constant(Figure),
    /// The metric at this position.
    Metric(usize),
    /// A changed sign.
    Negate(Box<Formula>),
    /// `left operator right`.
    Binary(Box<Formula>, Operation, Box<Formula>),
}

/// An arithmetic operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

impl Formula {
    /// Reads `expression`; names are those of metrics, by position.
    pub(super) fn parse(expression: &str, names: &[String]) -> Result<Formula, FormulaError> {
        let mut parser = Parser { characters: expression.chars().collect(), at: 0, names };
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(parser.error(format!("the expression is longer than {EXPRESSION_BYTES_MAX} bytes")));
        }
        let formula = parser.sum(0)?;
        match parser.peek() {
            None => Ok(formula),
            Some(found) => Err(parser.error(format!("expected an operator or the end, found `{found}`"))),
        }
    }

    /// Computes it from the metrics of one row. No value where an operand has none or a division is by zero.
    pub(super) fn evaluate(&self, metrics: &[Figure]) -> Figure {
        match self {
            Formula::Constant(figure) => *figure,
            Formula::Metric(at) => metrics.get(*at).copied().unwrap_or(Figure::None),
            Formula::Negate(inner) => compute(Figure::Int(0), Operation::Subtract, inner.evaluate(metrics)),
            Formula::Binary(left, operation, right) => compute(left.evaluate(metrics), *operation, right.evaluate(metrics)),
        }
    }
}

/// An exact operand: a value and how many of it make one (1 or 10,000).
fn exact(figure: Figure) -> Option<(i128, bool)> {
    match figure {
        Figure::Count(count) => Some((i128::from(count), false)),
        Figure::Int(value) => Some((value, false)),
        Figure::Decimal(e4) => Some((e4, true)),
        Figure::None | Figure::Double(_) | Figure::Time(_) => None,
    }
}

fn compute_exact(left: Figure, operation: Operation, right: Figure) -> Option<Figure> {
    let ((a, a_decimal), (b, b_decimal)) = (exact(left)?, exact(right)?);
    let decimal = a_decimal || b_decimal;
    let value = match operation {
        // The kind of the answer must not depend on the values, so a quotient is never exact, nor a product of two decimals.
        Operation::Divide => return None,
        Operation::Multiply if a_decimal && b_decimal => return None,
        Operation::Multiply => a.checked_mul(b)?,
        Operation::Add | Operation::Subtract => {
            let a = if decimal && !a_decimal { a.checked_mul(10_000)? } else { a };
            let b = if decimal && !b_decimal { b.checked_mul(10_000)? } else { b };
            if operation == Operation::Add { a.checked_add(b)? } else { a.checked_sub(b)? }
        }
    };
    Some(if decimal { Figure::Decimal(value) } else { Figure::Int(value) })
}

fn compute(left: Figure, operation: Operation, right: Figure) -> Figure {
    if let Some(figure) = compute_exact(left, operation, right) {
        return figure;
    }
    let (Some(a), Some(b)) = (left.to_f64(), right.to_f64()) else { return Figure::None };
    let value = match operation {
        Operation::Add => a + b,
        Operation::Subtract => a - b,
        Operation::Multiply => a * b,
        Operation::Divide if b == 0.0 => return Figure::None,
        Operation::Divide => a / b,
    };
    if value.is_finite() { Figure::Double(value) } else { Figure::None }
}

struct Parser<'a> {
    characters: Vec<char>,
    at: usize,
    names: &'a [String],
}

impl Parser<'_> {
    fn error(&self, message: impl Into<String>) -> FormulaError {
        FormulaError { position: self.at + 1, message: message.into() }
    }

    /// The next character that is not white space, without taking it.
    fn peek(&mut self) -> Option<char> {
        while self.characters.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.characters.get(self.at).copied()
    }

    fn sum(&mut self, depth: usize) -> Result<Formula, FormulaError> {
        let mut left = self.product(depth)?;
        loop {
            let operation = match self.peek() {
                Some('+') => Operation::Add,
                Some('-') => Operation::Subtract,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Formula::Binary(Box::new(left), operation, Box::new(self.product(depth)?));
        }
    }

    fn product(&mut self, depth: usize) -> Result<Formula, FormulaError> {
        let mut left = self.operand(depth)?;
        loop {
            let operation = match self.peek() {
                Some('*') => Operation::Multiply,
                Some('/') => Operation::Divide,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Formula::Binary(Box::new(left), operation, Box::new(self.operand(depth)?));
        }
    }

    fn operand(&mut self, depth: usize) -> Result<Formula, FormulaError> {
        if depth >= DEPTH_MAX {
            return Err(self.error(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        match self.peek() {
            None => Err(self.error("expected a metric's name, a number or `(`, found the end")),
            Some('-') => {
                self.at += 1;
                Ok(Formula::Negate(Box::new(self.operand(depth + 1)?)))
            }
            Some('(') => {
                self.at += 1;
                let inner = self.sum(depth + 1)?;
                match self.peek() {
                    Some(')') => {
                        self.at += 1;
                        Ok(inner)
                    }
                    Some(found) => Err(self.error(format!("expected `)`, found `{found}`"))),
                    None => Err(self.error("expected `)`, found the end")),
                }
            }
            Some('"') => self.quoted(),
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() || c == '_' => {
                let start = self.at;
                let name: String = self.characters[start..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
                self.named(&name, name.chars().count())
            }
            Some(found) => Err(self.error(format!("expected a metric's name, a number or `(`, found `{found}`"))),
        }
    }

    fn quoted(&mut self) -> Result<Formula, FormulaError> {
        let name: String = self.characters[self.at + 1..].iter().take_while(|c| **c != '"').collect();
        let length = name.chars().count();
        if self.at + 1 + length >= self.characters.len() {
            return Err(self.error("the quotation mark is not closed"));
        }
        self.named(&name, length + 2)
    }

    fn named(&mut self, name: &str, length: usize) -> Result<Formula, FormulaError> {
        match self.names.iter().position(|known| known == name) {
            Some(metric) => {
                self.at += length;
                Ok(Formula::Metric(metric))
            }
            None => Err(self.error(format!("no metric is named `{name}`; there are: {}", self.names.join(", ")))),
        }
    }

    fn number(&mut self) -> Result<Formula, FormulaError> {
        let text: String = self.characters[self.at..].iter().take_while(|c| c.is_ascii_digit() || **c == '.').collect();
        let figure = if let Ok(whole) = text.parse::<i64>() {
            Figure::Int(i128::from(whole))
        } else if let Ok(decimal) = text.parse::<segue_model::Decimal4>() {
            Figure::Decimal(i128::from(decimal.0))
        } else {
            match text.parse::<f64>() {
                Ok(value) => Figure::Double(value),
                Err(_) => return Err(self.error(format!("`{text}` is not a number"))),
            }
        };
        self.at += text.chars().count();
        Ok(Formula::Constant(figure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["revenue", "buyers", "average basket", "매출"].map(String::from).to_vec()
    }

    fn value(expression: &str) -> Figure {
        let metrics = [Figure::Decimal(25_000_000), Figure::Count(2), Figure::Double(0.5), Figure::None];
        Formula::parse(expression, &names()).expect(expression).evaluate(&metrics)
    }

    #[test]
    fn precedence_parentheses_and_signs_are_the_usual_ones() {
        for (expression, expected) in [
            ("1 + 2 * 3", Figure::Int(7)),
            ("(1 + 2) * 3", Figure::Int(9)),
            ("10 - 2 - 3", Figure::Int(5)),
            ("8 / 4 / 2", Figure::Double(1.0)),
            ("-buyers + 5", Figure::Int(3)),
            ("2 * -(1 - 3)", Figure::Int(4)),
            ("--3", Figure::Int(3)),
            ("\"average basket\" * 4", Figure::Double(2.0)),
        ] {
            assert_eq!(value(expression), expected, "{expression}");
        }
    }

    #[test]
    fn sums_of_money_stay_exact_and_quotients_do_not() {
        assert_eq!(value("revenue - 0.0001"), Figure::Decimal(24_999_999));
        assert_eq!(value("revenue * buyers"), Figure::Decimal(50_000_000));
        assert_eq!(value("revenue / buyers"), Figure::Double(1250.0));
        assert_eq!(value("revenue * 0.5"), Figure::Double(1250.0));
        assert_eq!(value("revenue + 0.123456"), Figure::Double(2500.123456));
    }

    #[test]
    fn division_by_zero_and_missing_operands_give_no_value() {
        for expression in ["revenue / 0", "1 / (buyers - 2)", "매출 + 1", "1 / 0 * 0"] {
            assert_eq!(value(expression), Figure::None, "{expression}");
        }
    }

    #[test]
    fn errors_say_where() {
        for (expression, position, part) in [
            ("", 1, "found the end"),
            ("revenue /", 10, "found the end"),
            ("revenue / buyer", 11, "no metric is named `buyer`"),
            ("(revenue", 9, "expected `)`"),
            ("(revenue buyers)", 10, "expected `)`, found `b`"),
            ("revenue buyers", 9, "expected an operator"),
            ("1.2.3", 1, "not a number"),
            ("매출 % 2", 4, "found `%`"),
            ("\"average", 1, "not closed"),
            ("revenue + * 2", 11, "found `*`"),
        ] {
            let error = Formula::parse(expression, &names()).expect_err(expression);
            assert_eq!(error.position, position, "{expression}: {error}");
            assert!(error.message.contains(part), "{expression}: {error}");
        }
        let deep = "(".repeat(100);
        assert!(Formula::parse(&deep, &names()).expect_err("too deep").message.contains("nested deeper"));
        assert!(Formula::parse(&"1+".repeat(600), &names()).is_err());
    }
}
