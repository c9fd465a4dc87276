use std::collections::BTreeSet;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::waiting::{as_i64, as_u64, bytes_of, remember_id, row_id, text};
use crate::identity::identity_of;
use crate::renewed::renewed;
use crate::{FailedFilter, FailedMessage, FailedPage, MessageId, QueueName, Receipt, Remainder};

/// Moves messages to the failed set; returns the receipts that were stale.
pub(super) fn bury(
    connection: &Connection,
    held: &[Remainder],
    reason: &str,
    connection_name: &str,
    now: i64,
) -> rusqlite::Result<Vec<Receipt>> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO failed_jobs (uuid, connection, queue, payload, exception, failed_at) \
         SELECT ?2, ?3, queue, coalesce(?4, payload), ?5, datetime(?6, 'unixepoch') FROM jobs WHERE id = ?1",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM jobs WHERE id = ?1")?;
    let mut stale = Vec::new();
    for remainder in held {
        let row = row_id(&remainder.receipt);
        let Some(id) = identify(connection, row, remainder.receipt.attempt)? else {
            stale.push(remainder.receipt.clone());
            continue;
        };
        let id = make_room(connection, row, id, remainder, connection_name)?;
        insert.execute(params![row, id, connection_name, remainder.payload.as_ref().map(text), reason, now])?;
        delete.execute([row])?;
    }
    Ok(stale)
}

/// The id of a held message: the one it was pushed with, or the `uuid` in a job of Laravel's, or a new one.
///
/// `None` when the receipt is stale.
fn identify(connection: &Connection, row: i64, attempt: u32) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached(
            "SELECT message_id, iif(message_id IS NULL, payload, NULL) \
             FROM jobs LEFT JOIN auditq_messages ON job_id = id \
             WHERE id = ?1 AND attempts = ?2 AND reserved_at IS NOT NULL",
        )?
        .query_row(params![row, attempt], |row| {
            if let ValueRef::Text(id) = row.get_ref(0)? {
                return Ok(String::from_utf8_lossy(id).into_owned());
            }
            let payload = row.get_ref(1)?.as_bytes().unwrap_or_default();
            Ok(identity_of(payload))
        })
        .optional()
}

/// Sees to it that `id` is free among the failed; the id is unique there, and nothing may be lost.
///
/// The same message that failed before is replaced; another one that bears the id keeps it, and this one gets a suffix.
fn make_room(
    connection: &Connection,
    row: i64,
    id: String,
    remainder: &Remainder,
    connection_name: &str,
) -> rusqlite::Result<String> {
    let same: Option<bool> = connection
        .prepare_cached(
            "SELECT connection = ?2 AND payload = coalesce(?3, (SELECT payload FROM jobs WHERE id = ?4)) \
             FROM failed_jobs WHERE uuid = ?1",
        )?
        .query_row(params![id, connection_name, remainder.payload.as_ref().map(text), row], |row| row.get(0))
        .optional()?;
    match same {
        None => Ok(id),
        Some(true) => {
            connection.prepare_cached("DELETE FROM failed_jobs WHERE uuid = ?1")?.execute([&id])?;
            Ok(id)
        }
        Some(false) => Ok(format!("{id}-{:08x}", fastrand::u32(..))),
    }
}

/// How many messages of a queue were given up.
pub(super) fn count(connection: &Connection, queue: &QueueName, connection_name: &str) -> rusqlite::Result<u64> {
    let failed = connection
        .prepare_cached("SELECT failed FROM auditq_failed_counts WHERE connection = ?1 AND queue = ?2")?
        .query_row([connection_name, queue.as_str()], |row| row.get(0))
        .optional()?;
    Ok(as_u64(failed.unwrap_or(0)))
}

/// The queues that hold messages, waiting or failed.
pub(super) fn queues(connection: &Connection, connection_name: &str) -> rusqlite::Result<Vec<QueueName>> {
    let mut statement = connection.prepare_cached(
        "SELECT queue FROM auditq_counts WHERE total > 0 \
         UNION SELECT queue FROM auditq_failed_counts WHERE connection = ?1 AND failed > 0 ORDER BY 1",
    )?;
    let names = statement.query_map([connection_name], |row| Ok(QueueName::from_engine(lossy(row, 0)?)))?;
    names.collect()
}

/// The queues whose messages were given up.
pub(super) fn queues_of_failed(connection: &Connection, connection_name: &str) -> rusqlite::Result<Vec<QueueName>> {
    let mut statement = connection
        .prepare_cached("SELECT queue FROM auditq_failed_counts WHERE connection = ?1 AND failed > 0 ORDER BY 1")?;
    let names = statement.query_map([connection_name], |row| Ok(QueueName::from_engine(lossy(row, 0)?)))?;
    names.collect()
}

/// The failed messages of connection `?1`, and of queue `?2` if one is wanted, by an index that keeps them in order.
fn from_failed(queue: Option<&QueueName>) -> &'static str {
    match queue {
        Some(_) => "FROM failed_jobs INDEXED BY auditq_failed_jobs_queue WHERE connection = ?1 AND queue = ?2",
        None => "FROM failed_jobs INDEXED BY auditq_failed_jobs_connection WHERE connection = ?1 AND ?2 IS NULL",
    }
}

