//! Text to tokens. What cannot be a token becomes [`Kind::Bad`], where reading ends; whether that matters is for the parser to say.

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// A word of the language, or a name that needs no quotes.
    Word,
    /// A text in quotes, unescaped.
    Quoted(String),
    /// A number, as written.
    Number,
    /// What begins like a moment.
    Time,
    /// A bracket, comma, comparison or multiplication.
    Sign,
    /// No token, and why.
    Bad(&'static str),
    /// Behind the last one.
    End,
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token<'t> {
    pub(crate) kind: Kind,
    /// As written; empty at the end.
    pub(crate) text: &'t str,
    /// Byte in the text.
    pub(crate) at: usize,
}

const SIGNS: [&str; 14] = ["(", ")", ",", "×", "*", "=", "!=", "<=", ">=", "<", ">", "≤", "≥", "≠"];
const MINUS_INFINITY: &str = "-infinity";

/// All tokens, the last of which is `End` or `Bad`.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        let token = token(trimmed, at);
        at += token.text.len();
        let is_last = matches!(token.kind, Kind::Bad(_) | Kind::End);
        tokens.push(token);
        if is_last {
            return tokens;
        }
    }
}

/// Whether a text reads as one word.
pub(crate) fn is_word(text: &str) -> bool {
    text.chars().next().is_some_and(starts_word) && word_bytes(text) == text.len()
}

fn starts_word(character: char) -> bool {
    character.is_alphabetic() || character == '_' || character == '$'
}

fn continues_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '$'
}

/// The token at the beginning of `rest`, which stands at byte `at`.
fn token(rest: &str, at: usize) -> Token<'_> {
    let of = |kind, bytes: usize| Token { kind, text: &rest[..bytes], at };
    let Some(first) = rest.chars().next() else { return of(Kind::End, 0) };
    if first == '"' {
        return quoted(rest, at);
    }
    if starts_word(first) {
        return of(Kind::Word, word_bytes(rest));
    }
    if rest.starts_with(MINUS_INFINITY) {
        return of(Kind::Number, MINUS_INFINITY.len());
    }
    if is_time(rest) {
        let bytes = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, ':' | '+' | '.' | '-'))).unwrap_or(rest.len());
        return of(Kind::Time, bytes);
    }
    let number = number_bytes(rest);
    if number > 0 {
        return of(Kind::Number, number);
    }
    if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        return of(Kind::Sign, sign.len());
    }
    let why = match first {
        '“' | '”' | '„' | '‘' | '’' | '\'' | '`' => "texts stand in straight double quotes, like \"gold\"",
        '-' | '+' | '.' => "a number is written like 5, -5 or 12.5",
        '&' | '|' | '!' => "write `and`, `or`, `not`",
        _ => "names with such characters stand in double quotes",
    };
    of(Kind::Bad(why), first.len_utf8())
}

/// How many bytes of `rest`, which begins like a word, are one: joints (`abx:purchase`, `big-spenders`) only between its characters.
fn word_bytes(rest: &str) -> usize {
    let mut end = 0;
    let mut characters = rest.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let is_joint = matches!(character, '-' | '.' | ':') && characters.peek().is_some_and(|(_, next)| continues_word(*next));
        if !continues_word(character) && !is_joint {
            break;
        }
        end = at + character.len_utf8();
    }
    end
}

/// `2026-…`
fn is_time(rest: &str) -> bool {
    let bytes = rest.as_bytes();
    bytes.len() > 4 && bytes.iter().take(4).all(u8::is_ascii_digit) && bytes.get(4) == Some(&b'-')
}

/// How many bytes are a number; 0: none.
fn number_bytes(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let digits = |mut at: usize| {
        while is_digit(at) || bytes.get(at) == Some(&b'_') && is_digit(at + 1) {
            at += 1;
        }
        at
    };
    let start = usize::from(bytes.first() == Some(&b'-'));
    if !is_digit(start) {
        return 0;
    }
    let mut end = digits(start);
    if bytes.get(end) == Some(&b'.') && is_digit(end + 1) {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        if is_digit(end + 1 + sign) {
            end = digits(end + 1 + sign);
        }
    }
    end
}

