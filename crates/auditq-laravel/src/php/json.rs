//! PHP values as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json};

use super::document::Document;
use super::parse::Limits;
use super::value::{Key, Object, Property, Value, Visibility, readable};
use crate::date::Date;

/// A value that is small as serialized data and too large when its references are followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot write the data as JSON: with its references followed it has more than {limit} {unit}")]
pub struct ExpandError {
    limit: usize,
    unit: &'static str,
}

impl<'v, 'a> Document<'v, 'a> {
    /// Writes a value of this document as JSON.
    ///
    /// Lists are arrays, other arrays objects; dates are ISO 8601 with microseconds and offset; collections are their
    /// items, and objects that stand for a text are that text. What JSON cannot say: `{"$base64": …}` is a string that
    /// is not UTF-8, `"NAN"`, `"INF"` and `"-INF"` are floats, `{"$enum": "Class::Case"}` a case, `{"$class": …}` an
    /// object by its properties, and `{"$ref": 7}` a value inside itself.
    ///
    /// # Errors
    /// When references make more of it than the limits allow.
    pub fn json(&self, value: &'v Value<'a>, limits: &Limits) -> Result<Json, ExpandError> {
        let mut expander =
            Expander { document: self, limits, values: limits.values, bytes: limits.bytes, open: Vec::new() };
        expander.value(value)
    }

    /// The text that an object stands for, such as a `Stringable`.
    pub(crate) fn text_of(&self, object: &'v Object<'a>) -> Option<&'v [u8]> {
        let name = match &*object.class {
            "Illuminate\\Support\\Stringable" | "Illuminate\\Database\\Query\\Expression" => "value",
            "Illuminate\\Support\\HtmlString" => "html",
            "Ramsey\\Uuid\\Lazy\\LazyUuidFromString" => "string",
            _ => return None,
        };
        self.property(object, name)?.as_bytes()
    }
}

/// Classes that hold their items in one property.
fn is_collection(class: &str) -> bool {
    matches!(class, "Illuminate\\Support\\Collection" | "Illuminate\\Database\\Eloquent\\Collection")
}

struct Expander<'d, 'v, 'a> {
    document: &'d Document<'v, 'a>,
    limits: &'d Limits,
    /// What may still be written.
    values: usize,
    bytes: usize,
    /// The arrays and objects that are being written, outermost first.
    open: Vec<&'v Value<'a>>,
}

type Expanded<T> = Result<T, ExpandError>;

impl<'v, 'a> Expander<'_, 'v, 'a> {
    fn value(&mut self, value: &'v Value<'a>) -> Expanded<Json> {
        let over = |limit, unit| ExpandError { limit, unit };
        self.values = self.values.checked_sub(1).ok_or(over(self.limits.values, "values"))?;
        let (is_reference, value) = match value {
            Value::Same(slot) | Value::Alias(slot) => (Some(*slot), self.document.follow(value)),
            _ => (None, value),
        };
        if let Some(slot) = is_reference
            && self.open.iter().any(|open| std::ptr::eq(*open, value))
        {
            return Ok(marked("$ref", slot.into()));
        }
        match value {
            Value::Array(_) | Value::Object(_) => {
                if self.open.len() >= self.limits.depth {
                    return Err(over(self.limits.depth, "arrays and objects in each other"));
                }
                self.open.push(value);
                let json = match value {
                    Value::Object(object) => self.object(object),
                    _ => self.array(value.as_array().unwrap_or_default()),
                };
                self.open.pop();
                json
            }
            _ => self.scalar(value),
        }
    }

    fn scalar(&mut self, value: &Value<'_>) -> Expanded<Json> {
        Ok(match value {
            Value::Bool(value) => Json::from(*value),
            Value::Int(value) => Json::from(*value),
            Value::Float(value) if value.is_nan() => "NAN".into(),
            Value::Float(value) if value.is_infinite() => if *value > 0.0 { "INF" } else { "-INF" }.into(),
            Value::Float(value) => Json::from(*value),
            Value::Str(bytes) => self.text(bytes)?,
            Value::Enum { class, case } => marked("$enum", format!("{class}::{case}").into()),
            Value::Custom { class, data } => {
                self.spend(data.len())?;
                let mut object = Map::new();
                object.insert("$class".into(), class.as_ref().into());
                object.insert("$base64".into(), STANDARD.encode(data).into());
                Json::Object(object)
            }
            // A reference to nothing, which no parsed document has.
            Value::Same(slot) | Value::Alias(slot) => marked("$ref", (*slot).into()),
            Value::Null | Value::Array(_) | Value::Object(_) => Json::Null,
        })
    }

    fn text(&mut self, bytes: &[u8]) -> Expanded<Json> {
        self.spend(bytes.len())?;
        Ok(match str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => marked("$base64", STANDARD.encode(bytes).into()),
        })
    }

    fn array(&mut self, items: &'v [(Key<'a>, Value<'a>)]) -> Expanded<Json> {
        let is_list = items.iter().zip(0i64..).all(|((key, _), index)| *key == Key::Int(index));
        if is_list {
            let list: Expanded<Vec<Json>> = items.iter().map(|(_, value)| self.value(value)).collect();
            return list.map(Json::Array);
        }
        let mut object = Map::new();
        for (key, value) in items {
            let name = key.shown().into_owned();
            self.spend(name.len())?;
            object.insert(name, self.value(value)?);
        }
        Ok(Json::Object(object))
    }

    fn object(&mut self, object: &'v Object<'a>) -> Expanded<Json> {
        if let Some(date) = Date::of(self.document, object) {
            return self.text(date.iso().as_bytes());
        }
        if let Some(text) = self.document.text_of(object) {
            return self.text(text);
        }
        if is_collection(&object.class)
            && let Some(items) = object.get("items")
        {
            return self.value(items);
        }
        let mut out = Map::new();
        if object.class != "stdClass" {
            self.spend(object.class.len())?;
            out.insert("$class".into(), object.class.as_ref().into());
        }
        for (property, value) in &object.properties {
            let name = unlike(&out, property);
            self.spend(name.len())?;
            let value = self.value(value)?;
            out.insert(name, value);
        }
        Ok(Json::Object(out))
    }

    fn spend(&mut self, bytes: usize) -> Expanded<()> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or(ExpandError { limit: self.limits.bytes, unit: "bytes" })?;
        Ok(())
    }
}

/// The property's short name; with its class before it where a parent and a child have one of the same name each.
fn unlike(taken: &Map<String, Json>, property: &Property<'_>) -> String {
    let name = property.shown().into_owned();
    match property.visibility() {
        Visibility::Private(class) if taken.contains_key(&name) => format!("{}::{name}", readable(class)),
        _ => name,
    }
}

fn marked(mark: &str, value: Json) -> Json {
    Json::Object(Map::from_iter([(mark.to_owned(), value)]))
}
