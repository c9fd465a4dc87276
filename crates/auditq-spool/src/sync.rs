//! Group commit: one `fdatasync` serves every append that waits when it starts.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::desk::Stop;

/// Appends that wait for the disk.
#[derive(Debug, Default)]
pub(crate) struct SyncQueue {
    tickets: Mutex<Tickets>,
    wanted: Condvar,
    done: Condvar,
}

#[derive(Debug, Default)]
struct Tickets {
    issued: u64,
    synced: u64,
    stopped: Option<Stop>,
    /// The thread has ended: nothing will be synced any more.
    ended: bool,
}

impl SyncQueue {
    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a sync that began after this call has succeeded.
    pub(crate) fn wait(&self) -> Result<(), Stop> {
        let mut tickets = self.tickets();
        tickets.issued += 1;
        let mine = tickets.issued;
        self.wanted.notify_one();
        loop {
            match tickets.stopped {
                _ if tickets.synced >= mine => return Ok(()),
                Some(Stop::Poisoned) => return Err(Stop::Poisoned),
                Some(Stop::Closed) if tickets.ended => return Err(Stop::Closed),
                _ => tickets = self.done.wait(tickets).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Syncs, by `sync`, whenever somebody waits, until it fails or the queue is stopped and empty.
    pub(crate) fn run(&self, sync: impl Fn() -> bool) {
        while let Some(upto) = self.next_group() {
            let synced = sync();
            let mut tickets = self.tickets();
            if synced {
                tickets.synced = upto;
            } else {
                tickets.stopped = Some(Stop::Poisoned);
            }
            self.done.notify_all();
        }
    }

    /// Waits for somebody to wait; returns the last ticket of the group, or `None` at the end.
    fn next_group(&self) -> Option<u64> {
        let mut tickets = self.tickets();
        loop {
            match tickets.stopped {
                Some(Stop::Poisoned) => break,
                _ if tickets.issued > tickets.synced => return Some(tickets.issued),
                Some(Stop::Closed) => break,
                None => tickets = self.wanted.wait(tickets).unwrap_or_else(PoisonError::into_inner),
            }
        }
        tickets.ended = true;
        self.done.notify_all();
        None
    }

    /// Lets the queue end: at once when poisoned, once it is empty when closed.
    pub(crate) fn stop(&self, why: Stop) {
        let mut tickets = self.tickets();
        tickets.stopped = tickets.stopped.or(Some(why));
        self.wanted.notify_all();
        self.done.notify_all();
    }
}
