use auditq_event::{
    Actor, Database, Event, EventId, Origin, Outcome, StatementText, bindings_json, parse_bindings_json,
    parse_truncated_json, truncated_json,
};
use auditq_postgres::tokio_postgres::Row;
use auditq_postgres::tokio_postgres::types::FromSql;
use auditq_postgres::{Fault, Worked};

use super::columns::Kind::{self, Id as Identity, Int, Text};
use super::columns::{Columns, Id, escaped, unescaped};
use crate::LogRow;

/// The columns of `audit_sql_logs` beside `id`, in the order in which they are written and read.
pub(super) const COLUMNS: &[(&str, Kind)] = &[
    ("stored_at", Int),
    ("event_id", Identity),
    ("producer_id", Identity),
    ("producer_seq", Int),
    ("occurred_at", Int),
    ("recorded_at", Int),
    ("duration_us", Int),
    ("query_hash", Int),
    ("fingerprint", Int),
    ("operation", Text),
    ("tables", Text),
    ("status", Text),
    ("error_code", Text),
    ("error_message", Text),
    ("rows_affected", Int),
    ("rows_returned", Int),
    ("transaction_id", Text),
    ("transaction_outcome", Text),
    ("username", Text),
    ("user_id", Text),
    ("actor_type", Text),
    ("session_hash", Text),
    ("tenant", Text),
    ("request_id", Text),
    ("trace_id", Text),
    ("ip", Text),
    ("http_method", Text),
    ("url_path", Text),
    ("user_agent", Text),
    ("origin", Text),
    ("connection", Text),
    ("db_system", Text),
    ("db_name", Text),
    ("app", Text),
    ("host", Text),
    ("pid", Int),
    ("repeat_count", Int),
    ("last_at", Int),
    ("sql", Text),
    ("bindings", Text),
    ("truncated", Text),
    ("extra", Text),
];

/// The columns' names, quoted: some are words of SQL.
pub(super) fn columns() -> String {
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    names.join(", ")
}

/// The statement that adds any number of rows, given as arrays; one whose event is there already stays as it is.
///
/// The conflict has no target: in a partitioned table an event is unique together with its time, which follows from it.
pub(super) fn insert_sql() -> String {
    let arrays: Vec<_> = (1..=COLUMNS.len()).map(|number| format!("${number}")).collect();
    format!(
        "INSERT INTO audit_sql_logs ({}) SELECT * FROM unnest({}) ON CONFLICT DO NOTHING",
        columns(),
        arrays.join(", ")
    )
}

/// Adds the values of one row, in the order of [`COLUMNS`].
pub(super) fn put<'e>(cells: &mut Columns<'e>, event: &'e Event, stored_at: i64) -> Worked<()> {
    cells.int(stored_at);
    put_identity(cells, event)?;
    put_outcome(cells, &event.outcome);
    put_actor(cells, &event.actor);
    put_origin(cells, &event.origin);
    put_database(cells, &event.database);
    cells.int(event.repeat_count.cast_signed());
    cells.int(event.last_at);
    cells.text(event.statement.sql.as_str());
    cells.made(Some(bindings_json(&event.bindings)));
    cells.made(truncated_json(event));
    cells.text(event.extra.as_deref());
    Ok(())
}

fn put_identity<'e>(cells: &mut Columns<'e>, event: &'e Event) -> Worked<()> {
    cells.id(*event.event_id.as_bytes());
    cells.id(event.producer_id);
    cells.int(event.producer_seq.cast_signed());
    cells.int(event.occurred_at);
    cells.int(event.recorded_at);
    cells.int(event.duration_us.cast_signed());
    cells.int(event.query_hash.cast_signed());
    cells.int(event.statement.fingerprint.cast_signed());
    cells.text(event.statement.operation.as_str());
    cells.json(tables_json(&event.statement.tables)?);
    Ok(())
}

fn put_outcome<'e>(cells: &mut Columns<'e>, outcome: &'e Outcome) {
    cells.text(outcome.status.as_str());
    cells.text(outcome.error_code.as_deref());
    cells.text(outcome.error_message.as_deref());
    cells.int(outcome.rows_affected.map(u64::cast_signed));
    cells.int(outcome.rows_returned.map(u64::cast_signed));
    cells.text(outcome.transaction_id.as_deref());
    cells.text(outcome.transaction_outcome.as_str());
}

fn put_actor<'e>(cells: &mut Columns<'e>, actor: &'e Actor) {
    cells.text(actor.username.as_deref());
    cells.text(actor.user_id.as_deref());
    cells.text(actor.actor_type.as_str());
    cells.text(actor.session_hash.as_deref());
    cells.text(actor.tenant.as_deref());
}

fn put_origin<'e>(cells: &mut Columns<'e>, origin: &'e Origin) {
    cells.text(origin.request_id.as_deref());
    cells.text(origin.trace_id.as_deref());
    cells.text(origin.ip.as_deref());
    cells.text(origin.http_method.as_deref());
    cells.text(origin.url_path.as_deref());
    cells.text(origin.user_agent.as_deref());
    cells.text(origin.kind.as_str());
}

fn put_database<'e>(cells: &mut Columns<'e>, database: &'e Database) {
    cells.text(database.connection.as_deref());
    cells.text(database.system.as_str());
    cells.text(database.name.as_deref());
    cells.text(database.app.as_deref());
    cells.text(database.host.as_deref());
    cells.int(database.pid.map(i64::from));
}

/// A JSON array: names may hold any character, so no separator would be safe. The names are escaped first, because the
/// server cannot look into JSON with a NUL in it.
pub(super) fn tables_json(tables: &[String]) -> Worked<String> {
    let names: Vec<_> = tables.iter().map(|name| escaped(name.into())).collect();
    serde_json::to_string(&names).map_err(|error| Fault::Value(error.to_string()))
}