/// A text in quotes.
fn quoted(rest: &str, at: usize) -> Token<'_> {
    let bad = |from: usize, bytes: usize, why| {
        let text = rest.get(from..from + bytes).unwrap_or_default();
        Token { kind: Kind::Bad(why), text, at: at + from }
    };
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((here, character)) = characters.next() {
        match character {
            '"' => return Token { kind: Kind::Quoted(text), text: &rest[..=here], at },
            '\n' | '\r' => break,
            '\\' => match escaped(&rest[here..]) {
                Some((meant, bytes)) => {
                    text.push(meant);
                    // The backslash is taken already; what follows it is ASCII.
                    for _ in 1..bytes {
                        characters.next();
                    }
                }
                None => return bad(here, 1, "a backslash is written \\\\; others are \\\", \\n, \\r, \\t and \\u{1F600}"),
            },
            _ => text.push(character),
        }
    }
    bad(0, 1, "the quotes are not closed on this line; a line break is written \\n")
}

/// The character that an escape means, and the bytes of the escape.
fn escaped(rest: &str) -> Option<(char, usize)> {
    match rest.as_bytes().get(1)? {
        b'"' => Some(('"', 2)),
        b'\\' => Some(('\\', 2)),
        b'n' => Some(('\n', 2)),
        b'r' => Some(('\r', 2)),
        b't' => Some(('\t', 2)),
        b'u' => {
            let digits = rest.get(2..)?.strip_prefix('{')?.split_once('}')?.0;
            let is_code = (1..=6).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let code = is_code.then(|| u32::from_str_radix(digits, 16).ok()).flatten()?;
            Some((char::from_u32(code)?, digits.len() + 4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(Kind, &str)> {
        tokens(text).into_iter().map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn words_take_joints_only_between_their_characters() {
        for word in ["df_purchase", "abx:purchase", "big-spenders", "a.b", "$x", "회원가입", "x", "a1-2"] {
            assert!(is_word(word), "{word}");
        }
        for other in ["", "1a", "a-", "a b", "-a", "a..b", "a,", "Order Completed"] {
            assert!(!is_word(other), "{other}");
        }
        assert_eq!(
            read("a, b."),
            [(Kind::Word, "a"), (Kind::Sign, ","), (Kind::Word, "b"), (Kind::Bad("a number is written like 5, -5 or 12.5"), ".")]
        );
    }

    #[test]
    fn numbers_and_times_are_told_apart() {
        for number in ["5", "-5", "1_000_000", "12.5", "1e5", "1.5e-3", "-infinity"] {
            assert_eq!(read(number), [(Kind::Number, number), (Kind::End, "")]);
        }
        assert_eq!(read("90days"), [(Kind::Number, "90"), (Kind::Word, "days"), (Kind::End, "")]);
        assert_eq!(read("2026-11-22T12:00:00.5+09:00)").first(), Some(&(Kind::Time, "2026-11-22T12:00:00.5+09:00")));
    }

    #[test]
    fn quotes_are_unescaped_and_a_wrong_escape_is_pointed_at() {
        let text = r#""a\"b\\c\n\u{1F600}""#;
        assert_eq!(read(text), [(Kind::Quoted("a\"b\\c\n😀".to_owned()), text), (Kind::End, "")]);
        for (text, at) in [(r#" "a"#, 1), (r#""ab\q""#, 3), (r#""\u{d800}""#, 1), ("\"a\n\"", 0), (r#""\"#, 1)] {
            let token = tokens(text).pop().expect("a token");
            assert!(matches!(token.kind, Kind::Bad(_)), "{text}: {token:?}");
            assert_eq!(token.at, at, "{text}");
        }
    }
}
