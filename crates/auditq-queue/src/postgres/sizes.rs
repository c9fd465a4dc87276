//! How many messages are where: counted while they are few, estimated when they are many.

use std::time::{Duration, Instant};

use auditq_postgres::tokio_postgres::types::{ToSql, Type};
use auditq_postgres::{Conn, Worked};

use super::waiting::as_u64;
use crate::heads::MARGIN;
use crate::seconds::Time;
use crate::{QueueName, QueueSizes};

/// Up to here messages are counted one by one, which takes milliseconds; beyond, the server estimates.
const COUNTED_MAX: u64 = 20_000;

/// How many pages an estimate looks at: enough for a few per cent, few enough for milliseconds.
const SAMPLED_PAGES: f64 = 400.0;

/// A count that takes longer, among so many dead rows, begins later the next time.
const SLOW: Duration = Duration::from_millis(50);

type Value<'v> = (&'v (dyn ToSql + Sync), Type);

/// Where the next count of a queue may begin, because to begin before it was slow: while some session holds an old
/// snapshot, what is left of messages that are long gone stands there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    until: Instant,
    counted: i64,
    ready_from: i64,
    reserved_from: i64,
}

impl Beginning {
    /// After a count that took as long as `cost` and found these to be the oldest; `None` where nothing is in its way.
    pub(super) async fn after(
        connection: &Conn,
        cost: Duration,
        oldest: [Option<i64>; 2],
        time: Time,
    ) -> Worked<Option<Self>> {
        if cost < SLOW || dead_rows(connection).await? < COUNTED_MAX {
            return Ok(None);
        }
        let from = |at: Option<i64>| at.map_or(time.now, |at| at.min(time.now)).saturating_sub(MARGIN);
        let until = Instant::now() + (cost * 50).min(Duration::from_secs(60));
        let [ready_from, reserved_from] = oldest.map(from);
        Ok(Some(Self { until, counted: time.now, ready_from, reserved_from }))
    }

    /// Itself, while it is good.
    pub(super) fn at(self, time: Time) -> Option<Self> {
        (Instant::now() < self.until && self.counted <= time.now).then_some(self)
    }
}