/// A count as the server takes one in LIMIT.
pub(super) fn bounded(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Reads a row selected as `id` and [`COLUMNS`].
pub(super) fn read(row: Row) -> Worked<LogRow> {
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
    event.statement.sql = cells.text()?;
    event.bindings = cells.parsed(parse_bindings_json)?;
    let truncated = cells.optional_parsed(parse_truncated_json)?.unwrap_or_default();
    event.statement.cut = truncated.sql;
    event.statement.invalid_utf8 = truncated.invalid_utf8;
    event.extra = cells.optional_text()?;
    let kept = u32::try_from(event.bindings.len()).unwrap_or(u32::MAX);
    event.bindings_total = truncated.bindings.map_or(kept, |(count, _)| count);
    Ok(LogRow { id, stored_at, event })
}

fn read_statement(cells: &mut Cells) -> Worked<StatementText> {
    Ok(StatementText {
        fingerprint: cells.unsigned()?,
        operation: cells.named(auditq_event::Operation::parse)?,
        tables: cells.tables()?,
        ..StatementText::default()
    })
}

fn read_outcome(cells: &mut Cells) -> Worked<Outcome> {
    Ok(Outcome {
        status: cells.named(auditq_event::Status::parse)?,
        error_code: cells.optional_text()?,
        error_message: cells.optional_text()?,
        rows_affected: cells.optional_unsigned()?,
        rows_returned: cells.optional_unsigned()?,
        transaction_id: cells.optional_text()?,
        transaction_outcome: cells.named(auditq_event::TransactionOutcome::parse)?,
    })
}

fn read_actor(cells: &mut Cells) -> Worked<Actor> {
    Ok(Actor {
        username: cells.optional_text()?,
        user_id: cells.optional_text()?,
        actor_type: cells.named(auditq_event::ActorType::parse)?,
        session_hash: cells.optional_text()?,
        tenant: cells.optional_text()?,
    })
}

fn read_origin(cells: &mut Cells) -> Worked<Origin> {
    Ok(Origin {
        request_id: cells.optional_text()?,
        trace_id: cells.optional_text()?,
        ip: cells.optional_text()?,
        http_method: cells.optional_text()?,
        url_path: cells.optional_text()?,
        user_agent: cells.optional_text()?,
        kind: cells.named(auditq_event::OriginKind::parse)?,
    })
}

fn read_database(cells: &mut Cells) -> Worked<Database> {
    Ok(Database {
        connection: cells.optional_text()?,
        system: cells.named(auditq_event::System::parse)?,
        name: cells.optional_text()?,
        app: cells.optional_text()?,
        host: cells.optional_text()?,
        pid: cells.optional()?.and_then(|pid| u32::try_from(pid).ok()),
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

    fn get<'a, T: FromSql<'a>>(&'a self, column: usize) -> Worked<T> {
        Ok(self.row.try_get(column)?)
    }

    /// A number.
    pub(super) fn take(&mut self) -> Worked<i64> {
        self.next += 1;
        self.get(self.next - 1)
    }

    pub(super) fn float(&mut self) -> Worked<f64> {
        self.next += 1;
        self.get(self.next - 1)
    }

    pub(super) fn optional(&mut self) -> Worked<Option<i64>> {
        self.next += 1;
        self.get(self.next - 1)
    }

    pub(super) fn text(&mut self) -> Worked<String> {
        self.next += 1;
        Ok(unescaped(self.get(self.next - 1)?))
    }

    pub(super) fn optional_text(&mut self) -> Worked<Option<String>> {
        self.next += 1;
        Ok(self.get::<Option<&str>>(self.next - 1)?.map(unescaped))
    }

    fn tables(&mut self) -> Worked<Vec<String>> {
        self.next += 1;
        let names: Vec<String> =
            serde_json::from_str(self.get(self.next - 1)?).map_err(|error| self.unreadable(&error))?;
        Ok(names.iter().map(|name| unescaped(name)).collect())
    }

    pub(super) fn id(&mut self) -> Worked<[u8; 16]> {
        self.next += 1;
        Ok(self.get::<Id>(self.next - 1)?.0)
    }

    pub(super) fn unsigned(&mut self) -> Worked<u64> {
        self.take().map(i64::cast_unsigned)
    }

    /// A number that cannot be negative, unless a clock ran backwards between recording and storing: then 0.
    pub(super) fn count(&mut self) -> Worked<u64> {
        self.take().map(|number| u64::try_from(number).unwrap_or(0))
    }

    fn optional_unsigned(&mut self) -> Worked<Option<u64>> {
        self.optional().map(|value| value.map(i64::cast_unsigned))
    }

    fn named<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Worked<T> {
        self.parsed(|text| parse(text).ok_or_else(|| format!("{text:?} is no value that this release knows")))
    }

    fn parsed<T, E>(&mut self, parse: impl Fn(&str) -> std::result::Result<T, E>) -> Worked<T>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let text = self.text()?;
        parse(&text).map_err(|error| self.unreadable(&*error.into()))
    }

    fn optional_parsed<T, E>(&mut self, parse: impl Fn(&str) -> std::result::Result<T, E>) -> Worked<Option<T>>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let text = self.optional_text()?;
        text.map(|text| parse(&text)).transpose().map_err(|error| self.unreadable(&*error.into()))
    }

    fn unreadable(&self, error: &(dyn std::error::Error + Send + Sync)) -> Fault {
        let column = self.row.columns().get(self.next - 1).map(|column| column.name().to_owned());
        Fault::Value(format!("the value of {} cannot be read: {error}", column.unwrap_or_default()))
    }
}
