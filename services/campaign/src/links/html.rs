//! Finding the links of an HTML part. Not a parser: it walks over tags as the tokenizer of the HTML standard does
//! (<https://html.spec.whatwg.org/multipage/parsing.html#tokenization>) and says where the values of `href` stand, so that everything else
//! stays byte for byte as it is.

use std::ops::Range;

/// Elements whose content is text, whatever it looks like.
const RAW: [&str; 8] = ["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"];

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Where the values of `href` of `<a>` and `<area>` stand, in order, without their quotes.
    pub(super) links: Vec<Link>,
    /// Where the last `</body>` begins.
    pub(super) body_end: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) value: Range<usize>,
    /// It stands between quotes.
    pub(super) quoted: bool,
}

/// Walks over a part.
pub(super) fn scan(html: &str) -> Found {
    let bytes = html.as_bytes();
    let mut found = Found::default();
    let mut at = 0;
    while let Some(open) = find(bytes, at, b"<") {
        let next = match bytes.get(open + 1) {
            Some(b'!') if starts(bytes, open, b"<!--") => comment_end(bytes, open + 2),
            Some(b'!' | b'?') => find(bytes, open, b">").map(|end| end + 1),
            Some(b'/') if letter(bytes, open + 2) => {
                let name = name_end(bytes, open + 2);
                let tag = tag(bytes, name);
                if tag.is_some() && is(bytes, open + 2..name, "body") {
                    found.body_end = Some(open);
                }
                tag.map(|tag| tag.end)
            }
            Some(b'/') => find(bytes, open, b">").map(|end| end + 1),
            Some(first) if first.is_ascii_alphabetic() => start_tag(bytes, open + 1, &mut found),
            Some(_) | None => Some(open + 1),
        };
        // What does not end before the part does is dropped by whoever shows it.
        let Some(next) = next else { break };
        at = next;
    }
    found
}

/// Where to go on after a start tag.
fn start_tag(bytes: &[u8], name_start: usize, found: &mut Found) -> Option<usize> {
    let name_end = name_end(bytes, name_start);
    let tag = tag(bytes, name_end)?;
    let name = name_start..name_end;
    if is(bytes, name.clone(), "a") || is(bytes, name.clone(), "area") {
        found.links.extend(tag.href);
    }
    match RAW.iter().find(|raw| is(bytes, name.clone(), raw)) {
        Some(raw) => raw_end(bytes, tag.end, raw),
        None if is(bytes, name, "plaintext") => None,
        None => Some(tag.end),
    }
}

struct Tag {
    /// After the `>`.
    end: usize,
    /// The first `href`: others are ignored.
    href: Option<Link>,
}

/// Walks over the attributes of a tag, from the end of its name. None: it does not end.
fn tag(bytes: &[u8], mut at: usize) -> Option<Tag> {
    let mut href = None;
    loop {
        at = skip(bytes, at, |b| space(b) || b == b'/');
        if *bytes.get(at)? == b'>' {
            return Some(Tag { end: at + 1, href });
        }
        // An equals sign at the beginning of a name is part of it.
        let name = at..skip(bytes, at + 1, |b| !space(b) && !matches!(b, b'/' | b'>' | b'='));
        at = skip(bytes, name.end, space);
        if *bytes.get(at)? != b'=' {
            continue;
        }
        at = skip(bytes, at + 1, space);
        let (link, end) = match *bytes.get(at)? {
            quote @ (b'"' | b'\'') => {
                let end = find(bytes, at + 1, &[quote])?;
                (Link { value: at + 1..end, quoted: true }, end + 1)
            }
            // The value is missing.
            b'>' => continue,
            _ => {
                let end = skip(bytes, at, |b| !space(b) && b != b'>');
                (Link { value: at..end, quoted: false }, end)
            }
        };
        at = end;
        if href.is_none() && is(bytes, name, "href") {
            href = Some(link);
        }
    }
}

