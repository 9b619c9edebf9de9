//! Cutting a JSON object or array into its members without reading them, so that one that cannot be read does not take its
//! neighbours along. Only strings and brackets are understood; what a member contains is for its reader to judge.

/// The text is not an object or array whose members can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SplitError {
    #[error("a JSON object is expected")]
    NoObject,
    #[error("a JSON array is expected")]
    NoArray,
    #[error("brackets or quotes do not match, or a comma or colon is missing (near byte {at})")]
    Unbalanced { at: usize },
    #[error("the text ends too early")]
    Truncated,
    #[error("text follows after the end (byte {at})")]
    Trailing { at: usize },
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// Keys and values of an object, in order. Keys that are no text are left out.
pub(super) fn object(text: &[u8]) -> Result<Vec<(String, &[u8])>, SplitError> {
    let mut cursor = Cursor { text, at: 0 };
    if !cursor.eat(b'{') {
        return Err(SplitError::NoObject);
    }
    let mut members = Vec::new();
    if cursor.eat(b'}') {
        return cursor.end().map(|()| members);
    }
    loop {
        let key = cursor.member()?;
        if !cursor.eat(b':') {
            return Err(cursor.fault());
        }
        let value = cursor.member()?;
        if let Ok(key) = serde_json::from_slice::<String>(key) {
            members.push((key, value));
        }
        if cursor.eat(b'}') {
            return cursor.end().map(|()| members);
        }
        if !cursor.eat(b',') {
            return Err(cursor.fault());
        }
    }
}

/// Elements of an array, in order.
pub(super) fn array(text: &[u8]) -> Result<Vec<&[u8]>, SplitError> {
    let mut cursor = Cursor { text, at: 0 };
    if !cursor.eat(b'[') {
        return Err(SplitError::NoArray);
    }
    let mut elements = Vec::new();
    if cursor.eat(b']') {
        return cursor.end().map(|()| elements);
    }
    loop {
        elements.push(cursor.member()?);
        if cursor.eat(b']') {
            return cursor.end().map(|()| elements);
        }
        if !cursor.eat(b',') {
            return Err(cursor.fault());
        }
    }
}

impl<'a> Cursor<'a> {
    fn skip_blanks(&mut self) {
        while self.text.get(self.at).is_some_and(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, wanted: u8) -> bool {
        self.skip_blanks();
        let found = self.text.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    fn end(&mut self) -> Result<(), SplitError> {
        self.skip_blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(SplitError::Trailing { at: self.at }) }
    }

    fn fault(&self) -> SplitError {
        if self.at >= self.text.len() { SplitError::Truncated } else { SplitError::Unbalanced { at: self.at } }
    }

    /// Everything up to the next comma, colon or closing bracket that belongs to the enclosing object or array.
    fn member(&mut self) -> Result<&'a [u8], SplitError> {
        self.skip_blanks();
        let start = self.at;
        let mut depth = 0usize;
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => depth -= 1,
                b'}' | b']' | b',' | b':' if depth == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        if depth > 0 || self.at >= self.text.len() {
            return Err(SplitError::Truncated);
        }
        Ok(self.text[start..self.at].trim_ascii_end())
    }

    /// Moves behind the string that begins here.
    fn string(&mut self) -> Result<(), SplitError> {
        self.at += 1;
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => self.at += 1,
            }
        }
        Err(SplitError::Truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_cut_where_they_end_whatever_they_contain() {
        let text = br#" {"a": [1, {"x": "}]\",\\"}], "b\n":{} , "c" : nonsense here} "#;
        let members = object(text).expect("an object");
        let shown: Vec<(&str, &str)> =
            members.iter().map(|(key, value)| (key.as_str(), std::str::from_utf8(value).expect("text"))).collect();
        assert_eq!(shown, [("a", r#"[1, {"x": "}]\",\\"}]"#), ("b\n", "{}"), ("c", "nonsense here")]);
        assert_eq!(array(b"[1, [2,3],{}]").expect("an array"), [b"1".as_slice(), b"[2,3]", b"{}"]);
        assert_eq!(array(b" [ ] ").expect("an array").len(), 0);
        assert_eq!(object(b"{}").expect("an object").len(), 0);
    }

    #[test]
    fn what_cannot_be_cut_says_why() {
        assert_eq!(object(b""), Err(SplitError::NoObject));
        assert_eq!(object(b"[1]"), Err(SplitError::NoObject));
        assert_eq!(array(b"7"), Err(SplitError::NoArray));
        assert_eq!(object(b"{\"a\": 1"), Err(SplitError::Truncated));
        assert_eq!(object(b"{\"a"), Err(SplitError::Truncated));
        assert_eq!(object(b"{\"a\\"), Err(SplitError::Truncated));
        assert_eq!(object(b"{\"a\": 1} x"), Err(SplitError::Trailing { at: 9 }));
        assert!(matches!(array(b"[1:2]"), Err(SplitError::Unbalanced { .. })));
        assert_eq!(array(&vec![b'['; 100_000]), Err(SplitError::Truncated));
    }
}
