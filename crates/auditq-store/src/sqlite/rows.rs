use auditq_event::{
    Actor, Database, Event, EventId, Origin, Outcome, StatementText, bindings_json, parse_bindings_json,
    parse_truncated_json, truncated_json,
};
use rusqlite::types::{FromSql, ToSql, Type};
use rusqlite::{Row, Statement};

use crate::LogRow;

/// The columns of `audit_sql_logs` beside `id`, in the order in which they are written and read.
pub(super) const COLUMNS: &[&str] = &[
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

/// The statement that adds one row, or nothing when its event is there already.
pub(super) fn insert_sql() -> String {
    let values = vec!["?"; COLUMNS.len()].join(", ");
    format!("INSERT INTO audit_sql_logs ({}) VALUES ({values}) ON CONFLICT (event_id) DO NOTHING", COLUMNS.join(", "))
}

/// Runs the statement of [`insert_sql`] for one event; false when it was there already.
pub(super) fn insert(statement: &mut Statement<'_>, event: &Event, stored_at: i64) -> rusqlite::Result<bool> {
    let mut cells = Binder { statement, last: 0 };
    cells.put(stored_at)?;
    bind_identity(&mut cells, event)?;
    bind_outcome(&mut cells, &event.outcome)?;
    bind_actor(&mut cells, &event.actor)?;
    bind_origin(&mut cells, &event.origin)?;
    bind_database(&mut cells, &event.database)?;
    cells.put(event.repeat_count.cast_signed())?;
    cells.put(event.last_at)?;
    cells.put(event.statement.sql.as_str())?;
    cells.put(bindings_json(&event.bindings))?;
    cells.put(truncated_json(event))?;
    cells.put(event.extra.as_deref())?;
    Ok(statement.raw_execute()? == 1)
}

fn bind_identity(cells: &mut Binder<'_, '_>, event: &Event) -> rusqlite::Result<()> {
    cells.put(&event.event_id.as_bytes()[..])?;
    cells.put(&event.producer_id[..])?;
    cells.put(event.producer_seq.cast_signed())?;
    cells.put(event.occurred_at)?;
    cells.put(event.recorded_at)?;
    cells.put(event.duration_us.cast_signed())?;
    cells.put(event.query_hash.cast_signed())?;
    cells.put(event.statement.fingerprint.cast_signed())?;
    cells.put(event.statement.operation.as_str())?;
    cells.put(tables_json(&event.statement.tables)?)
}

fn bind_outcome(cells: &mut Binder<'_, '_>, outcome: &Outcome) -> rusqlite::Result<()> {
    cells.put(outcome.status.as_str())?;
    cells.put(outcome.error_code.as_deref())?;
    cells.put(outcome.error_message.as_deref())?;
    cells.put(outcome.rows_affected.map(u64::cast_signed))?;
    cells.put(outcome.rows_returned.map(u64::cast_signed))?;
    cells.put(outcome.transaction_id.as_deref())?;
    cells.put(outcome.transaction_outcome.as_str())
}

fn bind_actor(cells: &mut Binder<'_, '_>, actor: &Actor) -> rusqlite::Result<()> {
    cells.put(actor.username.as_deref())?;
    cells.put(actor.user_id.as_deref())?;
    cells.put(actor.actor_type.as_str())?;
    cells.put(actor.session_hash.as_deref())?;
    cells.put(actor.tenant.as_deref())
}

fn bind_origin(cells: &mut Binder<'_, '_>, origin: &Origin) -> rusqlite::Result<()> {
    cells.put(origin.request_id.as_deref())?;
    cells.put(origin.trace_id.as_deref())?;
    cells.put(origin.ip.as_deref())?;
    cells.put(origin.http_method.as_deref())?;
    cells.put(origin.url_path.as_deref())?;
    cells.put(origin.user_agent.as_deref())?;
    cells.put(origin.kind.as_str())
}

fn bind_database(cells: &mut Binder<'_, '_>, database: &Database) -> rusqlite::Result<()> {
    cells.put(database.connection.as_deref())?;
    cells.put(database.system.as_str())?;
    cells.put(database.name.as_deref())?;
    cells.put(database.app.as_deref())?;
    cells.put(database.host.as_deref())?;
    cells.put(database.pid)
}

/// A JSON array: names may hold any character, so no separator would be safe.
pub(super) fn tables_json(tables: &[String]) -> rusqlite::Result<String> {
    serde_json::to_string(tables).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// Binds values to a statement's parameters from left to right.
struct Binder<'s, 'c> {
    statement: &'s mut Statement<'c>,
    last: usize,
}

impl Binder<'_, '_> {
    fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.last += 1;
        self.statement.raw_bind_parameter(self.last, value)
    }
}

/// Reads a row selected as `id` and [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<LogRow> {
    let mut cells = Cells { row, next: 0 };
    let id = cells.take()?;
    let stored_at = cells.take()?;
    let mut event = Event {
        event_id: EventId::from_bytes(cells.take()?),
        producer_id: cells.take()?,
        producer_seq: cells.unsigned()?,
        occurred_at: cells.take()?,
        recorded_at: cells.take()?,
        duration_us: cells.unsigned()?,
        query_hash: cells.unsigned()?,
        statement: read_statement(&mut cells)?,
        outcome: read_outcome(&mut cells)?,
        actor: read_actor(&mut cells)?,
        origin: read_origin(&mut cells)?,
        database: read_database(&mut cells)?,
        repeat_count: cells.unsigned()?,
        last_at: cells.take()?,
        ..Event::default()
    };
    event.statement.sql = cells.take()?;
    event.bindings = cells.parsed(parse_bindings_json)?;
    let truncated = cells.optional_parsed(parse_truncated_json)?.unwrap_or_default();
    event.statement.cut = truncated.sql;
    event.statement.invalid_utf8 = truncated.invalid_utf8;
    event.extra = cells.take()?;
    let kept = u32::try_from(event.bindings.len()).unwrap_or(u32::MAX);
    event.bindings_total = truncated.bindings.map_or(kept, |(count, _)| count);
    Ok(LogRow { id, stored_at, event })
}

