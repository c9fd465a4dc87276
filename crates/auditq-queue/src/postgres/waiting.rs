use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use auditq_postgres::tokio_postgres::types::Type;
use auditq_postgres::tokio_postgres::{Row, types::ToSql};
use auditq_postgres::{Conn, Worked};
use bytes::Bytes;

use super::LAST_SECOND;
use crate::heads::Head;
use crate::message::RESERVED_BYTES_MAX;
use crate::seconds::Time;
use crate::{Control, NewMessage, QueueName, Receipt, Remainder, Reserved};

/// How many messages one reservation takes at the most, however many are asked for.
const TAKEN_MAX: usize = 1_000;

/// Seconds ahead in which a message that becomes available by itself is looked for.
const SOON: i64 = 3;

/// Adds the messages that are neither waiting nor failed already, in their order, each once.
pub(super) async fn add(connection: &Conn, batch: &[NewMessage], connection_name: &str, time: Time) -> Worked<()> {
    let mut seen = HashSet::new();
    let batch: Vec<&NewMessage> = batch.iter().filter(|message| seen.insert(&message.id)).collect();
    let ids: Vec<&str> = batch.iter().map(|message| message.id.as_str()).collect();
    let queues: Vec<&str> = batch.iter().map(|message| message.queue.as_str()).collect();
    let payloads: Vec<&str> = batch.iter().map(|message| text(&message.payload)).collect();
    let dues: Vec<i64> = batch.iter().map(|message| time.after(message.delay, LAST_SECOND)).collect();
    // Nobody tells us when Laravel removes a job, so an id may be left over.
    let left_over = "DELETE FROM auditq_messages AS known WHERE message_id = ANY($1) \
                     AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = known.job_id)";
    connection.execute_typed(left_over, &[(&ids, Type::TEXT_ARRAY)]).await?;
    let values: [(&(dyn ToSql + Sync), Type); 6] = [
        (&ids, Type::TEXT_ARRAY),
        (&queues, Type::TEXT_ARRAY),
        (&payloads, Type::TEXT_ARRAY),
        (&dues, Type::INT8_ARRAY),
        (&connection_name, Type::TEXT),
        (&time.now, Type::INT8),
    ];
    connection.execute_typed(ADD, &values).await?;
    Ok(())
}

const ADD: &str = "\
WITH new AS MATERIALIZED (
    SELECT nextval(pg_get_serial_sequence('jobs', 'id')) AS job_id, fresh.* FROM (
        SELECT given.* FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS given (id, queue, payload, due, place)
        WHERE NOT EXISTS (SELECT FROM auditq_messages AS known WHERE known.message_id = given.id)
        AND NOT EXISTS (SELECT FROM failed_jobs AS failed WHERE failed.uuid = given.id AND failed.connection = $5)
        ORDER BY given.place
    ) AS fresh
), added AS (
    INSERT INTO jobs (id, queue, payload, attempts, reserved_at, available_at, created_at)
    SELECT job_id, queue, payload, 0, NULL, due, $6 FROM new
)
INSERT INTO auditq_messages (job_id, message_id) SELECT job_id, id FROM new";

/// Reserves up to `limit` messages of one queue in one statement; says where the next search may begin.
pub(super) async fn take(
    connection: &Conn,
    queue: &QueueName,
    (limit, bytes): (usize, usize),
    attempts_max: i32,
    (head, time): (Head, Time),
) -> Worked<(Vec<Reserved>, Head)> {
    let limit = limit.min(TAKEN_MAX);
    let values: [(&(dyn ToSql + Sync), Type); 10] = [
        (&queue.as_str(), Type::TEXT),
        (&head.lapsed_after, Type::INT8),
        (&time.lapsed(), Type::INT8),
        (&time.impossible(), Type::INT8),
        (&head.ready_from, Type::INT8),
        (&time.now, Type::INT8),
        (&as_i64(limit), Type::INT8),
        (&as_i64(bytes), Type::INT8),
        (&time.next, Type::INT8),
        (&(attempts_max - 1), Type::INT4),
    ];
    let mut rows = connection.query_typed(TAKE, &values).await?;
    // The server gives changed rows in no order.
    rows.sort_by_key(|row| row.get::<_, Option<i32>>(4));
    let first = rows.iter().find(|row| row.get(5)).map(|row| row.get(6));
    // With nothing taken there is nothing; with no ready one taken, there may be some that did not fit.
    let first = first.unwrap_or(if rows.is_empty() { time.now } else { i64::MIN });
    let none_lapsed = rows.is_empty() || rows.last().is_some_and(|row| row.get(5));
    let next = head.moved_on(first, none_lapsed, time);
    Ok((rows.iter().map(|row| read(row, queue)).collect(), next))
}

