use auditq_event::{EventId, TransactionOutcome};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::Amendment;

/// Amendments whose event has not come in 30 days are dropped when the log is pruned: it never will, or it was pruned.
pub(super) const KEPT_US: i64 = 30 * 24 * 3_600 * 1_000_000;

/// Applies an amendment to its row; false when there is no such row.
pub(super) fn apply(connection: &Connection, amendment: &Amendment) -> rusqlite::Result<bool> {
    let mut row = connection.prepare_cached(
        "SELECT event_id, repeat_count, last_at, transaction_outcome FROM audit_sql_logs WHERE event_id = ?1",
    )?;
    let Some(known) = row.query_row([amendment.event_id.as_bytes()], read).optional()? else {
        return Ok(false);
    };
    let mut merged = known;
    merged.merge(amendment);
    if merged != known {
        let (count, last_at) = parts(&merged);
        connection
            .prepare_cached(
                "UPDATE audit_sql_logs SET repeat_count = ?2, last_at = ?3, transaction_outcome = ?4 \
                 WHERE event_id = ?1",
            )?
            .execute((amendment.event_id.as_bytes(), count, last_at, outcome(&merged)))?;
    }
    Ok(true)
}

/// Keeps an amendment until its event comes.
pub(super) fn keep(connection: &Connection, amendment: &Amendment, now_us: i64) -> rusqlite::Result<()> {
    let mut kept = connection.prepare_cached(
        "SELECT event_id, repeat_count, last_at, transaction_outcome FROM auditq_amendments WHERE event_id = ?1",
    )?;
    let mut merged = *amendment;
    if let Some(known) = kept.query_row([amendment.event_id.as_bytes()], read).optional()? {
        merged.merge(&known);
    }
    let (count, last_at) = parts(&merged);
    connection
        .prepare_cached(
            "INSERT INTO auditq_amendments (event_id, repeat_count, last_at, transaction_outcome, noted_at) \
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (event_id) DO UPDATE SET repeat_count = excluded.repeat_count, \
             last_at = excluded.last_at, transaction_outcome = excluded.transaction_outcome",
        )?
        .execute((amendment.event_id.as_bytes(), count, last_at, outcome(&merged), now_us))?;
    Ok(())
}

/// Applies what was kept for events between `first` and `last` that have come by now.
///
/// Ids sort by time, so that a batch looks at the kept amendments of its own span only: one probe when there are none.
pub(super) fn apply_kept(connection: &Connection, first: EventId, last: EventId) -> rusqlite::Result<()> {
    let mut kept = connection.prepare_cached(
        "SELECT event_id, repeat_count, last_at, transaction_outcome FROM auditq_amendments AS kept \
         WHERE event_id BETWEEN ?1 AND ?2 \
         AND EXISTS (SELECT 1 FROM audit_sql_logs AS log WHERE log.event_id = kept.event_id)",
    )?;
    let found: Vec<Amendment> =
        kept.query_map([first.as_bytes(), last.as_bytes()], read)?.collect::<rusqlite::Result<_>>()?;
    for amendment in found {
        apply(connection, &amendment)?;
        connection
            .prepare_cached("DELETE FROM auditq_amendments WHERE event_id = ?1")?
            .execute([amendment.event_id.as_bytes()])?;
    }
    Ok(())
}

/// Drops what was kept since before `noted_before`.
pub(super) fn drop_old(connection: &Connection, noted_before: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM auditq_amendments WHERE noted_at < ?1")?.execute([noted_before]).map(drop)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Amendment> {
    let count: Option<i64> = row.get(1)?;
    let last_at: Option<i64> = row.get(2)?;
    let outcome: Option<String> = row.get(3)?;
    let outcome = outcome.map(|text| {
        TransactionOutcome::parse(&text).ok_or_else(|| {
            let reason = format!("{text:?} is no value that this release knows");
            rusqlite::Error::FromSqlConversionFailure(3, Type::Text, reason.into())
        })
    });
    Ok(Amendment {
        event_id: EventId::from_bytes(row.get(0)?),
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
