//! What recording costs the request, measured where it happens.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use auditq::{Bindings, Config, Observed, Recorder, Source, System, Value};
use auditq_sqlx::AuditedDatabase as _;
use sqlx::Arguments as _;
use sqlx::Sqlite;
use sqlx::sqlite::SqliteArguments;

/// Times that are kept; of a longer run, every so many statements give one.
const SAMPLES_MAX: u64 = 50_000;

/// A second recorder, with a spool of its own that nobody reads: it is handed statements that have just run, in the
/// same request on the same thread, and each call is timed.
///
/// The time includes the copies that the sqlx adapter makes, reading the bindings, and two looks at the clock.
#[derive(Debug)]
pub(super) struct Meter {
    recorder: Recorder,
    source: Source,
    arguments: SqliteArguments,
    every: u64,
    seen: AtomicU64,
    nanoseconds: Mutex<Vec<u64>>,
}

/// Times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Percentiles {
    pub(super) p50: u64,
    pub(super) p99: u64,
}

impl Meter {
    /// Opens the recorder in `folder`, configured as the application's own.
    pub(super) fn open(config: &Config, folder: &Path, queries: u64) -> Result<Self> {
        let mut config = config.clone();
        folder.clone_into(&mut config.spool.dir);
        let mut arguments = SqliteArguments::default();
        let added = arguments.add(4_711_i64).and_then(|()| arguments.add("Customer#000004711"));
        added.map_err(|error| anyhow::anyhow!(error)).context("cannot make bindings for the measurement")?;
        Ok(Self {
            recorder: Recorder::open(&config)?,
            source: Source::new(System::Sqlite, "measurement", "none"),
            arguments,
            every: queries.div_ceil(SAMPLES_MAX).max(1),
            seen: AtomicU64::new(0),
            nanoseconds: Mutex::default(),
        })
    }

    /// Records a statement that has just run, and keeps how long that took.
    pub(super) fn sample(&self, sql: &str) {
        if !self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.every) {
            return;
        }
        let start = Instant::now();
        {
            let bindings = Copied(self.arguments.clone());
            let mut observed = Observed::new(&self.source, sql);
            observed.bindings = &bindings;
            observed.rows_returned = Some(1);
            self.recorder.record(&observed);
        }
        let taken = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
    }

    /// What half, and what all but one in a hundred, of the calls took at the most.
    pub(super) fn percentiles(&self) -> Percentiles {
        let mut times = self.nanoseconds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.sort_unstable();
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1))).copied();
        Percentiles { p50: at(50).unwrap_or_default(), p99: at(99).unwrap_or_default() }
    }
}

/// Bindings as the sqlx adapter reads them.
struct Copied(SqliteArguments);

impl Bindings for Copied {
    fn lend(&self, then: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>)) {
        Sqlite::lend_values(&self.0, then);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_run_only_some_statements_are_timed() {
        let folder = tempfile::tempdir().unwrap();
        let meter = Meter::open(&Config::default(), folder.path(), 3 * SAMPLES_MAX).unwrap();
        assert_eq!(meter.percentiles(), Percentiles::default());
        auditq::Context::of(auditq::ActorExt::job("test")).run(|| (0..30).for_each(|_| meter.sample("SELECT 1")));
        assert_eq!(meter.nanoseconds.lock().unwrap().len(), 10);
        let stats = meter.recorder.stats();
        assert_eq!(stats.recorded + stats.collapsed, 10);
        let Percentiles { p50, p99 } = meter.percentiles();
        assert!(0 < p50 && p50 <= p99, "{p50} {p99}");
    }
}
