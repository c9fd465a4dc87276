use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use auditq_laravel::Duty;

/// Something that a worker or forwarder did, for people and programs that watch.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WorkEvent {
    /// A worker takes messages from now on.
    Started {
        /// Its number within the process, from 0.
        worker: usize,
    },
    /// Messages became rows.
    Stored {
        /// The worker's number.
        worker: usize,
        /// Messages settled.
        messages: usize,
        /// Rows that were new.
        rows: u64,
        /// Events that were there already.
        duplicates: u64,
        /// From reservation to settlement.
        took: Duration,
    },
    /// Events were refused and given back, to be tried again.
    Released {
        /// The worker's number.
        worker: usize,
        /// Events in the message that is left.
        events: usize,
        /// Which try it was.
        attempts: u32,
        /// When it will be tried again.
        delay: Duration,
        /// Why.
        reason: String,
    },
    /// Events were given up and kept for a person.
    Buried {
        /// The worker's number.
        worker: usize,
        /// Events in the message that is left; 0 when it is not known how many.
        events: usize,
        /// Which try it was.
        attempts: u32,
        /// Why.
        reason: String,
    },
    /// Jobs that are not stored here are left in the queue, without using up a try. Told once for each kind.
    Declined {
        /// Their class.
        class: String,
        /// What Laravel's own worker has to do for them; `None` when it is their class that is not served.
        duty: Option<Duty>,
    },
    /// An engine does not answer; it is tried again after `delay`, and nothing is given up.
    Waiting {
        /// What was attempted, and what may be done.
        error: String,
        /// Until the next try.
        delay: Duration,
    },
    /// An engine answers again.
    Recovered {
        /// How long it was waited for.
        after: Duration,
    },
    /// A spool was read into the queue.
    Forwarded {
        /// Messages pushed.
        messages: usize,
        /// Records in them.
        records: usize,
    },
    /// The spool of a process that has ended was taken over.
    Adopted {
        /// Its producer id.
        producer: String,
    },
    /// Records can never come: dropped for want of room, or damaged on the disk. The gap is stored as a row.
    GapFound {
        /// Whose.
        producer: String,
        /// How many records, where it is known.
        records: u64,
        /// What happened.
        what: String,
    },
    /// A worker has ended.
    Stopped {
        /// The worker's number.
        worker: usize,
        /// Why.
        reason: StopReason,
    },
}

/// Why a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Asked to, by a signal or by the application.
    Interrupted,
    /// `--max-jobs` reached.
    MaxJobs,
    /// `--max-time` reached.
    MaxTime,
    /// `--memory` exceeded.
    Memory,
    /// `--stop-when-empty`, and it is; or `--once`, and it has.
    Empty,
    /// `auditq queue restart`.
    Restart,
}

impl StopReason {
    /// As it stands in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::MaxJobs => "max_jobs",
            Self::MaxTime => "max_time",
            Self::Memory => "memory",
            Self::Empty => "empty",
            Self::Restart => "restart_signal",
        }
    }

    /// The exit code of a worker process, as Laravel has it: 12 when memory ran over, else 0.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        if self == Self::Memory { 12 } else { 0 }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Hears of every [`WorkEvent`]. It is called on the worker's own task and should be quick.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&WorkEvent) + Send + Sync>);

impl Observer {
    /// Calls `hear` for each event.
    pub fn new(hear: impl Fn(&WorkEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    pub(crate) fn tell(&self, event: &WorkEvent) {
        (self.0)(event);
    }
}

impl Default for Observer {
    /// Writes to `tracing`.
    fn default() -> Self {
        Self::new(trace)
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

fn trace(event: &WorkEvent) {
    match event {
        WorkEvent::Stored { .. } | WorkEvent::Forwarded { .. } => tracing::debug!(target: "auditq", ?event),
        WorkEvent::Started { .. }
        | WorkEvent::Stopped { .. }
        | WorkEvent::Recovered { .. }
        | WorkEvent::Adopted { .. }
        | WorkEvent::Declined { duty: None, .. } => {
            tracing::info!(target: "auditq", ?event);
        }
        WorkEvent::Released { .. } | WorkEvent::Waiting { .. } | WorkEvent::Declined { .. } => {
            tracing::warn!(target: "auditq", ?event);
        }
        WorkEvent::Buried { .. } | WorkEvent::GapFound { .. } => tracing::error!(target: "auditq", ?event),
    }
}