/// After the end of a comment; `from` is behind its `<!`, so that `<!-->` is a whole one.
fn comment_end(bytes: &[u8], from: usize) -> Option<usize> {
    let usual = find(bytes, from, b"-->").map(|at| at + 3);
    let odd = find(bytes, from + 2, b"--!>").map(|at| at + 4);
    usual.into_iter().chain(odd).min()
}

/// Where the end tag of an element with raw content begins.
fn raw_end(bytes: &[u8], mut at: usize, name: &str) -> Option<usize> {
    while let Some(open) = find(bytes, at, b"</") {
        let end = open + 2 + name.len();
        if is(bytes, open + 2..end, name) && bytes.get(end).is_some_and(|b| space(*b) || matches!(b, b'/' | b'>')) {
            return Some(open);
        }
        at = open + 2;
    }
    None
}

fn name_end(bytes: &[u8], at: usize) -> usize {
    skip(bytes, at, |b| !space(b) && !matches!(b, b'/' | b'>'))
}

fn skip(bytes: &[u8], at: usize, is: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| !is(*b)).unwrap_or(rest.len())
}

fn find(bytes: &[u8], at: usize, what: &[u8]) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let first = what.first()?;
    let mut from = 0;
    while let Some(step) = rest.get(from..)?.iter().position(|b| b == first) {
        from += step;
        if rest.get(from..)?.starts_with(what) {
            return Some(at + from);
        }
        from += 1;
    }
    None
}

fn starts(bytes: &[u8], at: usize, what: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(what))
}

fn letter(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(u8::is_ascii_alphabetic)
}

fn is(bytes: &[u8], range: Range<usize>, name: &str) -> bool {
    bytes.get(range).is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
}

fn space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

/// The text that the value of an attribute stands for. None: it has a reference that is not known here, so it had better be left alone.
pub(super) fn decoded(value: &str) -> Option<String> {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('&') {
        let (before, reference) = rest.split_at(at);
        text.push_str(before);
        let (character, length) = reference_of(reference)?;
        text.push(character);
        rest = reference.get(length..)?;
    }
    text.push_str(rest);
    Some(text)
}

/// What the reference at the beginning of a text stands for, and how long it is. An ampersand that begins none stands for itself.
fn reference_of(text: &str) -> Option<(char, usize)> {
    let bytes = text.as_bytes();
    if bytes.get(1) == Some(&b'#') {
        let (digits, radix) = if matches!(bytes.get(2), Some(b'x' | b'X')) { (3, 16) } else { (2, 10) };
        let end = skip(bytes, digits, |b| char::from(b).is_digit(radix));
        if end == digits {
            return Some(('&', 1));
        }
        // Numbers of no character and of control characters stand for others: not in addresses.
        let number = u32::from_str_radix(text.get(digits..end)?, radix).ok()?;
        let character = char::from_u32(number).filter(|c| !c.is_control())?;
        return Some((character, end + usize::from(bytes.get(end) == Some(&b';'))));
    }
    let end = skip(bytes, 1, |b| b.is_ascii_alphanumeric());
    let name = text.get(1..end)?;
    let semicolon = bytes.get(end) == Some(&b';');
    let known = match name {
        "amp" | "AMP" => Some('&'),
        "lt" | "LT" => Some('<'),
        "gt" | "GT" => Some('>'),
        "quot" | "QUOT" => Some('"'),
        "apos" if semicolon => Some('\''),
        _ => None,
    };
    match known {
        Some(character) if semicolon => Some((character, end + 1)),
        // Old pages leave it out; `&lt=1` is a parameter nonetheless.
        Some(character) if bytes.get(end) != Some(&b'=') => Some((character, end)),
        None if semicolon && !name.is_empty() => None,
        Some(_) | None => Some(('&', 1)),
    }
}

