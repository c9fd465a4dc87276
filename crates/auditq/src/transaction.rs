use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use auditq_event::TransactionOutcome;

use crate::context::Context;
use crate::duplicates::Key;
use crate::journal::Entry;
use crate::recorder::Recorder;

/// Events of one transaction whose outcome is told; what is over stays `unknown`, and is counted.
const STEPS_MAX: usize = 1 << 18;
/// Bytes of events that one transaction holds back; what is over is recorded at once.
const HELD_BYTES_MAX: usize = 1 << 20;

/// A transaction or savepoint that statements run in, and the place where its outcome is told.
///
/// With `after_commit = false` its events are recorded at once and their outcome follows when it ends; with `true`
/// they are held until then. Either way a rolled-back attempt is in the log, marked as such. Dropping the scope
/// without a word means that it was rolled back. An outcome is told for the first 262,144 events.
pub struct TransactionScope {
    recorder: Recorder,
    shared: Arc<Shared>,
    /// Differs for each savepoint: a statement asked again after a rollback is no repeat.
    serial: u64,
    /// For a savepoint, how many steps came before it.
    savepoint_at: Option<usize>,
    ended: bool,
}

struct Shared {
    id: String,
    steps: Mutex<Steps>,
}

#[derive(Default)]
struct Steps {
    list: Vec<Step>,
    held_bytes: usize,
}

/// An event of the transaction.
pub(crate) enum Step {
    Recorded(Entry),
    Held(Box<Held>),
}

/// An event that waits for its transaction to end.
pub(crate) struct Held {
    pub(crate) key: Key,
    pub(crate) occurred_at: i64,
    pub(crate) context: Context,
    pub(crate) record: Box<[u8]>,
}

impl TransactionScope {
    pub(crate) fn new(recorder: Recorder) -> Self {
        let serial = next_serial();
        let shared = Arc::new(Shared { id: serial.to_string(), steps: Mutex::default() });
        Self { recorder, shared, serial, savepoint_at: None, ended: false }
    }

    /// Begins a savepoint. Its statements carry the id of the transaction around it, and share its outcome unless the
    /// savepoint itself is rolled back. It must end before what it was taken in.
    #[must_use]
    pub fn savepoint(&self) -> Self {
        Self {
            recorder: self.recorder.clone(),
            shared: Arc::clone(&self.shared),
            serial: next_serial(),
            savepoint_at: Some(self.steps().list.len()),
            ended: false,
        }
    }

    /// Identity of the transaction, unique within the process.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Says that it was committed, or the savepoint released.
    pub fn commit(mut self) {
        self.end(TransactionOutcome::Committed);
    }

    /// Says that it was rolled back.
    pub fn roll_back(mut self) {
        self.end(TransactionOutcome::RolledBack);
    }

    /// Says that nobody knows: the connection broke during the commit.
    pub fn lose(mut self) {
        self.end(TransactionOutcome::Unknown);
    }

    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// Takes note of an event that was recorded. `false` when there are too many to tell their outcome.
    pub(crate) fn note(&self, entry: Entry) -> bool {
        let mut steps = self.steps();
        let fits = steps.list.len() < STEPS_MAX;
        if fits {
            steps.list.push(Step::Recorded(entry));
        }
        fits
    }

    /// Holds an event back. `false` when it must be recorded at once.
    pub(crate) fn hold(&self, key: Key, occurred_at: i64, context: &Context, record: &[u8]) -> bool {
        let mut steps = self.steps();
        let fits = steps.list.len() < STEPS_MAX && steps.held_bytes + record.len() <= HELD_BYTES_MAX;
        if fits {
            steps.held_bytes += record.len();
            let held = Held { key, occurred_at, context: context.clone(), record: record.into() };
            steps.list.push(Step::Held(Box::new(held)));
        }
        fits
    }

    fn end(&mut self, outcome: TransactionOutcome) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if self.savepoint_at.is_some() && outcome == TransactionOutcome::Committed {
            return;
        }
        let ended = self.take_steps();
        self.recorder.settle(ended, outcome);
    }

    fn take_steps(&self) -> Vec<Step> {
        let mut steps = self.steps();
        let from = self.savepoint_at.unwrap_or(0).min(steps.list.len());
        let taken = steps.list.split_off(from);
        let bytes = |step: &Step| if let Step::Held(held) = step { held.record.len() } else { 0 };
        steps.held_bytes -= taken.iter().map(bytes).sum::<usize>();
        taken
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.shared.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TransactionScope {
    fn drop(&mut self) {
        self.end(TransactionOutcome::RolledBack);
    }
}

impl fmt::Debug for TransactionScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionScope").field("id", &self.shared.id).finish_non_exhaustive()
    }
}

/// 0 is no transaction.
fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
