//! A query's data: where it is in a job, and its parts by name.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use crate::mapping::{Field, Mapping};
use crate::php::{Document, ExpandError, Key, Limits, Object, Value};

/// The name that the property has where nothing is said.
const USUAL_PROPERTY: &str = "queryData";

/// True for what Laravel's own traits add to a job.
fn is_laravels(name: &str) -> bool {
    matches!(
        name,
        "job"
            | "connection"
            | "queue"
            | "delay"
            | "afterCommit"
            | "middleware"
            | "chained"
            | "chainConnection"
            | "chainQueue"
            | "chainCatchCallbacks"
            | "batchId"
            | "fakeBatch"
            | "messageGroup"
            | "deduplicator"
            | "debounceOwner"
            | "uniqueLockOwner"
            | "timeout"
            | "tries"
            | "maxExceptions"
            | "backoff"
            | "retryUntil"
            | "failOnTimeout"
            | "uniqueFor"
            | "uniqueId"
            | "deleteWhenMissingModels"
            | "shouldBeEncrypted"
    )
}

/// The parts of a query's data, by name and in order.
#[derive(Debug)]
pub(crate) struct Data<'d, 'v, 'a> {
    pub(crate) document: &'d Document<'v, 'a>,
    parts: Vec<Part<'v, 'a>>,
    /// The value that the parts are of; `None` when they are the properties of the job itself.
    whole: Option<&'v Value<'a>>,
    /// The job's properties that are neither the query's data nor Laravel's.
    pub(crate) others: Vec<Part<'v, 'a>>,
}

/// A value under a name.
type Part<'v, 'a> = (Cow<'v, str>, &'v Value<'a>);

impl<'d, 'v, 'a> Data<'d, 'v, 'a> {
    /// Finds the query's data in a job: where the mapping says, else in `queryData`, else in the first property that
    /// holds SQL, else in the job's own properties.
    pub(crate) fn find(document: &'d Document<'v, 'a>, mapping: &Mapping) -> Option<Self> {
        let Value::Object(job) = document.root() else { return Self::of(document, document.root()) };
        let properties: Vec<Part<'v, 'a>> =
            job.properties.iter().map(|(property, value)| (property.shown(), document.follow(value))).collect();
        let (holder, whole) = match &mapping.property {
            Some(path) => {
                let holder = path.split('.').next().unwrap_or_default();
                (Cow::Owned(holder.to_owned()), at_path(document, job, path)?)
            }
            None => match find_usual(document, job, mapping, &properties) {
                Some(found) => found,
                None => return Self::job_itself(document, properties, mapping),
            },
        };
        let mut data = Self::of(document, whole)?;
        data.others = not_laravels(properties).filter(|(name, _)| *name != holder).collect();
        Some(data)
    }

    /// The parts of an array or an object; `None` for anything else.
    pub(crate) fn of(document: &'d Document<'v, 'a>, whole: &'v Value<'a>) -> Option<Self> {
        let parts = match whole {
            Value::Array(items) => items.iter().map(|(key, value)| (key.shown(), document.follow(value))).collect(),
            Value::Object(object) => {
                let properties = object.properties.iter();
                properties.map(|(property, value)| (property.shown(), document.follow(value))).collect()
            }
            _ => return None,
        };
        Some(Self { document, parts, whole: Some(whole), others: Vec::new() })
    }

    /// A job whose constructor takes the parts one by one.
    fn job_itself(document: &'d Document<'v, 'a>, properties: Vec<Part<'v, 'a>>, mapping: &Mapping) -> Option<Self> {
        let parts: Vec<_> = not_laravels(properties).collect();
        let data = Self { document, parts, whole: None, others: Vec::new() };
        data.has_sql(mapping).then_some(data)
    }

    fn has_sql(&self, mapping: &Mapping) -> bool {
        mapping.names(Field::Sql).iter().any(|name| self.part(name).is_some_and(|value| value.as_bytes().is_some()))
    }

    /// The part of that name; of two the last. A point leads into an array or object, where no name has one.
    pub(crate) fn part(&self, name: &str) -> Option<&'v Value<'a>> {
        let find = |name: &str| self.parts.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value);
        find(name).or_else(|| {
            let (first, rest) = name.split_once('.')?;
            let mut value = find(first)?;
            for step in rest.split('.') {
                value = step_into(self.document, value, step)?;
            }
            Some(value)
        })
    }

    /// The data as it is shown.
    pub(crate) fn json(&self, limits: &Limits) -> Result<Json, ExpandError> {
        match self.whole {
            Some(whole) => self.document.json(whole, limits),
            None => self.parts_json(&[], limits).map(Json::Object),
        }
    }

    /// The names of the parts.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(name, _)| &**name)
    }

    /// The parts by name, but for those `without`.
    pub(crate) fn parts_json(&self, without: &[&str], limits: &Limits) -> Result<Map<String, Json>, ExpandError> {
        let parts = self.parts.iter().filter(|(name, _)| !without.contains(&&**name));
        parts.map(|(name, value)| Ok((name.to_string(), self.document.json(value, limits)?))).collect()
    }
}

fn find_usual<'v, 'a>(
    document: &Document<'v, 'a>,
    job: &'v Object<'a>,
    mapping: &Mapping,
    properties: &[Part<'v, 'a>],
) -> Option<Part<'v, 'a>> {
    let is_data = |value: &Value<'_>| matches!(value, Value::Array(_) | Value::Object(_));
    if let Some(value) = document.property(job, USUAL_PROPERTY).filter(|value| is_data(value)) {
        return Some((USUAL_PROPERTY.into(), value));
    }
    let holds_sql = |value: &'v Value<'a>| Data::of(document, value).is_some_and(|data| data.has_sql(mapping));
    properties.iter().find(|(_, value)| holds_sql(value)).cloned()
}

fn not_laravels<'v, 'a>(properties: Vec<Part<'v, 'a>>) -> impl Iterator<Item = Part<'v, 'a>> {
    properties.into_iter().filter(|(name, _)| !is_laravels(name))
}

fn at_path<'v, 'a>(document: &Document<'v, 'a>, job: &'v Object<'a>, path: &str) -> Option<&'v Value<'a>> {
    let mut steps = path.split('.');
    let mut value = document.property(job, steps.next()?)?;
    for step in steps {
        value = step_into(document, value, step)?;
    }
    Some(value)
}

fn step_into<'v, 'a>(document: &Document<'v, 'a>, value: &'v Value<'a>, step: &str) -> Option<&'v Value<'a>> {
    match value {
        Value::Object(object) => document.property(object, step),
        _ => document.entry(value, step),
    }
}

/// JSON as PHP's `json_decode(…, true)` gives it.
pub(crate) fn from_json(json: &Json) -> Value<'static> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(float)) => Value::Float(float),
            (None, None) => Value::text(number.to_string()),
        },
        Json::String(text) => Value::text(text.as_str()),
        Json::Array(list) => Value::Array((0..).map(Key::Int).zip(list.iter().map(from_json)).collect()),
        Json::Object(object) => {
            Value::Array(object.iter().map(|(key, value)| (Key::text(key.as_str()), from_json(value))).collect())
        }
    }
}
