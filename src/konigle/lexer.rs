//! Splits JSON into tokens as its bytes come in, in constant memory: a string is kept by its beginning only.
//!
//! Strict about structure, lenient about what stands inside strings (invalid UTF-8, raw control characters, halves of
//! surrogate pairs). `serde_json` needs all of a body, or a reader that blocks, and keeps a string whole.
//!
//! Pure. Absent: what the tokens mean.

/// Bytes of a string that are kept while it is read: much more than are shown, since secrets are removed before the cut.
pub(super) const TEXT_BYTES: usize = 4096;
/// Nesting beyond this is taken for an attack.
const DEEPEST: usize = 64;

/// What the lexer tells; `depth` counts the containers around a thing.
pub(super) trait Sink {
    fn begin(&mut self, depth: usize);
    fn end(&mut self, depth: usize);
    fn key(&mut self, depth: usize, key: &str);
    fn text(&mut self, depth: usize, text: String);
    fn literal(&mut self, depth: usize, literal: &[u8]);
}

/// What may come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expect {
    #[default]
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Nothing,
    InText {
        key: bool,
    },
    InEscape {
        key: bool,
    },
    InUnicode {
        key: bool,
        digits: u8,
        unit: u16,
    },
    InLiteral,
}

/// Where in a body the reading is.
#[derive(Debug, Default)]
pub(super) struct Lexer {
    expect: Expect,
    /// The open containers, outermost first: whether each is an object.
    open: Vec<bool>,
    /// The beginning of the string or literal that is being read.
    text: Vec<u8>,
    /// The first half of a surrogate pair.
    high: Option<u16>,
}

pub(super) type Lexed = Result<(), &'static str>;

pub(super) const NO_JSON: &str = "the reply is no JSON";

impl Lexer {
    /// Whether one whole object was read.
    pub(super) fn ended(&self) -> bool {
        self.expect == Expect::Nothing
    }

    /// How much memory the string that is being read takes, in bytes.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.text.capacity()
    }

    /// Takes the next byte, and tells what it completes. The error is a text for people.
    pub(super) fn push(&mut self, byte: u8, sink: &mut impl Sink) -> Lexed {
        match self.expect {
            Expect::InText { key } => self.in_text(key, byte, sink),
            Expect::InEscape { key } => self.in_escape(key, byte),
            Expect::InUnicode { key, digits, unit } => self.in_unicode(key, digits, unit, byte),
            Expect::InLiteral if !matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n') => {
                self.keep(&[byte]);
                if self.text.len() > 256 { Err(NO_JSON) } else { Ok(()) }
            }
            Expect::InLiteral => {
                let literal = std::mem::take(&mut self.text);
                if serde_json::from_slice::<serde::de::IgnoredAny>(&literal).is_err() {
                    return Err(NO_JSON);
                }
                sink.literal(self.open.len(), &literal);
                self.after_value();
                self.between(byte, sink)
            }
            _ => self.between(byte, sink),
        }
    }

    /// Between tokens.
    fn between(&mut self, byte: u8, sink: &mut impl Sink) -> Lexed {
        let value = matches!(self.expect, Expect::Value | Expect::ValueOrEnd);
        let key = matches!(self.expect, Expect::Key | Expect::KeyOrEnd);
        let end = matches!(self.expect, Expect::ValueOrEnd | Expect::KeyOrEnd | Expect::CommaOrEnd);
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'"' if value || key => self.expect = Expect::InText { key },
            b'{' | b'[' if value => return self.open(byte == b'{', sink),
            b'}' | b']' if end && self.open.last() == Some(&(byte == b'}')) => {
                self.open.pop();
                sink.end(self.open.len());
                self.after_value();
            }
            b':' if self.expect == Expect::Colon => self.expect = Expect::Value,
            b',' if self.expect == Expect::CommaOrEnd => {
                self.expect = if self.open.last() == Some(&true) { Expect::Key } else { Expect::Value };
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' if value && !self.open.is_empty() => {
                self.keep(&[byte]);
                self.expect = Expect::InLiteral;
            }
            _ => return Err(NO_JSON),
        }
        Ok(())
    }

    fn open(&mut self, object: bool, sink: &mut impl Sink) -> Lexed {
        let depth = self.open.len();
        if depth == 0 && !object {
            return Err("the reply is no JSON object");
        }
        if depth == DEEPEST {
            return Err("the reply is nested too deeply");
        }
        sink.begin(depth);
        self.open.push(object);
        self.expect = if object { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
        Ok(())
    }

    fn after_value(&mut self) {
        self.expect = if self.open.is_empty() { Expect::Nothing } else { Expect::CommaOrEnd };
    }

    fn in_text(&mut self, key: bool, byte: u8, sink: &mut impl Sink) -> Lexed {
        match byte {
            b'"' => {
                self.lone_surrogate();
                let text = String::from_utf8_lossy(&self.text).into_owned();
                self.text.clear();
                let depth = self.open.len();
                if key {
                    sink.key(depth, &text);
                    self.expect = Expect::Colon;
                } else if depth == 0 {
                    return Err("the reply is no JSON object");
                } else {
                    sink.text(depth, text);
                    self.after_value();
                }
            }
            b'\\' => self.expect = Expect::InEscape { key },
            _ => {
                self.lone_surrogate();
                self.keep(&[byte]);
            }
        }
        Ok(())
    }

    fn in_escape(&mut self, key: bool, byte: u8) -> Lexed {
        self.expect = Expect::InText { key };
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.expect = Expect::InUnicode { key, digits: 0, unit: 0 };
                return Ok(());
            }
            _ => return Err(NO_JSON),
        };
        self.lone_surrogate();
        self.keep(&[plain]);
        Ok(())
    }

    fn in_unicode(&mut self, key: bool, digits: u8, unit: u16, byte: u8) -> Lexed {
        let Some(digit) = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok()) else {
            return Err(NO_JSON);
        };
        let unit = unit << 4 | digit;
        if digits < 3 {
            self.expect = Expect::InUnicode { key, digits: digits + 1, unit };
            return Ok(());
        }
        self.expect = Expect::InText { key };
        if let Some(high) = self.high.take() {
            if let Some(Ok(letter)) = char::decode_utf16([high, unit]).next() {
                self.keep_char(letter);
                return Ok(());
            }
            self.keep_char(char::REPLACEMENT_CHARACTER);
        }
        match unit {
            0xd800..0xdc00 => self.high = Some(unit),
            _ => self.keep_char(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
        Ok(())
    }

    fn lone_surrogate(&mut self) {
        if self.high.take().is_some() {
            self.keep_char(char::REPLACEMENT_CHARACTER);
        }
    }

    fn keep_char(&mut self, letter: char) {
        self.keep(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.text.len() + bytes.len() <= TEXT_BYTES {
            self.text.extend_from_slice(bytes);
        }
    }
}
