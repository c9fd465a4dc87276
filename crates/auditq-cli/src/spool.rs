//! What waits in the spools of this host, looked at from outside.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use auditq_event::Record;
use auditq_spool::{Chunk, ProducerId, Reader};
use auditq_worker::InboxStatus;
use serde::Serialize;

use crate::time;

/// The longest that the records of all spools are counted: the count is for a person who waits.
const COUNTING_MAX: Duration = Duration::from_secs(2);

/// What waits in the spools of this host.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct SpoolStatus {
    /// Processes that have a spool here, living or dead.
    pub(crate) producers: u64,
    /// Those that have ended and left records that nobody has read yet.
    pub(crate) producers_dead_waiting: u64,
    /// Those whose spool a forwarder is reading at this moment; it will not say how far it is.
    pub(crate) producers_being_read: u64,
    /// Those whose spool cannot be read, by this user for example.
    pub(crate) producers_unreadable: u64,
    /// Why the last of them cannot be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<String>,
    /// Records that wait in the spools that nobody reads.
    pub(crate) records_waiting: u64,
    /// True when there are more of them than could be counted in two seconds.
    pub(crate) more: bool,
    /// For how long the oldest of them has been waiting.
    pub(crate) oldest_seconds: Option<f64>,
    /// Requests of other languages' processes that wait in the inbox to be forwarded.
    pub(crate) inbox_files: u64,
    /// Bytes of them.
    pub(crate) inbox_bytes: u64,
    /// Files that were put aside there because they are no message.
    pub(crate) inbox_rejected: u64,
    /// Bytes of disk that all spools take, room made ready included.
    pub(crate) disk_bytes: u64,
}

/// Looks at every spool under `dir`. A folder that is not there holds none.
///
/// A spool that nobody reads is read without moving its cursor; a forwarder that comes meanwhile waits for its turn.
/// No file is made or changed.
pub(crate) fn look(dir: &Path) -> Result<SpoolStatus> {
    let mut status = SpoolStatus::default();
    let until = Instant::now() + COUNTING_MAX;
    for producer in Reader::producers(dir)? {
        status.producers += 1;
        status.disk_bytes += disk_bytes(&dir.join(producer.to_string()));
        if let Err(error) = look_at(dir, producer, until, &mut status) {
            status.producers_unreadable += 1;
            status.trouble = Some(error.to_string());
        }
    }
    look_into_inbox(dir, &mut status);
    Ok(status)
}

fn look_into_inbox(dir: &Path, status: &mut SpoolStatus) {
    let inbox = match InboxStatus::look(dir) {
        Ok(inbox) => inbox,
        Err(error) => {
            status.producers_unreadable += 1;
            status.trouble = Some(format!("cannot look into the inbox in {}: {error}", dir.display()));
            return;
        }
    };
    status.inbox_files = inbox.files;
    status.inbox_bytes = inbox.bytes;
    status.inbox_rejected = inbox.rejected;
    let age = inbox.oldest_at.map(time::seconds_since);
    status.oldest_seconds = status.oldest_seconds.into_iter().chain(age).reduce(f64::max);
}

fn look_at(dir: &Path, producer: ProducerId, until: Instant, status: &mut SpoolStatus) -> Result<()> {
    let Some(mut reader) = Reader::look(dir, producer)? else {
        status.producers_being_read += 1;
        return Ok(());
    };
    let mut chunk = Chunk::default();
    let mut records = 0;
    loop {
        if Instant::now() > until {
            status.more = true;
            break;
        }
        reader.read(&mut chunk, 10_000, 1 << 20)?;
        if chunk.is_empty() {
            break;
        }
        if records == 0 {
            let age = chunk.records().next().and_then(|record| age_seconds(record.payload));
            status.oldest_seconds = status.oldest_seconds.into_iter().chain(age).reduce(f64::max);
        }
        records += chunk.records().len() as u64;
    }
    if records > 0 && reader.writer_is_dead()? {
        status.producers_dead_waiting += 1;
    }
    status.records_waiting += records;
    Ok(())
}

/// How long ago a record was written; `None` for one that this release cannot read.
fn age_seconds(payload: &[u8]) -> Option<f64> {
    let at = match Record::decode(payload, [0; 16], 0).ok()? {
        Record::Event(event) => event.recorded_at,
        Record::Repeat { last_at, .. } => last_at,
        Record::Outcome { targets, .. } => targets.first()?.occurred_at,
        Record::Gap(gap) => gap.last_at,
    };
    Some(time::seconds_since(at))
}

/// Bytes that a spool's files take on the disk; what has gone meanwhile counts as nothing.
fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = dir.read_dir() else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.blocks() * 512).sum()
}