/// A text as the value of an attribute.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('\'', "&#39;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn links(html: &str) -> Vec<&str> {
        scan(html).links.into_iter().map(|link| &html[link.value]).collect()
    }

    #[test]
    fn links_are_found_however_they_are_written() {
        assert_eq!(links(r#"<a href="https://a">x</a>"#), ["https://a"]);
        assert_eq!(links("<A class=x HREF = 'https://a' >"), ["https://a"]);
        assert_eq!(links("<a\n\ttitle=\"a > b\" href=https://a/b>"), ["https://a/b"]);
        assert_eq!(links("<a/href=\"x\"/>"), ["x"]);
        assert_eq!(links("<area shape=rect href=\"x\"><a data-href=y href=z>"), ["x", "z"]);
        assert_eq!(links("<a href=\"first\" href=\"second\">"), ["first"]);
        assert_eq!(links("<a =href=x href='y'>"), ["y"]);
        assert_eq!(links("<a disabled href=\"\">"), [""]);
        assert_eq!(links("1 < 2 <a href=x> <3"), ["x"]);
        assert_eq!(links("</p title='<a href=no>'><a href=x>"), ["x"]);
    }

    #[test]
    fn what_looks_like_a_link_and_is_none_is_left() {
        for html in [
            "<!-- <a href=x> -->",
            "<!--[if mso]><a href=x><![endif]-->",
            "<!--><!-- <a href=x> --!>",
            "<!doctype html '<a href=x'>",
            "<style>a::before { content: '<a href=x>' }</style>",
            "<script>'</scriptx><a href=x>'</script >",
            "<title><a href=x></title>",
            "<abbr href=x><link href=x><base href=x>",
            "<a href=\"x>",
            "<a href",
            "<a href=",
            "<a href=>",
            "<img alt=\"<a href=x>\">",
            "<plaintext><a href=x>",
            "&lt;a href=x>",
            "<",
            "</",
            "<!",
            "",
        ] {
            assert_eq!(links(html), Vec::<&str>::new(), "{html}");
        }
        assert_eq!(links("<!-- a --><a href=x>"), ["x"]);
        assert_eq!(links("<!--><a href=x>"), ["x"]);
        assert_eq!(links("<script></script><a href=x>"), ["x"]);
    }

    #[test]
    fn the_end_of_the_body_is_that_of_markup() {
        assert_eq!(scan("<body>a</body></html>").body_end, Some(7));
        assert_eq!(scan("a</BODY >").body_end, Some(1));
        assert_eq!(scan("a<!-- </body> -->").body_end, None);
        assert_eq!(scan("a</bodyx></body").body_end, None);
    }

    #[test]
    fn references_are_read_as_browsers_do() {
        for (value, text) in [
            ("https://a/?b=1&amp;c=2", "https://a/?b=1&c=2"),
            ("https:&#x2f;&#47;a", "https://a"),
            ("a&b=c&&d", "a&b=c&&d"),
            ("a&amp", "a&"),
            ("a&lt=1", "a&lt=1"),
            ("a&copy=1&ampere=2", "a&copy=1&ampere=2"),
            ("&quot;&apos;&lt;&gt;", "\"'<>"),
            ("&#;&#x;&;", "&#;&#x;&;"),
            ("\u{d64d}&amp;\u{ae38}", "\u{d64d}&\u{ae38}"),
        ] {
            assert_eq!(decoded(value).as_deref(), Some(text), "{value}");
        }
        for value in ["a&eacute;b", "&#0;", "&#x80;", "&#xd800;", "&#99999999999;"] {
            assert_eq!(decoded(value), None, "{value}");
        }
        assert_eq!(decoded(&escaped("a&b\"c'd<e>")).as_deref(), Some("a&b\"c'd<e>"));
    }

    proptest! {
        #[test]
        fn any_text_is_walked_over_without_harm(
            html in "([<>/!a=\"' -]|href|<a href=|</body>|<!--|-->|<style>|&amp;|\u{d64d}){0,40}",
            any in any::<String>(),
        ) {
            for html in [html, any] {
                let found = scan(&html);
                let mut last = 0;
                for link in &found.links {
                    prop_assert!(last <= link.value.start && html.get(link.value.clone()).is_some());
                    last = link.value.end;
                }
                prop_assert!(found.body_end.is_none_or(|at| html[at..].to_ascii_lowercase().starts_with("</body")));
                let _ = decoded(&html);
            }
        }
    }
}
