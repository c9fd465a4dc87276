use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use crate::binding::{Binding, Value};
use crate::event::Cut;
use crate::fields::{MAX_BINDINGS, binding as tag};
use crate::limits::{Limits, cut_at_char_boundary};
use crate::redact::Redaction;
use crate::statement::Statement;
use crate::wire::{DecodeError, Reader, put_sized, put_varint, unzigzag, zigzag};

/// Appends the bindings of one execution to `out`, as they are recorded.
///
/// Secrets become their keyed hash; binary values and texts over `limits.binding_bytes` become length, SHA-256 and
/// head. Over `limits.bindings_bytes` texts are shortened too, and the rest of the bindings is only counted, as is
/// what is over `limits.bindings_count`.
pub fn encode_bindings<'v>(
    values: impl IntoIterator<Item = Value<'v>>,
    statement: &Statement,
    redaction: &Redaction,
    limits: &Limits,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let (mut kept, mut total) = (0usize, 0u32);
    let mut full = false;
    for (index, value) in values.into_iter().enumerate() {
        total = total.saturating_add(1);
        full = full || kept >= limits.bindings_count.min(MAX_BINDINGS);
        if full {
            continue;
        }
        let before = out.len();
        if statement.is_sensitive(index) {
            put_redacted(out, &value, redaction);
        } else {
            put_value(out, &value, limits, limits.binding_bytes);
            if out.len() - start > limits.bindings_bytes {
                out.truncate(before);
                put_value(out, &value, limits, 0);
            }
        }
        if out.len() - start > limits.bindings_bytes {
            out.truncate(before);
            full = true;
        } else {
            kept += 1;
        }
    }
    put_total(out, kept, total);
}

/// Says how many bindings there were, when not all were kept.
pub(crate) fn put_total(out: &mut Vec<u8>, kept: usize, total: u32) {
    if u32::try_from(kept) != Ok(total) {
        out.push(tag::TOTAL);
        put_varint(out, total.into());
    }
}

/// The identity of a statement with its bindings for a user: what deduplication compares.
///
/// XXH3-64 with seed 0 over `"q1\0"` and three little-endian 64-bit numbers: `statement_hash`, XXH3-64 of
/// `encoded_bindings`, XXH3-64 of `user`. The bindings are hashed as recorded, secrets replaced by their keyed hash,
/// so nobody without the key can try out secrets against it.
#[must_use]
pub fn query_hash(statement_hash: u64, encoded_bindings: &[u8], user: &str) -> u64 {
    let mut source = [0; 27];
    source[..3].copy_from_slice(b"q1\0");
    source[3..11].copy_from_slice(&statement_hash.to_le_bytes());
    source[11..19].copy_from_slice(&xxh3_64(encoded_bindings).to_le_bytes());
    source[19..27].copy_from_slice(&xxh3_64(user.as_bytes()).to_le_bytes());
    xxh3_64(&source)
}

fn put_redacted(out: &mut Vec<u8>, value: &Value<'_>, redaction: &Redaction) {
    if *value == Value::Null {
        out.push(tag::NULL);
        return;
    }
    if let Value::Recorded(binding @ Binding::Redacted { .. }) = value {
        return binding.encode(out);
    }
    let hmac = value.with_bytes(|bytes| redaction.hmac_of_value(bytes));
    out.push(tag::REDACTED);
    put_sized(out, value.kind().as_bytes());
    out.extend_from_slice(&hmac);
}

fn put_value(out: &mut Vec<u8>, value: &Value<'_>, limits: &Limits, max: usize) {
    match *value {
        Value::Null => out.push(tag::NULL),
        Value::Bool(value) => out.push(if value { tag::TRUE } else { tag::FALSE }),
        Value::Int(value) => {
            out.push(tag::INT);
            put_varint(out, zigzag(value));
        }
        // One spelling for one number, whatever the driver calls it.
        Value::Uint(value) => match i64::try_from(value) {
            Ok(value) => put_value(out, &Value::Int(value), limits, max),
            Err(_) => {
                out.push(tag::UINT);
                put_varint(out, value);
            }
        },
        Value::Float(value) => {
            out.push(tag::FLOAT);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Value::Text(text) => put_text(out, text, limits, max),
        Value::RawText(bytes) => match str::from_utf8(bytes) {
            Ok(text) => put_text(out, text, limits, max),
            Err(_) if bytes.len() <= max => {
                out.push(tag::INVALID_TEXT);
                put_sized(out, bytes);
            }
            Err(_) => put_shortened(out, "text", bytes, &bytes[..bytes.len().min(limits.head_bytes)]),
        },
        Value::Bytes(bytes) => put_shortened(out, "bytes", bytes, &bytes[..bytes.len().min(limits.head_bytes)]),
        Value::Typed(name, text) if text.len() <= max => {
            out.push(tag::TYPED);
            put_sized(out, cut_at_char_boundary(name, limits.text_bytes).as_bytes());
            put_sized(out, text.as_bytes());
        }
        Value::Typed(name, text) => {
            let kind = cut_at_char_boundary(name, limits.text_bytes);
            put_shortened(out, kind, text.as_bytes(), cut_at_char_boundary(text, limits.head_bytes).as_bytes());
        }
        Value::Recorded(binding) => match binding.whole() {
            Some(value) => put_value(out, &value, limits, max),
            None => binding.encode(out),
        },
    }
}

fn put_text(out: &mut Vec<u8>, text: &str, limits: &Limits, max: usize) {
    if text.len() <= max {
        out.push(tag::TEXT);
        put_sized(out, text.as_bytes());
    } else {
        put_shortened(out, "text", text.as_bytes(), cut_at_char_boundary(text, limits.head_bytes).as_bytes());
    }
}

fn put_shortened(out: &mut Vec<u8>, kind: &str, whole: &[u8], head: &[u8]) {
    out.push(tag::SHORTENED);
    put_sized(out, kind.as_bytes());
    put_varint(out, whole.len() as u64);
    out.extend_from_slice(&Sha256::digest(whole));
    put_sized(out, head);
}

impl Value<'_> {
    /// Names the type as a redacted or shortened binding says it.
    fn kind(&self) -> &str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Uint(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) | Value::RawText(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::Typed(name, _) => name,
            Value::Recorded(binding) => binding.kind(),
        }
    }

    /// Lends the value's text or bytes: the same for the text `1234` and the number 1234.
    pub(crate) fn with_bytes<R>(&self, then: impl FnOnce(&[u8]) -> R) -> R {
        match *self {
            Value::Null => then(b""),
            Value::Bool(value) => then(if value { b"true" } else { b"false" }),
            Value::Int(value) => then(value.to_string().as_bytes()),
            Value::Uint(value) => then(value.to_string().as_bytes()),
            Value::Float(value) => then(value.to_string().as_bytes()),
            Value::Text(text) | Value::Typed(_, text) => then(text.as_bytes()),
            Value::RawText(bytes) | Value::Bytes(bytes) => then(bytes),
            Value::Recorded(Binding::Shortened { cut, .. }) => then(&cut.sha256),
            Value::Recorded(Binding::Redacted { hmac, .. }) => then(hmac),
            Value::Recorded(binding) => match binding.whole() {
                Some(value) => value.with_bytes(then),
                None => then(b""),
            },
        }
    }
}

