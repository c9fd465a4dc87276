use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::message::RESERVED_BYTES_MAX;
use crate::seconds::Time;
use crate::{Control, NewMessage, QueueName, QueueSizes, Receipt, Remainder, Reserved};

/// How many messages may have become available since that was noted before it is noted again.
pub(super) const RIPENED_MAX: u64 = 1_000;

/// How many messages one reservation looks for at the most, however many are asked for.
const TAKEN_MAX: usize = 10_000;

/// Adds the messages that are neither waiting nor failed already.
pub(super) fn add(
    connection: &Connection,
    batch: &[NewMessage],
    connection_name: &str,
    time: Time,
) -> rusqlite::Result<()> {
    for queue in batch.iter().map(|message| &message.queue).collect::<BTreeSet<_>>() {
        note_ripened(connection, queue, time.now)?;
    }
    for message in batch {
        let known: bool = connection
            .prepare_cached(
                "SELECT EXISTS(SELECT 1 FROM auditq_messages WHERE message_id = ?1) \
                 OR EXISTS(SELECT 1 FROM failed_jobs WHERE uuid = ?1 AND connection = ?2)",
            )?
            .query_row(params![message.id.as_str(), connection_name], |row| row.get(0))?;
        if known {
            continue;
        }
        connection
            .prepare_cached(
                "INSERT INTO jobs (queue, payload, attempts, reserved_at, available_at, created_at) \
                 VALUES (?1, ?2, 0, NULL, ?3, ?4)",
            )?
            .execute(params![
                message.queue.as_str(),
                text(&message.payload),
                time.after(message.delay, i64::MAX),
                time.now
            ])?;
        remember_id(connection, message.id.as_str())?;
    }
    Ok(())
}

/// Notes which message the row inserted last is, so that it is not added again.
pub(super) fn remember_id(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO auditq_messages (job_id, message_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![connection.last_insert_rowid(), id])
        .map(drop)
}

/// Reserves up to `limit` messages of those queues that are not paused.
pub(super) fn take(
    connection: &Connection,
    queues: &[QueueName],
    limit: usize,
    time: Time,
) -> rusqlite::Result<Vec<Reserved>> {
    let paused = paused(connection)?;
    let limit = limit.min(TAKEN_MAX);
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for queue in queues.iter().filter(|queue| !paused.contains(queue)) {
        for id in available(connection, queue, limit - taken.len(), time)? {
            if bytes >= RESERVED_BYTES_MAX {
                return Ok(taken);
            }
            let message = reserve_row(connection, id, queue, time)?;
            bytes += message.payload.len();
            taken.push(message);
        }
    }
    Ok(taken)
}

/// The rows that can be reserved, lapsed reservations first, from the index alone.
fn available(connection: &Connection, queue: &QueueName, limit: usize, time: Time) -> rusqlite::Result<Vec<i64>> {
    let mut lapsed = connection.prepare_cached(LAPSED)?;
    let rows = params![queue.as_str(), time.lapsed(), time.impossible(), as_i64(limit)];
    let mut ids: Vec<i64> = lapsed.query_map(rows, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut ready = connection.prepare_cached(READY)?;
    for id in ready.query_map(params![queue.as_str(), time.now, as_i64(limit - ids.len())], |row| row.get(0))? {
        ids.push(id?);
    }
    Ok(ids)
}

const LAPSED: &str = "SELECT id, reserved_at FROM jobs WHERE queue = ?1 AND reserved_at <= ?2 \
     UNION ALL SELECT id, reserved_at FROM jobs WHERE queue = ?1 AND reserved_at > ?3 \
     ORDER BY reserved_at, id LIMIT ?4";

const READY: &str = "SELECT id FROM jobs WHERE queue = ?1 AND reserved_at IS NULL AND available_at <= ?2 \
     ORDER BY available_at, id LIMIT ?3";

fn reserve_row(connection: &Connection, id: i64, queue: &QueueName, time: Time) -> rusqlite::Result<Reserved> {
    // `available_at` gives up the bytes that `reserved_at` takes: in a row that keeps its size SQLite writes only what
    // changed, and not its long payload again. No one reads it in a reserved row, and `give_back` sets it.
    // The attempts are bounded, because those of a row that others can write may be anything.
    let mut update = connection.prepare_cached(
        "UPDATE jobs SET reserved_at = ?2, available_at = 0, attempts = max(0, min(attempts, 4294967294)) + 1 \
         WHERE id = ?1 RETURNING attempts, created_at, payload",
    )?;
    update.query_row(params![id, time.next], |row| {
        let attempts = row.get(0)?;
        Ok(Reserved {
            receipt: Receipt { id: id.to_string(), attempt: attempts },
            queue: queue.clone(),
            attempts,
            created_at: row.get_ref(1)?.as_i64().unwrap_or(0),
            payload: bytes_of(row, 2)?,
        })
    })
}

/// When the first message of those queues that are not paused can be reserved, in one statement: by `now` where one
/// can be at once, `None` where there is none.
pub(super) fn first_due(connection: &Connection, queues: &[QueueName], time: Time) -> rusqlite::Result<Option<i64>> {
    let names: Vec<&str> = queues.iter().map(QueueName::as_str).collect();
    let names = serde_json::to_string(&names).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection
        .prepare_cached(FIRST_DUE)?
        .query_row(params![names, time.retry_after, time.impossible()], |row| row.get(0))
}

/// Each `min` and `max` is one look at an index.
const FIRST_DUE: &str = "\
    WITH asked AS (SELECT value AS name FROM json_each(?1) WHERE value NOT IN (SELECT queue FROM auditq_paused)) \
    SELECT min(due) FROM ( \
        SELECT (SELECT min(available_at) FROM jobs WHERE queue = name AND reserved_at IS NULL) AS due FROM asked \
        UNION ALL \
        SELECT (SELECT min(reserved_at) FROM jobs WHERE queue = name AND reserved_at IS NOT NULL) + ?2 FROM asked \
        UNION ALL \
        SELECT 0 FROM asked WHERE (SELECT max(reserved_at) FROM jobs WHERE queue = name AND reserved_at IS NOT NULL) > ?3 \
    )";

fn first_available(connection: &Connection, queue: &QueueName) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT min(available_at) FROM jobs WHERE queue = ?1 AND reserved_at IS NULL")?
        .query_row([queue.as_str()], |row| row.get(0))
}

