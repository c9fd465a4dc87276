//! A row of auditq's own table as columns, the same on every engine.

use auditq_event::{
    ActorType, Event, EventId, Operation, OriginKind, Status, System, TransactionOutcome, bindings_json,
    parse_bindings_json, parse_truncated_json, truncated_json,
};

use crate::LogRow;
use crate::foreign::{ForeignColumn, Value};

/// The columns, in the order of [`values`].
pub(crate) const COLUMNS: &[&str] = &[
    "id",
    "stored_at",
    "event_id",
    "producer_id",
    "producer_seq",
    "occurred_at",
    "recorded_at",
    "duration_us",
    "query_hash",
    "fingerprint",
    "operation",
    "tables",
    "status",
    "error_code",
    "error_message",
    "rows_affected",
    "rows_returned",
    "transaction_id",
    "transaction_outcome",
    "username",
    "user_id",
    "actor_type",
    "session_hash",
    "tenant",
    "request_id",
    "trace_id",
    "ip",
    "http_method",
    "url_path",
    "user_agent",
    "origin",
    "connection",
    "db_system",
    "db_name",
    "app",
    "host",
    "pid",
    "repeat_count",
    "last_at",
    "sql",
    "bindings",
    "truncated",
    "extra",
];

pub(crate) fn values(row: &LogRow) -> Vec<Value> {
    let event = &row.event;
    let (statement, outcome) = (&event.statement, &event.outcome);
    let (actor, origin, database) = (&event.actor, &event.origin, &event.database);
    let text = |value: &str| Value::Text(value.to_owned());
    let some = |value: &Option<String>| value.clone().map_or(Value::Null, Value::Text);
    let number = |value: u64| Value::Int(value.cast_signed());
    let count = |value: Option<u64>| value.map_or(Value::Null, number);
    vec![
        Value::Int(row.id),
        Value::Int(row.stored_at),
        text(&event.event_id.to_string()),
        Value::Bytes(event.producer_id.to_vec()),
        number(event.producer_seq),
        Value::Int(event.occurred_at),
        Value::Int(event.recorded_at),
        number(event.duration_us),
        number(event.query_hash),
        number(statement.fingerprint),
        text(statement.operation.as_str()),
        Value::Text(serde_json::Value::from(statement.tables.clone()).to_string()),
        text(outcome.status.as_str()),
        some(&outcome.error_code),
        some(&outcome.error_message),
        count(outcome.rows_affected),
        count(outcome.rows_returned),
        some(&outcome.transaction_id),
        text(outcome.transaction_outcome.as_str()),
        some(&actor.username),
        some(&actor.user_id),
        text(actor.actor_type.as_str()),
        some(&actor.session_hash),
        some(&actor.tenant),
        some(&origin.request_id),
        some(&origin.trace_id),
        some(&origin.ip),
        some(&origin.http_method),
        some(&origin.url_path),
        some(&origin.user_agent),
        text(origin.kind.as_str()),
        some(&database.connection),
        text(database.system.as_str()),
        some(&database.name),
        some(&database.app),
        some(&database.host),
        count(database.pid.map(u64::from)),
        number(event.repeat_count),
        Value::Int(event.last_at),
        text(&statement.sql),
        Value::Text(bindings_json(&event.bindings)),
        truncated_json(event).map_or(Value::Null, Value::Text),
        some(&event.extra),
    ]
}

/// The event of a row.
///
/// # Errors
/// Which column cannot be read.
pub(crate) fn event(columns: &[ForeignColumn], values: &[Value]) -> Result<Event, String> {
    let cells = Cells { columns, values };
    let mut event = Event {
        event_id: cells.parsed("event_id", |text| text.parse::<EventId>().ok())?,
        producer_id: cells.bytes("producer_id")?,
        producer_seq: cells.int("producer_seq")?.cast_unsigned(),
        occurred_at: cells.int("occurred_at")?,
        recorded_at: cells.int("recorded_at")?,
        duration_us: cells.int("duration_us")?.cast_unsigned(),
        query_hash: cells.int("query_hash")?.cast_unsigned(),
        bindings: cells.parsed("bindings", |text| parse_bindings_json(text).ok())?,
        repeat_count: cells.int("repeat_count")?.cast_unsigned(),
        last_at: cells.int("last_at")?,
        extra: cells.text("extra"),
        ..Event::default()
    };
    let statement = &mut event.statement;
    statement.sql = cells.parsed("sql", |text| Some(text.to_owned()))?;
    statement.fingerprint = cells.int("fingerprint")?.cast_unsigned();
    statement.operation = cells.parsed("operation", Operation::parse)?;
    statement.tables = cells.parsed("tables", |text| serde_json::from_str(text).ok())?;
    if let Some(text) = cells.text("truncated") {
        let cut = parse_truncated_json(&text).map_err(|error| format!("its truncated cannot be read: {error}"))?;
        statement.cut = cut.sql;
        statement.invalid_utf8 = cut.invalid_utf8;
        event.bindings_total = cut.bindings.map_or(0, |(count, _)| count);
    }
    event.bindings_total = event.bindings_total.max(u32::try_from(event.bindings.len()).unwrap_or(u32::MAX));
    cells.fill(&mut event)?;
    Ok(event)
}

struct Cells<'v> {
    columns: &'v [ForeignColumn],
    values: &'v [Value],
}

impl Cells<'_> {
    fn fill(&self, event: &mut Event) -> Result<(), String> {
        let outcome = &mut event.outcome;
        outcome.status = self.parsed("status", Status::parse)?;
        outcome.error_code = self.text("error_code");
        outcome.error_message = self.text("error_message");
        outcome.rows_affected = self.int("rows_affected").ok().map(i64::cast_unsigned);
        outcome.rows_returned = self.int("rows_returned").ok().map(i64::cast_unsigned);
        outcome.transaction_id = self.text("transaction_id");
        outcome.transaction_outcome = self.parsed("transaction_outcome", TransactionOutcome::parse)?;
        let actor = &mut event.actor;
        actor.username = self.text("username");
        actor.user_id = self.text("user_id");
        actor.actor_type = self.parsed("actor_type", ActorType::parse)?;
        actor.session_hash = self.text("session_hash");
        actor.tenant = self.text("tenant");
        let origin = &mut event.origin;
        origin.request_id = self.text("request_id");
        origin.trace_id = self.text("trace_id");
        origin.ip = self.text("ip");
        origin.http_method = self.text("http_method");
        origin.url_path = self.text("url_path");
        origin.user_agent = self.text("user_agent");
        origin.kind = self.parsed("origin", OriginKind::parse)?;
        let database = &mut event.database;
        database.connection = self.text("connection");
        database.system = self.parsed("db_system", System::parse)?;
        database.name = self.text("db_name");
        database.app = self.text("app");
        database.host = self.text("host");
        database.pid = self.int("pid").ok().and_then(|pid| u32::try_from(pid).ok());
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let index = self.columns.iter().position(|column| column.name == name)?;
        self.values.get(index)
    }

    fn int(&self, name: &str) -> Result<i64, String> {
        match self.get(name) {
            Some(Value::Int(value)) => Ok(*value),
            _ => Err(format!("its {name} is no number")),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn bytes(&self, name: &str) -> Result<[u8; 16], String> {
        match self.get(name) {
            Some(Value::Bytes(bytes)) => bytes.as_slice().try_into().ok(),
            _ => None,
        }
        .ok_or_else(|| format!("its {name} is not of 16 bytes"))
    }

    fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        let parsed = self.text(name).and_then(|text| parse(&text));
        parsed.ok_or_else(|| format!("its {name} is no value that this release knows"))
    }
}