/// Lists failed messages from the newest on, without reading their payloads.
pub(super) fn page(
    connection: &Connection,
    filter: &FailedFilter,
    before: i64,
    connection_name: &str,
) -> rusqlite::Result<FailedPage> {
    let columns = "SELECT id, uuid, queue, exception, unixepoch(failed_at), octet_length(payload)";
    let from = from_failed(filter.queue.as_ref());
    let sql = format!("{columns} {from} AND id < ?3 ORDER BY id DESC LIMIT ?4");
    let mut statement = connection.prepare_cached(&sql)?;
    // One more than a page, to know whether there is a next.
    let limit = as_i64(filter.limit.saturating_add(1));
    let queue = filter.queue.as_ref().map(QueueName::as_str);
    let mut rows = statement.query(params![connection_name, queue, before, limit])?;
    let mut page = FailedPage::default();
    let mut last = None;
    while let Some(row) = rows.next()? {
        if page.messages.len() == filter.limit {
            page.next = last;
            break;
        }
        last = Some(row.get::<_, i64>(0)?.to_string());
        page.messages.push(FailedMessage {
            id: MessageId::new(lossy(row, 1)?),
            queue: QueueName::from_engine(lossy(row, 2)?),
            reason: lossy(row, 3)?,
            failed_at: row.get_ref(4)?.as_i64().unwrap_or(0),
            payload_bytes: as_u64(row.get_ref(5)?.as_i64().unwrap_or(0)),
        });
    }
    Ok(page)
}

/// The payload of one failed message.
pub(super) fn payload(
    connection: &Connection,
    id: &MessageId,
    connection_name: &str,
) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT payload FROM failed_jobs WHERE uuid = ?1 AND connection = ?2")?
        .query_row([id.as_str(), connection_name], |row| Ok(bytes_of(row, 0)?.into()))
        .optional()
}

/// The rows of these failed messages, each once, in their order.
pub(super) fn rows_of(connection: &Connection, ids: &[MessageId], connection_name: &str) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM failed_jobs WHERE uuid = ?1 AND connection = ?2")?;
    let (mut rows, mut seen) = (Vec::new(), BTreeSet::new());
    for id in ids {
        let row = statement.query_row([id.as_str(), connection_name], |row| row.get::<_, i64>(0)).optional()?;
        rows.extend(row.filter(|row| seen.insert(*row)));
    }
    Ok(rows)
}

/// The newest failed message's row: what fails from now on is not among those that a person decided on.
pub(super) fn newest_row(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(id), 0) FROM failed_jobs", [], |row| row.get(0))
}

/// The rows of up to `limit` messages that failed by a time and are no newer than a row, oldest first.
pub(super) fn rows_matching(
    connection: &Connection,
    queue: Option<&QueueName>,
    (until, newest): (i64, i64),
    connection_name: &str,
    limit: usize,
) -> rusqlite::Result<Vec<i64>> {
    // A time that cannot be read is one of long ago, so that such rows can be retried and dropped too.
    let from = from_failed(queue);
    let sql = format!("SELECT id {from} AND coalesce(unixepoch(failed_at), 0) <= ?3 AND id <= ?4 ORDER BY id LIMIT ?5");
    let mut statement = connection.prepare_cached(&sql)?;
    let queue = queue.map(QueueName::as_str);
    let rows = statement.query_map(params![connection_name, queue, until, newest, as_i64(limit)], |row| row.get(0))?;
    rows.collect()
}

/// Puts failed messages back into their queues as if they were new; returns how many.
pub(super) fn put_back(connection: &Connection, rows: &[i64], now: i64) -> rusqlite::Result<usize> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO jobs (queue, payload, attempts, reserved_at, available_at, created_at) \
         SELECT queue, payload, 0, NULL, ?2, ?2 FROM failed_jobs WHERE id = ?1",
    )?;
    let mut id_of = connection.prepare_cached("SELECT uuid FROM failed_jobs WHERE id = ?1")?;
    for row in rows {
        renew(connection, *row, now)?;
        let id = id_of.query_row([row], |row| lossy(row, 0))?;
        insert.execute([*row, now])?;
        remember_id(connection, &id)?;
    }
    remove(connection, rows)
}

/// Takes a time out of a job by which it must have been done, when that has passed.
fn renew(connection: &Connection, row: i64, now: i64) -> rusqlite::Result<()> {
    let sql = "SELECT payload FROM failed_jobs WHERE id = ?1 AND (payload LIKE '%\"retryUntil\":%' \
               AND payload NOT LIKE '%\"retryUntil\":null%' OR payload LIKE '%\"timeoutAt\":%')";
    let payload = connection.prepare_cached(sql)?.query_row([row], |row| bytes_of(row, 0)).optional()?;
    if let Some(payload) = payload.and_then(|payload| renewed(&payload, now)) {
        let sql = "UPDATE failed_jobs SET payload = ?2 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![row, text(&payload.into())])?;
    }
    Ok(())
}

/// Drops failed messages; returns how many.
pub(super) fn remove(connection: &Connection, rows: &[i64]) -> rusqlite::Result<usize> {
    let mut delete = connection.prepare_cached("DELETE FROM failed_jobs WHERE id = ?1")?;
    rows.iter().try_fold(0, |removed, row| Ok(removed + delete.execute([row])?))
}

/// A column as text, whatever the one who wrote it put there.
pub(super) fn lossy(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(&bytes_of(row, column)?).into_owned())
}
