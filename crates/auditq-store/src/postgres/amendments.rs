use std::collections::HashMap;

use auditq_event::{EventId, TransactionOutcome};
use auditq_postgres::tokio_postgres::Row;
use auditq_postgres::tokio_postgres::types::{ToSql, Type};
use auditq_postgres::{Conn, Fault, Worked};

use super::columns::Id;
use super::rows::Cells;
use crate::Amendment;

/// Amendments whose event has not come in 30 days are dropped when the log is pruned: it never will, or it was pruned.
pub(super) const KEPT_US: i64 = 30 * 24 * 3_600 * 1_000_000;

const COLUMNS: &str = "event_id, repeat_count, last_at, transaction_outcome";

/// Applies amendments to their rows; returns those whose row is not there.
pub(super) async fn apply(connection: &Conn, amendments: &[Amendment]) -> Worked<Vec<Amendment>> {
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
    let update = "UPDATE audit_sql_logs SET repeat_count = $2, last_at = $3, transaction_outcome = $4 \
                  WHERE event_id = $1";
    for row in changed {
        connection.execute_typed(update, &values(&parts(&row))).await?;
    }
    Ok(missing)
}

/// What the rows of these events say, locked in the order of the events until the transaction ends.
async fn rows(connection: &Conn, ids: &[EventId]) -> Worked<HashMap<EventId, Amendment>> {
    let sql = format!("SELECT {COLUMNS} FROM audit_sql_logs WHERE event_id = ANY($1) ORDER BY event_id FOR UPDATE");
    let ids: Vec<Id> = ids.iter().map(|id| Id(*id.as_bytes())).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found = connection.query_typed(&sql, &[(&ids, Type::UUID_ARRAY)]).await?;
    found.into_iter().map(|row| read(row).map(|row| (row.event_id, row))).collect()
}

/// Keeps an amendment until its event comes. Nobody else stores rows meanwhile.
pub(super) async fn keep(connection: &Conn, amendment: &Amendment, now_us: i64) -> Worked<()> {
    let known = format!("SELECT {COLUMNS} FROM auditq_amendments WHERE event_id = $1 FOR UPDATE");
    let mut merged = *amendment;
    let id = Id(*amendment.event_id.as_bytes());
    if let Some(row) = connection.query_typed_opt(&known, &[(&id, Type::UUID)]).await? {
        merged.merge(&read(row)?);
    }
    let insert = "INSERT INTO auditq_amendments (event_id, repeat_count, last_at, transaction_outcome, noted_at) \
                  VALUES ($1, $2, $3, $4, $5) ON CONFLICT (event_id) DO UPDATE SET \
                  repeat_count = excluded.repeat_count, last_at = excluded.last_at, \
                  transaction_outcome = excluded.transaction_outcome";
    let parts = parts(&merged);
    let mut all = values(&parts).to_vec();
    all.push((&now_us, Type::INT8));
    connection.execute_typed(insert, &all).await?;
    Ok(())
}

/// Applies what was kept for events between `first` and `last` that have come by now.
///
/// Ids sort by time, so that a batch looks at the kept amendments of its own span only: one probe when there are none.
pub(super) async fn apply_kept(connection: &Conn, first: EventId, last: EventId) -> Worked<()> {
    let kept = format!(
        "SELECT {COLUMNS} FROM auditq_amendments AS kept WHERE event_id BETWEEN $1 AND $2 \
         AND EXISTS (SELECT FROM audit_sql_logs AS log WHERE log.event_id = kept.event_id) \
         ORDER BY event_id FOR UPDATE"
    );
    let (first, last) = (Id(*first.as_bytes()), Id(*last.as_bytes()));
    let found = connection.query_typed(&kept, &[(&first, Type::UUID), (&last, Type::UUID)]).await?;
    if found.is_empty() {
        return Ok(());
    }
    let found = found.into_iter().map(read).collect::<Worked<Vec<_>>>()?;
    apply(connection, &found).await?;
    let ids: Vec<Id> = found.iter().map(|amendment| Id(*amendment.event_id.as_bytes())).collect();
    connection
        .execute_typed("DELETE FROM auditq_amendments WHERE event_id = ANY($1)", &[(&ids, Type::UUID_ARRAY)])
        .await?;
    Ok(())
}

/// Drops what was kept since before `noted_before`.
pub(super) async fn drop_old(connection: &Conn, noted_before: i64) -> Worked<()> {
    connection
        .execute_typed("DELETE FROM auditq_amendments WHERE noted_at < $1", &[(&noted_before, Type::INT8)])
        .await?;
    Ok(())
}

fn read(row: Row) -> Worked<Amendment> {
    let mut cells = Cells::new(row);
    let event_id = EventId::from_bytes(cells.id()?);
    let (count, last_at) = (cells.optional()?, cells.optional()?);
    let outcome = cells.optional_text()?;
    let outcome = outcome.map(|text| {
        let unknown = || Fault::Value(format!("{text:?} is no value that this release knows"));
        TransactionOutcome::parse(&text).ok_or_else(unknown)
    });
    Ok(Amendment {
        event_id,
        repeated: count.map(i64::cast_unsigned).zip(last_at),
        transaction_outcome: outcome.transpose()?,
    })
}

/// An amendment as values: the event, how often it was repeated, when last, and what became of its transaction.
type Parts = (Id, Option<i64>, Option<i64>, Option<&'static str>);

fn parts(amendment: &Amendment) -> Parts {
    (
        Id(*amendment.event_id.as_bytes()),
        amendment.repeated.map(|(count, _)| count.cast_signed()),
        amendment.repeated.map(|(_, last_at)| last_at),
        amendment.transaction_outcome.map(TransactionOutcome::as_str),
    )
}

fn values(parts: &Parts) -> [(&(dyn ToSql + Sync), Type); 4] {
    let (id, count, last_at, outcome) = parts;
    [(id, Type::UUID), (count, Type::INT8), (last_at, Type::INT8), (outcome, Type::TEXT)]
}
