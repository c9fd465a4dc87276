//! An audit table that is divided by the month in which statements occurred.
//!
//! Months are made ahead. What belongs to none is kept in a partition for the rest, so that no row is ever refused for
//! its time, and moves when its month is made.

use auditq_postgres::tokio_postgres::types::Type;
use auditq_postgres::{Conn, Worked};

/// What the migrations of a partitioned table put in, and of one that is not.
pub(super) fn fill_in(sql: &str, monthly: bool) -> String {
    let (partitioned, with_time) =
        if monthly { (" PARTITION BY RANGE (occurred_at)", ", occurred_at") } else { ("", "") };
    sql.replace("{partitioned}", partitioned).replace("{with_time}", with_time)
}

/// Whether the table that is there is partitioned.
pub(super) async fn is_partitioned(connection: &Conn) -> Worked<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('audit_sql_logs') AND relkind = 'p')";
    Ok(connection.query_typed_one(sql, &[]).await?.try_get(0)?)
}

/// Makes the partitions that are missing: for the rest, the month before, this one and the twelve to come.
pub(super) async fn create_ahead(connection: &Conn) -> Worked<()> {
    connection
        .batch_execute("CREATE TABLE IF NOT EXISTS audit_sql_logs_rest PARTITION OF audit_sql_logs DEFAULT")
        .await?;
    let missing = connection.query_typed(MISSING, &[]).await?;
    if !missing.is_empty() {
        // Nobody may store a row there that belongs to a month which is being made.
        connection.batch_execute("LOCK TABLE audit_sql_logs_rest IN ACCESS EXCLUSIVE MODE").await?;
    }
    for row in &missing {
        let (name, from, to): (&str, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        connection
            .batch_execute(&format!(
                "CREATE TABLE {name} (LIKE audit_sql_logs INCLUDING DEFAULTS INCLUDING COMMENTS); \
                 WITH moved AS (DELETE FROM audit_sql_logs_rest WHERE occurred_at >= {from} AND occurred_at < {to} \
                 RETURNING *) INSERT INTO {name} SELECT * FROM moved; \
                 ALTER TABLE audit_sql_logs ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})"
            ))
            .await?;
    }
    Ok(())
}

/// Name, first microsecond and the one after the last of each month that has no partition.
const MISSING: &str = "\
SELECT name, from_us, to_us FROM (
    SELECT 'audit_sql_logs_' || to_char(month, 'YYYY_MM') AS name,
        (extract(epoch FROM month) * 1000000)::bigint AS from_us,
        (extract(epoch FROM month + interval '1 month') * 1000000)::bigint AS to_us
    FROM generate_series(date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month',
        date_trunc('month', now() AT TIME ZONE 'UTC') + interval '12 months', '1 month') AS month
) AS months WHERE to_regclass(name) IS NULL ORDER BY from_us";

/// Drops the oldest partition in which everything occurred before `before`; says how many rows went with it, `None`
/// when there is no such partition.
pub(super) async fn drop_oldest(connection: &Conn, before: i64) -> Worked<Option<u64>> {
    let Some(row) = connection.query_typed_opt(OLDEST, &[(&before, Type::INT8)]).await? else { return Ok(None) };
    let name: &str = row.try_get(0)?;
    // A row may still be on its way into it.
    connection.batch_execute(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")).await?;
    let rows: i64 = connection.query_typed_one(&format!("SELECT count(*) FROM {name}"), &[]).await?.try_get(0)?;
    connection.batch_execute(&format!("DROP TABLE {name}")).await?;
    Ok(Some(u64::try_from(rows).unwrap_or(0)))
}

/// The partition whose upper bound comes first, if that is no later than a time.
const OLDEST: &str = "\
SELECT name FROM (
    SELECT format('%I.%I', schema.nspname, part.relname) AS name,
        (regexp_match(pg_get_expr(part.relpartbound, part.oid), 'TO \\(''?(-?[0-9]+)''?\\)'))[1]::bigint AS bound
    FROM pg_inherits AS inherited JOIN pg_class AS part ON part.oid = inherited.inhrelid
    JOIN pg_namespace AS schema ON schema.oid = part.relnamespace
    WHERE inherited.inhparent = to_regclass('audit_sql_logs')
) AS parts WHERE bound <= $1 ORDER BY bound LIMIT 1";