/// Lapsed reservations first, and those that a clock which was set back has made; then what is ready.
///
/// Rows that others have locked are passed over. What is found beyond the limit or the bytes is only locked until the
/// end of the transaction. A reserved row's `available_at` is that of its reservation, so that the index has lapsed ones
/// in their order; ready ones are sorted by their `reserved_at` as well, which is NULL, because the planner knows the
/// index by its columns only. The rows are changed by their numbers in an array, which the planner always looks up one by one.
const TAKE: &str = "\
WITH lapsed AS MATERIALIZED (
    SELECT id, octet_length(payload) AS bytes, reserved_at::bigint, available_at::bigint FROM jobs
    WHERE queue = $1 AND jobs.reserved_at > $2 AND jobs.reserved_at <= $3
    ORDER BY jobs.reserved_at, jobs.available_at, id LIMIT $7 FOR UPDATE SKIP LOCKED
), ahead AS MATERIALIZED (
    SELECT id, octet_length(payload) AS bytes, reserved_at::bigint, available_at::bigint FROM jobs
    WHERE queue = $1 AND jobs.reserved_at > $4
    ORDER BY jobs.reserved_at, jobs.available_at, id LIMIT $7 FOR UPDATE SKIP LOCKED
), ready AS MATERIALIZED (
    SELECT id, octet_length(payload) AS bytes, NULL::bigint AS reserved_at, available_at::bigint FROM jobs
    WHERE queue = $1 AND jobs.reserved_at IS NULL AND jobs.available_at >= $5 AND jobs.available_at <= $6
    ORDER BY jobs.reserved_at, jobs.available_at, id LIMIT $7 FOR UPDATE SKIP LOCKED
), found AS (
    SELECT 0 AS class, lapsed.* FROM lapsed UNION ALL
    SELECT 1 AS class, ahead.* FROM ahead UNION ALL
    SELECT 2 AS class, ready.* FROM ready
), numbered AS (
    SELECT class, id, available_at, row_number() OVER sorted AS place, sum(bytes) OVER sorted - bytes AS before FROM found
    WINDOW sorted AS (ORDER BY class, reserved_at, available_at, id ROWS UNBOUNDED PRECEDING)
), chosen AS MATERIALIZED (
    SELECT array_agg(id ORDER BY place) AS ids, array_agg(id) FILTER (WHERE class = 2) AS ready,
        min(available_at) FILTER (WHERE class = 2) AS first
    FROM numbered WHERE place <= $7 AND before < $8
)
UPDATE jobs SET reserved_at = $9, available_at = $9, attempts = least(greatest(attempts, 0), $10) + 1
WHERE id = ANY ((SELECT ids FROM chosen)::bigint[])
RETURNING id, attempts::integer, created_at::bigint, payload, array_position((SELECT ids FROM chosen), id),
    id = ANY (coalesce((SELECT ready FROM chosen), '{}')::bigint[]), (SELECT first FROM chosen)";

