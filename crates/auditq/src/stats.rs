use std::sync::atomic::{AtomicU64, Ordering};

/// A number that several threads add to. Each has a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter),+ }

        /// What a [`Recorder`](crate::Recorder) has done since it was opened. Every statement that it was shown is in
        /// exactly one of `recorded`, `collapsed`, `held`, and the numbers that begin with `skipped` or `dropped`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$meta])* pub $name: u64,)+
            /// Spools opened because an earlier one had failed or belonged to the process before a fork.
            pub spools_reopened: u64,
        }

        impl Counters {
            pub(crate) fn snapshot(&self, spools_reopened: u64) -> Stats {
                Stats { $($name: self.$name.get(),)+ spools_reopened }
            }
        }
    };
}

counters! {
    /// Events that are in the spool.
    recorded,
    /// Repeats that were added to an event's count.
    collapsed,
    /// Events that wait for their transaction to end.
    held,
    /// Statements for which nobody was signed in.
    skipped_anonymous,
    /// Statements seen while recording was switched off.
    skipped_disabled,
    /// Statements of the audit log itself.
    skipped_suppressed,
    /// Repeats that were left out, in the mode `drop`.
    dropped_duplicates,
    /// Events for which the spool had no room; the log has a gap that says how many.
    dropped_full,
    /// Events larger than a segment of the spool; the log has a gap for each.
    dropped_oversized,
    /// What came while no spool could be opened; the next spool begins with a gap that says how many.
    dropped_unavailable,
    /// Events that could not be made because something panicked on the way; the panic went no further.
    dropped_panicked,
    /// Events whose transaction ended without a record of it: it had too many, or its spool was replaced.
    outcomes_unknown,
}