fn first_reserved(connection: &Connection, queue: &QueueName) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT min(reserved_at) FROM jobs WHERE queue = ?1 AND reserved_at IS NOT NULL")?
        .query_row([queue.as_str()], |row| row.get(0))
}

/// Begins reservations anew; returns the receipts that were stale.
pub(super) fn hold_on(connection: &Connection, held: &[Receipt], time: Time) -> rusqlite::Result<Vec<Receipt>> {
    let mut update = connection.prepare_cached(
        "UPDATE jobs SET reserved_at = ?3 WHERE id = ?1 AND attempts = ?2 AND reserved_at IS NOT NULL",
    )?;
    stale(held, |receipt| update.execute(params![row_id(receipt), receipt.attempt, time.next]))
}

/// Deletes messages inside the caller's transaction; returns the receipts that were stale.
///
/// A store in the same file calls it to insert the rows of some messages and delete the messages in one step.
///
/// # Errors
/// As SQLite's; the caller must then undo its transaction.
pub fn delete_in(connection: &Connection, done: &[Receipt]) -> rusqlite::Result<Vec<Receipt>> {
    let mut delete =
        connection.prepare_cached("DELETE FROM jobs WHERE id = ?1 AND attempts = ?2 AND reserved_at IS NOT NULL")?;
    stale(done, |receipt| delete.execute(params![row_id(receipt), receipt.attempt]))
}

/// Makes messages available from `due` on; returns the receipts that were stale.
pub(super) fn give_back(connection: &Connection, held: &[Remainder], due: i64) -> rusqlite::Result<Vec<Receipt>> {
    let mut whole = connection.prepare_cached(
        "UPDATE jobs SET reserved_at = NULL, available_at = ?3 \
         WHERE id = ?1 AND attempts = ?2 AND reserved_at IS NOT NULL",
    )?;
    let mut less = connection.prepare_cached(
        "UPDATE jobs SET reserved_at = NULL, available_at = ?3, payload = ?4 \
         WHERE id = ?1 AND attempts = ?2 AND reserved_at IS NOT NULL",
    )?;
    let mut not_held = Vec::new();
    for Remainder { receipt, payload } in held {
        let (id, attempt) = (row_id(receipt), receipt.attempt);
        let changed = match payload {
            None => whole.execute(params![id, attempt, due])?,
            Some(payload) => less.execute(params![id, attempt, due, text(payload)])?,
        };
        if changed == 0 {
            not_held.push(receipt.clone());
        }
    }
    Ok(not_held)
}

/// Makes messages available from `due` on, as if they had not been reserved; returns the receipts that were stale.
pub(super) fn decline(connection: &Connection, held: &[Receipt], due: i64) -> rusqlite::Result<Vec<Receipt>> {
    let mut decline = connection.prepare_cached(
        "UPDATE jobs SET reserved_at = NULL, available_at = ?3, attempts = attempts - 1 \
         WHERE id = ?1 AND attempts = ?2 AND reserved_at IS NOT NULL",
    )?;
    stale(held, |receipt| decline.execute(params![row_id(receipt), receipt.attempt, due]))
}

