use std::collections::{BTreeSet, HashMap};

use auditq_postgres::tokio_postgres::Row;
use auditq_postgres::tokio_postgres::types::{ToSql, Type};
use auditq_postgres::{Conn, Worked};

use super::waiting::{as_i64, as_u64, rows_of, stale, text};
use crate::identity::identity_of;
use crate::renewed::renewed;
use crate::{FailedFilter, FailedMessage, FailedPage, MessageId, QueueName, Receipt, Remainder};

/// Moves messages to the failed set; returns the receipts that were stale.
pub(super) async fn bury(
    connection: &Conn,
    held: &[Remainder],
    reason: &str,
    connection_name: &str,
    now: i64,
) -> Worked<Vec<Receipt>> {
    let receipts = || held.iter().map(|remainder| &remainder.receipt);
    let (ids, attempts) = rows_of(receipts());
    // In the order of the receipts, which is that of the failed set.
    let lock = "SELECT jobs.id, jobs.attempts::integer, known.message_id, \
                CASE WHEN known.message_id IS NULL THEN jobs.payload END \
                FROM unnest($1, $2) WITH ORDINALITY AS held (id, attempt, place) \
                JOIN jobs ON jobs.id = held.id AND jobs.attempts = held.attempt AND jobs.reserved_at IS NOT NULL \
                LEFT JOIN auditq_messages AS known ON known.job_id = jobs.id \
                ORDER BY held.place FOR UPDATE OF jobs";
    let locked = connection.query_typed(lock, &[(&ids, Type::INT8_ARRAY), (&attempts, Type::INT4_ARRAY)]).await?;
    let mut payloads = HashMap::new();
    for remainder in held {
        let payload = remainder.payload.as_ref().map(|payload| text(payload));
        payloads.entry((remainder.receipt.id.as_str(), remainder.receipt.attempt)).or_insert(payload);
    }
    for row in &locked {
        let (job, attempt): (i64, i32) = (row.get(0), row.get(1));
        let id = row.get::<_, Option<String>>(2);
        let id = id.unwrap_or_else(|| identity_of(row.get::<_, Option<&str>>(3).unwrap_or_default().as_bytes()));
        let payload = payloads.get(&(job.to_string().as_str(), attempt.cast_unsigned())).copied().flatten();
        let id = make_room(connection, job, id, payload, connection_name).await?;
        let insert = "INSERT INTO failed_jobs (uuid, connection, queue, payload, exception, failed_at) \
                      SELECT $2, $3, queue, coalesce($4, payload), $5, to_timestamp($6) AT TIME ZONE 'UTC' \
                      FROM jobs WHERE id = $1";
        let values: [(&(dyn ToSql + Sync), Type); 6] = [
            (&job, Type::INT8),
            (&id, Type::TEXT),
            (&connection_name, Type::TEXT),
            (&payload, Type::TEXT),
            (&reason, Type::TEXT),
            (&now, Type::INT8),
        ];
        connection.execute_typed(insert, &values).await?;
    }
    let rows: Vec<i64> = locked.iter().map(|row| row.get(0)).collect();
    let delete =
        "WITH gone AS (DELETE FROM jobs WHERE id = ANY($1)) DELETE FROM auditq_messages WHERE job_id = ANY($1)";
    connection.execute_typed(delete, &[(&rows, Type::INT8_ARRAY)]).await?;
    Ok(stale(receipts(), &locked))
}

/// Sees to it that `id` is free among the failed; the id is unique there, and nothing may be lost.
///
/// The same message that failed before is replaced; another one that bears the id keeps it, and this one gets a suffix.
async fn make_room(
    connection: &Conn,
    job: i64,
    id: String,
    payload: Option<&str>,
    connection_name: &str,
) -> Worked<String> {
    let same = "SELECT connection = $1 AND payload = coalesce($2, (SELECT payload FROM jobs WHERE id = $3)) \
                FROM failed_jobs WHERE uuid = $4 FOR UPDATE";
    let values: [(&(dyn ToSql + Sync), Type); 4] =
        [(&connection_name, Type::TEXT), (&payload, Type::TEXT), (&job, Type::INT8), (&id, Type::TEXT)];
    match connection.query_typed_opt(same, &values).await?.map(|row| row.get(0)) {
        None => Ok(id),
        Some(Some(true)) => {
            connection.execute_typed("DELETE FROM failed_jobs WHERE uuid = $1", &[(&id, Type::TEXT)]).await?;
            Ok(id)
        }
        Some(_) => Ok(format!("{id}-{:08x}", fastrand::u32(..))),
    }
}

