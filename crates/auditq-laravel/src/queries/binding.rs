//! The bindings of a query, as JSON says them.

use auditq_event::{Binding, Limits, Value as Bound, cut_at_char_boundary};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json};

use super::item::{cut_of, text_of};

/// More are not read: an event keeps fewer.
const BINDINGS_MAX: usize = 65_536;

/// Bindings of one query, in order.
pub(super) struct Bindings(Vec<Own>);

enum Own {
    Whole(Binding),
    /// Of binary values an event keeps length, hash and head; here they are whole.
    Bytes(Vec<u8>),
}

impl Bindings {
    /// Reads a list; a query may do without. An empty object is an empty list.
    pub(super) fn read(json: Option<&Json>, limits: &Limits) -> Result<Self, &'static str> {
        match json {
            None | Some(Json::Null) => Ok(Self(Vec::new())),
            Some(Json::Object(none)) if none.is_empty() => Ok(Self(Vec::new())),
            Some(Json::Array(list)) if list.len() <= BINDINGS_MAX => {
                list.iter().map(|json| Own::read(json, limits)).collect::<Result<_, _>>().map(Self)
            }
            Some(Json::Array(_)) => Err("it has more than 65536 bindings"),
            Some(_) => Err("its bindings are no list"),
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = Bound<'_>> {
        self.0.iter().map(|own| match own {
            Own::Whole(Binding::Null) => Bound::Null,
            Own::Whole(binding) => Bound::Recorded(binding),
            Own::Bytes(bytes) => Bound::Bytes(bytes),
        })
    }
}

impl Own {
    fn read(json: &Json, limits: &Limits) -> Result<Self, &'static str> {
        Ok(Self::Whole(match json {
            Json::Null => Binding::Null,
            Json::Bool(value) => Binding::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => Binding::Int(int),
                (None, Some(uint)) => Binding::Uint(uint),
                (None, None) => Binding::Float(number.as_f64().ok_or("a binding is no number")?),
            },
            Json::String(text) => Binding::Text(text.clone()),
            Json::Array(_) => return Err("a binding is a list"),
            Json::Object(parts) => return Self::of_kind(parts, limits),
        }))
    }

    /// A value that JSON has no type for, or that the application did not let out whole.
    fn of_kind(parts: &Map<String, Json>, limits: &Limits) -> Result<Self, &'static str> {
        let text = |key: &str| parts.get(key).and_then(Json::as_str);
        if let Some(base64) = text("base64") {
            return STANDARD.decode(base64).map(Self::Bytes).map_err(|_| "a binding is no base64");
        }
        Ok(Self::Whole(if let Some(float) = text("float") {
            Binding::Float(float_of(float).ok_or("a binding is no float")?)
        } else if let Some(kind) = text("secret") {
            let hmac = text("hmac").and_then(bytes_of_hex).unwrap_or_default();
            Binding::Redacted { kind: kind_of(kind, limits), hmac }
        } else if let Some(kind) = text("cut") {
            shortened(kind, parts, limits)?
        } else if let (Some(kind), Some(value)) = (text("type"), text("text")) {
            Binding::Typed(kind_of(kind, limits), value.to_owned())
        } else {
            return Err("a binding is of a kind that this release does not know");
        }))
    }
}

fn shortened(kind: &str, parts: &Map<String, Json>, limits: &Limits) -> Result<Binding, &'static str> {
    let cut = cut_of(parts).ok_or("a binding that was cut has no length or hash")?;
    let head = match text_of(parts, "head64") {
        Some(base64) => STANDARD.decode(base64).map_err(|_| "a binding is no base64")?,
        None => cut_at_char_boundary(text_of(parts, "head").unwrap_or_default(), limits.head_bytes).into(),
    };
    let head = head[..head.len().min(limits.head_bytes)].to_vec();
    Ok(Binding::Shortened { kind: kind_of(kind, limits), cut, head })
}

fn kind_of(kind: &str, limits: &Limits) -> String {
    cut_at_char_boundary(kind, limits.text_bytes).to_owned()
}

/// As PHP spells what JSON cannot.
fn float_of(text: &str) -> Option<f64> {
    match text {
        "NAN" => Some(f64::NAN),
        "INF" => Some(f64::INFINITY),
        "-INF" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

pub(super) fn sha256_of(hex: &str) -> Option<[u8; 32]> {
    bytes_of_hex(hex)
}

fn bytes_of_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    if hex.len() != 2 * N || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}
