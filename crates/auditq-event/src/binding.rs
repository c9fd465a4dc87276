use crate::event::Cut;

/// A binding as the application gave it, borrowed for the moment of recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer; up to `i64::MAX` it is recorded as a signed one.
    Uint(u64),
    /// A floating-point number; NaN and infinities are kept.
    Float(f64),
    /// Text.
    Text(&'a str),
    /// Text whose bytes may not be UTF-8.
    RawText(&'a [u8]),
    /// Binary data; only its length, hash and head are recorded.
    Bytes(&'a [u8]),
    /// Anything else, as the driver's own text with the driver's name of the type.
    Typed(&'a str, &'a str),
    /// What another recorder kept of a value that it cut or took out: recorded as it is.
    Recorded(&'a Binding),
}

/// A binding as it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// SQL NULL.
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer over `i64::MAX`.
    Uint(u64),
    /// A floating-point number.
    Float(f64),
    /// Text, whole.
    Text(String),
    /// Text that is not UTF-8, whole.
    InvalidText(Vec<u8>),
    /// A value of another type: its name and its text.
    Typed(String, String),
    /// A value over its limit, or binary: what is left of it.
    Shortened {
        /// `text`, `bytes` or the driver's name of the type.
        kind: String,
        /// Length and hash of the whole.
        cut: Cut,
        /// Its first bytes: UTF-8 cut at a character boundary for texts, raw for binary.
        head: Vec<u8>,
    },
    /// A secret: the keyed HMAC-SHA256 of the value, never the value.
    Redacted {
        /// Such as `text`.
        kind: String,
        /// The first 16 bytes of the HMAC.
        hmac: [u8; 16],
    },
}
