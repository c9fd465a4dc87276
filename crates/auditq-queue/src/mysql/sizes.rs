//! How many messages are where: counted while they are few, estimated when they are many.

use std::time::Duration;

use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Result, Row};

use super::waiting::{first_available, first_reserved};
use crate::seconds::Time;
use crate::{QueueName, QueueSizes};

/// Up to here messages are counted one by one, which takes milliseconds; beyond, the server estimates.
const COUNTED_MAX: u64 = 20_000;

/// Counts one queue's messages.
pub(super) async fn count(
    connection: &mut Conn,
    queue: &QueueName,
    connection_name: &str,
    time: Time,
) -> Result<QueueSizes> {
    let now = time.now;
    let jobs = |condition: &str| Rows {
        from: "jobs FORCE INDEX (auditq_jobs_ready)",
        table: "jobs",
        condition: format!("queue = ? AND {condition}"),
        values: vec![queue.as_str().to_owned()],
    };
    let delayed = jobs(&format!("reserved_at IS NULL AND available_at > {now}")).count(connection).await?;
    let reserved = jobs("reserved_at IS NOT NULL").count(connection).await?;
    let ready = jobs(&format!("reserved_at IS NULL AND available_at <= {now}")).count(connection).await?;
    let failed = count_failed(connection, queue, connection_name).await?;
    let oldest = [
        first_available(connection, queue).await?,
        first_reserved(connection, queue).await?.map(|at| at.saturating_add(time.retry_after)),
    ];
    let age = |since: i64| u64::try_from(now.checked_sub(since)?).ok().map(Duration::from_secs);
    Ok(QueueSizes {
        ready: ready.0,
        delayed: delayed.0,
        reserved: reserved.0,
        failed: failed.0,
        oldest: oldest.into_iter().flatten().filter_map(age).max(),
        estimated: ready.1 || delayed.1 || reserved.1 || failed.1,
    })
}

/// How many messages of a queue were given up, and whether that is an estimate.
pub(super) async fn count_failed(
    connection: &mut Conn,
    queue: &QueueName,
    connection_name: &str,
) -> Result<(u64, bool)> {
    let failed = Rows {
        from: "failed_jobs FORCE INDEX (auditq_failed_jobs_queue)",
        table: "failed_jobs",
        condition: "connection = ? AND queue = ?".to_owned(),
        values: vec![connection_name.to_owned(), queue.as_str().to_owned()],
    };
    failed.count(connection).await
}

/// Rows of a table that an index leads to.
struct Rows {
    from: &'static str,
    table: &'static str,
    condition: String,
    values: Vec<String>,
}

impl Rows {
    /// How many there are, and whether that is an estimate: an index counts no faster than one by one.
    async fn count(self, connection: &mut Conn) -> Result<(u64, bool)> {
        let rows = format!("SELECT 1 FROM {} WHERE {}", self.from, self.condition);
        let counted = format!("SELECT count(*) FROM ({rows} LIMIT {}) AS counted", COUNTED_MAX + 1);
        let counted: u64 = connection.exec_first(counted, self.values.clone()).await?.unwrap_or(0);
        if counted <= COUNTED_MAX {
            return Ok((counted, false));
        }
        let plan: Option<Row> = connection.exec_first(format!("EXPLAIN {rows}"), self.values).await?;
        let estimate = plan.and_then(|mut plan| plan.take_opt::<u64, _>("rows")?.ok()).unwrap_or(0);
        let whole = "SELECT table_rows FROM information_schema.tables \
                     WHERE table_schema = database() AND table_name = ?";
        let whole = connection.exec_first::<Option<u64>, _, _>(whole, (self.table,)).await?.flatten().unwrap_or(0);
        // InnoDB never estimates more than half of a table; what is near that may be anything up to the whole.
        let estimate = if estimate >= whole / 2 - whole / 50 { whole } else { estimate };
        Ok((estimate.max(counted), true))
    }
}
