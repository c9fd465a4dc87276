//! Looking into a table of an application's own: which statements, and rows back as events.

use std::time::Duration;

use auditq_event::{Event, EventId, Operation, Status, System, parse_bindings_json};
use jiff::civil::DateTime;
use serde_json::{Map, Value as Json};

use super::known::Source;
use super::{Column, Table};
use crate::{Filter, LogPage, LogRow, Stats, StatsFilter};

/// How an engine spells what is not the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "mysql")]
    Mysql,
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Dialect {
    pub(crate) fn quoted(self, name: &str) -> String {
        match self {
            #[cfg(feature = "mysql")]
            Self::Mysql => format!("`{}`", name.replace('`', "``")),
            #[cfg(any(feature = "sqlite", feature = "postgres"))]
            _ => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }

    /// The column as text.
    fn text(self, name: &str) -> String {
        let kind = match self {
            #[cfg(feature = "mysql")]
            Self::Mysql => "char",
            #[cfg(any(feature = "sqlite", feature = "postgres"))]
            _ => "text",
        };
        format!("CAST({} AS {kind})", self.quoted(name))
    }

    fn parameter(self, number: usize) -> String {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres => format!("${number}"),
            #[cfg(any(feature = "sqlite", feature = "mysql"))]
            _ => {
                let _ = number;
                "?".to_owned()
            }
        }
    }
}

const LIKE: (&str, &str) = ("LIKE", " ESCAPE '!'");

/// A statement and the texts that it takes.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) values: Vec<String>,
}

/// A row as it was read, column by column.
pub(crate) type TextRow = Vec<Option<String>>;

