use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Result, Row};

use super::rows::{Cells, bounded};
use crate::{Pruned, StatementStats, Stats, StatsFilter, UserStats};

/// A number as a signed one of 64 bits, the nearest that there is: sums are decimals and may be larger.
macro_rules! saturated {
    ($sum:literal) => {
        concat!("CAST(LEAST(9223372036854775807, GREATEST(-9223372036854775808, coalesce(", $sum, ", 0))) AS SIGNED)")
    };
}

/// Times are subtracted as decimals, because the difference of two of 64 bits may not fit into 64.
const TOTALS: &str = concat!(
    "SELECT count(*), ",
    saturated!("sum(operation <> 'gap' AND status = 'error')"),
    ", ",
    saturated!("sum(operation <> 'gap' AND status = 'cancelled')"),
    ", ",
    saturated!("sum(CASE WHEN operation <> 'gap' THEN repeat_count END)"),
    ", ",
    saturated!("sum(CASE WHEN operation = 'gap' THEN repeat_count END)"),
    ", coalesce(avg(CASE WHEN operation <> 'gap' THEN duration_us END), 0) + 0e0, \
     coalesce(max(CASE WHEN operation <> 'gap' THEN duration_us END), 0), \
     coalesce(avg(CASE WHEN operation <> 'gap' THEN CAST(stored_at AS DECIMAL(20)) - recorded_at END), 0) + 0e0, ",
    saturated!("max(CASE WHEN operation <> 'gap' THEN CAST(stored_at AS DECIMAL(20)) - recorded_at END)"),
    ", ",
    saturated!("CAST(max(stored_at) AS DECIMAL(20)) - min(stored_at)"),
    " FROM audit_sql_logs WHERE occurred_at >= ? AND occurred_at < ?"
);

const USERS: &str = "
    SELECT coalesce(username, user_id, '') AS who,
           count(*) AS asked,
           CAST(sum(status = 'error') AS SIGNED),
           CAST(sum(operation IN ('insert', 'update', 'delete', 'merge', 'replace', 'copy', 'ddl')) AS SIGNED)
      FROM audit_sql_logs
     WHERE occurred_at >= ? AND occurred_at < ? AND operation <> 'gap'
     GROUP BY who
     ORDER BY asked DESC, who
     LIMIT ?";

const STATEMENTS: &str = "
    SELECT fingerprint,
           count(*) AS asked,
           CAST(sum(status = 'error') AS SIGNED),
           avg(duration_us) + 0e0,
           max(duration_us),
           max(id)
      FROM audit_sql_logs
     WHERE occurred_at >= ? AND occurred_at < ? AND operation <> 'gap'
     GROUP BY fingerprint
     ORDER BY asked DESC, fingerprint
     LIMIT ?";

/// Numbers over a span of time.
pub(super) async fn stats(connection: &mut Conn, filter: &StatsFilter) -> Result<Stats> {
    let span = (filter.since, filter.until);
    let top = (filter.since, filter.until, bounded(filter.top));
    let totals = connection.exec_first::<Row, _, _>(TOTALS, span).await?;
    let mut stats = totals.map(read_totals).transpose()?.unwrap_or_default();
    let users = connection.exec::<Row, _, _>(USERS, top).await?;
    stats.users = users.into_iter().map(read_user).collect::<Result<_>>()?;
    for row in connection.exec::<Row, _, _>(STATEMENTS, top).await? {
        stats.statements.push(read_statement(connection, row).await?);
    }
    Ok(stats)
}

fn read_totals(row: Row) -> Result<Stats> {
    let mut cells = Cells::new(row);
    let mut stats = Stats {
        rows: cells.count()?,
        errors: cells.count()?,
        cancelled: cells.count()?,
        executions: cells.count()?,
        lost: cells.count()?,
        duration_us_mean: cells.take()?,
        duration_us_max: cells.count()?,
        processing_us_mean: cells.take()?,
        processing_us_max: cells.count()?,
        ..Stats::default()
    };
    stats.rows_per_second = per_second(stats.rows, cells.take()?);
    Ok(stats)
}

fn read_user(row: Row) -> Result<UserStats> {
    let mut cells = Cells::new(row);
    Ok(UserStats { user: cells.take()?, rows: cells.count()?, errors: cells.count()?, writes: cells.count()? })
}

async fn read_statement(connection: &mut Conn, row: Row) -> Result<StatementStats> {
    let mut cells = Cells::new(row);
    let mut statement = StatementStats {
        fingerprint: cells.unsigned()?,
        rows: cells.count()?,
        errors: cells.count()?,
        duration_us_mean: cells.take()?,
        duration_us_max: cells.count()?,
        ..StatementStats::default()
    };
    let example: i64 = cells.take()?;
    let sql = connection.exec_first("SELECT `sql` FROM audit_sql_logs WHERE id = ?", (example,)).await?;
    statement.sql = sql.unwrap_or_default();
    Ok(statement)
}

/// Rows a second; 0 when all were stored at one time.
fn per_second(rows: u64, elapsed_us: i64) -> f64 {
    // Exact up to 2^53 rows.
    if elapsed_us <= 0 { 0.0 } else { rows as f64 * 1_000_000.0 / elapsed_us as f64 }
}

/// How many rows there are.
pub(super) async fn count(connection: &mut Conn) -> Result<u64> {
    Ok(connection.query_first("SELECT count(*) FROM audit_sql_logs").await?.unwrap_or(0))
}

/// Removes up to `limit` rows that occurred before `before`, oldest first.
pub(super) async fn prune(connection: &mut Conn, before: i64, limit: usize) -> Result<Pruned> {
    let delete = "DELETE FROM audit_sql_logs WHERE occurred_at < ? ORDER BY occurred_at, id LIMIT ?";
    connection.exec_drop(delete, (before, bounded(limit))).await?;
    let rows = connection.affected_rows();
    let older = "SELECT 1 FROM audit_sql_logs WHERE occurred_at < ? LIMIT 1";
    let older: Option<i64> = connection.exec_first(older, (before,)).await?;
    Ok(Pruned { rows, finished: older.is_none() })
}