/// The queues that hold messages, waiting or failed.
pub(super) async fn queues(connection: &Conn, connection_name: &str) -> Worked<Vec<QueueName>> {
    // From one name to the next by the index: a DISTINCT would read all of it.
    let jobs = "WITH RECURSIVE names AS ( \
                    (SELECT queue::text FROM jobs ORDER BY queue LIMIT 1) UNION ALL \
                    SELECT (SELECT jobs.queue::text FROM jobs WHERE jobs.queue > names.queue ORDER BY jobs.queue LIMIT 1) \
                    FROM names WHERE names.queue IS NOT NULL \
                ) SELECT queue FROM names WHERE queue IS NOT NULL";
    let mut names: BTreeSet<QueueName> =
        connection.query_typed(jobs, &[]).await?.iter().map(|row| QueueName::from_engine(row.get(0))).collect();
    names.extend(queues_of_failed(connection, connection_name).await?);
    Ok(names.into_iter().collect())
}

/// The queues whose messages were given up.
pub(super) async fn queues_of_failed(connection: &Conn, connection_name: &str) -> Worked<Vec<QueueName>> {
    let failed = "WITH RECURSIVE names AS ( \
                      (SELECT queue::text FROM failed_jobs WHERE connection = $1 ORDER BY queue LIMIT 1) UNION ALL \
                      SELECT (SELECT failed.queue::text FROM failed_jobs AS failed WHERE failed.connection = $1 \
                              AND failed.queue > names.queue ORDER BY failed.queue LIMIT 1) \
                      FROM names WHERE names.queue IS NOT NULL \
                  ) SELECT queue FROM names WHERE queue IS NOT NULL";
    let failed = connection.query_typed(failed, &[(&connection_name, Type::TEXT)]).await?;
    Ok(failed.iter().map(|row| QueueName::from_engine(row.get(0))).collect())
}

/// Lists failed messages from the newest on, without reading their payloads.
pub(super) async fn page(
    connection: &Conn,
    filter: &FailedFilter,
    before: i64,
    connection_name: &str,
) -> Worked<FailedPage> {
    // As it stands there: on the wall of the application.
    let sql = "SELECT id, uuid::text, queue::text, exception, floor(extract(epoch FROM failed_at))::bigint, \
               octet_length(payload)::bigint FROM failed_jobs \
               WHERE connection = $1 AND ($2::text IS NULL OR queue = $2) AND id < $3 ORDER BY id DESC LIMIT $4";
    let queue = filter.queue.as_ref().map(QueueName::as_str);
    // One more than a page, to know whether there is a next.
    let values: [(&(dyn ToSql + Sync), Type); 4] = [
        (&connection_name, Type::TEXT),
        (&queue, Type::TEXT),
        (&before, Type::INT8),
        (&as_i64(filter.limit.saturating_add(1)), Type::INT8),
    ];
    let mut rows = connection.query_typed(sql, &values).await?;
    let more = rows.len() > filter.limit;
    rows.truncate(filter.limit);
    let next = rows.last().filter(|_| more).map(|row| row.get::<_, i64>(0).to_string());
    Ok(FailedPage { messages: rows.iter().map(failed_message).collect(), next })
}

fn failed_message(row: &Row) -> FailedMessage {
    FailedMessage {
        id: MessageId::new(row.get::<_, String>(1)),
        queue: QueueName::from_engine(row.get(2)),
        reason: row.get(3),
        failed_at: row.get(4),
        payload_bytes: as_u64(row.get(5)),
    }
}

/// The payload of one failed message.
pub(super) async fn payload(connection: &Conn, id: &MessageId, connection_name: &str) -> Worked<Option<Vec<u8>>> {
    let sql = "SELECT payload FROM failed_jobs WHERE uuid = $1 AND connection = $2";
    let row = connection.query_typed_opt(sql, &[(&id.as_str(), Type::TEXT), (&connection_name, Type::TEXT)]).await?;
    Ok(row.map(|row| row.get::<_, String>(0).into_bytes()))
}

/// The rows of these failed messages, each once, in their order, locked.
pub(super) async fn rows_named(connection: &Conn, ids: &[MessageId], connection_name: &str) -> Worked<Vec<i64>> {
    let sql = "SELECT failed.id FROM unnest($1) WITH ORDINALITY AS wanted (id, place) \
               JOIN failed_jobs AS failed ON failed.uuid = wanted.id AND failed.connection = $2 \
               ORDER BY wanted.place FOR UPDATE OF failed";
    let ids: Vec<&str> = ids.iter().map(MessageId::as_str).collect();
    let values: [(&(dyn ToSql + Sync), Type); 2] = [(&ids, Type::TEXT_ARRAY), (&connection_name, Type::TEXT)];
    let mut seen = BTreeSet::new();
    let rows = connection.query_typed(sql, &values).await?;
    Ok(rows.iter().map(|row| row.get(0)).filter(|row| seen.insert(*row)).collect())
}