/// Counts one queue's messages, and how many became available since that was last noted.
///
/// The triggers keep `delayed` as of the second `ripe_until`; what became due since, or is due again because the
/// clock was set back, is counted from the index.
pub(super) fn count(connection: &Connection, queue: &QueueName, time: Time) -> rusqlite::Result<(QueueSizes, u64)> {
    let kept = connection
        .prepare_cached("SELECT total, reserved, delayed, ripe_until FROM auditq_counts WHERE queue = ?1")?
        .query_row([queue.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let (total, reserved, delayed, ripe_until): (i64, i64, i64, i64) = kept.unwrap_or_default();
    let ripened = due_between(connection, queue, ripe_until, time.now)?;
    let delayed = delayed - ripened + due_between(connection, queue, time.now, ripe_until)?;
    let oldest = [
        first_available(connection, queue)?,
        first_reserved(connection, queue)?.map(|at| at.saturating_add(time.retry_after)),
    ];
    let age = |since: i64| u64::try_from(time.now.checked_sub(since)?).ok().map(Duration::from_secs);
    let sizes = QueueSizes {
        ready: as_u64(total - reserved - delayed),
        delayed: as_u64(delayed),
        reserved: as_u64(reserved),
        oldest: oldest.into_iter().flatten().filter_map(age).max(),
        ..QueueSizes::default()
    };
    Ok((sizes, as_u64(ripened)))
}

/// How many messages become available after the one second and not after the other.
fn due_between(connection: &Connection, queue: &QueueName, after: i64, until: i64) -> rusqlite::Result<i64> {
    if after >= until {
        return Ok(0);
    }
    connection.prepare_cached(DUE_BETWEEN)?.query_row(params![queue.as_str(), after, until], |row| row.get(0))
}

const DUE_BETWEEN: &str = "SELECT count(*) FROM jobs \
     WHERE queue = ?1 AND reserved_at IS NULL AND available_at > ?2 AND available_at <= ?3";

/// Takes what has become available out of the count of delayed messages: each message once, whoever pushed it.
pub(super) fn note_ripened(connection: &Connection, queue: &QueueName, now: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE auditq_counts SET ripe_until = ?2, delayed = delayed - (\
                 SELECT count(*) FROM jobs WHERE queue = ?1 AND reserved_at IS NULL \
                 AND available_at > auditq_counts.ripe_until AND available_at <= ?2) \
             WHERE queue = ?1 AND ripe_until < ?2",
        )?
        .execute(params![queue.as_str(), now])
        .map(drop)
}

/// Drops up to `limit` messages of a queue; returns how many.
pub(super) fn drop_some(connection: &Connection, queue: &QueueName, limit: usize) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE queue = ?1 LIMIT ?2)")?
        .execute(params![queue.as_str(), as_i64(limit)])
}

pub(super) fn pause(connection: &Connection, queue: &QueueName) -> rusqlite::Result<()> {
    connection
        .execute("INSERT INTO auditq_paused (queue) VALUES (?1) ON CONFLICT DO NOTHING", [queue.as_str()])
        .map(drop)
}

pub(super) fn resume(connection: &Connection, queue: &QueueName) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM auditq_paused WHERE queue = ?1", [queue.as_str()]).map(drop)
}

pub(super) fn ask_for_restart(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "INSERT INTO auditq_control (name, value) VALUES ('restart', 1) \
               ON CONFLICT (name) DO UPDATE SET value = value + 1";
    connection.execute(sql, []).map(drop)
}

pub(super) fn control(connection: &Connection) -> rusqlite::Result<Control> {
    let restart = connection
        .prepare_cached("SELECT value FROM auditq_control WHERE name = 'restart'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(Control { paused: paused(connection)?, restart: as_u64(restart.unwrap_or(0)) })
}

fn paused(connection: &Connection) -> rusqlite::Result<Vec<QueueName>> {
    let mut statement = connection.prepare_cached("SELECT queue FROM auditq_paused ORDER BY queue")?;
    let names = statement.query_map([], |row| Ok(QueueName::from_engine(row.get(0)?)))?;
    names.collect()
}

fn stale(
    receipts: &[Receipt],
    mut change: impl FnMut(&Receipt) -> rusqlite::Result<usize>,
) -> rusqlite::Result<Vec<Receipt>> {
    let mut stale = Vec::new();
    for receipt in receipts {
        if change(receipt)? == 0 {
            stale.push(receipt.clone());
        }
    }
    Ok(stale)
}

/// The row a receipt is for; none has an id under 1.
pub(super) fn row_id(receipt: &Receipt) -> i64 {
    receipt.id.parse().unwrap_or(-1)
}

/// A payload as a text value. It was checked to be UTF-8 when it came in.
pub(super) fn text(payload: &Bytes) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(payload))
}

/// A column's bytes, whatever type the one who wrote it gave it.
pub(super) fn bytes_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Bytes::copy_from_slice(bytes),
        ValueRef::Integer(number) => Bytes::from(number.to_string()),
        ValueRef::Real(number) => Bytes::from(number.to_string()),
        ValueRef::Null => Bytes::new(),
    })
}

pub(super) fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn as_u64(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