impl Table {
    fn column<'c>(columns: &'c [Column], source: &Source) -> Option<&'c Column> {
        columns.iter().find(|column| column.source == *source)
    }

    /// When a statement ran, or was stored where only that is known.
    fn time_column(columns: &[Column]) -> Option<&Column> {
        Self::column(columns, &Source::OccurredAt).or_else(|| Self::column(columns, &Source::Now))
    }

    /// `id` and every column, as text.
    ///
    /// # Errors
    /// When the table has no column for what is asked for.
    pub(crate) fn search(&self, columns: &[Column], filter: &Filter, dialect: Dialect) -> Result<Query, String> {
        let mut wheres = Vec::new();
        let mut values = Vec::new();
        let lacks =
            |what: &str| format!("the application's table audit_sql_logs has no column for the {what}; leave that out");
        let mut equals = |source: &Source, value: String, what: &str| {
            let column = Self::column(columns, source).ok_or_else(|| lacks(what))?;
            values.push(value);
            wheres.push(format!("{} = {}", dialect.text(&column.name), dialect.parameter(values.len())));
            Ok::<(), String>(())
        };
        if let Some(status) = filter.status {
            equals(&Source::Status, status.as_str().to_owned(), "status")?;
        }
        if let Some(operation) = filter.operation {
            equals(&Source::Operation, operation.as_str().to_owned(), "operation")?;
        }
        if let Some(request) = &filter.request_id {
            equals(&Source::RequestId, request.clone(), "request")?;
        }
        if let Some(fingerprint) = filter.fingerprint {
            equals(&Source::Fingerprint, format!("{fingerprint:016x}"), "fingerprint")?;
        }
        if let Some(id) = filter.event_id {
            equals(&Source::EventId, id.to_string(), "event's id")?;
        }
        let mut any = |sources: &[Source], (operator, end): (&str, &str), value: &str, what: &str| {
            let found: Vec<_> = sources.iter().filter_map(|source| Self::column(columns, source)).collect();
            let either: Vec<String> = found
                .iter()
                .map(|column| {
                    values.push(value.to_owned());
                    format!("lower({}) {operator} {}{end}", dialect.text(&column.name), dialect.parameter(values.len()))
                })
                .collect();
            if either.is_empty() {
                return Err(lacks(what));
            }
            wheres.push(format!("({})", either.join(" OR ")));
            Ok(())
        };
        if let Some(user) = &filter.user {
            any(&[Source::Username, Source::UserId], ("=", ""), &user.to_lowercase(), "user")?;
        }
        if let Some(text) = &filter.text {
            any(&[Source::Sql], LIKE, &like(&text.to_lowercase()), "text")?;
        }
        if let Some(table) = &filter.table {
            any(&[Source::Tables, Source::Sql], LIKE, &like(&table.to_lowercase()), "table")?;
        }
        wheres.extend(self.span(columns, filter.since, filter.until, dialect)?);
        let after = filter.stored_after.map(|id| format!("id > {id}"));
        let before = filter.stored_before.map(|id| format!("id < {id}"));
        wheres.extend(after.into_iter().chain(before));
        let wheres = if wheres.is_empty() { String::new() } else { format!(" WHERE {}", wheres.join(" AND ")) };
        let names: Vec<String> = columns.iter().map(|column| dialect.text(&column.name)).collect();
        let order = if filter.stored_after.is_some() { "ASC" } else { "DESC" };
        // One more tells whether there is another page.
        let limit = filter.limit.saturating_add(1).min(i32::MAX as usize);
        let id = dialect.text("id");
        let sql =
            format!("SELECT {id}, {} FROM audit_sql_logs{wheres} ORDER BY id {order} LIMIT {limit}", names.join(", "));
        Ok(Query { sql, values })
    }

    /// Conditions on when a statement ran; the times are written by us and hold nothing but digits and signs.
    fn span(
        &self,
        columns: &[Column],
        since: Option<i64>,
        until: Option<i64>,
        dialect: Dialect,
    ) -> Result<Vec<String>, String> {
        if since.is_none() && until.is_none() {
            return Ok(Vec::new());
        }
        let column = Self::time_column(columns)
            .ok_or("the application's table audit_sql_logs has no column for the time; leave that out")?;
        let at = |micros: i64| {
            if column.is_number() {
                micros.div_euclid(1_000_000).to_string()
            } else {
                format!("'{}'", self.shown(micros))
            }
        };
        let name = dialect.quoted(&column.name);
        let since = since.map(|since| format!("{name} >= {}", at(since)));
        let until = until.map(|until| format!("{name} < {}", at(until)));
        Ok(since.into_iter().chain(until).collect())
    }

    /// The rows of [`search`](Self::search) as a page.
    pub(crate) fn page(&self, columns: &[Column], mut rows: Vec<TextRow>, filter: &Filter) -> LogPage {
        let has_more = rows.len() > filter.limit;
        rows.truncate(filter.limit);
        let rows: Vec<_> = rows.into_iter().map(|row| self.read(columns, row)).collect();
        let next = rows.last().map(|row| row.id);
        LogPage { next: next.filter(|_| has_more), rows }
    }

    /// A row of [`search`](Self::search) as an event; what has no place in one is kept as extra.
    fn read(&self, columns: &[Column], row: TextRow) -> LogRow {
        let mut cells = row.into_iter();
        let id = cells.next().flatten().and_then(|id| id.parse().ok()).unwrap_or_default();
        let (mut event, mut extra, mut stored_at, mut known_id) = (Event::default(), Map::new(), 0, None);
        event.repeat_count = 1;
        for (column, cell) in columns.iter().zip(cells) {
            let Some(text) = cell else { continue };
            match &column.source {
                Source::OccurredAt => event.occurred_at = self.micros(&text).unwrap_or_default(),
                Source::Now => stored_at = stored_at.max(self.micros(&text).unwrap_or_default()),
                Source::LastAt => event.last_at = self.micros(&text).unwrap_or_default(),
                Source::EventId => known_id = text.parse::<EventId>().ok(),
                source if put(source, &text, &mut event) => {}
                _ => drop(extra.insert(column.name.clone(), Json::from(text))),
            }
        }
        if event.occurred_at == 0 {
            event.occurred_at = stored_at;
        }
        let number = u64::try_from(id).unwrap_or_default();
        event.event_id = known_id.unwrap_or_else(|| EventId::derive(event.occurred_at, b"laravel's table\0", number));
        event.recorded_at = event.occurred_at;
        event.last_at = event.last_at.max(event.occurred_at);
        event.extra = (!extra.is_empty()).then(|| Json::Object(extra).to_string());
        LogRow { id, stored_at, event }
    }

    /// A time as the application wrote it, or Unix seconds.
    fn micros(&self, text: &str) -> Option<i64> {
        if let Ok(seconds) = text.parse::<i64>() {
            return seconds.checked_mul(1_000_000);
        }
        let time: DateTime = text.get(..26.min(text.len()))?.replace(' ', "T").parse().ok()?;
        self.layout.timezone.to_ambiguous_timestamp(time).compatible().ok().map(jiff::Timestamp::as_microsecond)
    }

    /// The oldest rows before a time.
    pub(crate) fn old(&self, columns: &[Column], before: i64, dialect: Dialect) -> Result<String, String> {
        Ok(self.span(columns, None, Some(before), dialect)?.join(" AND "))
    }

    /// Two statements: rows, mean and longest time in milliseconds; and the busiest users with their rows, where the
    /// table tells of users.
    pub(crate) fn numbers(
        &self,
        columns: &[Column],
        filter: &StatsFilter,
        dialect: Dialect,
    ) -> Result<(String, Option<String>), String> {
        let span = self.span(columns, Some(filter.since), Some(filter.until), dialect)?.join(" AND ");
        let column = |source| Self::column(columns, &source).map(|column| dialect.quoted(&column.name));
        let time = column(Source::DurationMs).or_else(|| column(Source::DurationUs).map(|us| format!("{us} / 1000.0")));
        let time = time.unwrap_or_else(|| "NULL".to_owned());
        let totals = format!("SELECT count(*), avg({time}), max({time}) FROM audit_sql_logs WHERE {span}");
        let user = Self::column(columns, &Source::Username).or_else(|| Self::column(columns, &Source::UserId));
        let users = user.map(|user| {
            let (name, top) = (dialect.text(&user.name), filter.top.min(10_000));
            format!(
                "SELECT {name}, count(*) FROM audit_sql_logs WHERE {span} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {top}"
            )
        });
        Ok((totals, users))
    }
}

