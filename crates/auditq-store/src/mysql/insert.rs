use auditq_event::Event;
use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Error, Params, Result, Value};
use auditq_mysql::parts;

use super::{amendments, now_us, rows};
use crate::{Amendment, Batch, Inserted};

/// Writes a batch inside the caller's transaction, so that other changes can be committed with it.
///
/// All of it is written, or an error says that the transaction must be rolled back. `packet_bytes_max` is the server's
/// limit ([`Database::packet_bytes_max`](auditq_mysql::Database::packet_bytes_max)): a batch may be larger than a
/// packet, a single event may not.
///
/// # Errors
/// What the server reports; a value that a column does not take among it.
pub(super) async fn insert_in(connection: &mut Conn, batch: &Batch, packet_bytes_max: usize) -> Result<Inserted> {
    let now = now_us();
    // What stands around the values: the statement, its types and what says which are NULL.
    let packet = packet_bytes_max.saturating_sub(1 << 16);
    let mut inserted = insert_events(connection, &batch.events, packet, now).await?;
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

async fn insert_events(connection: &mut Conn, events: &[Event], packet: usize, now: i64) -> Result<Inserted> {
    let mut inserted = Inserted::default();
    let mut values = Vec::with_capacity(events.len() * rows::COLUMNS.len());
    let mut sizes = Vec::with_capacity(events.len());
    for event in events {
        let begin = values.len();
        rows::put(&mut values, event, now)?;
        sizes.push(bytes_of(&values[begin..]));
    }
    let mut values = values.into_iter();
    for part in parts(&sizes, rows::COLUMNS.len(), packet) {
        let events = &events[part.clone()];
        if sizes[part].iter().sum::<usize>() > packet {
            // The server closes the connection over it, which would look like an outage.
            return Err(too_large(&events[0], packet));
        }
        let these = values.by_ref().take(events.len() * rows::COLUMNS.len()).collect();
        connection.exec_drop(rows::insert_sql(events.len()), Params::Positional(these)).await?;
        // A row that is there already is "updated" to what it is, which counts as none.
        let stored = connection.affected_rows();
        let duplicates = (events.len() as u64).saturating_sub(stored);
        if duplicates > 0 {
            let carried: Vec<_> = events.iter().map(Amendment::carried_by).collect();
            if let Some(missing) = amendments::apply(connection, &carried).await?.first() {
                return Err(swallowed(missing));
            }
        }
        inserted += Inserted { stored, duplicates, amended: 0 };
    }
    Ok(inserted)
}

/// How many bytes values take in a packet, at the most.
fn bytes_of(values: &[Value]) -> usize {
    let bytes = |value: &Value| match value {
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    values.iter().map(|value| 12 + bytes(value)).sum()
}

fn too_large(event: &Event, packet: usize) -> Error {
    let id = event.event_id;
    Error::Other(
        format!("event {id} is larger than the server's `max_allowed_packet` of {packet} bytes; raise that").into(),
    )
}

/// Neither stored now nor before: a trigger that changes `event_id` would make audited statements vanish.
fn swallowed(missing: &Amendment) -> Error {
    Error::Other(
        format!("event {} is not in audit_sql_logs after its insert; drop the trigger there", missing.event_id).into(),
    )
}
