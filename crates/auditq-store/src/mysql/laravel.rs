//! The audit table of a Laravel application in a MySQL or MariaDB database.

use std::collections::HashSet;

use auditq_event::Event;
use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Error, Params, Result as Worked, Row, Value};
use auditq_mysql::parts;

use super::now_us;
use crate::laravel::{Cell, Column, Dialect, REMEMBERED_US, Table, TableColumn};
use crate::{Batch, Filter, Inserted, LogPage, Pruned, Stats, StatsFilter, UserStats};

const DIALECT: Dialect = Dialect::Mysql;

/// How many ids one statement takes at the most.
const IDS_MAX: usize = 1_000;

/// Looks at the table, which stays as it is, and makes the one that remembers what was stored.
pub(super) async fn migrate(connection: &mut Conn, table: &Table) -> Worked<Result<(), String>> {
    if let Err(obstacle) = columns(connection, table).await? {
        return Ok(Err(obstacle));
    }
    connection
        .query_drop(
            "CREATE TABLE IF NOT EXISTS auditq_stored (event_id binary(16) NOT NULL PRIMARY KEY, \
             stored_at bigint NOT NULL, stored_by bigint unsigned NOT NULL, KEY auditq_stored_at (stored_at)) \
             ENGINE = InnoDB",
        )
        .await?;
    Ok(Ok(()))
}

/// Says whether the table can be filled. Changes nothing.
pub(super) async fn check(connection: &mut Conn, table: &Table) -> Worked<Result<(), String>> {
    Ok(columns(connection, table).await?.map(drop))
}

/// The table's columns, looked at once.
async fn columns<'t>(connection: &mut Conn, table: &'t Table) -> Worked<Result<&'t [Column], String>> {
    if let Some(columns) = table.columns() {
        return Ok(Ok(columns));
    }
    let sql = "SELECT column_name, lower(data_type) FROM information_schema.columns \
               WHERE table_schema = database() AND table_name = 'audit_sql_logs' ORDER BY ordinal_position";
    let found: Vec<(String, String)> = connection.query(sql).await?;
    let found: Vec<_> = found.into_iter().map(|(name, kind)| TableColumn { name, kind }).collect();
    Ok(table.look(&found))
}

/// Writes what was not stored before. Amendments have no place in such a table.
pub(super) async fn insert_in(connection: &mut Conn, table: &Table, batch: &Batch, packet: usize) -> Worked<Inserted> {
    let (columns, now) =
        (columns(connection, table).await?.map_err(|obstacle| Error::Other(obstacle.into()))?, now_us());
    let packet = packet.saturating_sub(1 << 16);
    let new = remember(connection, &batch.events, now).await?;
    let mut seen = HashSet::new();
    let new: Vec<&Event> = batch
        .events
        .iter()
        .filter(|event| new.contains(event.event_id.as_bytes()) && seen.insert(event.event_id))
        .collect();
    let rows = table.rows(columns, &new, now);
    let names: Vec<_> = rows.columns.iter().map(|column| DIALECT.quoted(&column.name)).collect();
    let one = format!("({})", vec!["?"; names.len()].join(", "));
    let sizes: Vec<usize> = rows.rows.iter().map(|row| row.iter().map(bytes_of).sum()).collect();
    let mut stored = 0;
    for part in parts(&sizes, names.len(), packet) {
        if sizes[part.clone()].iter().sum::<usize>() > packet {
            // The server closes the connection over it, which would look like an outage.
            let id = new[part.start].event_id;
            let message =
                format!("event {id} is larger than the server's `max_allowed_packet` of {packet} bytes; raise that");
            return Err(Error::Other(message.into()));
        }
        let rows = &rows.rows[part];
        let sql = format!(
            "INSERT INTO audit_sql_logs ({}) VALUES {} ON DUPLICATE KEY UPDATE id = id",
            names.join(", "),
            vec![one.as_str(); rows.len()].join(", ")
        );
        connection.exec_drop(sql, Params::Positional(rows.iter().flatten().map(value).collect())).await?;
        stored += connection.affected_rows();
    }
    let duplicates = (batch.events.len() as u64).saturating_sub(stored);
    Ok(Inserted { stored, duplicates, amended: batch.amendments.len() as u64 })
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::NULL,
        Cell::Int(value) => Value::Int(*value),
        Cell::Float(value) => Value::Double(*value),
        Cell::Text(text) => Value::Bytes(text.clone().into_bytes()),
    }
}

