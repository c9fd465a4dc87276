//! How messages are taken: found, locked and read in one transaction, which then reserves them or deletes them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Result, Row, Value};

use super::among::among;
use super::waiting::{cell, drop_rows, next_due, set};
use crate::heads::{Head, Search};
use crate::message::RESERVED_BYTES_MAX;
use crate::seconds::Time;
use crate::{QueueName, Receipt, Reserved};

/// How many messages one look finds at the most, however many are asked for.
const TAKEN_MAX: usize = 10_000;

/// How many payloads are read before their size is known.
const READ_FIRST: usize = 4;

/// Messages that nobody else can take before the transaction that locked them has ended.
#[derive(Debug)]
pub struct Locked {
    /// As they are once they are reserved.
    pub messages: Vec<Reserved>,
    /// Their rows, in the order of their numbers.
    rows: Vec<u64>,
    /// What found them.
    pub(super) search: Search,
    /// In how long there will be one, when there is none.
    pub(super) due: Option<Duration>,
    /// What had arrived before the look.
    pub(super) arrivals: u64,
    time: Time,
    attempts_max: u32,
}

impl Locked {
    /// Reserves them.
    ///
    /// # Errors
    /// As the server's; the caller must then undo its transaction.
    pub async fn reserve_in(&self, connection: &mut Conn) -> Result<()> {
        // `available_at` is that of the reservation, so that the index has lapsed ones in their order.
        // The attempts are bounded, because those of a row that others can write may be anything.
        let values = format!(
            "reserved_at = {0}, available_at = {0}, attempts = LEAST(GREATEST(attempts, 0), {1}) + 1",
            self.time.next,
            self.attempts_max - 1
        );
        set(connection, &self.rows, &values).await
    }

    /// Deletes them, without ever having reserved them.
    ///
    /// # Errors
    /// As the server's; the caller must then undo its transaction.
    pub async fn delete_in(&self, connection: &mut Conn) -> Result<()> {
        drop_rows(connection, &self.rows).await
    }
}

/// Locks up to `limit` messages of those queues that are not paused.
pub(super) async fn lock_next(
    connection: &mut Conn,
    queues: &[&QueueName],
    (limit, attempts_max): (usize, u32),
    mut search: Search,
    (time, arrivals): (Time, u64),
) -> Result<Locked> {
    let limit = limit.min(TAKEN_MAX);
    let (mut messages, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0);
    for queue in queues {
        let (began, room) = (Instant::now(), limit - messages.len());
        if room == 0 || bytes >= RESERVED_BYTES_MAX {
            break;
        }
        let head = search.heads.remove(queue).unwrap_or_default().at(time, began);
        let small = (RESERVED_BYTES_MAX - bytes) / room;
        let mut found = available(connection, (queue, attempts_max), (room, small), (head, time)).await?;
        let cost = began.elapsed();
        let ids: Vec<u64> = found.lapsed.iter().copied().chain(found.ready.iter().map(|row| row.id)).collect();
        let mut taken = 0;
        while taken < ids.len() && bytes < RESERVED_BYTES_MAX {
            let id = ids[taken];
            if !found.messages.contains_key(&id) {
                // As many as will fit if they are as large as those before.
                let step = (RESERVED_BYTES_MAX - bytes) / (bytes / messages.len().max(1)).max(1 << 10);
                let step = if messages.is_empty() { READ_FIRST } else { step.max(1) };
                let unread = ids[taken..].iter().copied().filter(|id| !found.messages.contains_key(id));
                let unread: Vec<u64> = unread.take(step).collect();
                found.messages.extend(read_rows(connection, &unread, queue, attempts_max).await?);
            }
            let Some(message) = found.messages.remove(&id) else { break };
            bytes += message.payload.len();
            messages.push(message);
            taken += 1;
        }
        rows.extend(&ids[..taken]);
        let (first, none_lapsed) = found.left(taken, room);
        search.heads.insert((*queue).clone(), head.moved_on(first, none_lapsed, time).paid(cost, time, Instant::now()));
    }
    rows.sort_unstable();
    let due = if rows.is_empty() { next_due(connection, queues, time).await? } else { None };
    let due = due.map(|due| time.until(due));
    Ok(Locked { messages, rows, search, due, arrivals, time, attempts_max })
}

