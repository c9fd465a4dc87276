//! A row of an audit table that an application made, as an event.

use auditq_event::Event;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use crate::data::{Data, from_json};
use crate::event::{EventError, made};
use crate::extra;
use crate::mapping::{Field, Mapping};
use crate::php::{Document, Key, Limits, Value};

/// What stands for values that may hold a secret and cannot be read.
const REDACTED: &str = "[redacted]";

/// The key under which a row's event says where it is from.
const SOURCE: &str = "$import";

/// Makes the event of a row, given as its columns by name.
///
/// Its id follows from `producer` and the row's time, so that a row that is read twice is stored once. What an event has
/// no place for is kept as extra, with `source` beside it; values that are NULL are not.
///
/// # Errors
/// When no column holds SQL.
pub fn event_of_row(
    columns: Vec<(&str, Value<'_>)>,
    mapping: &Mapping,
    producer: [u8; 16],
    source: &str,
) -> Result<Event, EventError> {
    let bindings = mapping.names(Field::Bindings);
    let parts = columns.into_iter().filter(|(_, value)| *value != Value::Null).map(|(name, value)| {
        let value = if bindings.iter().any(|known| known == name) { unpacked(value) } else { value };
        (Key::text(name), value)
    });
    let row = Value::Array(parts.collect());
    let document = Document::new(&row);
    let Some(data) = Data::of(&document, &row) else {
        return Err(EventError::NoSql { names: mapping.names(Field::Sql).to_vec() });
    };
    let (mut event, rest) = made(&data, mapping, None, producer)?;
    // A row holds no references that could make more of it than it is.
    let limits = Limits { bytes: usize::MAX, values: usize::MAX, ..Limits::default() };
    let mut extra: Map<String, Json> = data
        .parts_json(&rest.taken, &limits)
        .unwrap_or_else(|error| Map::from_iter([("$error".to_owned(), Json::from(error.to_string()))]));
    for name in mapping.names(Field::Bindings) {
        // Not read as bindings, so that nobody knows which of them is a secret.
        if let Some(value) = extra.get_mut(name).filter(|_| rest.has_secrets(&mapping.limits)) {
            *value = REDACTED.into();
        }
    }
    if !rest.binding_names.is_empty() {
        extra.insert("binding_names".to_owned(), rest.binding_names.into());
    }
    extra.insert(SOURCE.to_owned(), source.into());
    event.extra = extra::kept(extra, mapping);
    Ok(event)
}

/// Stands for the process that recorded: every row of a source is one of its own.
#[must_use]
pub fn row_producer(source: &str, key: &[u8]) -> [u8; 16] {
    let hash =
        Sha256::new().chain_update(b"auditq import v1\0").chain_update(source).chain_update([0]).chain_update(key);
    let hash: [u8; 32] = hash.finalize().into();
    std::array::from_fn(|index| hash[index])
}

/// Bindings as JSON in a text, or in a text in a text.
fn unpacked(value: Value<'_>) -> Value<'_> {
    let mut json = match value.as_text().map(serde_json::from_str::<Json>) {
        Some(Ok(json)) => json,
        _ => return value,
    };
    if let Json::String(inner) = &json {
        match serde_json::from_str(inner) {
            Ok(unpacked) => json = unpacked,
            Err(_) => return value,
        }
    }
    if json.is_array() || json.is_object() { from_json(&json) } else { value }
}

#[cfg(test)]
mod tests {
    use auditq_event::{Binding, Redaction};

    use super::*;

    fn event(columns: Vec<(&str, Value<'static>)>) -> Event {
        let mapping = Mapping::new(Redaction::new([1; 32])).with_timezone("Europe/Berlin").unwrap();
        event_of_row(columns, &mapping, row_producer("s", b"1"), "s").unwrap()
    }

    fn extra(event: &Event) -> Json {
        serde_json::from_str(event.extra.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn a_row_becomes_an_event_and_what_is_left_is_kept() {
        let event = event(vec![
            ("id", Value::Int(5)),
            ("sql", Value::text("select * from users where id = ?")),
            ("bindings", Value::text(r#"[7,"a",null]"#)),
            ("time_ms", Value::text("1.25")),
            ("username", Value::text("alice")),
            ("executed_at", Value::text("2024-05-17 13:04:05")),
            ("note", Value::Null),
            ("level", Value::Int(3)),
        ]);
        assert_eq!(event.bindings, [Binding::Int(7), Binding::Text("a".to_owned()), Binding::Null]);
        assert_eq!((event.duration_us, event.occurred_at), (1_250, 1_715_943_845_000_000));
        assert_eq!(event.actor.username.as_deref(), Some("alice"));
        assert_eq!(extra(&event), serde_json::json!({"id": 5, "level": 3, "$import": "s"}));
    }

    #[test]
    fn secrets_of_old_rows_are_taken_out_wherever_they_stand() {
        let sql = "insert into users (name, password) values (?, ?)";
        for bindings in [r#"["bob","hunter2"]"#, r#""[\"bob\",\"hunter2\"]""#, "bob, hunter2", "{broken hunter2"] {
            let event = event(vec![
                ("sql", Value::text(sql)),
                ("bindings", Value::text(bindings)),
                ("raw_sql", Value::text("insert into users (name, password) values ('bob', 'hunter2')")),
                ("payload", Value::text(r#"{"a":[{"password":"hunter2"}]}"#)),
                ("full_url", Value::text("/login?password=hunter2")),
                ("password", Value::text("hunter2")),
            ]);
            assert!(!format!("{event:?}").contains("hunter2"), "{bindings}: {event:?}");
        }
    }

    #[test]
    fn a_row_without_sql_is_refused_and_a_zero_date_is_kept_as_it_is() {
        let mapping = Mapping::new(Redaction::new([1; 32]));
        let refused = event_of_row(vec![("sql", Value::Null)], &mapping, [0; 16], "s").unwrap_err();
        assert!(refused.to_string().contains("no SQL"), "{refused}");
        let event = event(vec![
            ("sql", Value::text("select 1")),
            ("executed_at", Value::text("0000-00-00 00:00:00")),
            ("created_at", Value::text("2024-05-17 13:04:05")),
        ]);
        assert_eq!(event.occurred_at, 1_715_943_845_000_000);
        assert_eq!(extra(&event)["executed_at"], "0000-00-00 00:00:00");
    }
}
