//! Threads that have a file open, counted: what ends the process in the middle of closing one leaves it untidy.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

static OPEN: Mutex<usize> = Mutex::new(0);
static CLOSED: Condvar = Condvar::new();

/// A thread that has a file open, for as long as it lives.
pub(crate) struct OpenFile(());

impl OpenFile {
    pub(crate) fn count() -> Self {
        *OPEN.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self(())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        *OPEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        CLOSED.notify_all();
    }
}

/// Waits until every file of this process is closed whose last [`Database`](crate::Database) is gone; `false` when that
/// takes longer than `at_most`, or a handle is left.
///
/// For the end of a process. Who closes a file last brings its log in, and removes first the log's index and then the
/// log; a process that ends between the two leaves what looks like a crash.
pub fn wait_until_closed(at_most: Duration) -> bool {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = CLOSED.wait_timeout_while(open, at_most, |open| *open > 0);
    *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
}
