use auditq_event::Event;
use auditq_postgres::tokio_postgres::types::Type;
use auditq_postgres::{Conn, Fault, Worked};

use super::columns::{Columns, Id};
use super::{amendments, lock, now_us, rows};
use crate::{Amendment, Batch, Inserted};

/// How many rows one statement adds at the most.
const ROWS_MAX: usize = 2_000;
/// About how large the values of one statement are at the most; a single row may be larger.
const BYTES_MAX: usize = 32 << 20;

/// Writes a batch inside the caller's transaction, so that other changes can be committed with it.
///
/// All of it is written, or an error says that the transaction must be rolled back.
///
/// # Errors
/// What the server reports; a value that a column does not take among it.
pub(super) async fn insert_in(connection: &Conn, batch: &Batch) -> Worked<Inserted> {
    let now = now_us();
    // Whoever keeps an amendment for an event that is not there yet must not miss its being stored at this moment. So
    // he is alone, and everybody else is not; one lock is never changed for the other, which two could not do at once.
    if awaits_events(connection, batch).await? {
        lock::alone(connection).await?;
    } else {
        lock::with_others(connection).await?;
    }
    let mut inserted = insert_events(connection, &batch.events, now).await?;
    let ids = || batch.events.iter().map(|event| event.event_id);
    if let (Some(first), Some(last)) = (ids().min(), ids().max())
        && inserted.stored > 0
    {
        amendments::apply_kept(connection, first, last).await?;
    }
    for amendment in amendments::apply(connection, &batch.amendments).await? {
        amendments::keep(connection, &amendment, now).await?;
    }
    inserted.amended = batch.amendments.len() as u64;
    Ok(inserted)
}

/// Whether the batch amends events that are neither stored nor in it.
async fn awaits_events(connection: &Conn, batch: &Batch) -> Worked<bool> {
    let amended = batch.amendments.iter().map(|amendment| Id(*amendment.event_id.as_bytes()));
    let coming: std::collections::HashSet<_> = batch.events.iter().map(|event| event.event_id).collect();
    let ids: Vec<Id> = amended.filter(|id| !coming.contains(&auditq_event::EventId::from_bytes(id.0))).collect();
    if ids.is_empty() {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT FROM unnest($1) AS amended (id) \
               WHERE NOT EXISTS (SELECT FROM audit_sql_logs WHERE event_id = amended.id))";
    Ok(connection.query_typed_one(sql, &[(&ids, Type::UUID_ARRAY)]).await?.try_get(0)?)
}

async fn insert_events(connection: &Conn, events: &[Event], now: i64) -> Worked<Inserted> {
    let mut inserted = Inserted::default();
    let mut rest = events;
    while !rest.is_empty() {
        let mut cells = Columns::new(rows::COLUMNS, rest.len().min(ROWS_MAX));
        let mut count = 0;
        while count < rest.len().min(ROWS_MAX) && (count == 0 || cells.bytes < BYTES_MAX) {
            rows::put(&mut cells, &rest[count], now)?;
            count += 1;
        }
        inserted += insert_some(connection, &rest[..count], &cells).await?;
        rest = &rest[count..];
    }
    Ok(inserted)
}

async fn insert_some(connection: &Conn, events: &[Event], cells: &Columns<'_>) -> Worked<Inserted> {
    let stored = connection.execute_typed(&rows::insert_sql(), &cells.parameters()).await?;
    let duplicates = (events.len() as u64).saturating_sub(stored);
    if duplicates > 0 {
        let carried: Vec<_> = events.iter().map(Amendment::carried_by).collect();
        if let Some(missing) = amendments::apply(connection, &carried).await?.first() {
            return Err(swallowed(missing));
        }
    }
    Ok(Inserted { stored, duplicates, amended: 0 })
}

/// Neither stored now nor before: a trigger that drops rows would make audited statements vanish.
fn swallowed(missing: &Amendment) -> Fault {
    Fault::Value(format!(
        "event {} is not in audit_sql_logs after its insert; drop the trigger or rule there",
        missing.event_id
    ))
}
