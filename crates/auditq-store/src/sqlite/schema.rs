use rusqlite::{Connection, OptionalExtension};

use super::rows;

/// Forward only: a migration that was released is never changed, and a later one is added below it.
const MIGRATIONS: &[Migration] = &[
    Migration { name: "store 1", sql: include_str!("0001_audit_sql_logs.sql"), adds: None },
    Migration { name: "store 2", sql: include_str!("0002_extra.sql"), adds: Some("extra") },
];

struct Migration {
    name: &'static str,
    sql: &'static str,
    /// The column without which the statement is run: SQLite cannot be told to add one only when it is missing.
    adds: Option<&'static str>,
}

/// Why a database cannot be migrated. It was left as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    #[error(
        "cannot use the table audit_sql_logs in {path}: it lacks the columns {}, so another program made it; rename \
         it (ALTER TABLE audit_sql_logs RENAME TO audit_sql_logs_old) or give auditq another database file",
        missing.join(", ")
    )]
    OtherShape { path: String, missing: Vec<&'static str> },
    #[error(
        "cannot make the table audit_sql_logs in {path}: {table} was renamed from it and holds its indexes; drop \
         them first (DROP INDEX {})",
        indexes.join("; DROP INDEX ")
    )]
    IndexesTaken { path: String, table: String, indexes: Vec<String> },
    #[error(
        "cannot use {path}: a newer release of auditq made it (it has the migration {name:?}); install that release"
    )]
    Newer { path: String, name: String },
    #[error("the table audit_sql_logs is missing in {path}; run `auditq migrate`")]
    Missing { path: String },
    #[error("the table audit_sql_logs in {path} is that of an older release; run `auditq migrate`")]
    Older { path: String },
}

/// Brings the tables up to date.
///
/// The inner error says why it must not be done; nothing was changed then.
pub(super) fn migrate(connection: &Connection, now_us: i64) -> rusqlite::Result<Result<(), Obstacle>> {
    let path = || path_of(connection);
    let applied = applied(connection)?;
    if let Some(name) = unknown(&applied) {
        return Ok(Err(Obstacle::Newer { path: path(), name: name.clone() }));
    }
    let present = columns(connection)?;
    if present.is_empty() {
        if let Some((table, indexes)) = indexes_elsewhere(connection)? {
            return Ok(Err(Obstacle::IndexesTaken { path: path(), table, indexes }));
        }
        // New, or renamed away to begin another: whatever was noted is no longer so.
        return run(connection, &[], now_us).map(Ok);
    }
    let missing = missing(&present);
    let older = !applied.is_empty() && applied.len() < MIGRATIONS.len();
    if !missing.is_empty() && !older {
        return Ok(Err(Obstacle::OtherShape { path: path(), missing }));
    }
    run(connection, &applied, now_us).map(Ok)
}

/// Says whether the table is up to date. Changes nothing.
pub(super) fn check(connection: &Connection) -> rusqlite::Result<Result<(), Obstacle>> {
    let (path, applied, present) = (path_of(connection), applied(connection)?, columns(connection)?);
    let missing = missing(&present);
    Ok(match unknown(&applied) {
        Some(name) => Err(Obstacle::Newer { path, name: name.clone() }),
        None if present.is_empty() => Err(Obstacle::Missing { path }),
        None if !applied.is_empty() && applied.len() < MIGRATIONS.len() => Err(Obstacle::Older { path }),
        None if !missing.is_empty() => Err(Obstacle::OtherShape { path, missing }),
        None => Ok(()),
    })
}

fn path_of(connection: &Connection) -> String {
    connection.path().unwrap_or("the database").to_owned()
}

/// A migration that this release does not know.
fn unknown(applied: &[String]) -> Option<&String> {
    applied.iter().find(|name| MIGRATIONS.iter().all(|known| known.name != name.as_str()))
}

/// Columns that a table should have and has not.
fn missing(present: &[String]) -> Vec<&'static str> {
    rows::COLUMNS.iter().copied().filter(|name| !present.iter().any(|have| have == name)).collect()
}

fn run(connection: &Connection, applied: &[String], now_us: i64) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS auditq_migrations (name TEXT PRIMARY KEY NOT NULL, applied_at INTEGER NOT NULL)",
    )?;
    for migration in MIGRATIONS.iter().filter(|migration| !applied.iter().any(|done| done == migration.name)) {
        let present = columns(connection)?;
        if migration.adds.is_none_or(|column| !present.iter().any(|have| have == column)) {
            connection.execute_batch(migration.sql)?;
        }
        connection.execute("INSERT OR REPLACE INTO auditq_migrations VALUES (?1, ?2)", (migration.name, now_us))?;
    }
    Ok(())
}

/// The store's migrations that were applied; the table is shared with the queue's.
fn applied(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'auditq_migrations'";
    if connection.query_row(table, [], |_| Ok(())).optional()?.is_none() {
        return Ok(Vec::new());
    }
    texts(connection, "SELECT name FROM auditq_migrations WHERE name GLOB 'store *' ORDER BY name")
}

fn columns(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    texts(connection, "SELECT name FROM pragma_table_info('audit_sql_logs')")
}

/// The indexes that a renamed table took along, whose names are needed again.
fn indexes_elsewhere(connection: &Connection) -> rusqlite::Result<Option<(String, Vec<String>)>> {
    let indexes = "FROM sqlite_schema WHERE type = 'index' AND name GLOB 'auditq_logs_*'";
    let table = connection.query_row(&format!("SELECT tbl_name {indexes} LIMIT 1"), [], |row| row.get(0)).optional()?;
    let Some(table) = table else { return Ok(None) };
    Ok(Some((table, texts(connection, &format!("SELECT name {indexes} ORDER BY name"))?)))
}

fn texts(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}
