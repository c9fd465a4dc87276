//! The audit table that a Laravel application made itself: its columns, whatever they are called.
//!
//! A column is filled from what the job calls by that name, else from the part of an event that the name stands for; the
//! others are left to the table. No row is doubled: `auditq_stored` holds the ids of what was stored, in the same
//! transaction as the row, and a unique key of the table's own makes the first of its rows the only one.

mod known;
mod php;
mod read;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use auditq_event::Event;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};

use known::Source;
pub(crate) use read::{Dialect, stats};

/// For how long it is remembered what was stored, in microseconds: longer than any message waits to be tried again.
pub(crate) const REMEMBERED_US: i64 = 30 * 86_400 * 1_000_000;

/// How a table that a Laravel application made is to be filled.
#[derive(Clone, Debug)]
pub struct LaravelLayout {
    /// For a column the part of the event that goes into it.
    columns: BTreeMap<String, String>,
    /// The zone that times are written in.
    timezone: TimeZone,
}

impl LaravelLayout {
    /// The parts of an event that can go into a column.
    pub const SOURCES: &'static [&'static str] = known::NAMES;

    /// The part of an event that a column of this name usually holds, `now` for when the row was stored.
    #[must_use]
    pub fn usual_part(column: &str) -> Option<&'static str> {
        known::Source::usual(column).and_then(|source| source.name())
    }

    /// Fills each column of `columns` with the part of an event that it names there: one of [`Self::SOURCES`], or
    /// `extra.KEY`; an empty text leaves the column to the table. The others are filled by the names that such columns
    /// usually have. Times are written in `timezone`, the application's `app.timezone`; `None` when there is no such zone.
    #[must_use]
    pub fn new(columns: BTreeMap<String, String>, timezone: &str) -> Option<Self> {
        // The release of the time zone database that came with the program, as where jobs are read.
        Some(Self { columns, timezone: jiff::tz::TimeZoneDatabase::bundled().get(timezone).ok()? })
    }
}

/// A column as the server describes it.
#[derive(Clone, Debug)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    /// Its type, in lower case.
    pub(crate) kind: String,
}

/// The table as it is to be filled: its layout, and its columns once they were looked at.
#[derive(Debug)]
pub(crate) struct Table {
    layout: LaravelLayout,
    columns: OnceLock<Vec<Column>>,
}

#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    kind: String,
    source: Source,
}

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Float(f64),
    Text(String),
}

