use rusqlite::{Connection, params};

use super::waiting::as_i64;

pub(super) const COUNTS_MISSING: &str =
    "cannot count messages: the triggers that keep count on `jobs` and `failed_jobs` are missing; run `auditq migrate`";

/// The tables, as Laravel names and types them.
///
/// `payload` stands last, because SQLite reads through a long value to reach the columns behind it.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS jobs (
    id integer primary key autoincrement not null,
    queue varchar not null,
    attempts integer not null,
    reserved_at integer,
    available_at integer not null,
    created_at integer not null,
    payload text not null
);
CREATE TABLE IF NOT EXISTS auditq_messages (
    job_id integer primary key not null,
    message_id text not null unique
);
CREATE TABLE IF NOT EXISTS auditq_counts (
    queue text primary key not null,
    total integer not null,
    reserved integer not null,
    delayed integer not null,
    ripe_until integer not null
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS auditq_paused (queue text primary key not null) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS auditq_control (name text primary key not null, value integer not null) WITHOUT ROWID;
";

/// Those of the failed set.
const FAILED_TABLES: &str = "
CREATE TABLE IF NOT EXISTS failed_jobs (
    id integer primary key autoincrement not null,
    uuid varchar not null,
    connection varchar not null,
    queue varchar not null,
    failed_at datetime not null default CURRENT_TIMESTAMP,
    exception text not null,
    payload text not null
);
CREATE TABLE IF NOT EXISTS auditq_failed_counts (
    connection text not null,
    queue text not null,
    failed integer not null,
    primary key (connection, queue)
) WITHOUT ROWID;
";

/// What lets messages be found and counted without touching their payloads, on Laravel's own tables too.
const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS auditq_jobs_ready ON jobs (queue, reserved_at, available_at);
";

const FAILED_INDEXES: &str = "
CREATE UNIQUE INDEX IF NOT EXISTS failed_jobs_uuid_unique ON failed_jobs (uuid);
CREATE INDEX IF NOT EXISTS auditq_failed_jobs_connection ON failed_jobs (connection);
CREATE INDEX IF NOT EXISTS auditq_failed_jobs_queue ON failed_jobs (connection, queue);
";

/// What keeps count of messages, whoever adds and removes them.
const TRIGGERS: [(&str, &str); 6] = [
    (
        "auditq_jobs_added",
        "CREATE TRIGGER auditq_jobs_added AFTER INSERT ON jobs BEGIN
    INSERT INTO auditq_counts (queue, total, reserved, delayed, ripe_until)
    VALUES (new.queue, 1, new.reserved_at IS NOT NULL, new.reserved_at IS NULL AND new.available_at > 0, 0)
    ON CONFLICT (queue) DO UPDATE SET total = total + 1, reserved = reserved + (new.reserved_at IS NOT NULL),
        delayed = delayed + (new.reserved_at IS NULL AND new.available_at > ripe_until);
END",
    ),
    (
        "auditq_jobs_removed",
        "CREATE TRIGGER auditq_jobs_removed AFTER DELETE ON jobs BEGIN
    UPDATE auditq_counts SET total = total - 1, reserved = reserved - (old.reserved_at IS NOT NULL),
        delayed = delayed - (old.reserved_at IS NULL AND old.available_at > ripe_until)
    WHERE queue = old.queue;
    DELETE FROM auditq_messages WHERE job_id = old.id;
END",
    ),
    (
        "auditq_jobs_changed",
        "CREATE TRIGGER auditq_jobs_changed AFTER UPDATE OF reserved_at, available_at ON jobs
WHEN new.queue = old.queue BEGIN
    UPDATE auditq_counts SET
        reserved = reserved - (old.reserved_at IS NOT NULL) + (new.reserved_at IS NOT NULL),
        delayed = delayed - (old.reserved_at IS NULL AND old.available_at > ripe_until)
            + (new.reserved_at IS NULL AND new.available_at > ripe_until)
    WHERE queue = new.queue;
END",
    ),
    (
        "auditq_jobs_moved",
        "CREATE TRIGGER auditq_jobs_moved AFTER UPDATE ON jobs WHEN new.queue <> old.queue BEGIN
    UPDATE auditq_counts SET total = total - 1, reserved = reserved - (old.reserved_at IS NOT NULL),
        delayed = delayed - (old.reserved_at IS NULL AND old.available_at > ripe_until)
    WHERE queue = old.queue;
    INSERT INTO auditq_counts (queue, total, reserved, delayed, ripe_until)
    VALUES (new.queue, 1, new.reserved_at IS NOT NULL, new.reserved_at IS NULL AND new.available_at > 0, 0)
    ON CONFLICT (queue) DO UPDATE SET total = total + 1, reserved = reserved + (new.reserved_at IS NOT NULL),
        delayed = delayed + (new.reserved_at IS NULL AND new.available_at > ripe_until);
END",
    ),
    (
        "auditq_failed_jobs_added",
        "CREATE TRIGGER auditq_failed_jobs_added AFTER INSERT ON failed_jobs BEGIN
    INSERT INTO auditq_failed_counts (connection, queue, failed) VALUES (new.connection, new.queue, 1)
    ON CONFLICT (connection, queue) DO UPDATE SET failed = failed + 1;
END",
    ),
    (
        "auditq_failed_jobs_removed",
        "CREATE TRIGGER auditq_failed_jobs_removed AFTER DELETE ON failed_jobs BEGIN
    UPDATE auditq_failed_counts SET failed = failed - 1 WHERE connection = old.connection AND queue = old.queue;
END",
    ),
];

/// The columns that are written or read.
const COLUMNS: [(&str, &[&str]); 7] = [
    ("jobs", &["id", "queue", "payload", "attempts", "reserved_at", "available_at", "created_at"]),
    ("failed_jobs", &["id", "uuid", "connection", "queue", "payload", "exception", "failed_at"]),
    ("auditq_messages", &["job_id", "message_id"]),
    ("auditq_counts", &["queue", "total", "reserved", "delayed", "ripe_until"]),
    ("auditq_failed_counts", &["connection", "queue", "failed"]),
    ("auditq_paused", &["queue"]),
    ("auditq_control", &["name", "value"]),
];

/// Makes what is missing; says what stands in the way when a table has another shape.
pub(super) fn migrate(connection: &Connection, now: i64) -> rusqlite::Result<Option<String>> {
    connection.execute_batch(TABLES)?;
    connection.execute_batch(FAILED_TABLES)?;
    for (table, columns) in COLUMNS {
        if let Some(mismatch) = mismatch(connection, table, columns)? {
            return Ok(Some(mismatch));
        }
    }
    connection.execute_batch(INDEXES)?;
    connection.execute_batch(FAILED_INDEXES)?;
    if !triggers_are_current(connection, &TRIGGERS)? {
        make_triggers(connection, &TRIGGERS)?;
        count_afresh(connection, now)?;
        count_failed_afresh(connection)?;
    }
    Ok(None)
}

/// Makes what is missing of the failed set alone, for a queue that is elsewhere.
pub(super) fn migrate_failed(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.execute_batch(FAILED_TABLES)?;
    for (table, columns) in COLUMNS.iter().filter(|(table, _)| table.contains("failed")) {
        if let Some(mismatch) = mismatch(connection, table, columns)? {
            return Ok(Some(mismatch));
        }
    }
    connection.execute_batch(FAILED_INDEXES)?;
    let triggers: Vec<_> = TRIGGERS.into_iter().filter(|(name, _)| name.contains("failed")).collect();
    if !triggers_are_current(connection, &triggers)? {
        make_triggers(connection, &triggers)?;
        count_failed_afresh(connection)?;
    }
    Ok(None)
}

/// Why the tables cannot be used as they are, if so. Changes nothing.
pub(super) fn check(connection: &Connection) -> rusqlite::Result<Option<String>> {
    check_some(connection, |_| true)
}

/// The same of the failed set alone.
pub(super) fn check_failed(connection: &Connection) -> rusqlite::Result<Option<String>> {
    check_some(connection, |name| name.contains("failed"))
}

fn check_some(connection: &Connection, wanted: impl Fn(&str) -> bool) -> rusqlite::Result<Option<String>> {
    for (table, columns) in COLUMNS.into_iter().filter(|(table, _)| wanted(table)) {
        let present = "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1)";
        if !connection.query_row(present, [table], |row| row.get(0))? {
            return Ok(Some(format!("the table `{table}` is missing; run `auditq migrate`")));
        }
        if let Some(mismatch) = mismatch(connection, table, columns)? {
            return Ok(Some(mismatch));
        }
    }
    let triggers: Vec<_> = TRIGGERS.into_iter().filter(|(name, _)| wanted(name)).collect();
    Ok((!triggers_are_current(connection, &triggers)?).then(|| COUNTS_MISSING.to_owned()))
}

/// Why a table cannot be used, if so.
fn mismatch(connection: &Connection, table: &str, columns: &[&str]) -> rusqlite::Result<Option<String>> {
    let mut statement =
        connection.prepare("SELECT name, \"notnull\" AND dflt_value IS NULL AND NOT pk FROM pragma_table_info(?1)")?;
    let found = statement.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let advice = "name another database, or rename that table and run `auditq migrate`";
    let is = |name: &str, column: &str| name.eq_ignore_ascii_case(column);
    if let Some(missing) = columns.iter().find(|column| !found.iter().any(|(name, _)| is(name, column))) {
        return Ok(Some(format!("cannot use the table `{table}`: it has no column `{missing}`; {advice}")));
    }
    let known = |name: &str| columns.iter().any(|column| is(name, column));
    let demanding = found.iter().find(|(name, demands)| *demands && !known(name));
    Ok(demanding.map(|(name, _)| {
        format!("cannot use the table `{table}`: its column `{name}` demands a value and has no default; {advice}")
    }))
}

/// True when the triggers are there; without them the counts are wrong.
pub(super) fn counts_are_kept(connection: &Connection) -> rusqlite::Result<bool> {
    let count: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name IN ('jobs', 'failed_jobs') \
             AND name GLOB 'auditq_*'",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(as_i64(TRIGGERS.len()) == count)
}

fn triggers_are_current(connection: &Connection, triggers: &[(&str, &str)]) -> rusqlite::Result<bool> {
    let mut statement = connection
        .prepare("SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name = ?1 AND sql = ?2)")?;
    for (name, sql) in triggers {
        if !statement.query_row([name, sql], |row| row.get(0))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn make_triggers(connection: &Connection, triggers: &[(&str, &str)]) -> rusqlite::Result<()> {
    for (name, sql) in triggers {
        connection.execute_batch(&format!("DROP TRIGGER IF EXISTS {name}; {sql}"))?;
    }
    Ok(())
}

fn count_afresh(connection: &Connection, now: i64) -> rusqlite::Result<()> {
    connection.execute_batch(
        "DELETE FROM auditq_counts; DELETE FROM auditq_messages WHERE job_id NOT IN (SELECT id FROM jobs);",
    )?;
    connection.execute(
        "INSERT INTO auditq_counts (queue, total, reserved, delayed, ripe_until)
         SELECT queue, count(*), count(reserved_at), sum(reserved_at IS NULL AND available_at > ?1), ?1
         FROM jobs GROUP BY queue",
        params![now],
    )?;
    Ok(())
}

fn count_failed_afresh(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "DELETE FROM auditq_failed_counts;
         INSERT INTO auditq_failed_counts (connection, queue, failed)
         SELECT connection, queue, count(*) FROM failed_jobs GROUP BY connection, queue",
    )
}
