//! The audit table of a Laravel application in a PostgreSQL database.

use std::collections::HashSet;

use auditq_event::Event;
use auditq_postgres::tokio_postgres::types::{ToSql, Type};
use auditq_postgres::{Conn, Fault, Worked};
use serde_json::{Map, Value as Json};

use super::columns::Id;
use super::now_us;
use crate::laravel::{Cell, Column, Dialect, REMEMBERED_US, Rows, Table, TableColumn};
use crate::{Batch, Filter, Inserted, LogPage, Pruned, Stats, StatsFilter, UserStats};

const DIALECT: Dialect = Dialect::Postgres;

/// How many rows one statement adds at the most.
const ROWS_MAX: usize = 1_000;

/// Looks at the table, which stays as it is, and makes the one that remembers what was stored.
pub(super) async fn migrate(connection: &Conn, table: &Table) -> Worked<Result<(), String>> {
    if let Err(obstacle) = columns(connection, table).await? {
        return Ok(Err(obstacle));
    }
    // Asked first: `CREATE INDEX IF NOT EXISTS` would wait for every worker that is storing.
    let there = "SELECT to_regclass('auditq_stored') IS NOT NULL";
    let there: bool = connection.query_typed_one(there, &[]).await?.try_get(0)?;
    if !there {
        connection
            .batch_execute(
                "CREATE TABLE auditq_stored (event_id uuid PRIMARY KEY, stored_at bigint NOT NULL);
                 CREATE INDEX auditq_stored_at ON auditq_stored (stored_at)",
            )
            .await?;
    }
    Ok(Ok(()))
}

/// Says whether the table can be filled. Changes nothing.
pub(super) async fn check(connection: &Conn, table: &Table) -> Worked<Result<(), String>> {
    Ok(columns(connection, table).await?.map(drop))
}

/// The table's columns, looked at once.
async fn columns<'t>(connection: &Conn, table: &'t Table) -> Worked<Result<&'t [Column], String>> {
    if let Some(columns) = table.columns() {
        return Ok(Ok(columns));
    }
    let sql = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute \
               WHERE attrelid = to_regclass('audit_sql_logs') AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    let rows = connection.query_typed(sql, &[]).await?;
    let found: Vec<_> = rows.iter().map(|row| TableColumn { name: row.get(0), kind: row.get(1) }).collect();
    Ok(table.look(&found))
}

/// Writes what was not stored before. Amendments have no place in such a table.
pub(super) async fn insert_in(connection: &Conn, table: &Table, batch: &Batch) -> Worked<Inserted> {
    let (columns, now) = (columns(connection, table).await?.map_err(Fault::Value)?, now_us());
    let new = remember(connection, &batch.events, now).await?;
    let mut seen = HashSet::new();
    let new: Vec<&Event> = batch
        .events
        .iter()
        .filter(|event| new.contains(event.event_id.as_bytes()) && seen.insert(event.event_id))
        .collect();
    let mut stored = 0;
    for some in new.chunks(ROWS_MAX) {
        let rows = table.rows(columns, some, now);
        let names: Vec<_> = rows.columns.iter().map(|column| DIALECT.quoted(&column.name)).collect();
        let names = names.join(", ");
        // Each value becomes what its column is, as the text of it would.
        let sql = format!(
            "INSERT INTO audit_sql_logs ({names}) SELECT {names} \
             FROM json_populate_recordset(NULL::audit_sql_logs, $1::json) ON CONFLICT DO NOTHING"
        );
        stored += connection.execute_typed(&sql, &[(&records(&rows), Type::TEXT)]).await?;
    }
    let duplicates = (batch.events.len() as u64).saturating_sub(stored);
    Ok(Inserted { stored, duplicates, amended: batch.amendments.len() as u64 })
}

/// Takes note of events; says which were not known. In their order, so that two who do so wait and do not deadlock.
async fn remember(connection: &Conn, events: &[Event], now: i64) -> Worked<HashSet<[u8; 16]>> {
    let mut ids: Vec<_> = events.iter().map(|event| *event.event_id.as_bytes()).collect();
    ids.sort_unstable();
    ids.dedup();
    let ids: Vec<Id> = ids.into_iter().map(Id).collect();
    let sql = "INSERT INTO auditq_stored (event_id, stored_at) SELECT id, $2 FROM unnest($1) AS new (id) \
               ON CONFLICT DO NOTHING RETURNING uuid_send(event_id)";
    let rows = connection.query_typed(sql, &[(&ids, Type::UUID_ARRAY), (&now, Type::INT8)]).await?;
    let id = |bytes: Vec<u8>| bytes.try_into().map_err(|_| Fault::Value("an id is not of 16 bytes".to_owned()));
    rows.iter().map(|row| id(row.get(0))).collect()
}

