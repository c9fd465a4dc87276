//! JSON as PHP's `json_encode` writes it when nothing else is said.

use auditq_event::{Binding, bindings_json};
use serde_json::Value as Json;

/// The bindings of a statement as `json_encode($query->bindings)` has them; what was taken out is told as an object.
pub(super) fn bindings(bindings: &[Binding]) -> String {
    match serde_json::from_str(&bindings_json(bindings)) {
        Ok(json) => json_encode(&json),
        Err(_) => "[]".to_owned(),
    }
}

/// A value as PHP writes it: slashes and everything beyond ASCII escaped.
pub(super) fn json_encode(value: &Json) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

fn write(out: &mut String, value: &Json) {
    match value {
        Json::Null | Json::Bool(_) => out.push_str(&value.to_string()),
        Json::Number(number) => out.push_str(&float(&number.to_string())),
        Json::String(text) => string(out, text),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(out, item);
            }
            out.push(']');
        }
        Json::Object(items) => {
            out.push('{');
            for (index, (key, item)) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                string(out, key);
                out.push(':');
                write(out, item);
            }
            out.push('}');
        }
    }
}

/// `1e25` is `1.0e+25` in PHP, and `1.0` is `1`.
fn float(text: &str) -> String {
    let Some((digits, exponent)) = text.split_once(['e', 'E']) else {
        return text.strip_suffix(".0").unwrap_or(text).to_owned();
    };
    let digits = if digits.contains('.') { digits.to_owned() } else { format!("{digits}.0") };
    let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
    if exponent.starts_with('-') { format!("{digits}e{exponent}") } else { format!("{digits}e+{exponent}") }
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='\u{7f}' => out.push(character),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as PHP 8.2 writes it.
    #[test]
    fn values_are_written_as_php_writes_them() {
        for (json, php) in [
            (r#"[1,"a/b",null,true,1.0,0.1]"#, r#"[1,"a\/b",null,true,1,0.1]"#),
            (r#"["ü🦀\u0001\u007f"]"#, "[\"\\u00fc\\ud83e\\udd80\\u0001\u{7f}\"]"),
            (r#"{"k/":[1e25,1.5e-7]}"#, r#"{"k\/":[1.0e+25,1.5e-7]}"#),
            (r#"["\n\t\"\\"]"#, r#"["\n\t\"\\"]"#),
        ] {
            assert_eq!(json_encode(&serde_json::from_str(json).unwrap()), php);
        }
    }
}
