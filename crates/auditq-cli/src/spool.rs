//! What waits in the spools of this host, looked at from outside.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use auditq_spool::{Chunk, ProducerId, Reader};
use serde::Serialize;

/// The longest that the records of all spools are counted: the count is for a person who waits.
const COUNTING_MAX: Duration = Duration::from_secs(2);

/// What waits in the spools of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SpoolStatus {
    /// Processes that have a spool here, living or dead.
    pub(crate) producers: u64,
    /// Those that have ended and left records that nobody has read yet.
    pub(crate) producers_dead_waiting: u64,
    /// Those whose spool a forwarder is reading at this moment; it will not say how far it is.
    pub(crate) producers_being_read: u64,
    /// Records that wait in the spools that nobody reads.
    pub(crate) records_waiting: u64,
    /// True when there are more of them than could be counted in two seconds.
    pub(crate) more: bool,
    /// Bytes of disk that all spools take, room made ready included.
    pub(crate) disk_bytes: u64,
}

/// Looks at every spool under `dir`. A folder that is not there holds none.
///
/// A spool that nobody reads is read without moving its cursor; a forwarder that comes meanwhile waits for its turn.
pub(crate) fn look(dir: &Path) -> Result<SpoolStatus> {
    let mut status = SpoolStatus::default();
    let until = Instant::now() + COUNTING_MAX;
    for producer in Reader::producers(dir)? {
        status.producers += 1;
        status.disk_bytes += disk_bytes(&dir.join(producer.to_string()));
        look_at(dir, producer, until, &mut status)?;
    }
    Ok(status)
}

fn look_at(dir: &Path, producer: ProducerId, until: Instant, status: &mut SpoolStatus) -> Result<()> {
    let Some(mut reader) = Reader::open(dir, producer)? else {
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
        records += chunk.records().len() as u64;
    }
    if records > 0 && reader.writer_is_dead()? {
        status.producers_dead_waiting += 1;
    }
    status.records_waiting += records;
    Ok(())
}

/// Bytes that a spool's files take on the disk; what has gone meanwhile counts as nothing.
fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = dir.read_dir() else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.blocks() * 512).sum()
}
