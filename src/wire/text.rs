//! JSON text (RFC 8259) as a flat list of tokens that borrow from it.
//!
//! One pass checks the whole text and finds where every value starts and ends; strings and numbers are not copied, unescaped or
//! converted until somebody asks for them. The pass keeps its own stack, so no nesting can exhaust the thread's.

use std::borrow::Cow;
use std::fmt;

/// A text that is no JSON, and where it stops being so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What was needed and what was found.
    pub message: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for SyntaxError {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    True,
    False,
    Number,
    /// A string without escapes.
    Plain,
    /// A string with escapes.
    Escaped,
    Array,
    Object,
}

/// One value, or one key of an object. `start..end` is its text, without quotes for a string; `next` is the token after it and
/// everything inside it.
#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    start: u32,
    end: u32,
    next: u32,
}

/// A JSON document: its text and its tokens.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    text: &'a str,
    tokens: Vec<Token>,
}

impl<'a> Document<'a> {
    /// Reads `bytes` as one JSON value nested at most `depth` containers deep. A byte order mark is skipped.
    pub(crate) fn parse(bytes: &'a [u8], depth: usize) -> Result<Self, SyntaxError> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        if u32::try_from(bytes.len()).is_err() {
            return Err(SyntaxError { line: 1, column: 1, message: "the text is longer than 4 GiB".into() });
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                let (readable, _) = bytes.split_at(e.valid_up_to());
                let readable = String::from_utf8_lossy(readable);
                return Err(error_at(&readable, readable.len(), "invalid UTF-8".into()));
            }
        };
        // A token takes ten to twenty bytes of typical text.
        let tokens = Vec::with_capacity(text.len() / 12 + 4);
        let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, tokens };
        parser.document(depth)?;
        Ok(Self { text, tokens: parser.tokens })
    }

    /// The value that the document is.
    pub(crate) fn root(&self) -> Node<'_> {
        Node { document: self, index: 0 }
    }
}

/// One value of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'d> {
    document: &'d Document<'d>,
    index: u32,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Json<'d> {
    Null,
    Bool(bool),
    /// The number's literal.
    Number(&'d str),
    /// The string, unescaped.
    Text(Cow<'d, str>),
    Array(Elements<'d>),
    Object(Members<'d>),
}

impl<'d> Node<'d> {
    fn token(self) -> Token {
        self.document.tokens[self.index as usize]
    }

    fn slice(self) -> &'d str {
        let Token { start, end, .. } = self.token();
        &self.document.text[start as usize..end as usize]
    }

    fn string(self) -> Cow<'d, str> {
        if self.token().kind == Kind::Escaped { Cow::Owned(unescape(self.slice())) } else { Cow::Borrowed(self.slice()) }
    }

    /// What the value is.
    pub(crate) fn json(self) -> Json<'d> {
        let token = self.token();
        let inside = Elements { document: self.document, at: self.index + 1, end: token.next };
        match token.kind {
            Kind::Null => Json::Null,
            Kind::True => Json::Bool(true),
            Kind::False => Json::Bool(false),
            Kind::Number => Json::Number(self.slice()),
            Kind::Plain => Json::Text(Cow::Borrowed(self.slice())),
            Kind::Escaped => Json::Text(self.string()),
            Kind::Array => Json::Array(inside),
            Kind::Object => Json::Object(Members(inside)),
        }
    }

    /// The value's JSON as it stands in the document: every digit of its numbers, every escape of its strings.
    pub(crate) fn source(self) -> &'d str {
        let Token { kind, start, end, .. } = self.token();
        let quote = usize::from(matches!(kind, Kind::Plain | Kind::Escaped));
        &self.document.text[start as usize - quote..end as usize + quote]
    }

    /// The string, unescaped; none if the value is something else.
    pub(crate) fn text(self) -> Option<Cow<'d, str>> {
        match self.json() {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The member `name`, the last one if there are several; none if the value is no object or has no such member.
    pub(crate) fn member(self, name: &str) -> Option<Self> {
        let Json::Object(members) = self.json() else { return None };
        members.filter(|(key, _)| key == name).last().map(|(_, value)| value)
    }

    /// True for null.
    pub(super) fn is_null(self) -> bool {
        self.token().kind == Kind::Null
    }

    /// What the value is, for a sentence about it.
    pub(super) fn describe(self) -> String {
        match self.token().kind {
            Kind::Null => "null".into(),
            Kind::True => "true".into(),
            Kind::False => "false".into(),
            Kind::Number => format!("the number {}", excerpt(self.slice())),
            Kind::Plain | Kind::Escaped => format!("the text {:?}", excerpt(&self.string())),
            Kind::Array => "a list".into(),
            Kind::Object => "an object".into(),
        }
    }
}