fn read_statement(cells: &mut Cells<'_, '_>) -> rusqlite::Result<StatementText> {
    Ok(StatementText {
        fingerprint: cells.unsigned()?,
        operation: cells.named(auditq_event::Operation::parse)?,
        tables: cells.parsed(|text| serde_json::from_str(text))?,
        ..StatementText::default()
    })
}

fn read_outcome(cells: &mut Cells<'_, '_>) -> rusqlite::Result<Outcome> {
    Ok(Outcome {
        status: cells.named(auditq_event::Status::parse)?,
        error_code: cells.take()?,
        error_message: cells.take()?,
        rows_affected: cells.optional_unsigned()?,
        rows_returned: cells.optional_unsigned()?,
        transaction_id: cells.take()?,
        transaction_outcome: cells.named(auditq_event::TransactionOutcome::parse)?,
    })
}

fn read_actor(cells: &mut Cells<'_, '_>) -> rusqlite::Result<Actor> {
    Ok(Actor {
        username: cells.take()?,
        user_id: cells.take()?,
        actor_type: cells.named(auditq_event::ActorType::parse)?,
        session_hash: cells.take()?,
        tenant: cells.take()?,
    })
}

fn read_origin(cells: &mut Cells<'_, '_>) -> rusqlite::Result<Origin> {
    Ok(Origin {
        request_id: cells.take()?,
        trace_id: cells.take()?,
        ip: cells.take()?,
        http_method: cells.take()?,
        url_path: cells.take()?,
        user_agent: cells.take()?,
        kind: cells.named(auditq_event::OriginKind::parse)?,
    })
}

fn read_database(cells: &mut Cells<'_, '_>) -> rusqlite::Result<Database> {
    Ok(Database {
        connection: cells.take()?,
        system: cells.named(auditq_event::System::parse)?,
        name: cells.take()?,
        app: cells.take()?,
        host: cells.take()?,
        pid: cells.take()?,
    })
}

/// Reads a row's columns from left to right.
struct Cells<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl Cells<'_, '_> {
    fn take<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    fn unsigned(&mut self) -> rusqlite::Result<u64> {
        self.take::<i64>().map(i64::cast_unsigned)
    }

    fn optional_unsigned(&mut self) -> rusqlite::Result<Option<u64>> {
        self.take::<Option<i64>>().map(|value| value.map(i64::cast_unsigned))
    }

    fn named<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
        self.parsed(|text| parse(text).ok_or_else(|| format!("{text:?} is no value that this release knows")))
    }

    fn parsed<T, E>(&mut self, parse: impl Fn(&str) -> Result<T, E>) -> rusqlite::Result<T>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let text: String = self.take()?;
        parse(&text).map_err(|error| self.unreadable(error.into()))
    }

    fn optional_parsed<T, E>(&mut self, parse: impl Fn(&str) -> Result<T, E>) -> rusqlite::Result<Option<T>>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let text: Option<String> = self.take()?;
        text.map(|text| parse(&text)).transpose().map_err(|error| self.unreadable(error.into()))
    }

    fn unreadable(&self, error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
        rusqlite::Error::FromSqlConversionFailure(self.next - 1, Type::Text, error)
    }
}
