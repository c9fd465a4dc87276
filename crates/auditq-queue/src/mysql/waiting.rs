use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use auditq_mysql::mysql_async::prelude::{FromValue, Queryable as _};
use auditq_mysql::mysql_async::{Conn, Params, Result, Row, Value};
use auditq_mysql::parts;
use bytes::Bytes;

use super::LAST_SECOND;
use super::among::{among, each_among};
use crate::seconds::Time;
use crate::{Control, MessageId, NewMessage, QueueName, Receipt, Remainder};

/// Adds the messages that are neither waiting nor failed already.
pub(super) async fn add(
    connection: &mut Conn,
    batch: &[NewMessage],
    (connection_name, packet): (&str, usize),
    time: Time,
) -> Result<()> {
    let known = known_of(connection, batch, connection_name).await?;
    let mut seen = HashSet::new();
    let new: Vec<&NewMessage> =
        batch.iter().filter(|message| !known.contains(&message.id) && seen.insert(&message.id)).collect();
    let step: u64 = connection.query_first("SELECT @@auto_increment_increment").await?.unwrap_or(1);
    let sizes: Vec<usize> = new.iter().map(|message| message.payload.len() + 1_100).collect();
    for part in parts(&sizes, 4, packet) {
        let messages = &new[part];
        let rows = vec!["(?, ?, 0, NULL, ?, ?)"; messages.len()].join(", ");
        let sql =
            format!("INSERT INTO jobs (queue, payload, attempts, reserved_at, available_at, created_at) VALUES {rows}");
        let values = messages.iter().flat_map(|message| {
            let payload = Value::Bytes(message.payload.to_vec());
            [message.queue.as_str().into(), payload, time.after(message.delay, LAST_SECOND).into(), time.now.into()]
        });
        connection.exec_drop(sql, Params::Positional(values.collect())).await?;
        // The numbers of one statement's rows follow each other.
        let first = connection.last_insert_id().unwrap_or(0);
        let rows = vec!["(?, ?)"; messages.len()].join(", ");
        let numbered = messages.iter().zip(0..);
        let values = numbered.flat_map(|(message, n)| [(first + n * step).into(), message.id.as_str().into()]);
        let sql = format!("INSERT INTO auditq_messages (job_id, message_id) VALUES {rows}");
        connection.exec_drop(sql, Params::Positional(values.collect())).await?;
    }
    Ok(())
}

/// Which messages of a batch are waiting or failed already.
///
/// Nobody tells us when Laravel removes a job, so an id may be left over; such are dropped here.
async fn known_of(connection: &mut Conn, batch: &[NewMessage], connection_name: &str) -> Result<HashSet<MessageId>> {
    let (mut known, mut left_over) = (HashSet::new(), Vec::new());
    let ids: Vec<&str> = batch.iter().map(|message| message.id.as_str()).collect();
    for part in parts(&vec![1; ids.len()], 1, usize::MAX) {
        let ids = &ids[part];
        let places = vec!["?"; ids.len()].join(", ");
        let waiting = format!(
            "SELECT known.message_id, known.job_id, jobs.id IS NOT NULL FROM auditq_messages AS known \
             LEFT JOIN jobs ON jobs.id = known.job_id WHERE known.message_id IN ({places})"
        );
        let values: Vec<Value> = ids.iter().map(Value::from).collect();
        for (id, job, waits) in
            connection.exec::<(String, u64, bool), _, _>(waiting, Params::Positional(values.clone())).await?
        {
            if waits {
                known.insert(MessageId::new(id));
            } else {
                left_over.push(job);
            }
        }
        let failed = format!("SELECT uuid FROM failed_jobs WHERE uuid IN ({places}) AND connection = ?");
        let values = values.into_iter().chain([connection_name.into()]).collect();
        let failed: Vec<String> = connection.exec(failed, Params::Positional(values)).await?;
        known.extend(failed.into_iter().map(MessageId::new));
    }
    if !left_over.is_empty() {
        left_over.sort_unstable();
        for some in each_among("job_id", &left_over) {
            connection.query_drop(format!("DELETE FROM auditq_messages WHERE {some}")).await?;
        }
    }
    Ok(known)
}

/// Changes rows that are locked, in the order of their ids.
pub(super) async fn set(connection: &mut Conn, rows: &[u64], values: &str) -> Result<()> {
    for some in each_among("id", rows) {
        connection.query_drop(format!("UPDATE jobs FORCE INDEX (PRIMARY) SET {values} WHERE {some}")).await?;
    }
    Ok(())
}

/// A column's value, or nothing when it is of another type than it should be.
pub(super) fn cell<T: FromValue>(row: &mut Row, column: usize) -> Option<T> {
    row.take_opt(column)?.ok()
}

