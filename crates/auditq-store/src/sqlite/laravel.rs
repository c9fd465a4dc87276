//! The audit table of a Laravel application in a SQLite file.

use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, ToSql, ffi, params_from_iter};

use super::now_us;
use crate::laravel::{Cell, Column, Dialect, REMEMBERED_US, Table, TableColumn};
use crate::{Batch, Filter, Inserted, LogPage, Pruned, Stats, StatsFilter, UserStats};

const DIALECT: Dialect = Dialect::Sqlite;

/// What an operation came to, or why the table cannot do it.
type Told<T> = rusqlite::Result<Result<T, String>>;

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Int(value) => ToSqlOutput::Owned(Value::Integer(*value)),
            Self::Float(value) => ToSqlOutput::Owned(Value::Real(*value)),
            Self::Text(text) => text.to_sql()?,
        })
    }
}

/// Looks at the table, which stays as it is, and makes the one that remembers what was stored.
pub(super) fn migrate(connection: &Connection, table: &Table) -> Told<()> {
    if let Err(obstacle) = columns(connection, table)? {
        return Ok(Err(obstacle));
    }
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS auditq_stored (event_id BLOB PRIMARY KEY NOT NULL, stored_at INTEGER NOT NULL) \
         WITHOUT ROWID;
         CREATE INDEX IF NOT EXISTS auditq_stored_at ON auditq_stored (stored_at)",
    )?;
    Ok(Ok(()))
}

/// Says whether the table can be filled. Changes nothing.
pub(super) fn check(connection: &Connection, table: &Table) -> Told<()> {
    Ok(columns(connection, table)?.map(drop))
}

/// The table's columns, looked at once.
fn columns<'t>(connection: &Connection, table: &'t Table) -> Told<&'t [Column]> {
    if let Some(columns) = table.columns() {
        return Ok(Ok(columns));
    }
    let mut statement = connection.prepare("SELECT name, lower(type) FROM pragma_table_info('audit_sql_logs')")?;
    let found = statement.query_map([], |row| Ok(TableColumn { name: row.get(0)?, kind: row.get(1)? }))?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(table.look(&found))
}

/// An obstacle where only SQLite's own errors can be told.
fn schema_error(obstacle: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_SCHEMA), Some(obstacle))
}

/// Writes what was not stored before. Amendments have no place in such a table.
pub(super) fn insert_in(connection: &Connection, table: &Table, batch: &Batch) -> rusqlite::Result<Inserted> {
    let (columns, now) = (columns(connection, table)?.map_err(schema_error)?, now_us());
    let mut remember = connection
        .prepare_cached("INSERT INTO auditq_stored (event_id, stored_at) VALUES (?, ?) ON CONFLICT DO NOTHING")?;
    let mut new = Vec::with_capacity(batch.events.len());
    for event in &batch.events {
        if remember.execute((&event.event_id.as_bytes()[..], now))? == 1 {
            new.push(event);
        }
    }
    let mut stored = 0;
    if !new.is_empty() {
        let rows = table.rows(columns, &new, now);
        let names: Vec<_> = rows.columns.iter().map(|column| DIALECT.quoted(&column.name)).collect();
        let values = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO audit_sql_logs ({}) VALUES ({values}) ON CONFLICT DO NOTHING", names.join(", "));
        let mut insert = connection.prepare_cached(&sql)?;
        for row in &rows.rows {
            stored += insert.execute(params_from_iter(row))? as u64;
        }
    }
    let duplicates = (batch.events.len() as u64).saturating_sub(stored);
    Ok(Inserted { stored, duplicates, amended: batch.amendments.len() as u64 })
}

fn text_rows(
    connection: &Connection,
    sql: &str,
    values: &[String],
    count: usize,
) -> rusqlite::Result<Vec<Vec<Option<String>>>> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        (0..count).map(|index| row.get::<_, Option<String>>(index)).collect::<rusqlite::Result<Vec<_>>>()
    })?;
    rows.collect()
}

pub(super) fn search(connection: &Connection, table: &Table, filter: &Filter) -> Told<LogPage> {
    let found = columns(connection, table)?;
    let (columns, query) = match found.and_then(|columns| Ok((columns, table.search(columns, filter, DIALECT)?))) {
        Ok(query) => query,
        Err(refused) => return Ok(Err(refused)),
    };
    let rows = text_rows(connection, &query.sql, &query.values, columns.len() + 1)?;
    Ok(Ok(table.page(columns, rows, filter)))
}

pub(super) fn stats(connection: &Connection, table: &Table, filter: &StatsFilter) -> Told<Stats> {
    let (totals, users) = match columns(connection, table)?.and_then(|columns| table.numbers(columns, filter, DIALECT))
    {
        Ok(numbers) => numbers,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut stats = connection
        .query_row(&totals, [], |row| Ok(crate::laravel::stats(row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)))?;
    if let Some(users) = users {
        let mut statement = connection.prepare(&users)?;
        let rows = statement.query_map([], |row| {
            let user = row.get::<_, Option<String>>(0)?.unwrap_or_default();
            Ok(UserStats { user, rows: row.get::<_, i64>(1)?.unsigned_abs(), ..UserStats::default() })
        })?;
        stats.users = rows.collect::<rusqlite::Result<_>>()?;
    }
    Ok(Ok(stats))
}

pub(super) fn prune(connection: &Connection, table: &Table, before: i64, limit: usize) -> Told<Pruned> {
    let old = match columns(connection, table)?.and_then(|columns| table.old(columns, before, DIALECT)) {
        Ok(old) => old,
        Err(refused) => return Ok(Err(refused)),
    };
    connection.execute("DELETE FROM auditq_stored WHERE stored_at < ?", [now_us().saturating_sub(REMEMBERED_US)])?;
    let some = format!("SELECT id FROM audit_sql_logs WHERE {old} ORDER BY id LIMIT {limit}");
    let sql = format!("DELETE FROM audit_sql_logs WHERE id IN ({some})");
    let rows = connection.execute(&sql, [])? as u64;
    Ok(Ok(Pruned { rows, finished: rows < limit as u64 }))
}
