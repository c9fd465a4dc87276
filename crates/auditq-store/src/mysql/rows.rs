use auditq_event::{
    Actor, Database, Event, EventId, Origin, Outcome, StatementText, bindings_json, parse_bindings_json,
    parse_truncated_json, truncated_json,
};
use auditq_mysql::mysql_async::prelude::FromValue;
use auditq_mysql::mysql_async::{DriverError, Error, Result, Row, Value};

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

/// The columns' names, quoted: some are words of SQL.
pub(super) fn columns() -> String {
    format!("`{}`", COLUMNS.join("`, `"))
}

/// The statement that adds `count` rows; one whose event is there already stays as it is.
///
/// Not INSERT IGNORE, which would also cut values that are too long.
pub(super) fn insert_sql(count: usize) -> String {
    let row = format!("({})", vec!["?"; COLUMNS.len()].join(","));
    let rows = vec![row.as_str(); count].join(",");
    format!("INSERT INTO audit_sql_logs ({}) VALUES {rows} ON DUPLICATE KEY UPDATE id = id", columns())
}

/// Adds the values of one row, in the order of [`COLUMNS`].
pub(super) fn put(cells: &mut Vec<Value>, event: &Event, stored_at: i64) -> Result<()> {
    cells.push(stored_at.into());
    put_identity(cells, event)?;
    put_outcome(cells, &event.outcome);
    put_actor(cells, &event.actor);
    put_origin(cells, &event.origin);
    put_database(cells, &event.database);
    cells.push(event.repeat_count.cast_signed().into());
    cells.push(event.last_at.into());
    cells.push(event.statement.sql.as_str().into());
    cells.push(bindings_json(&event.bindings).into());
    cells.push(truncated_json(event).into());
    cells.push(event.extra.as_deref().into());
    Ok(())
}

fn put_identity(cells: &mut Vec<Value>, event: &Event) -> Result<()> {
    cells.push(event.event_id.as_bytes().as_slice().into());
    cells.push(event.producer_id.as_slice().into());
    cells.push(event.producer_seq.cast_signed().into());
    cells.push(event.occurred_at.into());
    cells.push(event.recorded_at.into());
    cells.push(event.duration_us.cast_signed().into());
    cells.push(event.query_hash.cast_signed().into());
    cells.push(event.statement.fingerprint.cast_signed().into());
    cells.push(event.statement.operation.as_str().into());
    cells.push(tables_json(&event.statement.tables)?.into());
    Ok(())
}

fn put_outcome(cells: &mut Vec<Value>, outcome: &Outcome) {
    cells.push(outcome.status.as_str().into());
    cells.push(outcome.error_code.as_deref().into());
    cells.push(outcome.error_message.as_deref().into());
    cells.push(outcome.rows_affected.map(u64::cast_signed).into());
    cells.push(outcome.rows_returned.map(u64::cast_signed).into());
    cells.push(outcome.transaction_id.as_deref().into());
    cells.push(outcome.transaction_outcome.as_str().into());
}

fn put_actor(cells: &mut Vec<Value>, actor: &Actor) {
    cells.push(actor.username.as_deref().into());
    cells.push(actor.user_id.as_deref().into());
    cells.push(actor.actor_type.as_str().into());
    cells.push(actor.session_hash.as_deref().into());
    cells.push(actor.tenant.as_deref().into());
}

fn put_origin(cells: &mut Vec<Value>, origin: &Origin) {
    cells.push(origin.request_id.as_deref().into());
    cells.push(origin.trace_id.as_deref().into());
    cells.push(origin.ip.as_deref().into());
    cells.push(origin.http_method.as_deref().into());
    cells.push(origin.url_path.as_deref().into());
    cells.push(origin.user_agent.as_deref().into());
    cells.push(origin.kind.as_str().into());
}