fn read(row: &Row, queue: &QueueName) -> Reserved {
    let (id, attempts): (i64, i32) = (row.get(0), row.get(1));
    let attempts = u32::try_from(attempts).unwrap_or(1);
    Reserved {
        receipt: Receipt { id: id.to_string(), attempt: attempts },
        queue: queue.clone(),
        attempts,
        created_at: row.get(2),
        payload: Bytes::copy_from_slice(row.get::<_, &str>(3).as_bytes()),
    }
}

/// As [`take`], of several queues in their order.
pub(super) async fn take_all(
    connection: &Conn,
    queues: &[&QueueName],
    limit: usize,
    attempts_max: i32,
    (heads, time): (&mut HashMap<QueueName, Head>, Time),
) -> Worked<Vec<Reserved>> {
    let (mut taken, mut bytes): (Vec<Reserved>, usize) = (Vec::new(), 0);
    for queue in queues {
        let room = (limit - taken.len(), RESERVED_BYTES_MAX.saturating_sub(bytes));
        if room.0 == 0 || room.1 == 0 {
            break;
        }
        let began = Instant::now();
        let head = heads.remove(queue).unwrap_or_default().at(time, began);
        let (some, head) = take(connection, queue, room, attempts_max, (head, time)).await?;
        heads.insert((*queue).clone(), head.paid(began.elapsed(), time, Instant::now()));
        bytes += some.iter().map(|message| message.payload.len()).sum::<usize>();
        taken.extend(some);
    }
    Ok(taken)
}

/// When the next message that nobody can reserve now becomes available by itself, if that is soon.
///
/// Whoever waits looks again after a second anyway. To look further would be to read, while an old snapshot is held,
/// what is left of each reservation since.
pub(super) async fn next_due(connection: &Conn, queues: &[&QueueName], time: Time) -> Worked<Option<i64>> {
    let sql = "SELECT least( \
                   (SELECT available_at FROM jobs WHERE queue = name AND reserved_at IS NULL \
                    AND available_at > $2 AND available_at <= $2 + $5 ORDER BY reserved_at, available_at LIMIT 1), \
                   (SELECT reserved_at + $4 FROM jobs WHERE queue = name \
                    AND reserved_at > $3 AND reserved_at <= $3 + $5 ORDER BY reserved_at, available_at LIMIT 1) \
               )::bigint FROM unnest($1) AS name";
    let queues: Vec<&str> = queues.iter().map(|queue| queue.as_str()).collect();
    let values: [(&(dyn ToSql + Sync), Type); 5] = [
        (&queues, Type::TEXT_ARRAY),
        (&time.now, Type::INT8),
        (&time.lapsed(), Type::INT8),
        (&time.retry_after, Type::INT8),
        (&SOON, Type::INT8),
    ];
    let rows = connection.query_typed(sql, &values).await?;
    Ok(rows.iter().filter_map(|row| row.get::<_, Option<i64>>(0)).min())
}

/// The rows of receipts and their attempts, each once; receipts that are not this driver's are left out.
pub(super) fn rows_of<'r>(receipts: impl Iterator<Item = &'r Receipt>) -> (Vec<i64>, Vec<i32>) {
    let mut seen = HashSet::new();
    receipts.filter_map(row_of).filter(|row| seen.insert(*row)).unzip()
}

fn row_of(receipt: &Receipt) -> Option<(i64, i32)> {
    Some((receipt.id.parse().ok()?, receipt.attempt.try_into().ok()?))
}

/// The receipts for which nothing was changed; each of the changed rows makes up for one receipt.
pub(super) fn stale<'r>(receipts: impl Iterator<Item = &'r Receipt>, changed: &[Row]) -> Vec<Receipt> {
    let mut changed: HashSet<(i64, i32)> = changed.iter().map(|row| (row.get(0), row.get(1))).collect();
    receipts.filter(|receipt| !row_of(receipt).is_some_and(|row| changed.remove(&row))).cloned().collect()
}

