use std::collections::HashMap;

use auditq_event::{EventId, TransactionOutcome};
use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Error, Params, Result, Row, Value};

use super::rows::Cells;
use crate::Amendment;

/// Amendments whose event has not come in 30 days are dropped when the log is pruned: it never will, or it was pruned.
pub(super) const KEPT_US: i64 = 30 * 24 * 3_600 * 1_000_000;

/// How many rows one statement asks for.
const ASKED: [usize; 3] = [256, 32, 1];

const COLUMNS: &str = "event_id, repeat_count, last_at, transaction_outcome";

/// Applies amendments to their rows; returns those whose row is not there.
pub(super) async fn apply(connection: &mut Conn, amendments: &[Amendment]) -> Result<Vec<Amendment>> {
    let mut ids: Vec<_> = amendments.iter().map(|amendment| amendment.event_id).collect();
    // In one order for everybody, because each row is locked.
    ids.sort_unstable();
    ids.dedup();
    let known = rows(connection, &ids).await?;
    let (mut merged, mut missing) = (known.clone(), Vec::new());
    for amendment in amendments {
        match merged.get_mut(&amendment.event_id) {
            Some(row) => row.merge(amendment),
            None => missing.push(*amendment),
        }
    }
    let mut changed: Vec<_> = merged.into_values().filter(|row| known.get(&row.event_id) != Some(row)).collect();
    changed.sort_unstable_by_key(|row| row.event_id);
    for row in changed {
        let (count, last_at) = parts(&row);
        let update = "UPDATE audit_sql_logs SET repeat_count = ?, last_at = ?, transaction_outcome = ? \
                      WHERE event_id = ?";
        connection.exec_drop(update, (count, last_at, outcome(&row), row.event_id.as_bytes())).await?;
    }
    Ok(missing)
}

/// What the rows of these events say, locked until the transaction ends.
///
/// Waits for rows that are being inserted: an amendment and its event, stored at the same time, must not miss each other.
async fn rows(connection: &mut Conn, ids: &[EventId]) -> Result<HashMap<EventId, Amendment>> {
    let (mut found, mut left) = (HashMap::with_capacity(ids.len()), ids);
    while let Some(count) = ASKED.into_iter().find(|count| *count <= left.len()) {
        let (these, others) = left.split_at(count);
        left = others;
        let places = vec!["?"; count].join(", ");
        let sql = format!("SELECT {COLUMNS} FROM audit_sql_logs WHERE event_id IN ({places}) FOR UPDATE");
        let values = these.iter().map(|id| Value::from(id.as_bytes().as_slice())).collect();
        for row in connection.exec::<Row, _, _>(sql, Params::Positional(values)).await? {
            let row = read(row)?;
            found.insert(row.event_id, row);
        }
    }
    Ok(found)
}

/// Keeps an amendment until its event comes.
pub(super) async fn keep(connection: &mut Conn, amendment: &Amendment, now_us: i64) -> Result<()> {
    let known = format!("SELECT {COLUMNS} FROM auditq_amendments WHERE event_id = ? FOR UPDATE");
    let id = amendment.event_id;
    let mut merged = *amendment;
    if let Some(row) = connection.exec_first::<Row, _, _>(known, (id.as_bytes(),)).await? {
        merged.merge(&read(row)?);
    }
    let (count, last_at) = parts(&merged);
    let insert = "INSERT INTO auditq_amendments (event_id, repeat_count, last_at, transaction_outcome, noted_at) \
                  VALUES (?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE repeat_count = VALUES(repeat_count), \
                  last_at = VALUES(last_at), transaction_outcome = VALUES(transaction_outcome)";
    connection.exec_drop(insert, (id.as_bytes(), count, last_at, outcome(&merged), now_us)).await?;
    // Its event may have been stored since `apply` looked, by one that looked for kept amendments before this one was.
    if apply(connection, &[merged]).await?.is_empty() {
        connection.exec_drop("DELETE FROM auditq_amendments WHERE event_id = ?", (id.as_bytes(),)).await?;
    }
    Ok(())
}

/// Applies what was kept for events between `first` and `last` that have come by now.
///
/// Ids sort by time, so that a batch looks at the kept amendments of its own span only: one probe when there are none.
pub(super) async fn apply_kept(connection: &mut Conn, first: EventId, last: EventId) -> Result<()> {
    let kept = format!(
        "SELECT {COLUMNS} FROM auditq_amendments AS kept WHERE event_id BETWEEN ? AND ? \
         AND EXISTS (SELECT 1 FROM audit_sql_logs AS log WHERE log.event_id = kept.event_id) \
         ORDER BY event_id FOR UPDATE"
    );
    let span = (first.as_bytes(), last.as_bytes());
    let found = connection.exec::<Row, _, _>(kept, span).await?.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    apply(connection, &found).await?;
    for amendment in found {
        let id = amendment.event_id;
        connection.exec_drop("DELETE FROM auditq_amendments WHERE event_id = ?", (id.as_bytes(),)).await?;
    }
    Ok(())
}

/// Drops what was kept since before `noted_before`.
pub(super) async fn drop_old(connection: &mut Conn, noted_before: i64) -> Result<()> {
    connection.exec_drop("DELETE FROM auditq_amendments WHERE noted_at < ?", (noted_before,)).await
}

fn read(row: Row) -> Result<Amendment> {
    let mut cells = Cells::new(row);
    let event_id = EventId::from_bytes(cells.id()?);
    let count: Option<i64> = cells.take()?;
    let last_at: Option<i64> = cells.take()?;
    let outcome: Option<String> = cells.take()?;
    let outcome = outcome.map(|text| {
        let unknown = || Error::Other(format!("{text:?} is no value that this release knows").into());
        TransactionOutcome::parse(&text).ok_or_else(unknown)
    });
    Ok(Amendment {
        event_id,
        repeated: count.map(i64::cast_unsigned).zip(last_at),
        transaction_outcome: outcome.transpose()?,
    })
}

fn parts(amendment: &Amendment) -> (Option<i64>, Option<i64>) {
    (amendment.repeated.map(|(count, _)| count.cast_signed()), amendment.repeated.map(|(_, last_at)| last_at))
}

fn outcome(amendment: &Amendment) -> Option<&'static str> {
    amendment.transaction_outcome.map(TransactionOutcome::as_str)
}
