//! Everything that is known of one statement, for people.

use std::io::Write;

use anyhow::Result;
use auditq_event::{Event, bindings_json, truncated_json};
use auditq_store::LogRow;

use super::row::hex;
use crate::output::{clean, counted, grouped, micros, one_line};
use crate::time::local_exactly;

pub(super) fn write(out: &mut impl Write, row: &LogRow) -> Result<()> {
    let event = &row.event;
    writeln!(out, "Statement {}", event.event_id)?;
    let sections = [
        ("When", when(event, row.stored_at)),
        ("Who", who(event)),
        ("Where from", where_from(event)),
        ("Database", database(event)),
        ("Outcome", outcome(event)),
        ("Identity", identity(event, row.id)),
    ];
    for (title, fields) in sections {
        section(out, title, &fields)?;
    }
    writeln!(out, "\nSQL")?;
    for line in event.statement.sql.lines() {
        writeln!(out, "  {}", clean(&line.replace('\t', "  ")))?;
    }
    if !event.bindings.is_empty() {
        writeln!(out, "\nBindings ({} of {})", event.bindings.len(), event.bindings_total)?;
        for (index, binding) in event.bindings.iter().enumerate() {
            let text = bindings_json(std::slice::from_ref(binding));
            let value = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&text);
            writeln!(out, "  {:>3}  {}", index + 1, clean(value))?;
        }
    }
    if let Some(cut) = truncated_json(event) {
        writeln!(out, "\nCut off\n  {}", clean(&cut))?;
    }
    if let Some(extra) = &event.extra {
        writeln!(out, "\nAlso said of it\n  {}", clean(extra))?;
    }
    Ok(())
}

type Field = (&'static str, Option<String>);

/// Writes a section with the fields that have something to say, or nothing.
fn section(out: &mut impl Write, title: &str, fields: &[Field]) -> Result<()> {
    let known: Vec<_> = fields.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value))).collect();
    if known.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    for (name, value) in known {
        writeln!(out, "  {name:<16}{}", one_line(value))?;
    }
    Ok(())
}

fn when(event: &Event, stored_at: i64) -> Vec<Field> {
    let repeated = (event.repeat_count > 1).then(|| {
        format!("{} times in this context, the last at {}", grouped(event.repeat_count), local_exactly(event.last_at))
    });
    vec![
        ("began", Some(local_exactly(event.occurred_at))),
        ("took", Some(micros(event.duration_us as f64))),
        ("recorded", Some(local_exactly(event.recorded_at))),
        ("stored", Some(local_exactly(stored_at))),
        ("asked", repeated),
    ]
}

fn who(event: &Event) -> Vec<Field> {
    let actor = &event.actor;
    vec![
        ("user", actor.username.clone()),
        ("user id", actor.user_id.clone()),
        ("kind", Some(actor.actor_type.to_string())),
        ("tenant", actor.tenant.clone()),
        ("session hash", actor.session_hash.clone()),
    ]
}

fn where_from(event: &Event) -> Vec<Field> {
    let origin = &event.origin;
    let url = match (&origin.http_method, &origin.url_path) {
        (Some(method), Some(path)) => Some(format!("{method} {path}")),
        (method, path) => method.clone().or_else(|| path.clone()),
    };
    vec![
        ("kind", Some(origin.kind.to_string())),
        ("request", origin.request_id.clone()),
        ("trace", origin.trace_id.clone()),
        ("address", origin.ip.clone()),
        ("url", url),
        ("user agent", origin.user_agent.clone()),
    ]
}

fn database(event: &Event) -> Vec<Field> {
    let database = &event.database;
    vec![
        ("engine", Some(database.system.to_string())),
        ("database", database.name.clone()),
        ("connection", database.connection.clone()),
        ("application", database.app.clone()),
        ("host", database.host.clone()),
        ("process", database.pid.map(|pid| pid.to_string())),
    ]
}

fn outcome(event: &Event) -> Vec<Field> {
    let outcome = &event.outcome;
    let transaction = outcome.transaction_id.as_ref().map(|id| format!("{id}, {}", outcome.transaction_outcome));
    vec![
        ("status", Some(outcome.status.to_string())),
        ("error code", outcome.error_code.clone()),
        ("error", outcome.error_message.clone()),
        ("changed", outcome.rows_affected.map(|rows| counted(rows, "row"))),
        ("returned", outcome.rows_returned.map(|rows| counted(rows, "row"))),
        ("transaction", Some(transaction.unwrap_or_else(|| outcome.transaction_outcome.to_string()))),
    ]
}

fn identity(event: &Event, row: i64) -> Vec<Field> {
    let statement = &event.statement;
    let tables = (!statement.tables.is_empty()).then(|| statement.tables.join(", "));
    vec![
        ("kind", Some(statement.operation.to_string())),
        ("tables", tables),
        ("fingerprint", Some(format!("{:016x}", statement.fingerprint))),
        ("query hash", Some(format!("{:016x}", event.query_hash))),
        ("producer", Some(format!("{}, number {}", hex(&event.producer_id), grouped(event.producer_seq)))),
        ("row", Some(row.to_string())),
    ]
}
