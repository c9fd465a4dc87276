use std::collections::BTreeSet;

use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Params, Result, Row, Value};

use super::among::{among, each_among};
use super::waiting::{cell, drop_rows, lock, text};
use crate::identity::identity_of;
use crate::renewed::renewed;
use crate::{FailedFilter, FailedMessage, FailedPage, MessageId, QueueName, Receipt, Remainder};

/// A time on the application's wall, in seconds since 1970 there, as the application's session would store it. Where the
/// session's zone leaves out an hour it is the end of that hour, and no error.
pub(super) const ON_THE_WALL: &str = "from_unixtime(unix_timestamp(timestampadd(second, ?, '1970-01-01')))";

/// Moves messages to the failed set; returns the receipts that were stale.
pub(super) async fn bury(
    connection: &mut Conn,
    held: &[Remainder],
    reason: &str,
    connection_name: &str,
    now: i64,
) -> Result<Vec<Receipt>> {
    let (mut good, stale) = lock(connection, held.iter().map(|remainder| &remainder.receipt)).await?;
    for (place, row) in &good {
        let payload = text(held[*place].payload.as_ref());
        let id = identify(connection, *row).await?;
        let id = make_room(connection, *row, id, &payload, connection_name).await?;
        let insert = format!(
            "INSERT INTO failed_jobs (uuid, connection, queue, payload, exception, failed_at) \
             SELECT ?, ?, queue, coalesce(?, payload), ?, {ON_THE_WALL} FROM jobs WHERE id = ?"
        );
        connection.exec_drop(insert, (id, connection_name, payload, reason, now, *row)).await?;
    }
    good.sort_unstable_by_key(|(_, row)| *row);
    let rows: Vec<u64> = good.into_iter().map(|(_, row)| row).collect();
    drop_rows(connection, &rows).await?;
    Ok(stale)
}

/// The id of a held message: the one it was pushed with, or the `uuid` in a job of Laravel's, or a new one.
async fn identify(connection: &mut Conn, row: u64) -> Result<String> {
    let sql = "SELECT message_id FROM auditq_messages WHERE job_id = ?";
    if let Some(id) = connection.exec_first(sql, (row,)).await? {
        return Ok(id);
    }
    let payload: Option<Vec<u8>> = connection.exec_first("SELECT payload FROM jobs WHERE id = ?", (row,)).await?;
    Ok(identity_of(&payload.unwrap_or_default()))
}

/// Sees to it that `id` is free among the failed; the id is unique there, and nothing may be lost.
///
/// The same message that failed before is replaced; another one that bears the id keeps it, and this one gets a suffix.
async fn make_room(
    connection: &mut Conn,
    row: u64,
    id: String,
    payload: &Value,
    connection_name: &str,
) -> Result<String> {
    let same = "SELECT connection = ? AND payload = coalesce(?, (SELECT payload FROM jobs WHERE id = ?)) \
                FROM failed_jobs WHERE uuid = ? FOR UPDATE";
    let same: Option<bool> = connection.exec_first(same, (connection_name, payload, row, &id)).await?;
    match same {
        None => Ok(id),
        Some(true) => {
            connection.exec_drop("DELETE FROM failed_jobs WHERE uuid = ?", (&id,)).await?;
            Ok(id)
        }
        Some(false) => Ok(format!("{id}-{:08x}", fastrand::u32(..))),
    }
}

/// The queues that hold messages, waiting or failed.
pub(super) async fn queues(connection: &mut Conn, connection_name: &str) -> Result<Vec<QueueName>> {
    let waiting = "SELECT queue FROM jobs FORCE INDEX (auditq_jobs_ready) WHERE queue > ? ORDER BY queue LIMIT 1";
    let mut names = names(connection, waiting, None).await?;
    names.extend(queues_of_failed(connection, connection_name).await?);
    Ok(names.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
}

/// The queues whose messages were given up.
pub(super) async fn queues_of_failed(connection: &mut Conn, connection_name: &str) -> Result<Vec<QueueName>> {
    let failed = "SELECT queue FROM failed_jobs FORCE INDEX (auditq_failed_jobs_queue) \
                  WHERE connection = ? AND queue > ? ORDER BY queue LIMIT 1";
    names(connection, failed, Some(connection_name)).await
}

/// From one name to the next by the index: a DISTINCT would read all of it.
async fn names(connection: &mut Conn, next: &str, of: Option<&str>) -> Result<Vec<QueueName>> {
    let (mut names, mut last) = (Vec::new(), String::new());
    loop {
        let values: Vec<&str> = of.into_iter().chain([last.as_str()]).collect();
        let Some(name) = connection.exec_first::<String, _, _>(next, values).await? else { return Ok(names) };
        names.push(QueueName::from_engine(name.clone()));
        last = name;
    }
}

/// The failed messages of a connection, and of a queue if one is wanted: a condition and the values it needs.
fn of(queue: Option<&QueueName>, connection_name: &str) -> (&'static str, Vec<Value>) {
    match queue {
        Some(queue) => ("connection = ? AND queue = ?", vec![connection_name.into(), queue.as_str().into()]),
        None => ("connection = ?", vec![connection_name.into()]),
    }
}

/// Lists failed messages from the newest on, without reading their payloads.
pub(super) async fn page(
    connection: &mut Conn,
    filter: &FailedFilter,
    before: u64,
    connection_name: &str,
) -> Result<FailedPage> {
    let (condition, mut values) = of(filter.queue.as_ref(), connection_name);
    let sql = format!(
        "SELECT id, uuid, queue, exception, timestampdiff(second, '1970-01-01', failed_at), octet_length(payload) \
         FROM failed_jobs WHERE {condition} AND id < ? ORDER BY id DESC LIMIT ?"
    );
    // One more than a page, to know whether there is a next.
    values.extend([before.into(), (filter.limit.saturating_add(1) as u64).into()]);
    let mut page = FailedPage::default();
    let mut last = None;
    for mut row in connection.exec::<Row, _, _>(sql, Params::Positional(values)).await? {
        if page.messages.len() == filter.limit {
            page.next = last;
            break;
        }
        last = cell::<u64>(&mut row, 0).map(|id| id.to_string());
        page.messages.push(FailedMessage {
            id: MessageId::new(lossy(&mut row, 1)),
            queue: QueueName::from_engine(lossy(&mut row, 2)),
            reason: lossy(&mut row, 3),
            failed_at: cell(&mut row, 4).unwrap_or(0),
            payload_bytes: cell(&mut row, 5).unwrap_or(0),
        });
    }
    Ok(page)
}

/// The payload of one failed message.
pub(super) async fn payload(connection: &mut Conn, id: &MessageId, connection_name: &str) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT payload FROM failed_jobs WHERE uuid = ? AND connection = ?";
    connection.exec_first(sql, (id.as_str(), connection_name)).await
}

