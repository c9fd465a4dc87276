//! The JSON that bindings and cuts are stored as.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use crate::binding::Binding;
use crate::event::{Cut, Event};
use crate::redact::hex;

/// JSON that is not what this library writes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not JSON at all.
    #[error("cannot read stored JSON")]
    Syntax(#[from] serde_json::Error),
    /// JSON of another shape.
    #[error("cannot read stored JSON: expected {0}")]
    Shape(&'static str),
}

/// Writes bindings as the audit table holds them: a JSON array.
///
/// Null, truth values, numbers and texts are plain JSON. What JSON cannot say is an object with its `type`:
/// `{"type":"bytes","len":9,"sha256":"…","head":"<base64>"}`, `{"type":"text","len":…,"sha256":"…","head":"…"}`,
/// `{"type":"text","redacted":"hmac:…"}`, `{"type":"float","value":"NaN"}`, `{"type":"text","invalid_utf8":"<base64>"}`,
/// `{"type":"numeric","value":"1.50"}`. A whole number over `i64::MAX` is an unsigned one.
#[must_use]
pub fn bindings_json(bindings: &[Binding]) -> String {
    let mut out = String::with_capacity(2 + 16 * bindings.len());
    out.push('[');
    for (index, binding) in bindings.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        match binding {
            Binding::Text(text) => push_string(&mut out, text),
            other => out.push_str(&binding_json(other).to_string()),
        }
    }
    out.push(']');
    out
}

/// Appends a JSON string.
fn push_string(out: &mut String, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Json::from(text).to_string());
    }
}

fn binding_json(binding: &Binding) -> Json {
    match binding {
        Binding::Null => Json::Null,
        Binding::Bool(value) => Json::from(*value),
        Binding::Int(value) => Json::from(*value),
        Binding::Uint(value) => Json::from(*value),
        Binding::Float(value) if value.is_finite() => Json::from(*value),
        Binding::Float(value) => json!({"type": "float", "value": float_name(*value)}),
        Binding::Text(text) => Json::from(text.as_str()),
        Binding::InvalidText(bytes) => json!({"type": "text", "invalid_utf8": STANDARD.encode(bytes)}),
        Binding::Typed(name, text) => json!({"type": name, "value": text}),
        Binding::Shortened { kind, cut, head } => {
            let mut object = cut_json(kind, cut);
            match str::from_utf8(head) {
                Ok(head) if kind != "bytes" => object.insert("head".into(), head.into()),
                Err(_) if kind != "bytes" => object.insert("head_base64".into(), STANDARD.encode(head).into()),
                _ => object.insert("head".into(), STANDARD.encode(head).into()),
            };
            Json::Object(object)
        }
        Binding::Redacted { kind, hmac } => json!({"type": kind, "redacted": format!("hmac:{}", hex(hmac))}),
    }
}

const fn float_name(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn cut_json(kind: &str, cut: &Cut) -> Map<String, Json> {
    let mut object = Map::new();
    object.insert("type".into(), kind.into());
    object.insert("len".into(), cut.len.into());
    object.insert("sha256".into(), hex(&cut.sha256).into());
    object
}

/// Reads bindings back from what [`bindings_json`] wrote.
///
/// All comes back as it was, but for what has another spelling: an unsigned number up to `i64::MAX` is a signed one,
/// every NaN the same, and a driver's own type named `float` with such a value is a float.
///
/// # Errors
/// When the text is not JSON, or not of that shape.
pub fn parse_bindings_json(text: &str) -> Result<Vec<Binding>, JsonError> {
    let list: Vec<Json> = serde_json::from_str(text)?;
    list.into_iter().map(parse_binding).collect()
}

fn parse_binding(value: Json) -> Result<Binding, JsonError> {
    Ok(match value {
        Json::Null => Binding::Null,
        Json::Bool(value) => Binding::Bool(value),
        Json::String(text) => Binding::Text(text),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => Binding::Int(value),
            (_, Some(value), _) => Binding::Uint(value),
            (_, _, Some(value)) => Binding::Float(value),
            _ => return Err(JsonError::Shape("a number of 64 bits")),
        },
        Json::Object(object) => parse_object(&object)?,
        Json::Array(_) => return Err(JsonError::Shape("a binding, not a list")),
    })
}