/// When the next message that nobody can reserve now becomes available by itself.
pub(super) async fn next_due(connection: &mut Conn, queues: &[&QueueName], time: Time) -> Result<Option<i64>> {
    let mut next: Option<i64> = None;
    for queue in queues {
        let lapses = first_reserved(connection, queue).await?.map(|at| at.saturating_add(time.retry_after));
        for due in [first_available(connection, queue).await?, lapses].into_iter().flatten() {
            next = Some(next.map_or(due, |next| next.min(due)));
        }
    }
    Ok(next.filter(|due| *due > time.now))
}

pub(super) async fn first_available(connection: &mut Conn, queue: &QueueName) -> Result<Option<i64>> {
    let sql = "SELECT available_at FROM jobs FORCE INDEX (auditq_jobs_ready) \
               WHERE queue = ? AND reserved_at IS NULL ORDER BY available_at LIMIT 1";
    connection.exec_first(sql, (queue.as_str(),)).await
}

pub(super) async fn first_reserved(connection: &mut Conn, queue: &QueueName) -> Result<Option<i64>> {
    let sql = "SELECT reserved_at FROM jobs FORCE INDEX (auditq_jobs_ready) \
               WHERE queue = ? AND reserved_at IS NOT NULL ORDER BY reserved_at LIMIT 1";
    connection.exec_first(sql, (queue.as_str(),)).await
}

/// Locks the rows of those receipts that are not stale, in the order of their ids; each receipt counts once.
///
/// Returns the places in `receipts` of the good ones with their rows, and the stale ones.
pub(super) async fn lock<'r>(
    connection: &mut Conn,
    receipts: impl Iterator<Item = &'r Receipt> + Clone + Send,
) -> Result<(Vec<(usize, u64)>, Vec<Receipt>)> {
    let ids: BTreeSet<u64> = receipts.clone().filter_map(row_id).collect();
    let ids: Vec<u64> = ids.into_iter().collect();
    let mut held = HashMap::with_capacity(ids.len());
    for some in among("id", &ids) {
        let sql = "SELECT id, attempts FROM jobs FORCE INDEX (PRIMARY) WHERE";
        let sql = format!("{sql} {some} AND reserved_at IS NOT NULL ORDER BY id FOR UPDATE");
        held.extend(connection.query::<(u64, i64), _>(sql).await?);
    }
    let (mut good, mut stale) = (Vec::new(), Vec::new());
    for (place, receipt) in receipts.enumerate() {
        let row = row_id(receipt).filter(|row| held.get(row) == Some(&i64::from(receipt.attempt)));
        match row {
            Some(row) => {
                held.remove(&row);
                good.push((place, row));
            }
            None => stale.push(receipt.clone()),
        }
    }
    Ok((good, stale))
}

/// Begins reservations anew; returns the receipts that were stale.
pub(super) async fn hold_on(connection: &mut Conn, held: &[Receipt], time: Time) -> Result<Vec<Receipt>> {
    // A reservation may be extended any number of times; each is locked once.
    let unique: BTreeSet<&Receipt> = held.iter().collect();
    let (good, stale) = lock(connection, unique.iter().copied()).await?;
    set(connection, &sorted(&good), &format!("reserved_at = {0}, available_at = {0}", time.next)).await?;
    Ok(held.iter().filter(|receipt| stale.contains(receipt)).cloned().collect())
}

/// Deletes messages inside the caller's transaction; returns the receipts that were stale.
///
/// A store in the same database calls it to insert the rows of some messages and delete the messages in one step.
///
/// # Errors
/// As the server's; the caller must then undo its transaction.
pub async fn delete_in(connection: &mut Conn, done: &[Receipt]) -> Result<Vec<Receipt>> {
    if delete_all_in(connection, done).await? {
        return Ok(Vec::new());
    }
    let (good, stale) = lock(connection, done.iter()).await?;
    drop_rows(connection, &sorted(&good)).await?;
    Ok(stale)
}

/// Deletes messages if none of the receipts is stale, and else leaves them all: most often they need not be looked at first.
async fn delete_all_in(connection: &mut Conn, done: &[Receipt]) -> Result<bool> {
    let Some(first) = done.first() else { return Ok(true) };
    let unique: BTreeSet<u64> = done.iter().filter_map(row_id).collect();
    if unique.len() < done.len() || done.iter().any(|receipt| receipt.attempt != first.attempt) {
        return Ok(false);
    }
    let rows: Vec<u64> = unique.into_iter().collect();
    connection.query_drop("SAVEPOINT auditq_delete").await?;
    let mut deleted = 0;
    for some in each_among("id", &rows) {
        let sql = format!("DELETE FROM jobs WHERE attempts = {} AND reserved_at IS NOT NULL AND {some}", first.attempt);
        connection.query_drop(sql).await?;
        deleted += connection.affected_rows();
    }
    if deleted < rows.len() as u64 {
        connection.query_drop("ROLLBACK TO SAVEPOINT auditq_delete").await?;
        return Ok(false);
    }
    drop_ids(connection, &rows).await?;
    Ok(true)
}

