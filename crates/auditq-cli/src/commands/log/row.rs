//! A row of the log for programs.

use anyhow::{Context as _, Result};
use auditq_event::{Event, bindings_json, truncated_json};
use auditq_store::LogRow;
use serde_json::{Value, json};

use crate::time::rfc3339;

/// The row as a JSON object: the columns of `audit_sql_logs`, times in RFC 3339, bytes and hashes in hexadecimal.
pub(super) fn to_json(row: &LogRow) -> Result<Value> {
    let mut value = event_json(&row.event)?;
    if let Value::Object(value) = &mut value {
        value.insert("id".to_owned(), row.id.into());
        value.insert("stored_at".to_owned(), rfc3339(row.stored_at).into());
    }
    Ok(value)
}

/// What is stored of an event, as a JSON object; of a row only its number and when it was stored are missing.
pub(in crate::commands) fn event_json(event: &Event) -> Result<Value> {
    let bindings: Value = serde_json::from_str(&bindings_json(&event.bindings)).context("cannot read the bindings")?;
    let truncated = truncated_json(event).map(|text| serde_json::from_str::<Value>(&text)).transpose();
    let extra = event.extra.as_deref().map(serde_json::from_str::<Value>).transpose();
    let (statement, outcome) = (&event.statement, &event.outcome);
    let (actor, origin, database) = (&event.actor, &event.origin, &event.database);
    let mut value = json!({
        "event_id": event.event_id.to_string(),
        "producer_id": hex(&event.producer_id),
        "producer_seq": event.producer_seq,
        "occurred_at": rfc3339(event.occurred_at),
        "recorded_at": rfc3339(event.recorded_at),
        "duration_us": event.duration_us,
        "query_hash": format!("{:016x}", event.query_hash),
        "fingerprint": format!("{:016x}", statement.fingerprint),
        "operation": statement.operation.as_str(),
        "tables": statement.tables,
        "sql": statement.sql,
        "bindings": bindings,
        "truncated": truncated.context("cannot read what was cut")?,
        "extra": extra.context("cannot read what else was said of it")?,
        "repeat_count": event.repeat_count,
        "last_at": rfc3339(event.last_at),
    });
    let more = json!({
        "status": outcome.status.as_str(),
        "error_code": outcome.error_code,
        "error_message": outcome.error_message,
        "rows_affected": outcome.rows_affected,
        "rows_returned": outcome.rows_returned,
        "transaction_id": outcome.transaction_id,
        "transaction_outcome": outcome.transaction_outcome.as_str(),
        "username": actor.username,
        "user_id": actor.user_id,
        "actor_type": actor.actor_type.as_str(),
        "session_hash": actor.session_hash,
        "tenant": actor.tenant,
        "request_id": origin.request_id,
        "trace_id": origin.trace_id,
        "ip": origin.ip,
        "http_method": origin.http_method,
        "url_path": origin.url_path,
        "user_agent": origin.user_agent,
        "origin": origin.kind.as_str(),
        "connection": database.connection,
        "db_system": database.system.as_str(),
        "db_name": database.name,
        "app": database.app,
        "host": database.host,
        "pid": database.pid,
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    Ok(value)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