/// Counts one queue's messages; says when the oldest that is ready became so and when the oldest reservation began.
pub(super) async fn count(
    connection: &Conn,
    queue: &QueueName,
    connection_name: &str,
    (beginning, time): (Option<Beginning>, Time),
) -> Worked<(QueueSizes, [Option<i64>; 2])> {
    let queue_name = queue.as_str();
    let (ready_from, reserved_from) =
        beginning.map_or((i64::MIN, i64::MIN), |beginning| (beginning.ready_from, beginning.reserved_from));
    let name: [Value<'_>; 1] = [(&queue_name, Type::TEXT)];
    let from: [Value<'_>; 2] = [(&queue_name, Type::TEXT), (&reserved_from, Type::INT8)];
    let times: [Value<'_>; 3] = [(&queue_name, Type::TEXT), (&ready_from, Type::INT8), (&time.now, Type::INT8)];
    let jobs = async |condition: &str, values: &[Value<'_>]| {
        counted(connection, &format!("FROM jobs WHERE {condition}"), values).await
    };
    let is_ready = "queue = $1 AND reserved_at IS NULL AND available_at >= $2 AND available_at <= $3";
    let ready = jobs(is_ready, &times).await?;
    let delayed =
        jobs("queue = $1 AND reserved_at IS NULL AND available_at > $2", &[times[0].clone(), times[2].clone()]).await?;
    let reserved = jobs("queue = $1 AND reserved_at >= $2", &from).await?;
    let (failed, failed_estimated) = count_failed(connection, queue, connection_name).await?;
    let estimated = beginning.is_some() || failed_estimated || [ready, delayed, reserved].contains(&None);
    let mut parts = [ready, delayed, reserved, Some(0), Some(0)];
    if parts.contains(&None) {
        // What is not this queue's: seldom anything.
        parts[3] = jobs("queue < $1 ORDER BY queue", &name).await?;
        parts[4] = jobs("queue > $1 ORDER BY queue", &name).await?;
        share_out(&mut parts, sampled(connection, "jobs").await?);
    }
    let firsts = [
        first(connection, "available_at", "reserved_at IS NULL AND available_at >= $2", &times[..2]).await?,
        first(connection, "reserved_at", "reserved_at >= $2", &from).await?,
    ];
    let lapsed = firsts[1].map(|at| at.saturating_add(time.retry_after));
    let age = |since: i64| u64::try_from(time.now.checked_sub(since)?).ok().map(Duration::from_secs);
    let oldest = [firsts[0], lapsed].into_iter().flatten().filter_map(age).max();
    let [ready, delayed, reserved, ..] = parts.map(|part| part.unwrap_or(0));
    Ok((QueueSizes { ready, delayed, reserved, failed, oldest, estimated }, firsts))
}

/// How many messages of a queue were given up, and whether that is an estimate.
pub(super) async fn count_failed(connection: &Conn, queue: &QueueName, connection_name: &str) -> Worked<(u64, bool)> {
    let failed: [Value<'_>; 2] = [(&connection_name, Type::TEXT), (&queue.as_str(), Type::TEXT)];
    let failed = counted(connection, "FROM failed_jobs WHERE connection = $1 AND queue = $2", &failed).await?;
    Ok(match failed {
        Some(failed) => (failed, false),
        None => (sampled(connection, "failed_jobs").await?.max(COUNTED_MAX), true),
    })
}

/// The earliest of some times of a queue's messages, by the index: what the planner knows to be sorted by it.
async fn first(connection: &Conn, column: &str, which: &str, values: &[Value<'_>]) -> Worked<Option<i64>> {
    let sql = format!(
        "SELECT {column}::bigint FROM jobs WHERE queue = $1 AND {which} ORDER BY reserved_at, available_at, id LIMIT 1"
    );
    Ok(connection.query_typed_opt(&sql, values).await?.map(|row| row.get(0)))
}

/// How many rows there are, by an index; `None` when they are too many to be counted.
async fn counted(connection: &Conn, rows: &str, values: &[Value<'_>]) -> Worked<Option<u64>> {
    let sql = format!("SELECT count(*) FROM (SELECT {rows} LIMIT {}) AS counted", COUNTED_MAX + 1);
    let count = as_u64(connection.query_typed_one(&sql, values).await?.get(0));
    Ok((count <= COUNTED_MAX).then_some(count))
}

/// How many rows are gone and not yet vacuumed.
async fn dead_rows(connection: &Conn) -> Worked<u64> {
    let sql = "SELECT pg_stat_get_dead_tuples(to_regclass('jobs'))";
    Ok(as_u64(connection.query_typed_one(sql, &[]).await?.get::<_, Option<i64>>(0).unwrap_or(0)))
}

/// Gives the parts that were not counted what the others leave of the whole, in equal shares.
fn share_out(parts: &mut [Option<u64>], whole: u64) {
    let known: u64 = parts.iter().flatten().sum();
    let unknown = parts.iter().filter(|part| part.is_none()).count() as u64;
    let share = whole.saturating_sub(known).checked_div(unknown).unwrap_or(0).max(COUNTED_MAX);
    parts.iter_mut().filter(|part| part.is_none()).for_each(|part| *part = Some(share));
}

/// About how many rows a table has: those on some of its pages, chosen by chance, times the share of those pages.
///
/// Not what the planner expects, which is right only after the last ANALYZE.
async fn sampled(connection: &Conn, table: &str) -> Worked<u64> {
    let pages = format!("SELECT pg_relation_size('{table}') / current_setting('block_size')::bigint");
    let pages = as_u64(connection.query_typed_one(&pages, &[]).await?.get(0)).max(1);
    // The server takes a percentage; what is taken of a small table is all of it.
    #[expect(clippy::cast_precision_loss, reason = "a table has fewer than 2^32 pages")]
    let percent = (SAMPLED_PAGES * 100.0 / pages as f64).min(100.0);
    let sql =
        format!("SELECT (count(*) * 100 / {percent:e}::float8)::bigint FROM {table} TABLESAMPLE SYSTEM ({percent:e})");
    Ok(as_u64(connection.query_typed_one(&sql, &[]).await?.get(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_counted_gets_what_the_rest_leaves() {
        let mut parts = [None, Some(7), Some(3), Some(0)];
        share_out(&mut parts, 5_000_010);
        assert_eq!(parts, [Some(5_000_000), Some(7), Some(3), Some(0)]);
        let mut parts = [None, None, Some(10)];
        share_out(&mut parts, 100_010);
        assert_eq!(parts, [Some(50_000), Some(50_000), Some(10)]);
        let mut stale = [None, Some(1)];
        share_out(&mut stale, 0);
        assert_eq!(stale, [Some(COUNTED_MAX), Some(1)]);
    }
}
