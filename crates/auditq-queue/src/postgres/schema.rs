use auditq_postgres::tokio_postgres::types::Type;
use auditq_postgres::{Conn, Worked};

/// One migration at a time, in all processes.
pub(super) const LOCK: &str = "auditq queue";

/// The tables, as Laravel names and types them, and wider where a type of Laravel's is too narrow.
///
/// Payloads are not tried to be compressed, which ours are already. Dead rows are vacuumed soon: these tables live from
/// rows that come and go.
const TABLES: [(&str, &str); 5] = [
    (
        "jobs",
        "CREATE TABLE jobs (
    id bigserial PRIMARY KEY,
    queue varchar(255) NOT NULL,
    payload text NOT NULL,
    attempts integer NOT NULL,
    reserved_at bigint,
    available_at bigint NOT NULL,
    created_at bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE jobs ALTER COLUMN payload SET STORAGE EXTERNAL",
    ),
    (
        "failed_jobs",
        "CREATE TABLE failed_jobs (
    id bigserial PRIMARY KEY,
    uuid varchar(255) NOT NULL CONSTRAINT failed_jobs_uuid_unique UNIQUE,
    connection text NOT NULL,
    queue text NOT NULL,
    payload text NOT NULL,
    exception text NOT NULL,
    failed_at timestamp(0) NOT NULL DEFAULT CURRENT_TIMESTAMP
)",
    ),
    (
        "auditq_messages",
        "CREATE TABLE auditq_messages (
    job_id bigint PRIMARY KEY,
    message_id text NOT NULL CONSTRAINT auditq_messages_id UNIQUE
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05)",
    ),
    ("auditq_paused", "CREATE TABLE auditq_paused (queue text PRIMARY KEY)"),
    ("auditq_control", "CREATE TABLE auditq_control (name text PRIMARY KEY, value bigint NOT NULL)"),
];

/// What lets messages be found and counted without touching their payloads, on Laravel's own tables too.
const INDEXES: [(&str, &str, &str); 2] = [
    ("jobs", "auditq_jobs_ready", "queue, reserved_at, available_at, id"),
    ("failed_jobs", "auditq_failed_jobs_queue", "connection, queue, id"),
];

/// The columns that are written or read.
const COLUMNS: [(&str, &[&str]); 5] = [
    ("jobs", &["id", "queue", "payload", "attempts", "reserved_at", "available_at", "created_at"]),
    ("failed_jobs", &["id", "uuid", "connection", "queue", "payload", "exception", "failed_at"]),
    ("auditq_messages", &["job_id", "message_id"]),
    ("auditq_paused", &["queue"]),
    ("auditq_control", &["name", "value"]),
];

/// Makes what is missing; says what stands in the way when a table has another shape.
///
/// No triggers: whoever looks at the tables sees all that happens to them.
pub(super) async fn migrate(connection: &Conn) -> Worked<Option<String>> {
    migrate_some(connection, "").await
}

/// Makes what is missing of the failed set alone, for a queue that is elsewhere.
pub(super) async fn migrate_failed(connection: &Conn) -> Worked<Option<String>> {
    migrate_some(connection, "failed_jobs").await
}

/// The tables whose name begins so.
async fn migrate_some(connection: &Conn, which: &str) -> Worked<Option<String>> {
    for (table, sql) in TABLES.into_iter().filter(|(table, _)| table.starts_with(which)) {
        if columns(connection, table).await?.is_empty() {
            connection.batch_execute(sql).await?;
        }
    }
    if let Some(obstacle) = check(connection, which).await? {
        return Ok(Some(obstacle));
    }
    for (table, index, wanted) in INDEXES.into_iter().filter(|(table, ..)| table.starts_with(which)) {
        make_index(connection, table, index, wanted).await?;
    }
    Ok(None)
}

/// Asks first: `IF NOT EXISTS` would wait for every transaction that writes to the table, to find the index there.
async fn make_index(connection: &Conn, table: &str, index: &str, columns: &str) -> Worked<()> {
    let there = "SELECT to_regclass($1) IS NOT NULL";
    let there: bool = connection.query_typed_one(there, &[(&index, Type::TEXT)]).await?.try_get(0)?;
    if there {
        return Ok(());
    }
    Ok(connection.batch_execute(&format!("CREATE INDEX {index} ON {table} ({columns})")).await?)
}

/// Why the tables whose name begins so cannot be used as they are, if so. Changes nothing.
pub(super) async fn check(connection: &Conn, which: &str) -> Worked<Option<String>> {
    for (table, wanted) in COLUMNS.into_iter().filter(|(table, _)| table.starts_with(which)) {
        let found = columns(connection, table).await?;
        if found.is_empty() {
            return Ok(Some(format!("the table `{table}` is missing; run `auditq migrate`")));
        }
        if let Some(mismatch) = mismatch(table, wanted, &found) {
            return Ok(Some(mismatch));
        }
    }
    Ok(None)
}

/// The columns of a table, and whether each demands a value; none when there is no such table.
async fn columns(connection: &Conn, table: &str) -> Worked<Vec<(String, bool)>> {
    let sql = "SELECT attname::text, attnotnull AND NOT atthasdef AND attidentity = '' FROM pg_attribute \
               WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
    let rows = connection.query_typed(sql, &[(&table, Type::TEXT)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Why a table cannot be used, if so.
fn mismatch(table: &str, wanted: &[&str], found: &[(String, bool)]) -> Option<String> {
    let advice = "name another database, or rename that table and run `auditq migrate`";
    if let Some(missing) = wanted.iter().find(|name| !found.iter().any(|(column, _)| column == *name)) {
        return Some(format!("cannot use the table `{table}`: it has no column `{missing}`; {advice}"));
    }
    let (name, _) = found.iter().find(|(name, demands)| *demands && !wanted.contains(&name.as_str()))?;
    Some(format!("cannot use the table `{table}`: its column `{name}` demands a value and has no default; {advice}"))
}

/// The most that `attempts` holds: Laravel made it two bytes.
pub(super) async fn attempts_max(connection: &Conn) -> Worked<i32> {
    let sql = "SELECT atttypid = 'smallint'::regtype FROM pg_attribute \
               WHERE attrelid = to_regclass('jobs') AND attname = 'attempts'";
    let narrow = connection.query_typed_opt(sql, &[]).await?.is_some_and(|row| row.get(0));
    Ok(if narrow { i16::MAX.into() } else { i32::MAX })
}