/// The newest failed message's row: what fails from now on is not among those that a person decided on.
pub(super) async fn newest_row(connection: &Conn) -> Worked<i64> {
    Ok(connection.query_typed_one("SELECT coalesce(max(id), 0) FROM failed_jobs", &[]).await?.get(0))
}

/// The rows of up to `limit` messages that failed by a time and are no newer than a row, oldest first, locked.
pub(super) async fn rows_matching(
    connection: &Conn,
    queue: Option<&QueueName>,
    (until, newest): (i64, i64),
    connection_name: &str,
    limit: usize,
) -> Worked<Vec<i64>> {
    let sql = "SELECT id FROM failed_jobs WHERE connection = $1 AND ($2::text IS NULL OR queue = $2) \
               AND extract(epoch FROM failed_at) <= $3 AND id <= $4 ORDER BY id LIMIT $5 FOR UPDATE";
    let values: [(&(dyn ToSql + Sync), Type); 5] = [
        (&connection_name, Type::TEXT),
        (&queue.map(QueueName::as_str), Type::TEXT),
        (&until, Type::INT8),
        (&newest, Type::INT8),
        (&as_i64(limit), Type::INT8),
    ];
    let rows = connection.query_typed(sql, &values).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Puts failed messages back into their queues as if they were new; returns how many.
pub(super) async fn put_back(connection: &Conn, rows: &[i64], now: i64) -> Worked<usize> {
    renew(connection, rows, now).await?;
    let left_over = "DELETE FROM auditq_messages AS known USING failed_jobs AS failed \
                     WHERE failed.id = ANY($1) AND known.message_id = failed.uuid \
                     AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = known.job_id)";
    connection.execute_typed(left_over, &[(&rows, Type::INT8_ARRAY)]).await?;
    let back = "WITH back AS MATERIALIZED ( \
                    SELECT nextval(pg_get_serial_sequence('jobs', 'id')) AS job_id, chosen.* FROM ( \
                        SELECT failed.queue, failed.payload, failed.uuid \
                        FROM unnest($1) WITH ORDINALITY AS wanted (id, place) \
                        JOIN failed_jobs AS failed ON failed.id = wanted.id ORDER BY wanted.place \
                    ) AS chosen \
                ), added AS ( \
                    INSERT INTO jobs (id, queue, payload, attempts, reserved_at, available_at, created_at) \
                    SELECT job_id, queue, payload, 0, NULL, $2, $2 FROM back \
                ) \
                INSERT INTO auditq_messages (job_id, message_id) SELECT job_id, uuid FROM back \
                ON CONFLICT (message_id) DO NOTHING";
    connection.execute_typed(back, &[(&rows, Type::INT8_ARRAY), (&now, Type::INT8)]).await?;
    remove(connection, rows).await
}

/// Takes a time out of jobs by which they must have been done, where that has passed.
async fn renew(connection: &Conn, rows: &[i64], now: i64) -> Worked<()> {
    let timed = "SELECT id, payload FROM failed_jobs WHERE id = ANY($1) AND (payload LIKE '%\"retryUntil\":%' \
                 AND payload NOT LIKE '%\"retryUntil\":null%' OR payload LIKE '%\"timeoutAt\":%')";
    for row in connection.query_typed(timed, &[(&rows, Type::INT8_ARRAY)]).await? {
        let (id, payload): (i64, String) = (row.get(0), row.get(1));
        if let Some(payload) = renewed(payload.as_bytes(), now) {
            let values: [(&(dyn ToSql + Sync), Type); 2] = [(&id, Type::INT8), (&text(&payload), Type::TEXT)];
            connection.execute_typed("UPDATE failed_jobs SET payload = $2 WHERE id = $1", &values).await?;
        }
    }
    Ok(())
}

/// Drops failed messages; returns how many.
pub(super) async fn remove(connection: &Conn, rows: &[i64]) -> Worked<usize> {
    connection.execute_typed("DELETE FROM failed_jobs WHERE id = ANY($1)", &[(&rows, Type::INT8_ARRAY)]).await?;
    Ok(rows.len())
}
