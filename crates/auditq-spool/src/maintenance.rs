//! What a spool's own thread does, so that appends need not: settle old segments, make new ones ready.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::cursor;
use crate::desk::{Log, SHORTAGE_POLL};
use crate::disk::remove_if_there;
use crate::error::{Attempt as _, DiskError};
use crate::segment::{self, Seal};
use crate::spare::Spare;

/// Segments kept ready.
const READY: usize = 2;
/// How often an idle spool is looked after.
const IDLE_POLL: Duration = Duration::from_secs(1);
/// How often a segment is asked whether its last append has left it.
const SETTLE_POLL: Duration = Duration::from_millis(1);
/// How long a closed spool waits for that.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes after the newest record that are kept writable without a page fault, however slowly they are used.
const WARM_BYTES: u32 = 1 << 20;

/// Looks after `log` until it is stopped and every segment has settled.
pub(crate) fn run(log: &Log) {
    let mut warmed = (0, 0);
    let mut stopped_at = None;
    loop {
        settle(log);
        let desk = log.desk();
        let (stopped, unsettled) = (desk.stopped.is_some(), !desk.retired.is_empty());
        drop(desk);
        if stopped {
            let since = *stopped_at.get_or_insert_with(Instant::now);
            if !unsettled || since.elapsed() > CLOSE_PATIENCE {
                return remove_spares(log);
            }
        } else {
            supply(log);
            trim(log);
            warm(log, &mut warmed);
        }
        wait(log);
    }
}

fn wait(log: &Log) {
    let mut desk = log.desk();
    if std::mem::take(&mut desk.changed) {
        return;
    }
    let rest = match &*desk {
        desk if !desk.retired.is_empty() => SETTLE_POLL,
        desk if desk.ready.len() < READY => SHORTAGE_POLL,
        _ => IDLE_POLL,
    };
    drop(log.work.wait_timeout(desk, rest).unwrap_or_else(PoisonError::into_inner));
}

/// Seals, oldest first, the segments that no append is under way in, and unmaps them.
fn settle(log: &Log) {
    let mut desk = log.desk();
    while let Some((_, extent)) = desk.retired.front() {
        let extent = *extent;
        drop(desk);
        // Walks the records: not under the lock. Only this thread takes from the list.
        if !log.tail.release(extent) {
            return;
        }
        desk = log.desk();
        if let Some((segment, extent)) = desk.retired.pop_front() {
            let (at, words) = Seal { end: extent.end, records: extent.records }.words(segment.seed);
            for (word, at) in words.into_iter().zip((at..).step_by(8)) {
                segment.mapping.store(at, word, Ordering::Release);
            }
            desk.settled.push_back(segment.number);
        }
    }
}

/// Makes segments ready until there are enough, or notes why there cannot be.
fn supply(log: &Log) {
    loop {
        let desk = log.desk();
        if desk.stopped.is_some() || desk.ready.len() >= READY {
            return;
        }
        drop(desk);
        let spare = next_spare(log);
        let mut desk = log.desk();
        match spare {
            Ok(Some(spare)) => {
                desk.ready.push(spare);
                desk.shortage = None;
            }
            Ok(None) => {
                let limit = log.options.max_bytes;
                desk.shortage =
                    desk.ready.is_empty().then(|| format!("the spool has reached its limit of {limit} bytes"));
            }
            Err(error) => desk.shortage = desk.ready.is_empty().then(|| error.to_string()),
        }
        log.room.notify_all();
        if desk.shortage.is_some() || desk.ready.is_empty() {
            return;
        }
    }
}

/// Recycles the oldest segment if it has been read, or creates one if the limit allows; `None` when neither.
fn next_spare(log: &Log) -> Result<Option<Spare>, DiskError> {
    let read_before = read_before(log)?;
    let mut desk = log.desk();
    if let Some(number) = desk.settled.pop_front_if(|number| *number < read_before) {
        drop(desk);
        let spare = Spare::recycle(log, number);
        if spare.is_err() {
            forget_or_keep(log, number);
        }
        return spare.map(Some);
    }
    if (desk.files + 1).saturating_mul(u64::from(log.options.segment_bytes)) > log.options.max_bytes {
        return Ok(None);
    }
    drop(desk);
    let spare = Spare::create(log)?;
    log.desk().files += 1;
    Ok(Some(spare))
}

/// Puts a segment that could not be recycled back, unless its file is gone.
fn forget_or_keep(log: &Log, number: u64) {
    let there = log.directory.join(segment::file_name(number)).exists();
    let mut desk = log.desk();
    if there {
        desk.settled.push_front(number);
    } else {
        desk.files -= 1;
    }
}

/// Returns the number before which every segment has been read for good. A cursor that leads is not believed.
fn read_before(log: &Log) -> Result<u64, DiskError> {
    let newest = log.desk().newest.as_ref().map_or(0, |newest| newest.number);
    let cursor = cursor::load(&log.directory, log.id)?;
    Ok(cursor.map(|position| position.segment).filter(|&number| number <= newest).unwrap_or(0))
}

/// Removes segments that have been read, after a backlog has gone, but for as many as are soon recycled.
fn trim(log: &Log) {
    if log.desk().settled.len() <= READY {
        return;
    }
    // An error here costs disk space until the next look, and a shortage will name it.
    let Ok(read_before) = read_before(log) else { return };
    loop {
        let mut desk = log.desk();
        if desk.settled.get(READY).is_none_or(|&number| number >= read_before) {
            return;
        }
        let Some(number) = desk.settled.pop_front() else { return };
        drop(desk);
        let path = log.directory.join(segment::file_name(number));
        if remove_if_there(&*log.disk, &path).is_err() {
            log.desk().settled.push_front(number);
            return;
        }
        log.desk().files -= 1;
    }
}

/// Keeps the pages that the next appends will use writable: the kernel protects them whenever it writes them back.
fn warm(log: &Log, warmed: &mut (u64, u32)) {
    let desk = log.desk();
    let (Some(newest), Some(extent)) = (&desk.newest, log.tail.extent()) else { return };
    let now = (newest.number, extent.end);
    if std::mem::replace(warmed, now) != now {
        let mapping = std::sync::Arc::clone(&newest.mapping);
        drop(desk);
        mapping.warm(now.1, now.1.saturating_add(WARM_BYTES));
    }
}

fn remove_spares(log: &Log) {
    let ready = std::mem::take(&mut log.desk().ready);
    for spare in ready {
        // What stays is removed with the directory.
        if remove_if_there(&*log.disk, &spare.path).attempt("remove", &spare.path).is_ok() {
            log.desk().files -= 1;
        }
    }
}
