//! What the audit table says of a run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use auditq_sqlite::rusqlite::{Connection, OpenFlags, Row};

use super::ledger::{Execution, Kind};

/// The audit table, as plain SQL finds it.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) rows: u64,
    /// Executions that were counted on a row and have none of their own.
    pub(super) collapsed: u64,
    /// Executions of each kind: the sum of `repeat_count`.
    pub(super) kinds: BTreeMap<Kind, u64>,
    /// Rows with an event id that another row has too.
    pub(super) event_ids_twice: u64,
    /// Rows with a number within their process that another row has too.
    pub(super) numbers_twice: u64,
    /// The highest number of a process, plus one.
    pub(super) numbers_end: u64,
    /// Processes that recorded something.
    pub(super) producers: u64,
    /// Rows that say that something was lost.
    pub(super) gaps: u64,
    /// Executions of statements from which a secret was taken out.
    pub(super) redacted: u64,
    /// Failed statements without the database's message.
    pub(super) errors_unexplained: u64,
    /// From the first row being recorded to the last one being stored.
    pub(super) seconds: f64,
}

const NUMBERS: &str = "
SELECT count(*), coalesce(sum(repeat_count), 0) - count(*), count(*) - count(DISTINCT event_id),
       count(*) - count(DISTINCT hex(producer_id) || producer_seq), coalesce(max(producer_seq) + 1, 0),
       count(DISTINCT producer_id), count(*) FILTER (WHERE operation = 'gap'),
       count(*) FILTER (WHERE status = 'error' AND coalesce(error_message, '') = ''),
       coalesce(sum(repeat_count) FILTER (WHERE instr(sql, '[redacted:') OR instr(bindings, '\"redacted\"')), 0),
       coalesce((max(stored_at) - min(recorded_at)) / 1e6, 0.0)
FROM audit_sql_logs";

const KINDS: &str = "
SELECT coalesce(request_id, ''), coalesce(username, ''), operation, tables, status, transaction_outcome,
       sum(repeat_count)
FROM audit_sql_logs GROUP BY 1, 2, 3, 4, 5, 6";

impl Table {
    /// Reads the table in a database file.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.with_context(|| format!("cannot open the audit table in {}", file.display()))?;
        let mut table = connection.query_row(NUMBERS, [], numbers).context("cannot read the audit table")?;
        let mut kinds = connection.prepare(KINDS)?;
        for kind in kinds.query_map([], kind)? {
            let (kind, executions) = kind?;
            *table.kinds.entry(kind).or_default() += executions;
        }
        Ok(table)
    }
}

fn numbers(row: &Row<'_>) -> auditq_sqlite::rusqlite::Result<Table> {
    let number = |column| row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or_default());
    Ok(Table {
        rows: number(0)?,
        collapsed: number(1)?,
        event_ids_twice: number(2)?,
        numbers_twice: number(3)?,
        numbers_end: number(4)?,
        producers: number(5)?,
        gaps: number(6)?,
        errors_unexplained: number(7)?,
        redacted: number(8)?,
        seconds: row.get(9)?,
        kinds: BTreeMap::new(),
    })
}

fn kind(row: &Row<'_>) -> auditq_sqlite::rusqlite::Result<(Kind, u64)> {
    let tables: String = row.get(3)?;
    let status: String = row.get(4)?;
    let execution = Execution {
        operation: row.get(2)?,
        // What is not a list stays as it is, and differs from what was expected.
        tables: serde_json::from_str::<Vec<String>>(&tables).map_or(tables, |tables| tables.join(" ")),
        failed: status != "ok",
        transaction: row.get(5)?,
    };
    let executions = u64::try_from(row.get::<_, i64>(6)?).unwrap_or_default();
    Ok((Kind { request_id: row.get(0)?, user: row.get(1)?, execution }, executions))
}
