use std::path::{Path, PathBuf};

use auditq_event::Redaction;
use auditq_laravel::php::{Key, Limits, Object, Property, Value, Visibility, write};
use auditq_laravel::{AppKey, Decoder, Mapping};
use serde_json::{Value as Json, json};

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The payloads of all versions, by `vN/NAME`.
pub(crate) fn payloads() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for version in ["v8", "v10", "v12", "v13"] {
        for entry in std::fs::read_dir(folder().join(version)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if let Some(stem) = name.strip_suffix(".payload") {
                found.push((format!("{version}/{stem}"), fixture(&format!("{version}/{name}"))));
            }
        }
    }
    found.sort();
    assert_eq!(found.len(), 99);
    found
}

pub(crate) fn json_of(name: &str) -> Json {
    serde_json::from_slice(&fixture(name)).unwrap()
}

pub(crate) fn written(value: &Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, Limits::default().depth, &mut out).unwrap();
    out
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(crate) fn unbase64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// The tree of a value as the fixtures spell it.
pub(crate) fn tree(value: &Value<'_>) -> Json {
    match value {
        Value::Null => json!({"t": "null"}),
        Value::Bool(value) => json!({"t": "bool", "v": value}),
        Value::Int(value) => json!({"t": "int", "v": value.to_string()}),
        Value::Float(_) => {
            let text = String::from_utf8(written(value)).unwrap();
            json!({"t": "float", "v": text[2..text.len() - 1]})
        }
        Value::Str(bytes) => text(bytes),
        Value::Array(items) => {
            let items: Vec<Json> = items.iter().map(|(key, value)| json!([key_tree(key), tree(value)])).collect();
            json!({"t": "array", "items": items})
        }
        Value::Object(object) => {
            let props: Vec<Json> = object.properties.iter().map(|(name, value)| property(name, value)).collect();
            json!({"t": "object", "class": object.class, "props": props})
        }
        Value::Enum { class, case } => json!({"t": "enum", "class": class, "case": case}),
        Value::Custom { class, data } => json!({"t": "custom", "class": class, "b64": base64(data)}),
        Value::Same(slot) => json!({"t": "ref", "slot": slot}),
        Value::Alias(slot) => json!({"t": "alias", "slot": slot}),
    }
}

fn text(bytes: &[u8]) -> Json {
    match str::from_utf8(bytes) {
        Ok(text) => json!({"t": "str", "v": text}),
        Err(_) => json!({"t": "bytes", "b64": base64(bytes)}),
    }
}

fn key_tree(key: &Key<'_>) -> Json {
    match key {
        Key::Int(number) => json!({"t": "int", "v": number.to_string()}),
        Key::Str(bytes) => text(bytes),
    }
}

fn property(name: &Property<'_>, value: &Value<'_>) -> Json {
    let short = String::from_utf8(name.name().to_vec()).unwrap();
    match name.visibility() {
        Visibility::Public => json!({"name": short, "vis": "public", "v": tree(value)}),
        Visibility::Protected => json!({"name": short, "vis": "protected", "v": tree(value)}),
        Visibility::Private(class) => {
            json!({"name": short, "vis": "private", "of": str::from_utf8(class).unwrap(), "v": tree(value)})
        }
        Visibility::Numbered => {
            let Key::Int(number) = name.key() else { panic!("{name:?} is no number") };
            json!({"name": number, "vis": "int-key", "v": tree(value)})
        }
    }
}

/// Reads jobs with the key of the fixtures.
pub(crate) fn decoder() -> Decoder {
    let key = AppKey::parse(str::from_utf8(&fixture("APP_KEY")).unwrap()).unwrap();
    Decoder { keys: vec![key], ..Decoder::new(Mapping::new(Redaction::new([7; 32]))) }
}

/// A job of `App\Jobs\ProcessAuditLog` with this as its data.
pub(crate) fn payload_of(data: &Value<'static>) -> Vec<u8> {
    let job = Object {
        class: "App\\Jobs\\ProcessAuditLog".into(),
        properties: vec![(Property::protected("queryData"), data.clone())],
    };
    payload_with("7f2b1c1e-0d5b-4d43-9d6c-5f2c5a3a9a10", &written(&Value::Object(job)))
}

pub(crate) fn payload_with(uuid: &str, command: &[u8]) -> Vec<u8> {
    let command = str::from_utf8(command).unwrap();
    let payload = json!({
        "uuid": uuid, "displayName": "x", "job": "Illuminate\\Queue\\CallQueuedHandler@call",
        "data": {"commandName": "App\\Jobs\\ProcessAuditLog", "command": command},
    });
    payload.to_string().into_bytes()
}

/// An array by its keys.
pub(crate) fn array(entries: Vec<(&str, Value<'static>)>) -> Value<'static> {
    Value::Array(entries.into_iter().map(|(key, value)| (Key::text(key), value)).collect())
}
