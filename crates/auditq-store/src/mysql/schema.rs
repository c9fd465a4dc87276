use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Result};

use super::rows;

/// One migration at a time, in all processes.
pub(super) const LOCK: &str = "auditq store ";

/// Forward only: a migration that was released is never changed, and a later one is added below it.
const MIGRATIONS: &[Migration] = &[
    Migration { name: "store 1", sql: include_str!("0001_audit_sql_logs.sql"), adds: None },
    Migration { name: "store 2", sql: include_str!("0002_extra.sql"), adds: Some("extra") },
];

struct Migration {
    name: &'static str,
    sql: &'static str,
    /// The column without which the statement is run: MySQL cannot be told to add one only when it is missing.
    adds: Option<&'static str>,
}

/// Why a database cannot be migrated. It was left as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    #[error(
        "cannot use the table audit_sql_logs in {place}: it lacks the columns {}, so another program made it; rename \
         it (RENAME TABLE audit_sql_logs TO audit_sql_logs_old) or give auditq another database",
        missing.join(", ")
    )]
    OtherShape { place: String, missing: Vec<&'static str> },
    #[error(
        "cannot use the table audit_sql_logs in {place}: its engine is {engine}, which has no transactions; \
             change it (ALTER TABLE audit_sql_logs ENGINE=InnoDB)"
    )]
    OtherEngine { place: String, engine: String },
    #[error(
        "cannot use {place}: a newer release of auditq made it (it has the migration {name:?}); install that release"
    )]
    Newer { place: String, name: String },
    #[error("the table audit_sql_logs is missing in {place}; run `auditq migrate`")]
    Missing { place: String },
    #[error("the table audit_sql_logs in {place} is that of an older release; run `auditq migrate`")]
    Older { place: String },
}

/// Brings the tables up to date.
///
/// The inner error says why it must not be done; nothing was changed then. The server commits each of these statements
/// by itself, so each can be run again.
pub(super) async fn migrate(
    connection: &mut Conn,
    place: &str,
    collation: &str,
    now_us: i64,
) -> Result<std::result::Result<(), Obstacle>> {
    let place = || place.to_owned();
    let applied = applied(connection).await?;
    if let Some(name) = unknown(&applied) {
        return Ok(Err(Obstacle::Newer { place: place(), name: name.clone() }));
    }
    let present = columns(connection).await?;
    if present.is_empty() {
        // New, or renamed away to begin another: whatever was noted is no longer so.
        return run(connection, &[], collation, now_us).await.map(Ok);
    }
    let missing = missing(&present);
    let older = !applied.is_empty() && applied.len() < MIGRATIONS.len();
    if !missing.is_empty() && !older {
        return Ok(Err(Obstacle::OtherShape { place: place(), missing }));
    }
    if let Some(engine) = other_engine(connection).await? {
        return Ok(Err(Obstacle::OtherEngine { place: place(), engine }));
    }
    run(connection, &applied, collation, now_us).await.map(Ok)
}

/// Says whether the table is up to date. Changes nothing.
pub(super) async fn check(connection: &mut Conn, place: &str) -> Result<std::result::Result<(), Obstacle>> {
    let (place, applied, present) = (place.to_owned(), applied(connection).await?, columns(connection).await?);
    let missing = missing(&present);
    Ok(match unknown(&applied) {
        Some(name) => Err(Obstacle::Newer { place, name: name.clone() }),
        None if present.is_empty() => Err(Obstacle::Missing { place }),
        None if !applied.is_empty() && applied.len() < MIGRATIONS.len() => Err(Obstacle::Older { place }),
        None if !missing.is_empty() => Err(Obstacle::OtherShape { place, missing }),
        None => match other_engine(connection).await? {
            Some(engine) => Err(Obstacle::OtherEngine { place, engine }),
            None => Ok(()),
        },
    })
}

/// A migration that this release does not know.
fn unknown(applied: &[String]) -> Option<&String> {
    applied.iter().find(|name| MIGRATIONS.iter().all(|known| known.name != name.as_str()))
}

/// Columns that a table should have and has not.
fn missing(present: &[String]) -> Vec<&'static str> {
    rows::COLUMNS.iter().copied().filter(|name| !present.iter().any(|have| have == name)).collect()
}

async fn run(connection: &mut Conn, applied: &[String], collation: &str, now_us: i64) -> Result<()> {
    let todo: Vec<_> =
        MIGRATIONS.iter().filter(|migration| !applied.iter().any(|done| done == migration.name)).collect();
    if todo.is_empty() {
        return Ok(());
    }
    connection
        .query_drop(
            "CREATE TABLE IF NOT EXISTS auditq_migrations (\
             name varchar(64) NOT NULL PRIMARY KEY, applied_at bigint NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
        )
        .await?;
    for migration in todo {
        let present = columns(connection).await?;
        let is_due = migration.adds.is_none_or(|column| !present.iter().any(|have| have == column));
        let statements = migration.sql.split(";\n").filter(|statement| is_due && !statement.trim().is_empty());
        for statement in statements {
            connection.query_drop(statement.replace("{collation}", collation)).await?;
        }
        let note = "INSERT INTO auditq_migrations (name, applied_at) VALUES (?, ?) \
                    ON DUPLICATE KEY UPDATE applied_at = VALUES(applied_at)";
        connection.exec_drop(note, (migration.name, now_us)).await?;
    }
    Ok(())
}

/// The store's migrations that were applied; the table is shared with the queue's.
async fn applied(connection: &mut Conn) -> Result<Vec<String>> {
    let table = "SELECT 1 FROM information_schema.tables \
                 WHERE table_schema = database() AND table_name = 'auditq_migrations'";
    if connection.query_first::<i64, _>(table).await?.is_none() {
        return Ok(Vec::new());
    }
    connection.query("SELECT name FROM auditq_migrations WHERE name LIKE 'store %' ORDER BY name").await
}

async fn columns(connection: &mut Conn) -> Result<Vec<String>> {
    let sql = "SELECT column_name FROM information_schema.columns \
               WHERE table_schema = database() AND table_name = 'audit_sql_logs'";
    connection.query(sql).await
}

/// The table's engine, where it is one without transactions.
async fn other_engine(connection: &mut Conn) -> Result<Option<String>> {
    let sql = "SELECT engine FROM information_schema.tables \
               WHERE table_schema = database() AND table_name = 'audit_sql_logs'";
    let engine = connection.query_first::<Option<String>, _>(sql).await?.flatten();
    Ok(engine.filter(|engine| !engine.eq_ignore_ascii_case("InnoDB")))
}