/// Begins reservations anew; returns the receipts that were stale.
pub(super) async fn hold_on(connection: &Conn, held: &[Receipt], time: Time) -> Worked<Vec<Receipt>> {
    let sql = "UPDATE jobs SET reserved_at = $3, available_at = $3 FROM unnest($1, $2) AS held (id, attempt) \
               WHERE jobs.id = held.id AND jobs.attempts = held.attempt AND jobs.reserved_at IS NOT NULL \
               RETURNING jobs.id, jobs.attempts::integer";
    let (ids, attempts) = rows_of(held.iter());
    let values: [(&(dyn ToSql + Sync), Type); 3] =
        [(&ids, Type::INT8_ARRAY), (&attempts, Type::INT4_ARRAY), (&time.next, Type::INT8)];
    let changed = connection.query_typed(sql, &values).await?;
    let changed: HashSet<(i64, i32)> = changed.iter().map(|row| (row.get(0), row.get(1))).collect();
    // A reservation may be extended any number of times.
    Ok(held.iter().filter(|receipt| !row_of(receipt).is_some_and(|row| changed.contains(&row))).cloned().collect())
}

/// Deletes messages inside the caller's transaction; returns the receipts that were stale.
///
/// A store in the same database calls it to insert the rows of some messages and delete the messages in one step.
///
/// # Errors
/// As the server's; the caller must then undo its transaction.
pub async fn delete_in(connection: &Conn, done: &[Receipt]) -> Worked<Vec<Receipt>> {
    let sql = "WITH gone AS ( \
                   DELETE FROM jobs USING unnest($1, $2) AS done (id, attempt) \
                   WHERE jobs.id = done.id AND jobs.attempts = done.attempt AND jobs.reserved_at IS NOT NULL \
                   RETURNING jobs.id, jobs.attempts::integer AS attempts \
               ), forgotten AS (DELETE FROM auditq_messages USING gone WHERE job_id = gone.id) \
               SELECT id, attempts FROM gone";
    let (ids, attempts) = rows_of(done.iter());
    let changed = connection.query_typed(sql, &[(&ids, Type::INT8_ARRAY), (&attempts, Type::INT4_ARRAY)]).await?;
    Ok(stale(done.iter(), &changed))
}

/// Makes messages available from `due` on; returns the receipts that were stale.
pub(super) async fn give_back(connection: &Conn, held: &[Remainder], due: i64) -> Worked<Vec<Receipt>> {
    let sql = "UPDATE jobs SET reserved_at = NULL, available_at = $4, payload = coalesce(held.payload, jobs.payload) \
               FROM unnest($1, $2, $3) AS held (id, attempt, payload) \
               WHERE jobs.id = held.id AND jobs.attempts = held.attempt AND jobs.reserved_at IS NOT NULL \
               RETURNING jobs.id, jobs.attempts::integer";
    let receipts = || held.iter().map(|remainder| &remainder.receipt);
    let (ids, attempts) = rows_of(receipts());
    // Of a receipt that is given twice, the first one counts.
    let mut payloads = HashMap::new();
    for remainder in held {
        if let Some((id, attempt)) = row_of(&remainder.receipt) {
            payloads.entry((id, attempt)).or_insert(remainder.payload.as_ref().map(|payload| text(payload)));
        }
    }
    let payloads: Vec<Option<&str>> =
        ids.iter().zip(&attempts).map(|(id, attempt)| payloads.get(&(*id, *attempt)).copied().flatten()).collect();
    let values: [(&(dyn ToSql + Sync), Type); 4] =
        [(&ids, Type::INT8_ARRAY), (&attempts, Type::INT4_ARRAY), (&payloads, Type::TEXT_ARRAY), (&due, Type::INT8)];
    let changed = connection.query_typed(sql, &values).await?;
    Ok(stale(receipts(), &changed))
}