/// Removes rows that are locked.
pub(super) async fn drop_rows(connection: &mut Conn, rows: &[u64]) -> Result<()> {
    for some in each_among("id", rows) {
        connection.query_drop(format!("DELETE FROM jobs WHERE {some}")).await?;
    }
    drop_ids(connection, rows).await
}

/// Forgets under which ids rows were pushed.
async fn drop_ids(connection: &mut Conn, rows: &[u64]) -> Result<()> {
    for some in each_among("job_id", rows) {
        connection.query_drop(format!("DELETE FROM auditq_messages WHERE {some}")).await?;
    }
    Ok(())
}

/// Makes messages available from `due` on; returns the receipts that were stale.
pub(super) async fn give_back(connection: &mut Conn, held: &[Remainder], due: i64) -> Result<Vec<Receipt>> {
    let (good, stale) = lock(connection, held.iter().map(|remainder| &remainder.receipt)).await?;
    set(connection, &sorted(&good), &format!("reserved_at = NULL, available_at = {due}")).await?;
    for (place, row) in good {
        if let Some(payload) = &held[place].payload {
            connection.exec_drop("UPDATE jobs SET payload = ? WHERE id = ?", (payload.to_vec(), row)).await?;
        }
    }
    Ok(stale)
}

/// Makes messages available from `due` on, as if they had not been reserved; returns the receipts that were stale.
pub(super) async fn decline(connection: &mut Conn, held: &[Receipt], due: i64) -> Result<Vec<Receipt>> {
    let (good, stale) = lock(connection, held.iter()).await?;
    let values = format!("reserved_at = NULL, available_at = {due}, attempts = attempts - 1");
    set(connection, &sorted(&good), &values).await?;
    Ok(stale)
}

/// Drops up to `limit` messages of a queue; returns how many.
pub(super) async fn drop_some(connection: &mut Conn, queue: &QueueName, limit: usize) -> Result<usize> {
    let sql = "SELECT id FROM jobs WHERE queue = ? LIMIT ? FOR UPDATE";
    let mut rows: Vec<u64> = connection.exec(sql, (queue.as_str(), limit as u64)).await?;
    rows.sort_unstable();
    drop_rows(connection, &rows).await?;
    Ok(rows.len())
}

pub(super) async fn pause(connection: &mut Conn, queue: &QueueName) -> Result<()> {
    let sql = "INSERT INTO auditq_paused (queue) VALUES (?) ON DUPLICATE KEY UPDATE queue = queue";
    connection.exec_drop(sql, (queue.as_str(),)).await
}

pub(super) async fn resume(connection: &mut Conn, queue: &QueueName) -> Result<()> {
    connection.exec_drop("DELETE FROM auditq_paused WHERE queue = ?", (queue.as_str(),)).await
}

pub(super) async fn ask_for_restart(connection: &mut Conn) -> Result<()> {
    let sql = "INSERT INTO auditq_control (name, value) VALUES ('restart', 1) \
               ON DUPLICATE KEY UPDATE value = value + 1";
    connection.query_drop(sql).await
}

pub(super) async fn control(connection: &mut Conn) -> Result<Control> {
    let restart = connection.query_first("SELECT value FROM auditq_control WHERE name = 'restart'").await?;
    let paused: Vec<String> = connection.query("SELECT queue FROM auditq_paused ORDER BY queue").await?;
    let paused = paused.into_iter().map(QueueName::from_engine).collect();
    Ok(Control { paused, restart: restart.unwrap_or(0) })
}

/// The server's time since 1970, and the queues that nothing is to be taken from: one question.
pub(super) async fn time_and_paused(connection: &mut Conn) -> Result<(Duration, Vec<QueueName>)> {
    let sql = "SELECT CAST(unix_timestamp(now(6)) * 1000000 AS SIGNED), paused.queue \
               FROM (SELECT 1) AS one LEFT JOIN auditq_paused AS paused ON TRUE";
    let rows: Vec<(u64, Option<String>)> = connection.query(sql).await?;
    let now = Duration::from_micros(rows.first().map_or(0, |row| row.0));
    Ok((now, rows.into_iter().filter_map(|row| row.1).map(QueueName::from_engine).collect()))
}

fn sorted(good: &[(usize, u64)]) -> Vec<u64> {
    let mut rows: Vec<u64> = good.iter().map(|(_, row)| *row).collect();
    rows.sort_unstable();
    rows
}

/// The row a receipt is for, if it is one of this driver's.
fn row_id(receipt: &Receipt) -> Option<u64> {
    receipt.id.parse().ok()
}

/// A payload as a value; it was checked to be UTF-8 when it came in.
pub(super) fn text(payload: Option<&Bytes>) -> Value {
    payload.map_or(Value::NULL, |payload| Value::Bytes(payload.to_vec()))
}