fn bytes_of(cell: &Cell) -> usize {
    12 + if let Cell::Text(text) = cell { text.len() } else { 0 }
}

/// Takes note of events; says which were not known. In their order, so that two who do so wait and do not deadlock.
async fn remember(connection: &mut Conn, events: &[Event], now: i64) -> Worked<HashSet<[u8; 16]>> {
    let mut ids: Vec<_> = events.iter().map(|event| *event.event_id.as_bytes()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut new = HashSet::with_capacity(ids.len());
    for ids in ids.chunks(IDS_MAX) {
        // No client can ask this server which rows were new, so they are marked.
        let mark = fastrand::u64(..);
        let rows = vec!["(?, ?, ?)"; ids.len()].join(", ");
        let sql = format!(
            "INSERT INTO auditq_stored (event_id, stored_at, stored_by) VALUES {rows} \
             ON DUPLICATE KEY UPDATE event_id = auditq_stored.event_id"
        );
        let values = ids.iter().flat_map(|id| [Value::Bytes(id.to_vec()), Value::Int(now), Value::UInt(mark)]);
        connection.exec_drop(sql, Params::Positional(values.collect())).await?;
        if connection.affected_rows() == ids.len() as u64 {
            new.extend(ids);
            continue;
        }
        let sql = format!(
            "SELECT event_id FROM auditq_stored WHERE event_id IN ({}) AND stored_by = ?",
            vec!["?"; ids.len()].join(", ")
        );
        let values = ids.iter().map(|id| Value::Bytes(id.to_vec())).chain([Value::UInt(mark)]);
        let found: Vec<Vec<u8>> = connection.exec(sql, Params::Positional(values.collect())).await?;
        new.extend(found.into_iter().filter_map(|id| <[u8; 16]>::try_from(id).ok()));
    }
    Ok(new)
}

pub(super) async fn search(connection: &mut Conn, table: &Table, filter: &Filter) -> Worked<Result<LogPage, String>> {
    let found = columns(connection, table).await?;
    let (columns, query) = match found.and_then(|columns| Ok((columns, table.search(columns, filter, DIALECT)?))) {
        Ok(query) => query,
        Err(refused) => return Ok(Err(refused)),
    };
    let values = query.values.into_iter().map(Value::from).collect::<Vec<_>>();
    let params = if values.is_empty() { Params::Empty } else { Params::Positional(values) };
    let rows: Vec<Row> = connection.exec(query.sql, params).await?;
    let rows = rows.into_iter().map(texts).collect();
    Ok(Ok(table.page(columns, rows, filter)))
}

fn texts(row: Row) -> Vec<Option<String>> {
    let text = |value| match value {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    };
    row.unwrap().into_iter().map(text).collect()
}

pub(super) async fn stats(connection: &mut Conn, table: &Table, filter: &StatsFilter) -> Worked<Result<Stats, String>> {
    let found = columns(connection, table).await?;
    let (totals, users) = match found.and_then(|columns| table.numbers(columns, filter, DIALECT)) {
        Ok(numbers) => numbers,
        Err(refused) => return Ok(Err(refused)),
    };
    let (rows, mean, max): (i64, Option<f64>, Option<f64>) = connection.query_first(totals).await?.unwrap_or_default();
    let mut stats = crate::laravel::stats(rows, mean, max);
    if let Some(users) = users {
        let found: Vec<(Option<String>, u64)> = connection.query(users).await?;
        let user = |(user, rows): (Option<String>, u64)| UserStats {
            user: user.unwrap_or_default(),
            rows,
            ..UserStats::default()
        };
        stats.users = found.into_iter().map(user).collect();
    }
    Ok(Ok(stats))
}

pub(super) async fn prune(
    connection: &mut Conn,
    table: &Table,
    before: i64,
    limit: usize,
) -> Worked<Result<Pruned, String>> {
    let old = match columns(connection, table).await?.and_then(|columns| table.old(columns, before, DIALECT)) {
        Ok(old) => old,
        Err(refused) => return Ok(Err(refused)),
    };
    let forgotten = now_us().saturating_sub(REMEMBERED_US);
    connection.exec_drop("DELETE FROM auditq_stored WHERE stored_at < ?", (forgotten,)).await?;
    connection.query_drop(format!("DELETE FROM audit_sql_logs WHERE {old} ORDER BY id LIMIT {limit}")).await?;
    let rows = connection.affected_rows();
    Ok(Ok(Pruned { rows, finished: rows < limit as u64 }))
}