/// Makes messages available from `due` on, as if they had not been reserved; returns the receipts that were stale.
pub(super) async fn decline(connection: &Conn, held: &[Receipt], due: i64) -> Worked<Vec<Receipt>> {
    let sql = "UPDATE jobs SET reserved_at = NULL, available_at = $3, attempts = jobs.attempts - 1 \
               FROM unnest($1, $2) AS held (id, attempt) \
               WHERE jobs.id = held.id AND jobs.attempts = held.attempt AND jobs.reserved_at IS NOT NULL \
               RETURNING jobs.id, held.attempt";
    let (ids, attempts) = rows_of(held.iter());
    let values: [(&(dyn ToSql + Sync), Type); 3] =
        [(&ids, Type::INT8_ARRAY), (&attempts, Type::INT4_ARRAY), (&due, Type::INT8)];
    let changed = connection.query_typed(sql, &values).await?;
    Ok(stale(held.iter(), &changed))
}

/// Drops up to `limit` messages of a queue; returns how many.
pub(super) async fn drop_some(connection: &Conn, queue: &QueueName, limit: usize) -> Worked<u64> {
    let sql = "WITH gone AS ( \
                   DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM jobs WHERE queue = $1 LIMIT $2 FOR UPDATE)) \
                   RETURNING id \
               ), forgotten AS (DELETE FROM auditq_messages USING gone WHERE job_id = gone.id) \
               SELECT count(*) FROM gone";
    let values: [(&(dyn ToSql + Sync), Type); 2] = [(&queue.as_str(), Type::TEXT), (&as_i64(limit), Type::INT8)];
    let row = connection.query_typed_one(sql, &values).await?;
    Ok(as_u64(row.get(0)))
}

pub(super) async fn pause(connection: &Conn, queue: &QueueName) -> Worked<()> {
    let sql = "INSERT INTO auditq_paused (queue) VALUES ($1) ON CONFLICT (queue) DO NOTHING";
    connection.execute_typed(sql, &[(&queue.as_str(), Type::TEXT)]).await?;
    Ok(())
}

pub(super) async fn resume(connection: &Conn, queue: &QueueName) -> Worked<()> {
    connection.execute_typed("DELETE FROM auditq_paused WHERE queue = $1", &[(&queue.as_str(), Type::TEXT)]).await?;
    Ok(())
}

pub(super) async fn ask_for_restart(connection: &Conn) -> Worked<()> {
    let sql = "INSERT INTO auditq_control AS known (name, value) VALUES ('restart', 1) \
               ON CONFLICT (name) DO UPDATE SET value = known.value + 1";
    connection.execute_typed(sql, &[]).await?;
    Ok(())
}

pub(super) async fn control(connection: &Conn) -> Worked<Control> {
    let sql = "SELECT coalesce((SELECT value FROM auditq_control WHERE name = 'restart'), 0), \
               coalesce((SELECT array_agg(queue ORDER BY queue COLLATE \"C\") FROM auditq_paused), '{}')";
    let row = connection.query_typed_one(sql, &[]).await?;
    Ok(Control { paused: names(&row, 1), restart: as_u64(row.get(0)) })
}

/// The server's time since 1970, and the queues that nothing is to be taken from: one question.
///
/// For the rest of the transaction it keeps the planner to the indexes. These tables are never what its statistics say:
/// a queue that was empty when they were gathered holds millions now, or the other way round.
pub(super) async fn time_and_paused(connection: &Conn) -> Worked<(Duration, Vec<QueueName>)> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
               coalesce((SELECT array_agg(queue) FROM auditq_paused), '{}'), \
               set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), \
               set_config('jit', 'off', true)";
    let row = connection.query_typed_one(sql, &[]).await?;
    Ok((Duration::from_micros(as_u64(row.get(0))), names(&row, 1)))
}

fn names(row: &Row, column: usize) -> Vec<QueueName> {
    row.get::<_, Vec<String>>(column).into_iter().map(QueueName::from_engine).collect()
}

/// A payload as text, which it was checked to be when it came in.
pub(super) fn text(payload: &[u8]) -> &str {
    std::str::from_utf8(payload).unwrap_or_default()
}

pub(super) fn as_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn as_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