/// What a table of an application's own can tell: how many rows, and how long they took, in milliseconds.
pub(crate) fn stats(rows: i64, mean_ms: Option<f64>, max_ms: Option<f64>) -> Stats {
    let rows = rows.unsigned_abs();
    Stats {
        rows,
        executions: rows,
        duration_us_mean: mean_ms.unwrap_or_default() * 1_000.0,
        duration_us_max: micros_of(max_ms.unwrap_or_default()),
        ..Stats::default()
    }
}

/// Milliseconds as whole microseconds; 0 for what is no time.
fn micros_of(millis: f64) -> u64 {
    let time = Duration::try_from_secs_f64(millis / 1_000.0).unwrap_or_default();
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A text as LIKE finds it anywhere, with `!` before what has a meaning there.
fn like(text: &str) -> String {
    let escaped = text.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%")
}

/// Puts a value where it belongs; false when an event has no place for it as it is.
fn put(source: &Source, text: &str, event: &mut Event) -> bool {
    fn fill(place: &mut Option<String>, text: &str) {
        *place = Some(text.to_owned());
    }
    let Event { statement, actor, origin, outcome, database, .. } = event;
    match source {
        Source::Sql => text.clone_into(&mut statement.sql),
        Source::Bindings => match parse_bindings_json(text) {
            Ok(bindings) => {
                event.bindings_total = u32::try_from(bindings.len()).unwrap_or(u32::MAX);
                event.bindings = bindings;
            }
            Err(_) => return false,
        },
        Source::DurationMs | Source::DurationUs => {
            let Ok(number) = text.parse::<f64>() else { return false };
            event.duration_us = micros_of(if *source == Source::DurationMs { number } else { number / 1_000.0 });
        }
        Source::Username => fill(&mut actor.username, text),
        Source::UserId => fill(&mut actor.user_id, text),
        Source::Session => fill(&mut actor.session_hash, text),
        Source::Tenant => fill(&mut actor.tenant, text),
        Source::RequestId => fill(&mut origin.request_id, text),
        Source::TraceId => fill(&mut origin.trace_id, text),
        Source::Ip => fill(&mut origin.ip, text),
        Source::HttpMethod => fill(&mut origin.http_method, text),
        Source::UrlPath => fill(&mut origin.url_path, text),
        Source::UserAgent => fill(&mut origin.user_agent, text),
        Source::Connection => fill(&mut database.connection, text),
        Source::DbName => fill(&mut database.name, text),
        Source::App => fill(&mut database.app, text),
        Source::Host => fill(&mut database.host, text),
        Source::ErrorCode => fill(&mut outcome.error_code, text),
        Source::ErrorMessage => fill(&mut outcome.error_message, text),
        Source::TransactionId => fill(&mut outcome.transaction_id, text),
        Source::Status => match Status::parse(text) {
            Some(status) => outcome.status = status,
            None => return false,
        },
        Source::Operation => match Operation::parse(text) {
            Some(operation) => statement.operation = operation,
            None => return false,
        },
        Source::DbSystem => match System::parse(text) {
            Some(system) => database.system = system,
            None => return false,
        },
        Source::RowsAffected => outcome.rows_affected = text.parse().ok(),
        Source::RowsReturned => outcome.rows_returned = text.parse().ok(),
        _ => return false,
    }
    true
}
