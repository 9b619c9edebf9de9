//! A look at a template's source before MiniJinja compiles it: what it includes, which filters and tests it names, and whether it is too
//! deep. MiniJinja's parser and code generator recurse over long chains of operators and over `elif`, so a source of some kilobytes could
//! use up a thread's stack, which would end the process: what is deep is refused here. Tokens are cut as MiniJinja's lexer cuts them.

use segue_runtime::fields;

/// Operators, attributes, filters, calls and brackets of one tag.
const TAG_OPERATORS_MAX: usize = 200;
/// Brackets within brackets.
const BRACKETS_MAX: i64 = 20;
/// Blocks within blocks; an `elif` counts as a block within its `if`.
const BLOCKS_MAX: usize = 30;
/// Loops within loops of which values may become deeper in such steps that the usual stack holds them.
const PLAIN_LOOPS_MAX: usize = 3;

/// What a source refers to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scan {
    /// Id and line.
    pub(super) includes: Vec<(String, u32)>,
    /// Name and line.
    pub(super) filters: Vec<(String, u32)>,
    /// Name and line.
    pub(super) tests: Vec<(String, u32)>,
    /// It keeps values from one tag to another, and so may make some that lie within each other thousands of times.
    pub(super) keeps_values: bool,
}

/// Why a source is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) line: u32,
    pub(super) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'s> {
    Name(&'s str),
    /// With its quotes.
    Text(&'s str),
    Number,
    Comma,
    Colon,
    Assign,
    Open,
    Close,
    Operator(u8),
    End,
    /// The source ends within the tag; MiniJinja says so better.
    Cut,
}

struct Scanner<'s> {
    source: &'s str,
    at: usize,
    line: u32,
    /// Up to where lines are counted.
    counted: usize,
    brackets: i64,
    /// Open blocks with how many `elif` they have.
    blocks: Vec<(&'s str, usize)>,
    found: Scan,
}

/// Looks at a source.
pub(super) fn scan(source: &str) -> Result<Scan, Refused> {
    let found = Scan::default();
    let mut scanner = Scanner { source, at: 0, line: 1, counted: 0, brackets: 0, blocks: Vec::new(), found };
    while let Some(start) = scanner.find_tag() {
        let is_block = match start {
            b'#' => {
                if !scanner.skip_comment() {
                    break;
                }
                continue;
            }
            start => start == b'%',
        };
        let tag = scanner.tag(if is_block { b'%' } else { b'}' })?;
        if is_block {
            scanner.block(&tag)?;
        }
        if tag.last() == Some(&Token::Cut) {
            break;
        }
    }
    Ok(scanner.found)
}

impl<'s> Scanner<'s> {
    fn byte(&self, ahead: usize) -> Option<u8> {
        self.source.as_bytes().get(self.at + ahead).copied()
    }

    fn refuse<T>(&mut self, message: impl Into<String>) -> Result<T, Refused> {
        Err(Refused { line: self.line(), message: message.into() })
    }

    /// The line of the present place.
    fn line(&mut self) -> u32 {
        let passed = self.source.as_bytes().get(self.counted..self.at).unwrap_or_default();
        self.line += u32::try_from(passed.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u32::MAX);
        self.counted = self.at;
        self.line
    }

    /// Goes behind the next `{{`, `{%` or `{#`; tells which.
    fn find_tag(&mut self) -> Option<u8> {
        loop {
            match (self.byte(0)?, self.byte(1)) {
                (b'{', Some(second @ (b'{' | b'%' | b'#'))) => {
                    self.at += 2;
                    return Some(second);
                }
                _ => self.at += 1,
            }
        }
    }

    fn skip_comment(&mut self) -> bool {
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(b'#'), Some(b'}')) => {
                    self.at += 2;
                    return true;
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return false,
            }
        }
    }

    /// The tokens of a tag, with what has to be counted counted.
    fn tag(&mut self, end: u8) -> Result<Vec<Token<'s>>, Refused> {
        // What MiniJinja takes for the control of whitespace.
        if matches!(self.byte(0), Some(b'-' | b'+')) {
            self.at += 1;
        }
        let mut tokens: Vec<Token<'s>> = Vec::new();
        let mut operators = 0;
        loop {
            let token = self.token(end);
            let previous = tokens.last().copied();
            tokens.push(token);
            match token {
                Token::End | Token::Cut => break,
                Token::Name("if" | "else" | "elif" | "and" | "or" | "not" | "in" | "is") | Token::Open | Token::Operator(_) => {
                    operators += 1;
                }
                Token::Name(_) | Token::Text(_) | Token::Number | Token::Comma | Token::Colon | Token::Assign | Token::Close => {}
            }
            if let (Some(Token::Name(name @ ("namespace" | "debug"))), Token::Open) = (previous, token) {
                return self.refuse(format!("`{name}` is not there"));
            }
            if operators > TAG_OPERATORS_MAX {
                return self.refuse(format!("has a tag with more than {TAG_OPERATORS_MAX} operators and brackets: split it"));
            }
            if self.brackets > BRACKETS_MAX {
                return self.refuse(format!("has more than {BRACKETS_MAX} brackets within brackets"));
            }
            self.note_name(previous, token, &tokens);
        }
        Ok(tokens)
    }

    /// Notes the names of filters and tests, and what keeps values.
    fn note_name(&mut self, previous: Option<Token<'s>>, token: Token<'s>, tokens: &[Token<'s>]) {
        let Token::Name(name) = token else { return };
        let line = self.line();
        let before = tokens.len().checked_sub(3).and_then(|at| tokens.get(at));
        let is_attribute = |token: Option<&Token<'_>>| token == Some(&Token::Operator(b'.'));
        match previous {
            Some(Token::Operator(b'|')) => self.found.filters.push((name.to_owned(), line)),
            Some(Token::Name("filter")) if tokens.len() == 2 => self.found.filters.push((name.to_owned(), line)),
            Some(Token::Name("is")) if name != "not" && !is_attribute(before) => self.found.tests.push((name.to_owned(), line)),
            Some(Token::Name("not")) if before == Some(&Token::Name("is")) && name != "in" => {
                self.found.tests.push((name.to_owned(), line));
            }
            _ => {}
        }
        if matches!(name, "recursive" | "dict") {
            self.found.keeps_values = true;
        }
    }

    fn token(&mut self, end: u8) -> Token<'s> {
        while self.byte(0).is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
        let Some(first) = self.byte(0) else { return Token::Cut };
        if self.brackets == 0 {
            if matches!(first, b'-' | b'+') && self.byte(1) == Some(end) && self.byte(2) == Some(b'}') {
                self.at += 3;
                return Token::End;
            }
            if first == end && self.byte(1) == Some(b'}') {
                self.at += 2;
                return Token::End;
            }
        }
        let start = self.at;
        self.at += 1;
        match first {
            b'"' | b'\'' => self.text(start, first),
            b'0'..=b'9' => {
                self.skip_while(|byte| byte.is_ascii_digit());
                Token::Number
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                Token::Name(self.source.get(start..self.at).unwrap_or_default())
            }
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'(' | b'[' | b'{' => {
                self.brackets += 1;
                Token::Open
            }
            b')' | b']' | b'}' => {
                self.brackets -= 1;
                Token::Close
            }
            _ => {
                if matches!((first, self.byte(0)), (b'/', Some(b'/')) | (b'*', Some(b'*')) | (b'=' | b'!' | b'<' | b'>', Some(b'='))) {
                    self.at += 1;
                    return Token::Operator(b'2');
                }
                if first == b'=' { Token::Assign } else { Token::Operator(first) }
            }
        }
    }

    fn skip_while(&mut self, is_part: impl Fn(u8) -> bool) {
        while self.byte(0).is_some_and(&is_part) {
            self.at += 1;
        }
    }

    fn text(&mut self, start: usize, quote: u8) -> Token<'s> {
        while let Some(byte) = self.byte(0) {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == quote {
                return Token::Text(self.source.get(start..self.at).unwrap_or_default());
            }
        }
        self.at = self.source.len();
        Token::Cut
    }

    /// A block tag: what it opens and closes, and what it includes.
    fn block(&mut self, tag: &[Token<'s>]) -> Result<(), Refused> {
        let Some(Token::Name(name)) = tag.first().copied() else { return Ok(()) };
        match name {
            "include" => self.include(tag)?,
            "extends" | "import" | "from" | "block" => {
                return self.refuse(format!("`{name}` is not there: put what templates share into a partial, and include it"));
            }
            "raw" => return self.refuse("`raw` is not there: write `{{ \"{{\" }}` for two braces"),
            "for" | "if" | "autoescape" | "filter" => self.blocks.push((name, 0)),
            "with" | "macro" | "call" => {
                self.found.keeps_values = true;
                self.blocks.push((name, 0));
            }
            "set" => {
                self.found.keeps_values = true;
                if !tag.contains(&Token::Assign) {
                    self.blocks.push((name, 0));
                }
            }
            "elif" => {
                if let Some((_, elifs)) = self.blocks.last_mut() {
                    *elifs += 1;
                }
            }
            ends if ends.starts_with("end") => {
                self.blocks.pop();
            }
            _ => {}
        }
        if self.blocks.iter().map(|(_, elifs)| 1 + elifs).sum::<usize>() > BLOCKS_MAX {
            return self.refuse(format!("has more than {BLOCKS_MAX} blocks within blocks (each `elif` counts as one)"));
        }
        self.found.keeps_values |= self.blocks.iter().filter(|(name, _)| *name == "for").count() > PLAIN_LOOPS_MAX;
        Ok(())
    }

    fn include(&mut self, tag: &[Token<'s>]) -> Result<(), Refused> {
        if let [_, Token::Text(text), Token::End] = tag {
            let id = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
            if fields::is_id(id) {
                let line = self.line();
                self.found.includes.push((id.to_owned(), line));
                return Ok(());
            }
        }
        self.refuse("includes something else than one partial by its id: write `{% include \"footer\" %}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &[(String, u32)]) -> Vec<(&str, u32)> {
        found.iter().map(|(name, line)| (name.as_str(), *line)).collect()
    }

    #[test]
    fn what_a_source_refers_to_is_found_with_its_line() {
        let source = "Dear {{ person.name|default('}} {% include \"no\" %}')|upper }}\n\
            {# {% include \"neither\" %} #}\n\
            {%- include 'header' -%} text | text is odd\n\
            {% if a is not defined and b.is or c is divisibleby(3) and x not in y %}{% include \"footer\" %}{% endif %}\n\
            {% filter lower | trim %}x{% endfilter %} {{ {'a': {'b': 1}} }} {{ x|money(\"KRW\") }}";
        let found = scan(source).expect("it is fine");
        assert_eq!(names(&found.includes), [("header", 3), ("footer", 4)]);
        assert_eq!(names(&found.filters), [("default", 1), ("upper", 1), ("lower", 5), ("trim", 5), ("money", 5)]);
        assert_eq!(names(&found.tests), [("defined", 4), ("divisibleby", 4)]);
        assert!(!found.keeps_values);
        for keeps in ["{% set a = 1 %}", "{% with a = 1 %}{% endwith %}", "{{ dict() }}", "{% macro m() %}{% endmacro %}"] {
            assert!(scan(keeps).expect("it is fine").keeps_values, "{keeps}");
        }
        let loops = "{% for a in b %}".repeat(4) + &"{% endfor %}".repeat(4);
        assert!(scan(&loops).expect("it is fine").keeps_values);
    }

    #[test]
    fn what_cannot_be_known_beforehand_is_refused() {
        for source in [
            "{% include name %}",
            "{% include [\"a\", \"b\"] %}",
            "{% include \"a\" ignore missing %}",
            "{% include \"../a\" %}",
            "{% extends \"a\" %}",
            "{% import \"a\" as b %}",
            "{% from \"a\" import b %}",
            "{% raw %}{{{% endraw %}",
            "{% set n = namespace (a=1) %}",
            "{{ debug() }}",
        ] {
            assert_eq!(scan(&format!("\n{source}")).expect_err(source).line, 2, "{source}");
        }
    }

    #[test]
    fn deep_sources_are_refused_and_wide_ones_are_not() {
        let nots = format!("{{{{ {} a }}}}", "not ".repeat(100_000));
        let chain = format!("{{{{ a{} }}}}", "|upper".repeat(100_000));
        let sum = format!("{{{{ 1{} }}}}", "+1".repeat(100_000));
        let path = format!("{{{{ a{} }}}}", ".a".repeat(100_000));
        let brackets = format!("{{{{ {}{} }}}}", "[".repeat(100), "]".repeat(100));
        let targets = format!("{{% set {}a{} = 1 %}}", "(".repeat(100), ")".repeat(100));
        let elifs = format!("{{% if a %}}{}{{% endif %}}", "{% elif b %}".repeat(100));
        let blocks = "{% if a %}".repeat(100);
        for source in [nots, chain, sum, path, brackets, targets, elifs, blocks] {
            assert!(scan(&source).is_err(), "{}", &source[..40]);
        }
        let list = format!("{{{{ [{}] }}}}", "1, ".repeat(10_000));
        let many = "{% if a %}b{% elif c %}d{% endif %}".repeat(10_000);
        assert!(scan(&list).is_ok() && scan(&many).is_ok());
    }

    #[test]
    fn any_text_is_looked_at_without_harm() {
        for source in [
            "",
            "{",
            "{{",
            "{%",
            "{#",
            "{{ '",
            "{{ \"\\",
            "{{ ] }}",
            "{% % }",
            "{{ é }}",
            "{%-%}",
            "{{-}}",
            "}}",
            "{% include",
            "{{ '\\é' }}",
        ] {
            let _ = scan(source);
        }
    }
}
