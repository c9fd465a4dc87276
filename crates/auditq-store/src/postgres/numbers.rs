use auditq_postgres::tokio_postgres::Row;
use auditq_postgres::tokio_postgres::types::{ToSql, Type};
use auditq_postgres::{Conn, Worked};

use super::rows::{Cells, bounded};
use crate::{Pruned, StatementStats, Stats, StatsFilter, UserStats};

/// A number as a signed one of 64 bits, the nearest that there is: sums are decimals and may be larger.
macro_rules! saturated {
    ($sum:literal) => {
        concat!("least(9223372036854775807, greatest(-9223372036854775808, coalesce(", $sum, ", 0)))::bigint")
    };
}

/// Times are subtracted as decimals, because the difference of two of 64 bits may not fit into 64.
const TOTALS: &str = concat!(
    "SELECT count(*), count(*) FILTER (WHERE operation <> 'gap' AND status = 'error'), \
     count(*) FILTER (WHERE operation <> 'gap' AND status = 'cancelled'), ",
    saturated!("sum(repeat_count) FILTER (WHERE operation <> 'gap')"),
    ", ",
    saturated!("sum(repeat_count) FILTER (WHERE operation = 'gap')"),
    ", coalesce(avg(duration_us) FILTER (WHERE operation <> 'gap'), 0)::float8, \
     coalesce(max(duration_us) FILTER (WHERE operation <> 'gap'), 0), \
     coalesce(avg(stored_at::numeric - recorded_at) FILTER (WHERE operation <> 'gap'), 0)::float8, ",
    saturated!("max(stored_at::numeric - recorded_at) FILTER (WHERE operation <> 'gap')"),
    ", ",
    saturated!("max(stored_at)::numeric - min(stored_at)"),
    " FROM audit_sql_logs WHERE occurred_at >= $1 AND occurred_at < $2"
);

const USERS: &str = "
    SELECT coalesce(username, user_id, '') AS who,
           count(*) AS asked,
           count(*) FILTER (WHERE status = 'error'),
           count(*) FILTER (WHERE operation IN ('insert', 'update', 'delete', 'merge', 'replace', 'copy', 'ddl'))
      FROM audit_sql_logs
     WHERE occurred_at >= $1 AND occurred_at < $2 AND operation <> 'gap'
     GROUP BY 1
     ORDER BY asked DESC, coalesce(username, user_id, '') COLLATE \"C\"
     LIMIT $3";

const STATEMENTS: &str = "
    SELECT fingerprint,
           count(*) AS asked,
           count(*) FILTER (WHERE status = 'error'),
           avg(duration_us)::float8,
           max(duration_us),
           max(id)
      FROM audit_sql_logs
     WHERE occurred_at >= $1 AND occurred_at < $2 AND operation <> 'gap'
     GROUP BY fingerprint
     ORDER BY asked DESC, fingerprint
     LIMIT $3";

/// Numbers over a span of time.
pub(super) async fn stats(connection: &Conn, filter: &StatsFilter) -> Worked<Stats> {
    let top = bounded(filter.top);
    let values: [(&(dyn ToSql + Sync), Type); 3] =
        [(&filter.since, Type::INT8), (&filter.until, Type::INT8), (&top, Type::INT8)];
    let mut stats = read_totals(connection.query_typed_one(TOTALS, &values[..2]).await?)?;
    let users = connection.query_typed(USERS, &values).await?;
    stats.users = users.into_iter().map(read_user).collect::<Worked<_>>()?;
    for row in connection.query_typed(STATEMENTS, &values).await? {
        stats.statements.push(read_statement(connection, row).await?);
    }
    Ok(stats)
}

fn read_totals(row: Row) -> Worked<Stats> {
    let mut cells = Cells::new(row);
    let mut stats = Stats {
        rows: cells.count()?,
        errors: cells.count()?,
        cancelled: cells.count()?,
        executions: cells.count()?,
        lost: cells.count()?,
        duration_us_mean: cells.float()?,
        duration_us_max: cells.count()?,
        processing_us_mean: cells.float()?,
        processing_us_max: cells.count()?,
        ..Stats::default()
    };
    stats.rows_per_second = per_second(stats.rows, cells.take()?);
    Ok(stats)
}

fn read_user(row: Row) -> Worked<UserStats> {
    let mut cells = Cells::new(row);
    Ok(UserStats { user: cells.text()?, rows: cells.count()?, errors: cells.count()?, writes: cells.count()? })
}

async fn read_statement(connection: &Conn, row: Row) -> Worked<StatementStats> {
    let mut cells = Cells::new(row);
    let mut statement = StatementStats {
        fingerprint: cells.unsigned()?,
        rows: cells.count()?,
        errors: cells.count()?,
        duration_us_mean: cells.float()?,
        duration_us_max: cells.count()?,
        ..StatementStats::default()
    };
    let example = cells.take()?;
    let sql = "SELECT sql FROM audit_sql_logs WHERE id = $1";
    if let Some(row) = connection.query_typed_opt(sql, &[(&example, Type::INT8)]).await? {
        statement.sql = Cells::new(row).text()?;
    }
    Ok(statement)
}

/// Rows a second; 0 when all were stored at one time.
fn per_second(rows: u64, elapsed_us: i64) -> f64 {
    // Exact up to 2^53 rows.
    if elapsed_us <= 0 { 0.0 } else { rows as f64 * 1_000_000.0 / elapsed_us as f64 }
}

/// How many rows there are.
pub(super) async fn count(connection: &Conn) -> Worked<u64> {
    Cells::new(connection.query_typed_one("SELECT count(*) FROM audit_sql_logs", &[]).await?).count()
}

/// Removes up to `limit` rows that occurred before `before`, oldest first.
pub(super) async fn prune(connection: &Conn, before: i64, limit: usize) -> Worked<Pruned> {
    let delete = "DELETE FROM audit_sql_logs WHERE occurred_at < $1 AND id = ANY (ARRAY( \
                  SELECT id FROM audit_sql_logs WHERE occurred_at < $1 ORDER BY occurred_at, id LIMIT $2))";
    let limit = bounded(limit);
    let rows = connection.execute_typed(delete, &[(&before, Type::INT8), (&limit, Type::INT8)]).await?;
    let older = "SELECT EXISTS (SELECT FROM audit_sql_logs WHERE occurred_at < $1)";
    let older: bool = connection.query_typed_one(older, &[(&before, Type::INT8)]).await?.try_get(0)?;
    Ok(Pruned { rows, finished: !older })
}
