use rusqlite::{Connection, OptionalExtension, Row};

use crate::{Pruned, StatementStats, Stats, StatsFilter, UserStats};

/// Sums as `total` and casts to INTEGER, which saturate: `sum` fails on overflow.
const TOTALS: &str = "
    SELECT count(*),
           count(*) FILTER (WHERE operation <> 'gap' AND status = 'error'),
           count(*) FILTER (WHERE operation <> 'gap' AND status = 'cancelled'),
           CAST(total(repeat_count) FILTER (WHERE operation <> 'gap') AS INTEGER),
           CAST(total(repeat_count) FILTER (WHERE operation = 'gap') AS INTEGER),
           coalesce(avg(duration_us) FILTER (WHERE operation <> 'gap'), 0.0),
           coalesce(max(duration_us) FILTER (WHERE operation <> 'gap'), 0),
           coalesce(avg(stored_at - recorded_at) FILTER (WHERE operation <> 'gap'), 0.0),
           CAST(coalesce(max(stored_at - recorded_at) FILTER (WHERE operation <> 'gap'), 0) AS INTEGER),
           coalesce(max(stored_at) - min(stored_at), 0)
      FROM audit_sql_logs
     WHERE occurred_at >= ?1 AND occurred_at < ?2";

const USERS: &str = "
    SELECT coalesce(username, user_id, '') AS user,
           count(*),
           count(*) FILTER (WHERE status = 'error'),
           count(*) FILTER (WHERE operation IN ('insert', 'update', 'delete', 'merge', 'replace', 'copy', 'ddl'))
      FROM audit_sql_logs
     WHERE occurred_at >= ?1 AND occurred_at < ?2 AND operation <> 'gap'
     GROUP BY user
     ORDER BY count(*) DESC, user
     LIMIT ?3";

const STATEMENTS: &str = "
    SELECT fingerprint,
           count(*),
           count(*) FILTER (WHERE status = 'error'),
           avg(duration_us),
           max(duration_us),
           max(id)
      FROM audit_sql_logs
     WHERE occurred_at >= ?1 AND occurred_at < ?2 AND operation <> 'gap'
     GROUP BY fingerprint
     ORDER BY count(*) DESC, fingerprint
     LIMIT ?3";

/// Numbers over a span of time.
pub(super) fn stats(connection: &Connection, filter: &StatsFilter) -> rusqlite::Result<Stats> {
    let span = (filter.since, filter.until);
    let top = (filter.since, filter.until, i64::try_from(filter.top).unwrap_or(i64::MAX));
    let mut stats = connection.prepare_cached(TOTALS)?.query_row(span, read_totals)?;
    stats.users = connection.prepare_cached(USERS)?.query_map(top, read_user)?.collect::<rusqlite::Result<_>>()?;
    let mut statements = connection.prepare_cached(STATEMENTS)?;
    let mut rows = statements.query(top)?;
    while let Some(row) = rows.next()? {
        stats.statements.push(read_statement(connection, row)?);
    }
    Ok(stats)
}

fn read_totals(row: &Row<'_>) -> rusqlite::Result<Stats> {
    let rows = count_of(row, 0)?;
    let storing_us: i64 = row.get(9)?;
    Ok(Stats {
        rows,
        errors: count_of(row, 1)?,
        cancelled: count_of(row, 2)?,
        executions: count_of(row, 3)?,
        lost: count_of(row, 4)?,
        duration_us_mean: row.get(5)?,
        duration_us_max: count_of(row, 6)?,
        processing_us_mean: row.get(7)?,
        processing_us_max: count_of(row, 8)?,
        rows_per_second: per_second(rows, storing_us),
        users: Vec::new(),
        statements: Vec::new(),
    })
}

fn read_user(row: &Row<'_>) -> rusqlite::Result<UserStats> {
    Ok(UserStats { user: row.get(0)?, rows: count_of(row, 1)?, errors: count_of(row, 2)?, writes: count_of(row, 3)? })
}

fn read_statement(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<StatementStats> {
    let example: i64 = row.get(5)?;
    Ok(StatementStats {
        fingerprint: row.get::<_, i64>(0)?.cast_unsigned(),
        sql: connection
            .prepare_cached("SELECT sql FROM audit_sql_logs WHERE id = ?1")?
            .query_row([example], |row| row.get(0))?,
        rows: count_of(row, 1)?,
        errors: count_of(row, 2)?,
        duration_us_mean: row.get(3)?,
        duration_us_max: count_of(row, 4)?,
    })
}

/// A number that cannot be negative, unless a clock ran backwards between recording and storing: then 0.
fn count_of(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0))
}

/// Rows a second; 0 when all were stored at one time.
fn per_second(rows: u64, elapsed_us: i64) -> f64 {
    // Exact up to 2^53 rows.
    if elapsed_us <= 0 { 0.0 } else { rows as f64 * 1_000_000.0 / elapsed_us as f64 }
}

/// How many rows there are.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.prepare_cached("SELECT count(*) FROM audit_sql_logs")?.query_row([], |row| count_of(row, 0))
}

/// Removes up to `limit` rows that occurred before `before`, oldest first.
pub(super) fn prune(connection: &Connection, before: i64, limit: usize) -> rusqlite::Result<Pruned> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let removed = connection
        .prepare_cached(
            "DELETE FROM audit_sql_logs WHERE id IN (\
             SELECT id FROM audit_sql_logs WHERE occurred_at < ?1 ORDER BY occurred_at LIMIT ?2)",
        )?
        .execute((before, limit))?;
    let older = connection
        .prepare_cached("SELECT 1 FROM audit_sql_logs WHERE occurred_at < ?1 LIMIT 1")?
        .query_row([before], |_| Ok(()))
        .optional()?;
    Ok(Pruned { rows: u64::try_from(removed).unwrap_or(u64::MAX), finished: older.is_none() })
}