/// The rows of these failed messages, each once, in their order, locked.
pub(super) async fn rows_of(connection: &mut Conn, ids: &[MessageId], connection_name: &str) -> Result<Vec<u64>> {
    let sql = "SELECT id FROM failed_jobs WHERE uuid = ? AND connection = ? FOR UPDATE";
    let (mut rows, mut seen) = (Vec::new(), BTreeSet::new());
    for id in ids {
        let row: Option<u64> = connection.exec_first(sql, (id.as_str(), connection_name)).await?;
        rows.extend(row.filter(|row| seen.insert(*row)));
    }
    Ok(rows)
}

/// The newest failed message's row: what fails from now on is not among those that a person decided on.
pub(super) async fn newest_row(connection: &mut Conn) -> Result<u64> {
    Ok(connection.query_first("SELECT coalesce(max(id), 0) FROM failed_jobs").await?.unwrap_or(0))
}

/// The rows of up to `limit` messages that failed by a time and are no newer than a row, oldest first, locked.
pub(super) async fn rows_matching(
    connection: &mut Conn,
    queue: Option<&QueueName>,
    (until, newest): (i64, u64),
    connection_name: &str,
    limit: usize,
) -> Result<Vec<u64>> {
    let (condition, mut values) = of(queue, connection_name);
    let sql = format!(
        "SELECT id FROM failed_jobs WHERE {condition} AND coalesce(timestampdiff(second, '1970-01-01', failed_at), 0) <= ? AND id <= ? \
         ORDER BY id LIMIT ? FOR UPDATE"
    );
    values.extend([until.into(), newest.into(), (limit as u64).into()]);
    connection.exec(sql, Params::Positional(values)).await
}

/// Puts failed messages back into their queues as if they were new; returns how many.
pub(super) async fn put_back(connection: &mut Conn, rows: &[u64], now: i64) -> Result<usize> {
    renew(connection, rows, now).await?;
    for row in rows {
        let insert = "INSERT INTO jobs (queue, payload, attempts, reserved_at, available_at, created_at) \
                      SELECT queue, payload, 0, NULL, ?, ? FROM failed_jobs WHERE id = ?";
        connection.exec_drop(insert, (now, now, row)).await?;
        let job = connection.last_insert_id().unwrap_or(0);
        let left_over = "DELETE FROM auditq_messages WHERE message_id = (SELECT uuid FROM failed_jobs WHERE id = ?) \
                         AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = auditq_messages.job_id)";
        connection.exec_drop(left_over, (row,)).await?;
        let remember = "INSERT INTO auditq_messages (job_id, message_id) \
                        SELECT ?, uuid FROM failed_jobs WHERE id = ? ON DUPLICATE KEY UPDATE message_id = message_id";
        connection.exec_drop(remember, (job, row)).await?;
    }
    remove(connection, rows).await
}

/// Takes a time out of jobs by which they must have been done, where that has passed.
async fn renew(connection: &mut Conn, rows: &[u64], now: i64) -> Result<()> {
    // Some at a time, because they are read whole.
    for some in rows.chunks(100).flat_map(|rows| among("id", rows)) {
        let sql = format!(
            "SELECT id, payload FROM failed_jobs WHERE {some} AND (payload LIKE '%\"retryUntil\":%' \
             AND payload NOT LIKE '%\"retryUntil\":null%' OR payload LIKE '%\"timeoutAt\":%')"
        );
        for (row, payload) in connection.query::<(u64, Vec<u8>), _>(sql).await? {
            if let Some(payload) = renewed(&payload, now) {
                connection.exec_drop("UPDATE failed_jobs SET payload = ? WHERE id = ?", (payload, row)).await?;
            }
        }
    }
    Ok(())
}

/// Drops failed messages; returns how many.
pub(super) async fn remove(connection: &mut Conn, rows: &[u64]) -> Result<usize> {
    let mut removed = 0;
    for some in each_among("id", rows) {
        connection.query_drop(format!("DELETE FROM failed_jobs WHERE {some}")).await?;
        removed += connection.affected_rows();
    }
    Ok(usize::try_from(removed).unwrap_or(usize::MAX))
}

/// A column as text, whatever the one who wrote it put there.
fn lossy(row: &mut Row, column: usize) -> String {
    let bytes: Vec<u8> = cell(row, column).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