/// The rows as an array of JSON objects.
fn records(rows: &Rows<'_>) -> String {
    let record = |row: &Vec<Cell>| {
        let cells = rows.columns.iter().zip(row);
        Json::Object(cells.map(|(column, cell)| (column.name.clone(), json(column, cell))).collect::<Map<_, _>>())
    };
    Json::Array(rows.rows.iter().map(record).collect()).to_string()
}

fn json(column: &Column, cell: &Cell) -> Json {
    match cell {
        Cell::Null => Json::Null,
        Cell::Int(value) => Json::from(*value),
        Cell::Float(value) => Json::from(*value),
        // No text of the server's holds a NUL.
        Cell::Text(text) if column.is_json() => {
            serde_json::from_str(&text.replace("\\u0000", "\\ufffd")).unwrap_or_else(|_| Json::from(text.as_str()))
        }
        Cell::Text(text) => Json::from(text.replace('\0', "\u{fffd}")),
    }
}

pub(super) async fn search(connection: &Conn, table: &Table, filter: &Filter) -> Worked<Result<LogPage, String>> {
    let found = columns(connection, table).await?;
    let (columns, query) = match found.and_then(|columns| Ok((columns, table.search(columns, filter, DIALECT)?))) {
        Ok(query) => query,
        Err(refused) => return Ok(Err(refused)),
    };
    let values: Vec<(&(dyn ToSql + Sync), Type)> =
        query.values.iter().map(|value| (value as &(dyn ToSql + Sync), Type::TEXT)).collect();
    let rows = connection.query_typed(&query.sql, &values).await?;
    let rows = rows.iter().map(|row| (0..row.len()).map(|index| row.get(index)).collect()).collect();
    Ok(Ok(table.page(columns, rows, filter)))
}

pub(super) async fn stats(connection: &Conn, table: &Table, filter: &StatsFilter) -> Worked<Result<Stats, String>> {
    let found = columns(connection, table).await?;
    let (totals, users) = match found.and_then(|columns| table.numbers(columns, filter, DIALECT)) {
        Ok(numbers) => numbers,
        Err(refused) => return Ok(Err(refused)),
    };
    let sql = format!("SELECT rows, mean::float8, longest::float8 FROM ({totals}) AS totals (rows, mean, longest)");
    let row = connection.query_typed_one(&sql, &[]).await?;
    let mut stats = crate::laravel::stats(row.get(0), row.get(1), row.get(2));
    if let Some(users) = users {
        let user = |row: &auditq_postgres::tokio_postgres::Row| UserStats {
            user: row.get::<_, Option<String>>(0).unwrap_or_default(),
            rows: row.get::<_, i64>(1).unsigned_abs(),
            ..UserStats::default()
        };
        stats.users = connection.query_typed(&users, &[]).await?.iter().map(user).collect();
    }
    Ok(Ok(stats))
}

pub(super) async fn prune(
    connection: &Conn,
    table: &Table,
    before: i64,
    limit: usize,
) -> Worked<Result<Pruned, String>> {
    let old = match columns(connection, table).await?.and_then(|columns| table.old(columns, before, DIALECT)) {
        Ok(old) => old,
        Err(refused) => return Ok(Err(refused)),
    };
    let forgotten = now_us().saturating_sub(REMEMBERED_US);
    connection.execute_typed("DELETE FROM auditq_stored WHERE stored_at < $1", &[(&forgotten, Type::INT8)]).await?;
    let some = format!("SELECT id FROM audit_sql_logs WHERE {old} ORDER BY id LIMIT {limit}");
    let rows = connection.execute_typed(&format!("DELETE FROM audit_sql_logs WHERE id IN ({some})"), &[]).await?;
    Ok(Ok(Pruned { rows, finished: rows < limit as u64 }))
}