/// Rows that can be taken, in their order.
struct Found {
    lapsed: Vec<u64>,
    ready: Vec<Ready>,
    /// Those that have been read, by their rows.
    messages: HashMap<u64, Reserved>,
}

/// A row that is ready.
struct Ready {
    id: u64,
    /// The second since which it has been available.
    since: i64,
}

impl Found {
    /// Since when the first ready one can have been available that is left when so many are taken where there was `room`
    /// for some, and whether no lapsed one is left.
    fn left(&self, taken: usize, room: usize) -> (i64, bool) {
        let Some(ready) = taken.checked_sub(self.lapsed.len()).filter(|_| self.lapsed.len() < room) else {
            return (i64::MIN, false);
        };
        let last = self.ready.last().filter(|_| taken == room);
        (self.ready.get(ready).or(last).map_or(i64::MAX, |row| row.since), true)
    }
}

/// The rows that can be taken, lapsed reservations first, locked. Those that others have locked are passed over. Of ready
/// ones the messages are read whose payloads have `small` bytes at the most.
async fn available(
    connection: &mut Conn,
    (queue, attempts_max): (&QueueName, u32),
    (limit, small): (usize, usize),
    (head, time): (Head, Time),
) -> Result<Found> {
    let mut found = Found { lapsed: Vec::new(), ready: Vec::new(), messages: HashMap::new() };
    if head.may_have_lapsed(time) {
        let rows = (queue.as_str(), head.lapsed_after, time.lapsed(), time.impossible(), limit as u64);
        found.lapsed = connection.exec(LAPSED, rows).await?;
    }
    if found.lapsed.len() < limit {
        let left = (limit - found.lapsed.len()) as u64;
        let ready = (small as u64, queue.as_str(), head.ready_from, time.now, left);
        for mut row in connection.exec::<Row, _, _>(READY, ready).await? {
            let since = cell(&mut row, 4).unwrap_or(i64::MIN);
            let is_read = !matches!(row.as_ref(3), Some(Value::NULL));
            let (id, message) = read(row, queue, attempts_max);
            found.ready.push(Ready { id, since });
            if is_read {
                found.messages.insert(id, message);
            }
        }
    }
    Ok(found)
}

// In the order of the index, so that no more rows are locked than are taken.
const LAPSED: &str = "SELECT id FROM jobs FORCE INDEX (auditq_jobs_ready) \
     WHERE queue = ? AND (reserved_at > ? AND reserved_at <= ? OR reserved_at > ?) \
     ORDER BY reserved_at, available_at, id LIMIT ? FOR UPDATE SKIP LOCKED";

const READY: &str = "SELECT id, attempts, created_at, IF(LENGTH(payload) <= ?, payload, NULL), available_at FROM jobs FORCE INDEX (auditq_jobs_ready) \
     WHERE queue = ? AND reserved_at IS NULL AND available_at >= ? AND available_at <= ? \
     ORDER BY available_at, id LIMIT ? FOR UPDATE SKIP LOCKED";

/// Reads locked rows as they will be once they are reserved.
async fn read_rows(
    connection: &mut Conn,
    ids: &[u64],
    queue: &QueueName,
    attempts_max: u32,
) -> Result<Vec<(u64, Reserved)>> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let mut found = Vec::with_capacity(ids.len());
    for some in among("id", &sorted) {
        let sql = format!("SELECT id, attempts, created_at, payload FROM jobs FORCE INDEX (PRIMARY) WHERE {some}");
        found.extend(connection.query::<Row, _>(sql).await?.into_iter().map(|row| read(row, queue, attempts_max)));
    }
    Ok(found)
}

fn read(mut row: Row, queue: &QueueName, attempts_max: u32) -> (u64, Reserved) {
    let id: u64 = cell(&mut row, 0).unwrap_or(0);
    let before: i64 = cell(&mut row, 1).unwrap_or(0);
    let attempts = u32::try_from(before.max(0)).unwrap_or(u32::MAX).min(attempts_max - 1) + 1;
    let message = Reserved {
        receipt: Receipt { id: id.to_string(), attempt: attempts },
        queue: queue.clone(),
        attempts,
        created_at: cell(&mut row, 2).unwrap_or(0),
        payload: cell::<Vec<u8>>(&mut row, 3).unwrap_or_default().into(),
    };
    (id, message)
}