impl Binding {
    fn kind(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Uint(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) | Self::InvalidText(_) => "text",
            Self::Typed(kind, _) | Self::Shortened { kind, .. } | Self::Redacted { kind, .. } => kind,
        }
    }

    /// The value, unless it was cut or taken out.
    fn whole(&self) -> Option<Value<'_>> {
        Some(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Text(text) => Value::Text(text),
            Self::InvalidText(bytes) => Value::RawText(bytes),
            Self::Typed(name, text) => Value::Typed(name, text),
            Self::Shortened { .. } | Self::Redacted { .. } => return None,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |value| put_value(out, &value, &Limits::UNLIMITED, usize::MAX);
        match self {
            Self::Null => put(Value::Null),
            Self::Bool(value) => put(Value::Bool(*value)),
            Self::Int(value) => put(Value::Int(*value)),
            Self::Uint(value) => put(Value::Uint(*value)),
            Self::Float(value) => put(Value::Float(*value)),
            Self::Text(text) => put(Value::Text(text)),
            Self::Typed(name, text) => put(Value::Typed(name, text)),
            Self::InvalidText(bytes) => {
                out.push(tag::INVALID_TEXT);
                put_sized(out, bytes);
            }
            Self::Shortened { kind, cut, head } => {
                out.push(tag::SHORTENED);
                put_sized(out, kind.as_bytes());
                put_varint(out, cut.len);
                out.extend_from_slice(&cut.sha256);
                put_sized(out, head);
            }
            Self::Redacted { kind, hmac } => {
                out.push(tag::REDACTED);
                put_sized(out, kind.as_bytes());
                out.extend_from_slice(hmac);
            }
        }
    }

    /// Reads what [`encode_bindings`] wrote: the bindings, and how many there were.
    pub(crate) fn decode_all(bytes: &[u8]) -> Result<(Vec<Self>, u32), DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut bindings = Vec::new();
        while !reader.is_empty() {
            let tag = reader.byte()?;
            if tag == tag::TOTAL {
                let total = u32::try_from(reader.varint()?).map_err(|_| DecodeError::Malformed("too many bindings"))?;
                return if reader.is_empty() {
                    Ok((bindings, total))
                } else {
                    Err(DecodeError::Malformed("bindings follow their total"))
                };
            }
            if bindings.len() == MAX_BINDINGS {
                return Err(DecodeError::Malformed("more than 65536 bindings"));
            }
            bindings.push(Self::decode(tag, &mut reader)?);
        }
        let total = u32::try_from(bindings.len()).map_err(|_| DecodeError::Malformed("too many bindings"))?;
        Ok((bindings, total))
    }

    fn decode(tag: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            tag::NULL => Self::Null,
            tag::FALSE => Self::Bool(false),
            tag::TRUE => Self::Bool(true),
            tag::INT => Self::Int(unzigzag(reader.varint()?)),
            tag::UINT => Self::Uint(reader.varint()?),
            tag::FLOAT => Self::Float(f64::from_le_bytes(reader.array()?)),
            tag::TEXT => Self::Text(reader.text()?.to_owned()),
            tag::INVALID_TEXT => Self::InvalidText(reader.sized()?.to_vec()),
            tag::TYPED => Self::Typed(reader.text()?.to_owned(), reader.text()?.to_owned()),
            tag::SHORTENED => Self::Shortened {
                kind: reader.text()?.to_owned(),
                cut: Cut { len: reader.varint()?, sha256: reader.array()? },
                head: reader.sized()?.to_vec(),
            },
            tag::REDACTED => Self::Redacted { kind: reader.text()?.to_owned(), hmac: reader.array()? },
            _ => return Err(DecodeError::Malformed("a binding of a type that this release does not know")),
        })
    }
}
