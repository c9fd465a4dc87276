use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Result};

/// One migration at a time, in all processes.
pub(super) const LOCK: &str = "auditq queue ";

/// The tables, as Laravel names and types them. `attempts` is wider, because a worker that crashes often fills its byte.
const TABLES: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS jobs (
    id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
    queue varchar(255) NOT NULL,
    payload longtext NOT NULL,
    attempts int unsigned NOT NULL,
    reserved_at int unsigned NULL,
    available_at int unsigned NOT NULL,
    created_at int unsigned NOT NULL
)",
    "CREATE TABLE IF NOT EXISTS failed_jobs (
    id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
    uuid varchar(255) NOT NULL,
    connection varchar(255) NOT NULL,
    queue varchar(255) NOT NULL,
    payload longtext NOT NULL,
    exception longtext NOT NULL,
    failed_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    UNIQUE KEY failed_jobs_uuid_unique (uuid)
)",
    "CREATE TABLE IF NOT EXISTS auditq_messages (
    job_id bigint unsigned NOT NULL PRIMARY KEY,
    message_id varchar(255) NOT NULL,
    UNIQUE KEY auditq_messages_id (message_id)
)",
    "CREATE TABLE IF NOT EXISTS auditq_paused (queue varchar(255) NOT NULL PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS auditq_control (name varchar(64) NOT NULL PRIMARY KEY, value bigint NOT NULL)",
];

/// What lets messages be found and counted without touching their payloads, on Laravel's own tables too.
const INDEXES: [(&str, &str, &[&str]); 3] = [
    ("jobs", "auditq_jobs_ready", &["queue", "reserved_at", "available_at"]),
    ("failed_jobs", "auditq_failed_jobs_connection", &["connection"]),
    ("failed_jobs", "auditq_failed_jobs_queue", &["connection", "queue"]),
];

/// The columns that are written or read.
const COLUMNS: [(&str, &[&str]); 5] = [
    ("jobs", &["id", "queue", "payload", "attempts", "reserved_at", "available_at", "created_at"]),
    ("failed_jobs", &["id", "uuid", "connection", "queue", "payload", "exception", "failed_at"]),
    ("auditq_messages", &["job_id", "message_id"]),
    ("auditq_paused", &["queue"]),
    ("auditq_control", &["name", "value"]),
];

/// A column as the server describes it.
struct Column {
    name: String,
    kind: String,
    demands: bool,
}

/// Makes what is missing; says what stands in the way when a table has another shape.
///
/// No triggers: with a binary log they take a right that few users have.
pub(super) async fn migrate(connection: &mut Conn, collation: &str) -> Result<Option<String>> {
    migrate_some(connection, collation, "").await
}

/// Makes what is missing of the failed set alone, for a queue that is elsewhere.
pub(super) async fn migrate_failed(connection: &mut Conn, collation: &str) -> Result<Option<String>> {
    migrate_some(connection, collation, "failed_jobs").await
}

/// The tables whose name begins so.
async fn migrate_some(connection: &mut Conn, collation: &str, which: &str) -> Result<Option<String>> {
    let begins = format!("CREATE TABLE IF NOT EXISTS {which}");
    for table in TABLES.iter().filter(|sql| sql.starts_with(&begins)) {
        let options = format!("ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation}");
        connection.query_drop(format!("{table} {options}")).await?;
    }
    if let Some(obstacle) = check(connection, which).await? {
        return Ok(Some(obstacle));
    }
    for (table, index, wanted) in INDEXES.into_iter().filter(|(table, ..)| table.starts_with(which)) {
        make_index(connection, table, index, wanted).await?;
    }
    Ok(None)
}

/// Why the tables whose name begins so cannot be used as they are, if so. Changes nothing.
pub(super) async fn check(connection: &mut Conn, which: &str) -> Result<Option<String>> {
    for (table, wanted) in COLUMNS.into_iter().filter(|(table, _)| table.starts_with(which)) {
        let found = columns(connection, table).await?;
        if found.is_empty() {
            return Ok(Some(format!("the table `{table}` is missing; run `auditq migrate`")));
        }
        if let Some(mismatch) = mismatch(table, wanted, &found) {
            return Ok(Some(mismatch));
        }
        let engine = "SELECT engine FROM information_schema.tables \
                      WHERE table_schema = database() AND table_name = ?";
        let engine: Option<Option<String>> = connection.exec_first(engine, (table,)).await?;
        if let Some(engine) = engine.flatten().filter(|engine| !engine.eq_ignore_ascii_case("InnoDB")) {
            return Ok(Some(format!(
                "cannot use the table `{table}`: its engine is {engine}, which has no transactions; change it (ALTER \
                 TABLE {table} ENGINE=InnoDB)"
            )));
        }
    }
    Ok(None)
}

async fn make_index(connection: &mut Conn, table: &str, index: &str, wanted: &[&str]) -> Result<()> {
    let there = "SELECT 1 FROM information_schema.statistics \
                 WHERE table_schema = database() AND table_name = ? AND index_name = ? LIMIT 1";
    if connection.exec_first::<i64, _, _>(there, (table, index)).await?.is_some() {
        return Ok(());
    }
    let found = columns(connection, table).await?;
    let is_text = |name: &str| found.iter().any(|column| column.name == name && column.kind.ends_with("text"));
    // A long text can only be indexed by its beginning.
    let parts: Vec<_> =
        wanted.iter().map(|name| if is_text(name) { format!("{name}(100)") } else { (*name).to_owned() }).collect();
    connection.query_drop(format!("ALTER TABLE {table} ADD INDEX {index} ({})", parts.join(", "))).await
}

async fn columns(connection: &mut Conn, table: &str) -> Result<Vec<Column>> {
    let sql = "SELECT lower(column_name), lower(data_type), \
               is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%auto_increment%' \
               FROM information_schema.columns WHERE table_schema = database() AND table_name = ?";
    let found: Vec<(String, String, bool)> = connection.exec(sql, (table,)).await?;
    Ok(found.into_iter().map(|(name, kind, demands)| Column { name, kind, demands }).collect())
}

/// Why a table cannot be used, if so.
fn mismatch(table: &str, wanted: &[&str], found: &[Column]) -> Option<String> {
    let advice = "name another database, or rename that table and run `auditq migrate`";
    if let Some(missing) = wanted.iter().find(|name| !found.iter().any(|column| column.name == **name)) {
        return Some(format!("cannot use the table `{table}`: it has no column `{missing}`; {advice}"));
    }
    let demanding = found.iter().find(|column| column.demands && !wanted.contains(&column.name.as_str()))?;
    let name = &demanding.name;
    Some(format!("cannot use the table `{table}`: its column `{name}` demands a value and has no default; {advice}"))
}

/// The most that `attempts` holds: Laravel made it a byte, later two.
pub(super) async fn attempts_max(connection: &mut Conn) -> Result<u32> {
    let sql = "SELECT lower(column_type) FROM information_schema.columns \
               WHERE table_schema = database() AND table_name = 'jobs' AND column_name = 'attempts'";
    let kind: String = connection.query_first(sql).await?.unwrap_or_default();
    let signed: u32 = if kind.starts_with("tinyint") {
        i8::MAX.unsigned_abs().into()
    } else if kind.starts_with("smallint") {
        i16::MAX.unsigned_abs().into()
    } else if kind.starts_with("mediumint") {
        (1 << 23) - 1
    } else {
        i32::MAX.unsigned_abs()
    };
    Ok(if kind.contains("unsigned") { signed * 2 + 1 } else { signed })
}