fn parse_object(object: &Map<String, Json>) -> Result<Binding, JsonError> {
    let text = |key| object.get(key).and_then(Json::as_str);
    let kind = text("type").ok_or(JsonError::Shape("an object with its type"))?;
    if let Some(value) = object.get("value") {
        return parse_typed(kind, value);
    }
    if let Some(encoded) = text("invalid_utf8") {
        return Ok(Binding::InvalidText(unbase64(encoded)?));
    }
    if let Some(hmac) = text("redacted") {
        let digits = hmac.strip_prefix("hmac:").ok_or(JsonError::Shape("hmac: and 32 digits"))?;
        let hmac = unhex(digits).ok_or(JsonError::Shape("hmac: and 32 digits"))?;
        return Ok(Binding::Redacted { kind: kind.to_owned(), hmac });
    }
    let head = match (text("head"), text("head_base64")) {
        (Some(head), _) if kind == "bytes" => unbase64(head)?,
        (Some(head), _) => head.as_bytes().to_vec(),
        (None, Some(head)) => unbase64(head)?,
        (None, None) => return Err(JsonError::Shape("an object with a value, a hash or a head")),
    };
    Ok(Binding::Shortened { kind: kind.to_owned(), cut: parse_cut(object)?, head })
}

fn parse_typed(kind: &str, value: &Json) -> Result<Binding, JsonError> {
    let text = value.as_str().ok_or(JsonError::Shape("a value that is text"))?;
    Ok(match (kind, text) {
        ("float", "NaN") => Binding::Float(f64::NAN),
        ("float", "Infinity") => Binding::Float(f64::INFINITY),
        ("float", "-Infinity") => Binding::Float(f64::NEG_INFINITY),
        _ => Binding::Typed(kind.to_owned(), text.to_owned()),
    })
}

fn parse_cut(object: &Map<String, Json>) -> Result<Cut, JsonError> {
    let len = object.get("len").and_then(Json::as_u64).ok_or(JsonError::Shape("a length"))?;
    let sha256 = object.get("sha256").and_then(Json::as_str).and_then(unhex);
    Ok(Cut { len, sha256: sha256.ok_or(JsonError::Shape("a SHA-256 of 64 digits"))? })
}

fn unbase64(text: &str) -> Result<Vec<u8>, JsonError> {
    STANDARD.decode(text).map_err(|_| JsonError::Shape("base64"))
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0u8; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(out)
}

/// What of an event is not as the application gave it, as the column `truncated` says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truncated {
    /// The SQL is not the whole, or not the exact text.
    pub sql: Option<Cut>,
    /// The SQL held bytes that are not UTF-8.
    pub invalid_utf8: bool,
    /// How many bindings there were and how many were kept, when these differ.
    pub bindings: Option<(u32, u32)>,
}

/// Writes what of an event was cut, such as `{"sql":{"type":"sql","len":…,"sha256":"…"},"bindings":{"count":300,"kept":256}}`;
/// `None` when nothing was.
#[must_use]
pub fn truncated_json(event: &Event) -> Option<String> {
    let mut object = Map::new();
    if let Some(cut) = &event.statement.cut {
        object.insert("sql".into(), Json::Object(cut_json("sql", cut)));
    }
    if event.statement.invalid_utf8 {
        object.insert("invalid_utf8".into(), true.into());
    }
    let kept = event.bindings.len();
    if u32::try_from(kept) != Ok(event.bindings_total) {
        object.insert("bindings".into(), json!({"count": event.bindings_total, "kept": kept}));
    }
    (!object.is_empty()).then(|| Json::Object(object).to_string())
}

/// Reads back what [`truncated_json`] wrote.
///
/// # Errors
/// When the text is not JSON, or not of that shape.
pub fn parse_truncated_json(text: &str) -> Result<Truncated, JsonError> {
    let object: Map<String, Json> = serde_json::from_str(text)?;
    let sql = match object.get("sql") {
        Some(cut) => Some(parse_cut(cut.as_object().ok_or(JsonError::Shape("an object under sql"))?)?),
        None => None,
    };
    let bindings = match object.get("bindings") {
        Some(bindings) => {
            let number = |key| bindings.get(key).and_then(Json::as_u64).and_then(|value| u32::try_from(value).ok());
            let counts = number("count").zip(number("kept"));
            Some(counts.ok_or(JsonError::Shape("count and kept under bindings"))?)
        }
        None => None,
    };
    let invalid_utf8 = object.get("invalid_utf8").and_then(Json::as_bool).unwrap_or(false);
    Ok(Truncated { sql, invalid_utf8, bindings })
}