/// Rows to be inserted: the columns that any of them fills, and their values, row by row.
#[derive(Debug)]
pub(crate) struct Rows<'t> {
    pub(crate) columns: Vec<&'t Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(layout: LaravelLayout) -> Self {
        Self { layout, columns: OnceLock::new() }
    }

    /// The columns, if they were looked at.
    pub(crate) fn columns(&self) -> Option<&[Column]> {
        self.columns.get().map(Vec::as_slice)
    }

    /// Takes note of the columns that the table has.
    ///
    /// # Errors
    /// Why it cannot be filled, with what to do.
    pub(crate) fn look(&self, found: &[TableColumn]) -> Result<&[Column], String> {
        if found.is_empty() {
            return Err(
                "the table audit_sql_logs is missing; run the application's migrations (php artisan migrate), \
                        or set store.layout = \"auditq\" and run `auditq migrate`"
                    .to_owned(),
            );
        }
        if found.iter().any(|column| column.name == "producer_seq") {
            return Err("the table audit_sql_logs is auditq's own; set store.layout = \"auditq\"".to_owned());
        }
        if let Some(name) = self.layout.columns.keys().find(|name| found.iter().all(|column| column.name != **name)) {
            return Err(format!("the table audit_sql_logs has no column `{name}`; correct it in [store.columns]"));
        }
        let mut columns = Vec::new();
        for TableColumn { name, kind } in found {
            let source = match self.layout.columns.get(name) {
                Some(given) if given.is_empty() => continue,
                Some(given) => Source::named(given).ok_or_else(|| {
                    let known = known::NAMES.join(", ");
                    format!(
                        "`{given}` for the column `{name}` in [store.columns] is no part of an event; known are {known} \
                         and extra.KEY"
                    )
                })?,
                None if name == "id" => continue,
                None => Source::usual(name).unwrap_or_else(|| Source::Extra(name.clone())),
            };
            columns.push(Column { name: name.clone(), kind: kind.clone(), source });
        }
        if !columns.iter().any(|column| column.source == Source::Sql) {
            return Err(
                "the table audit_sql_logs has no column for the statement's text; name it in [store.columns], \
                        such as my_column = \"sql\""
                    .to_owned(),
            );
        }
        Ok(self.columns.get_or_init(|| columns))
    }

    /// The rows of some events. A column that none of them has a value for is left to the table.
    pub(crate) fn rows<'t>(&'t self, columns: &'t [Column], events: &[&Event], now: i64) -> Rows<'t> {
        let all: Vec<Vec<Cell>> = events.iter().map(|event| self.row(columns, event, now)).collect();
        let filled = |index: usize| all.iter().any(|row| row[index] != Cell::Null);
        let used: Vec<usize> = (0..columns.len()).filter(|index| filled(*index)).collect();
        Rows {
            columns: used.iter().map(|index| &columns[*index]).collect(),
            rows: all.iter().map(|row| used.iter().map(|index| row[*index].clone()).collect()).collect(),
        }
    }

    fn row(&self, columns: &[Column], event: &Event, now: i64) -> Vec<Cell> {
        let extra = event.extra.as_deref().and_then(|extra| serde_json::from_str(extra).ok()).unwrap_or_default();
        columns.iter().map(|column| self.cell(column, event, &extra, now)).collect()
    }

    fn cell(&self, column: &Column, event: &Event, extra: &Map<String, Json>, now: i64) -> Cell {
        // What the job itself calls so is what Laravel's own worker would store.
        if let Some(value) = extra.get(&column.name).filter(|_| !self.layout.columns.contains_key(&column.name)) {
            return of_json(value);
        }
        match &column.source {
            Source::Extra(key) => extra.get(key).map_or(Cell::Null, of_json),
            Source::AllExtra => event.extra.clone().map_or(Cell::Null, Cell::Text),
            // Laravel's own times are whole seconds.
            Source::Now => self.time(column, now - now.rem_euclid(1_000_000)),
            Source::OccurredAt => self.time(column, event.occurred_at),
            Source::LastAt => self.time(column, event.last_at),
            source => source.of(event),
        }
    }

    /// A time as the column has it: Unix seconds in a number, else as Laravel writes it.
    fn time(&self, column: &Column, micros: i64) -> Cell {
        if column.is_number() { Cell::Int(micros.div_euclid(1_000_000)) } else { Cell::Text(self.shown(micros)) }
    }

    /// `2026-11-24 13:00:00`, in the application's zone, with a fraction where there is one.
    pub(crate) fn shown(&self, micros: i64) -> String {
        let time = Timestamp::from_microsecond(micros).unwrap_or_default();
        let seconds = self.layout.timezone.to_datetime(time).strftime("%Y-%m-%d %H:%M:%S").to_string();
        match micros.rem_euclid(1_000_000) {
            0 => seconds,
            fraction => format!("{seconds}.{fraction:06}"),
        }
    }
}

impl Column {
    /// Whether its type is a number.
    fn is_number(&self) -> bool {
        ["int", "double", "float", "real", "decimal", "numeric"].iter().any(|kind| self.kind.contains(kind))
            && !self.kind.contains("interval")
    }

    /// Whether its values are JSON and not text.
    pub(crate) fn is_json(&self) -> bool {
        self.kind.starts_with("json")
    }
}

