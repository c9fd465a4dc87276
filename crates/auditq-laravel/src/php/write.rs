use super::float;
use super::value::{Key, Value};

/// A value nested deeper than is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot serialize: arrays and objects are nested deeper than the limit of {0}")]
pub struct TooDeep(pub usize);

/// Appends a value as PHP's `serialize()` writes it: lengths in bytes, floats with the fewest digits.
///
/// References are written as they stand; their numbers must fit the whole they stand in.
///
/// # Errors
/// When arrays and objects are nested deeper than `depth`.
pub fn write(value: &Value<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), TooDeep> {
    Writer { out, depth }.value(value, depth)
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    depth: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value<'_>, left: usize) -> Result<(), TooDeep> {
        match value {
            Value::Null => self.raw("N;"),
            Value::Bool(value) => self.raw(if *value { "b:1;" } else { "b:0;" }),
            Value::Int(value) => self.raw(&format!("i:{value};")),
            Value::Float(value) => {
                self.raw("d:");
                float::write(*value, self.out);
                self.raw(";");
            }
            Value::Str(bytes) => {
                self.quoted("s", bytes);
                self.raw(";");
            }
            Value::Array(items) => {
                self.raw(&format!("a:{}:{{", items.len()));
                for (key, value) in items {
                    self.entry(key, value, left)?;
                }
                self.raw("}");
            }
            Value::Object(object) => {
                self.quoted("O", object.class.as_bytes());
                self.raw(&format!(":{}:{{", object.properties.len()));
                for (property, value) in &object.properties {
                    self.entry(property.key(), value, left)?;
                }
                self.raw("}");
            }
            Value::Enum { class, case } => {
                self.quoted("E", format!("{class}:{case}").as_bytes());
                self.raw(";");
            }
            Value::Custom { class, data } => {
                self.quoted("C", class.as_bytes());
                self.raw(&format!(":{}:{{", data.len()));
                self.out.extend_from_slice(data);
                self.raw("}");
            }
            Value::Same(slot) => self.raw(&format!("r:{slot};")),
            Value::Alias(slot) => self.raw(&format!("R:{slot};")),
        }
        Ok(())
    }

    fn entry(&mut self, key: &Key<'_>, value: &Value<'_>, left: usize) -> Result<(), TooDeep> {
        let left = left.checked_sub(1).ok_or(TooDeep(self.depth))?;
        match key {
            Key::Int(number) => self.raw(&format!("i:{number};")),
            Key::Str(bytes) => {
                self.quoted("s", bytes);
                self.raw(";");
            }
        }
        self.value(value, left)
    }

    fn quoted(&mut self, tag: &str, bytes: &[u8]) {
        self.raw(&format!("{tag}:{}:\"", bytes.len()));
        self.out.extend_from_slice(bytes);
        self.raw("\"");
    }

    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}
