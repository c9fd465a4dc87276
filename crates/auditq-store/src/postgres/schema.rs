use auditq_postgres::tokio_postgres::types::Type;
use auditq_postgres::{Conn, Worked};

use super::{partitions, rows};

/// One migration at a time, in all processes.
pub(super) const LOCK: &str = "auditq store";

/// Forward only: a migration that was released is never changed, and a later one is added below it.
const MIGRATIONS: &[(&str, &str)] = &[("store 1", include_str!("0001_audit_sql_logs.sql"))];

/// Why a database cannot be migrated. It was left as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    #[error(
        "cannot use the table audit_sql_logs in {place}: it lacks the columns {}, so another program made it; rename \
         it (ALTER TABLE audit_sql_logs RENAME TO audit_sql_logs_old) or give auditq another database",
        missing.join(", ")
    )]
    OtherShape { place: String, missing: Vec<&'static str> },
    #[error(
        "cannot partition the table audit_sql_logs in {place}: it is there and not partitioned; leave store.partitions \
         out, or rename it (ALTER TABLE audit_sql_logs RENAME TO audit_sql_logs_old), migrate, and copy its rows"
    )]
    NotPartitioned { place: String },
    #[error(
        "cannot use {place}: a newer release of auditq made it (it has the migration {name:?}); install that release"
    )]
    Newer { place: String, name: String },
    #[error("the table audit_sql_logs is missing in {place}; run `auditq migrate`")]
    Missing { place: String },
    #[error("the table audit_sql_logs in {place} is that of an older release; run `auditq migrate`")]
    Older { place: String },
}

/// Brings the tables up to date, inside the caller's transaction.
///
/// The inner error says why it must not be done; nothing was changed then.
pub(super) async fn migrate(
    connection: &Conn,
    place: &str,
    monthly: bool,
    now_us: i64,
) -> Worked<std::result::Result<(), Obstacle>> {
    let place = || place.to_owned();
    let applied = applied(connection).await?;
    if let Some(name) = unknown(&applied) {
        return Ok(Err(Obstacle::Newer { place: place(), name: name.clone() }));
    }
    let present = columns(connection).await?;
    if present.is_empty() {
        // New, or renamed away to begin another: whatever was noted is no longer so. Indexes have no names of ours, because those
        // of the renamed one keep theirs.
        run(connection, &[], monthly, now_us).await?;
        return keep_up(connection).await.map(Ok);
    }
    let missing = missing(&present);
    let older = !applied.is_empty() && applied.len() < MIGRATIONS.len();
    if !missing.is_empty() && !older {
        return Ok(Err(Obstacle::OtherShape { place: place(), missing }));
    }
    let partitioned = partitions::is_partitioned(connection).await?;
    if monthly && !partitioned {
        return Ok(Err(Obstacle::NotPartitioned { place: place() }));
    }
    run(connection, &applied, partitioned, now_us).await?;
    keep_up(connection).await.map(Ok)
}

/// Says whether the table is up to date. Changes nothing.
pub(super) async fn check(connection: &Conn, place: &str, monthly: bool) -> Worked<std::result::Result<(), Obstacle>> {
    let (place, applied, present) = (place.to_owned(), applied(connection).await?, columns(connection).await?);
    let missing = missing(&present);
    Ok(match unknown(&applied) {
        Some(name) => Err(Obstacle::Newer { place, name: name.clone() }),
        None if present.is_empty() => Err(Obstacle::Missing { place }),
        None if !applied.is_empty() && applied.len() < MIGRATIONS.len() => Err(Obstacle::Older { place }),
        None if !missing.is_empty() => Err(Obstacle::OtherShape { place, missing }),
        None if monthly && !partitions::is_partitioned(connection).await? => Err(Obstacle::NotPartitioned { place }),
        None => Ok(()),
    })
}

/// A migration that this release does not know.
fn unknown(applied: &[String]) -> Option<&String> {
    applied.iter().find(|name| MIGRATIONS.iter().all(|(known, _)| known != name))
}

/// Columns that a table should have and has not.
fn missing(present: &[String]) -> Vec<&'static str> {
    rows::COLUMNS.iter().map(|(name, _)| *name).filter(|name| !present.iter().any(|have| have == name)).collect()
}

/// Makes partitions ahead, where there are any.
async fn keep_up(connection: &Conn) -> Worked<()> {
    if partitions::is_partitioned(connection).await? { partitions::create_ahead(connection).await } else { Ok(()) }
}

async fn run(connection: &Conn, applied: &[String], monthly: bool, now_us: i64) -> Worked<()> {
    let todo: Vec<_> = MIGRATIONS.iter().filter(|(name, _)| !applied.iter().any(|done| done == name)).collect();
    if todo.is_empty() {
        return Ok(());
    }
    connection
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS auditq_migrations (name text PRIMARY KEY, applied_at bigint NOT NULL)",
        )
        .await?;
    for (name, sql) in todo {
        connection.batch_execute(&partitions::fill_in(sql, monthly)).await?;
        let note = "INSERT INTO auditq_migrations (name, applied_at) VALUES ($1, $2) \
                    ON CONFLICT (name) DO UPDATE SET applied_at = excluded.applied_at";
        connection.execute_typed(note, &[(name, Type::TEXT), (&now_us, Type::INT8)]).await?;
    }
    Ok(())
}

/// The store's migrations that were applied; the table is shared with the queue's.
async fn applied(connection: &Conn) -> Worked<Vec<String>> {
    let table = "SELECT to_regclass('auditq_migrations') IS NOT NULL";
    if !connection.query_typed_one(table, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let sql = "SELECT name::text FROM auditq_migrations WHERE name LIKE 'store %' ORDER BY name";
    Ok(connection.query_typed(sql, &[]).await?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

async fn columns(connection: &Conn) -> Worked<Vec<String>> {
    let sql = "SELECT attname::text FROM pg_attribute \
               WHERE attrelid = to_regclass('audit_sql_logs') AND attnum > 0 AND NOT attisdropped";
    Ok(connection.query_typed(sql, &[]).await?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}