fn of_json(value: &Json) -> Cell {
    match value {
        Json::Null => Cell::Null,
        Json::Bool(value) => Cell::Int((*value).into()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Cell::Int(whole),
            (None, Some(real)) => Cell::Float(real),
            (None, None) => Cell::Text(number.to_string()),
        },
        Json::String(text) => Cell::Text(text.clone()),
        Json::Array(_) | Json::Object(_) => Cell::Text(php::json_encode(value)),
    }
}

#[cfg(test)]
mod tests {
    use auditq_event::{Actor, Binding, StatementText};

    use super::*;

    fn table(columns: &[(&str, &str)]) -> Table {
        let columns = columns.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect();
        Table::new(LaravelLayout::new(columns, "Europe/Berlin").unwrap())
    }

    fn columns(names: &[(&str, &str)]) -> Vec<TableColumn> {
        names.iter().map(|(name, kind)| TableColumn { name: (*name).to_owned(), kind: (*kind).to_owned() }).collect()
    }

    fn event() -> Event {
        Event {
            occurred_at: 1_700_000_000_000_000,
            duration_us: 1_370,
            statement: StatementText { sql: "select 1".to_owned(), ..StatementText::default() },
            bindings: vec![Binding::Int(7), Binding::Text("a/ü".to_owned()), Binding::Null],
            actor: Actor { username: Some("alice".to_owned()), ..Actor::default() },
            extra: Some(r#"{"query_hash":"abc","level":3}"#.to_owned()),
            ..Event::default()
        }
    }

    #[test]
    fn the_usual_names_are_filled_as_laravel_fills_them() {
        let table = table(&[]);
        let found = columns(&[
            ("id", "bigint"),
            ("query_hash", "varchar"),
            ("username", "varchar"),
            ("sql", "text"),
            ("bindings", "text"),
            ("time_ms", "double"),
            ("executed_at", "timestamp"),
            ("created_at", "timestamp"),
            ("level", "int"),
            ("note", "text"),
        ]);
        let columns = table.look(&found).unwrap();
        let rows = table.rows(columns, &[&event()], 1_700_000_001_500_000);
        let names: Vec<_> = rows.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(
            names,
            ["query_hash", "username", "sql", "bindings", "time_ms", "executed_at", "created_at", "level"],
            "a column that nothing fills is left to the table"
        );
        let text = |text: &str| Cell::Text(text.to_owned());
        assert_eq!(
            rows.rows,
            [vec![
                text("abc"),
                text("alice"),
                text("select 1"),
                text(r#"[7,"a\/\u00fc",null]"#),
                Cell::Float(1.37),
                text("2023-11-14 23:13:20"),
                text("2023-11-14 23:13:21"),
                Cell::Int(3),
            ]]
        );
    }

    #[test]
    fn the_configuration_says_what_goes_into_a_column() {
        let table = table(&[("who", "username"), ("what", "sql"), ("at", "occurred_at"), ("level", "")]);
        let found = columns(&[("who", "text"), ("what", "text"), ("at", "integer"), ("level", "int")]);
        let columns = table.look(&found).unwrap();
        let rows = table.rows(columns, &[&event()], 0);
        let text = |text: &str| Cell::Text(text.to_owned());
        assert_eq!(rows.rows, [vec![text("alice"), text("select 1"), Cell::Int(1_700_000_000)]]);
    }

    #[test]
    fn a_table_that_cannot_be_filled_says_why() {
        for (given, found, says) in [
            (&[][..], &[][..], "php artisan migrate"),
            (&[], &[("id", "int"), ("producer_seq", "int")], "store.layout = \"auditq\""),
            (&[], &[("id", "int"), ("text", "text")], "my_column = \"sql\""),
            (&[("nope", "sql")], &[("sql", "text")], "no column `nope`"),
            (&[("sql", "sqll")], &[("sql", "text")], "known are sql, bindings"),
        ] {
            let error = table(given).look(&columns(found)).map(<[Column]>::len).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
