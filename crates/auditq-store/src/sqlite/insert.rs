use std::sync::LazyLock;

use auditq_event::Event;
use rusqlite::{Connection, ffi};

use super::{amendments, now_us, rows};
use crate::{Amendment, Batch, Inserted};

static INSERT: LazyLock<String> = LazyLock::new(rows::insert_sql);

/// Writes a batch inside the caller's transaction, so that other changes can be committed with it.
///
/// All of it is written, or an error says that the transaction must be rolled back. Amendments whose event stands in
/// the same batch cost nothing after [`Batch::fold`], and a few statements each before it.
///
/// # Errors
/// What SQLite reports; a constraint that an event violates among it.
pub(super) fn insert_in(connection: &Connection, batch: &Batch) -> rusqlite::Result<Inserted> {
    let now = now_us();
    let mut inserted = insert_events(connection, &batch.events, now)?;
    let ids = || batch.events.iter().map(|event| event.event_id);
    if let (Some(first), Some(last)) = (ids().min(), ids().max())
        && inserted.stored > 0
    {
        amendments::apply_kept(connection, first, last)?;
    }
    for amendment in &batch.amendments {
        if !amendments::apply(connection, amendment)? {
            amendments::keep(connection, amendment, now)?;
        }
        inserted.amended += 1;
    }
    Ok(inserted)
}

fn insert_events(connection: &Connection, events: &[Event], now: i64) -> rusqlite::Result<Inserted> {
    let mut inserted = Inserted::default();
    let mut statement = connection.prepare_cached(&INSERT)?;
    for event in events {
        if rows::insert(&mut statement, event, now)? {
            inserted.stored += 1;
        } else if amendments::apply(connection, &Amendment::carried_by(event))? {
            inserted.duplicates += 1;
        } else {
            return Err(swallowed(event));
        }
    }
    Ok(inserted)
}

/// Neither stored now nor before: a trigger with `RAISE(IGNORE)` would make audited statements vanish without a trace.
fn swallowed(event: &Event) -> rusqlite::Error {
    let message = format!("a trigger on audit_sql_logs swallowed event {}; drop that trigger", event.event_id);
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CONSTRAINT_TRIGGER), Some(message))
}