/// The first characters of a text that somebody else wrote: enough to recognise it, not enough to flood a log.
pub(crate) fn excerpt(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 40;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// The elements of a list, in order.
#[derive(Debug, Clone)]
pub(crate) struct Elements<'d> {
    document: &'d Document<'d>,
    at: u32,
    end: u32,
}

impl<'d> Iterator for Elements<'d> {
    type Item = Node<'d>;

    fn next(&mut self) -> Option<Node<'d>> {
        if self.at >= self.end {
            return None;
        }
        let node = Node { document: self.document, index: self.at };
        self.at = node.token().next;
        Some(node)
    }
}

/// The members of an object, in order, repeated keys included.
#[derive(Debug, Clone)]
pub(crate) struct Members<'d>(Elements<'d>);

impl<'d> Iterator for Members<'d> {
    type Item = (Cow<'d, str>, Node<'d>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?;
        let value = self.0.next()?;
        Some((key.string(), value))
    }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    tokens: Vec<Token>,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    CommaOrEnd,
}

impl Parser<'_> {
    fn document(&mut self, depth: usize) -> Result<(), SyntaxError> {
        // Indices of the containers that are open.
        let mut open: Vec<u32> = Vec::new();
        let mut expect = Expect::Value;
        loop {
            self.skip_white_space();
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(self.unexpected(open.last().map_or("a value", |_| "the rest of the document")));
            };
            match (expect, byte) {
                (Expect::ValueOrEnd, b']') | (Expect::KeyOrEnd, b'}') => {
                    self.at += 1;
                    self.close(&mut open);
                    expect = Expect::CommaOrEnd;
                }
                (Expect::KeyOrEnd, b'"') => {
                    self.key()?;
                    expect = Expect::Value;
                    continue;
                }
                (Expect::KeyOrEnd, _) => return Err(self.unexpected("a key or '}'")),
                (Expect::CommaOrEnd, b',') => {
                    self.at += 1;
                    if self.in_object(&open) {
                        self.skip_white_space();
                        if self.bytes.get(self.at) != Some(&b'"') {
                            return Err(self.unexpected("a key"));
                        }
                        self.key()?;
                    }
                    expect = Expect::Value;
                    continue;
                }
                (Expect::CommaOrEnd, b'}') if self.in_object(&open) => {
                    self.at += 1;
                    self.close(&mut open);
                }
                (Expect::CommaOrEnd, b']') if !self.in_object(&open) => {
                    self.at += 1;
                    self.close(&mut open);
                }
                (Expect::CommaOrEnd, _) => {
                    return Err(self.unexpected(if self.in_object(&open) { "',' or '}'" } else { "',' or ']'" }));
                }
                (Expect::Value | Expect::ValueOrEnd, b'{' | b'[') => {
                    if open.len() >= depth {
                        return Err(self.error(format!("nested deeper than {depth} containers")));
                    }
                    open.push(self.index());
                    let kind = if byte == b'{' { Kind::Object } else { Kind::Array };
                    self.push(kind, self.at, self.at);
                    self.at += 1;
                    expect = if byte == b'{' { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
                    continue;
                }
                (Expect::Value | Expect::ValueOrEnd, _) => {
                    self.scalar(byte)?;
                    expect = Expect::CommaOrEnd;
                }
            }
            if open.is_empty() {
                self.skip_white_space();
                return if self.at == self.bytes.len() { Ok(()) } else { Err(self.unexpected("the end of the document")) };
            }
        }
    }

    fn in_object(&self, open: &[u32]) -> bool {
        open.last().is_some_and(|&index| self.tokens[index as usize].kind == Kind::Object)
    }

    fn close(&mut self, open: &mut Vec<u32>) {
        let next = self.index();
        if let Some(index) = open.pop() {
            let token = &mut self.tokens[index as usize];
            token.end = self.at as u32;
            token.next = next;
        }
    }

    /// The index of the next token. There are fewer tokens than bytes, and `parse` has bounded those.
    fn index(&self) -> u32 {
        self.tokens.len() as u32
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) {
        let next = self.index() + 1;
        self.tokens.push(Token { kind, start: start as u32, end: end as u32, next });
    }

    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<(), SyntaxError> {
        self.string()?;
        self.skip_white_space();
        if self.bytes.get(self.at) != Some(&b':') {
            return Err(self.unexpected("':'"));
        }
        self.at += 1;
        Ok(())
    }

    fn scalar(&mut self, first: u8) -> Result<(), SyntaxError> {
        match first {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true", Kind::True),
            b'f' => self.word("false", Kind::False),
            b'n' => self.word("null", Kind::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<(), SyntaxError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.push(kind, self.at, self.at + word.len());
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        self.at += usize::from(self.bytes[start] == b'-');
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
            if self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
                return Err(self.error("a number must not start with 0".into()));
            }
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.push(Kind::Number, start, self.at);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    /// A string: `at` stands on its opening quote.
    fn string(&mut self) -> Result<(), SyntaxError> {
        let start = self.at + 1;
        let mut kind = Kind::Plain;
        self.at = start;
        loop {
            self.at = skip_ordinary(self.bytes, self.at);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.push(kind, start, self.at);
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.escape()?;
                }
                Some(control) => {
                    return Err(self.error(format!("the control character U+{control:04X} must be escaped in a string")));
                }
                None => return Err(self.unexpected("the end of the string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), SyntaxError> {
        self.at += 1;
        match self.bytes.get(self.at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.bytes.get(self.at).is_some_and(u8::is_ascii_hexdigit) {
                        return Err(self.unexpected("a hexadecimal digit"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.unexpected("an escape (one of \" \\ / b f n r t u)")),
        }
        Ok(())
    }

    fn unexpected(&self, needed: &str) -> SyntaxError {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(character) => format!("found {character:?}"),
            None => "found the end of the text".into(),
        };
        self.error(format!("expected {needed}, {found}"))
    }

    fn error(&self, message: String) -> SyntaxError {
        error_at(self.text, self.at, message)
    }
}

fn error_at(text: &str, at: usize, message: String) -> SyntaxError {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    SyntaxError { line: line as u32, column: column as u32, message }
}

/// The place of the first byte from `at` on that ends or interrupts a string: a quote, a backslash or a control character.
/// Looks at eight bytes at a time; the same search finds what the writer must escape.
#[inline]
pub(super) fn skip_ordinary(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        // The classic test for a zero byte, twice, and for a byte below 0x20. A borrow can only raise a flag above a true one, and
        // the lowest flag is the one taken.
        let flags = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let flags = flags & HIGHS;
        if flags != 0 {
            return at + (flags.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at) {
        if byte == b'"' || byte == b'\\' || byte < 0x20 {
            break;
        }
        at += 1;
    }
    at
}

/// The text that an escaped string stands for. A surrogate without its partner becomes U+FFFD.
fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(backslash) = rest.find('\\') {
        text.push_str(&rest[..backslash]);
        let escape = rest.as_bytes().get(backslash + 1).copied().unwrap_or(b'\\');
        rest = rest.get(backslash + 2..).unwrap_or("");
        match escape {
            b'b' => text.push('\u{8}'),
            b'f' => text.push('\u{c}'),
            b'n' => text.push('\n'),
            b'r' => text.push('\r'),
            b't' => text.push('\t'),
            b'u' => {
                let unit = hex(rest);
                rest = rest.get(4..).unwrap_or("");
                let low = rest.strip_prefix("\\u").map(hex).filter(|low| (0xDC00..0xE000).contains(low));
                match (unit, low) {
                    (0xD800..0xDC00, Some(low)) => {
                        rest = rest.get(6..).unwrap_or("");
                        let scalar = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                        text.push(char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    _ => text.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)),
                }
            }
            itself => text.push(char::from(itself)),
        }
    }
    text.push_str(rest);
    text
}

/// The first four hexadecimal digits of `digits`, which the parser has seen.
fn hex(digits: &str) -> u32 {
    digits.get(..4).and_then(|four| u32::from_str_radix(four, 16).ok()).unwrap_or(0xFFFD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        Document::parse(text.as_bytes(), 8).expect_err("a syntax error").to_string()
    }

    fn as_serde(node: Node<'_>) -> serde_json::Value {
        match node.json() {
            Json::Null => serde_json::Value::Null,
            Json::Bool(b) => b.into(),
            Json::Number(literal) => serde_json::from_str(literal).expect("a number"),
            Json::Text(text) => text.into(),
            Json::Array(elements) => elements.map(as_serde).collect(),
            Json::Object(members) => members.map(|(k, v)| (k.into_owned(), as_serde(v))).collect(),
        }
    }

    /// Errors say what was needed, what was found, and where.
    #[test]
    fn errors_name_line_and_column() {
        insta::assert_snapshot!(error(""), @"line 1, column 1: expected a value, found the end of the text");
        insta::assert_snapshot!(error("{\n  \"a\": +1}"), @"line 2, column 8: expected a value, found '+'");
        insta::assert_snapshot!(error("{\"ä\": 5.}"), @"line 1, column 9: expected a digit, found '}'");
        insta::assert_snapshot!(error("[1,]"), @"line 1, column 4: expected a value, found ']'");
        insta::assert_snapshot!(error("{\"a\":1,}"), @"line 1, column 8: expected a key, found '}'");
        insta::assert_snapshot!(error("{a:1}"), @"line 1, column 2: expected a key or '}', found 'a'");
        insta::assert_snapshot!(error("{\"a\" 1}"), @"line 1, column 6: expected ':', found '1'");
        insta::assert_snapshot!(error("[1}"), @"line 1, column 3: expected ',' or ']', found '}'");
        insta::assert_snapshot!(error("{\"a\":1]"), @"line 1, column 7: expected ',' or '}', found ']'");
        insta::assert_snapshot!(error("{} {}"), @"line 1, column 4: expected the end of the document, found '{'");
        insta::assert_snapshot!(error("{\"a\":01}"), @"line 1, column 7: a number must not start with 0");
        insta::assert_snapshot!(error("\"\\u12\""), @"line 1, column 6: expected a hexadecimal digit, found '\"'");
        insta::assert_snapshot!(error("\"\\x\""), @r#"line 1, column 3: expected an escape (one of " \ / b f n r t u), found 'x'"#);
        insta::assert_snapshot!(error("\"a\tb\""), @"line 1, column 3: the control character U+0009 must be escaped in a string");
        insta::assert_snapshot!(error("\"a"), @"line 1, column 3: expected the end of the string, found the end of the text");
        insta::assert_snapshot!(error("[[[[[[[[[]]]]]]]]]"), @"line 1, column 9: nested deeper than 8 containers");
        insta::assert_snapshot!(error("{\"a\":[nul]}"), @"line 1, column 7: expected a value, found 'n'");
        let bad = Document::parse(b"{\"a\":\n\"\xff\"}", 8).expect_err("invalid UTF-8");
        insta::assert_snapshot!(bad, @"line 2, column 2: invalid UTF-8");
    }

    #[test]
    fn a_lone_surrogate_becomes_the_replacement_character() {
        for (raw, text) in [
            (r"a\ud83d", "a\u{fffd}"),
            (r"\ude00b", "\u{fffd}b"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (r"\ud83dx\ude00", "\u{fffd}x\u{fffd}"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r#"\"\\\/\b\f\n\r\t\u00e4"#, "\"\\/\u{8}\u{c}\n\r\tä"),
        ] {
            assert_eq!(unescape(raw), text, "{raw}");
        }
    }

    #[test]
    fn a_value_is_copied_as_it_stands_in_the_document() {
        let text = r#" {"n": 1.50e400, "n\u0061": "\ud83d \"", "plain": "ä", "list": [ 1, {} ], "no": null} "#;
        let document = Document::parse(text.as_bytes(), 8).expect("is JSON");
        let source = |name| document.root().member(name).map(Node::source);
        assert_eq!(source("n"), Some("1.50e400"));
        assert_eq!(source("na"), Some(r#""\ud83d \"""#));
        assert_eq!(source("plain"), Some("\"ä\""));
        assert_eq!(source("list"), Some("[ 1, {} ]"));
        assert_eq!(source("no"), Some("null"));
        assert_eq!(document.root().source(), text.trim());
    }

    #[test]
    fn of_repeated_members_the_last_one_counts_and_only_objects_have_any() {
        let document = Document::parse(br#"{"a": 1, "b": ["a"], "a": "x"}"#, 8).expect("is JSON");
        let root = document.root();
        assert_eq!(root.member("a").and_then(Node::text).as_deref(), Some("x"));
        let list = root.member("b").expect("is there");
        assert!(root.member("c").is_none() && list.member("a").is_none() && list.text().is_none());
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert!(Document::parse(b"\xEF\xBB\xBF{}", 8).is_ok());
    }

    #[test]
    fn any_nesting_within_the_bound_is_read_without_recursion() {
        let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Document::parse(text.as_bytes(), 100_000).is_ok());
        assert!(Document::parse(text.as_bytes(), 99_999).is_err());
    }

    #[test]
    fn every_interrupting_byte_is_found_wherever_it_stands() {
        for byte in 0..=255u8 {
            for place in 0..20 {
                let mut bytes = [b'a'; 24];
                bytes[place] = byte;
                let stops = byte == b'"' || byte == b'\\' || byte < 0x20;
                assert_eq!(skip_ordinary(&bytes, 0), if stops { place } else { 24 }, "{byte:#x} at {place}");
            }
        }
    }

    proptest! {
        /// What serde_json reads, this reads to the same value, and what one refuses the other refuses.
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}:,"\\a-cu0-9eE+\-. \ntrue]{0,24}"#) {
            let ours = Document::parse(text.as_bytes(), 100);
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match (ours, theirs) {
                (Ok(document), Ok(value)) => prop_assert_eq!(as_serde(document.root()), value),
                (Err(_), Err(_)) => {}
                // serde_json refuses numbers beyond the double range and lone surrogates; both are legal here.
                (Ok(_), Err(e)) => prop_assert!(e.to_string().contains("out of range") || e.to_string().contains("surrogate"), "{e}: {text}"),
                (Err(e), Ok(_)) => prop_assert!(false, "{}: {}", e, text),
            }
        }
    }
}