fn put_database(cells: &mut Vec<Value>, database: &Database) {
    cells.push(database.connection.as_deref().into());
    cells.push(database.system.as_str().into());
    cells.push(database.name.as_deref().into());
    cells.push(database.app.as_deref().into());
    cells.push(database.host.as_deref().into());
    cells.push(database.pid.into());
}

/// A JSON array: names may hold any character, so no separator would be safe.
pub(super) fn tables_json(tables: &[String]) -> Result<String> {
    serde_json::to_string(tables).map_err(|error| Error::Other(error.into()))
}

/// A count as the server takes one in LIMIT.
pub(super) fn bounded(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Reads a row selected as `id` and [`COLUMNS`].
pub(super) fn read(row: Row) -> Result<LogRow> {
    let mut cells = Cells::new(row);
    let id = cells.take()?;
    let stored_at = cells.take()?;
    let mut event = Event {
        event_id: EventId::from_bytes(cells.id()?),
        producer_id: cells.id()?,
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

fn read_statement(cells: &mut Cells) -> Result<StatementText> {
    Ok(StatementText {
        fingerprint: cells.unsigned()?,
        operation: cells.named(auditq_event::Operation::parse)?,
        tables: cells.parsed(|text| serde_json::from_str(text))?,
        ..StatementText::default()
    })
}

fn read_outcome(cells: &mut Cells) -> Result<Outcome> {
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

fn read_actor(cells: &mut Cells) -> Result<Actor> {
    Ok(Actor {
        username: cells.take()?,
        user_id: cells.take()?,
        actor_type: cells.named(auditq_event::ActorType::parse)?,
        session_hash: cells.take()?,
        tenant: cells.take()?,
    })
}

fn read_origin(cells: &mut Cells) -> Result<Origin> {
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

fn read_database(cells: &mut Cells) -> Result<Database> {
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
pub(super) struct Cells {
    row: Row,
    next: usize,
}

impl Cells {
    pub(super) fn new(row: Row) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn take<T: FromValue>(&mut self) -> Result<T> {
        self.next += 1;
        match self.row.take_opt(self.next - 1) {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(Error::Driver(DriverError::FromValue { value: error.0 })),
            None => Err(Error::Other(format!("column {} of the answer is missing", self.next).into())),
        }
    }

    pub(super) fn id(&mut self) -> Result<[u8; 16]> {
        let bytes: Vec<u8> = self.take()?;
        bytes.try_into().map_err(|_| self.unreadable("an id has 16 bytes".into()))
    }

    pub(super) fn unsigned(&mut self) -> Result<u64> {
        self.take::<i64>().map(i64::cast_unsigned)
    }

    /// A number that cannot be negative, unless a clock ran backwards between recording and storing: then 0.
    pub(super) fn count(&mut self) -> Result<u64> {
        self.take::<i64>().map(|number| u64::try_from(number).unwrap_or(0))
    }

    fn optional_unsigned(&mut self) -> Result<Option<u64>> {
        self.take::<Option<i64>>().map(|value| value.map(i64::cast_unsigned))
    }

    fn named<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
        self.parsed(|text| parse(text).ok_or_else(|| format!("{text:?} is no value that this release knows")))
    }

    fn parsed<T, E>(&mut self, parse: impl Fn(&str) -> std::result::Result<T, E>) -> Result<T>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let text: String = self.take()?;
        parse(&text).map_err(|error| self.unreadable(error.into()))
    }

    fn optional_parsed<T, E>(&mut self, parse: impl Fn(&str) -> std::result::Result<T, E>) -> Result<Option<T>>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let text: Option<String> = self.take()?;
        text.map(|text| parse(&text)).transpose().map_err(|error| self.unreadable(error.into()))
    }

    fn unreadable(&self, error: Box<dyn std::error::Error + Send + Sync>) -> Error {
        let column = self.row.columns_ref().get(self.next - 1).map(|column| column.name_str().into_owned());
        Error::Other(format!("the value of {} cannot be read: {error}", column.unwrap_or_default()).into())
    }
}
