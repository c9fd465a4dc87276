use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use auditq_config::{Capture, Config, Duplicates as Mode};
use auditq_event::{
    Event, Limits, Occurrence, Operation, Record, Redaction, Target, TransactionOutcome, encode_bindings, query_hash,
};

use crate::context::Context;
use crate::dispatch::Dispatch;
use crate::duplicates::{Duplicates, Key, Repeat, keyed_hash};
use crate::error::OpenError;
use crate::journal::{Entry, Journal, Loss, now_us};
use crate::observed::Observed;
use crate::scratch::{self, Scratch};
use crate::statements::{Known, Statements};
use crate::stats::{Counters, Stats};
use crate::transaction::{Step, TransactionScope};
use crate::{key, settings};

/// Events whose outcome is told in one record of the spool, at most.
const TARGETS_PER_RECORD: usize = 1024;

/// Writes every statement that it is shown to the spool, with the person it ran for.
///
/// Opening one can fail; recording cannot: [`record`](Self::record) returns nothing, does not panic, and waits for
/// nothing but what was asked for (`when_full = "block"`, `durability = "fsync"`). What could not be kept is counted,
/// and the log itself says that it is missing. Cloning gives another handle to the same recorder.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// `None` while recording is switched off.
    pub(crate) journal: Option<Journal>,
    pub(crate) capture: Capture,
    pub(crate) limits: Limits,
    pub(crate) redaction: Redaction,
    pub(crate) statements: Statements,
    /// Of what is asked outside every context.
    duplicates: Duplicates,
    pub(crate) counters: Counters,
}

impl Recorder {
    /// Opens a recorder as `auditq.toml` and the environment say.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the configuration cannot be used.
    pub fn from_env() -> Result<Self, OpenError> {
        Self::open(&Config::from_env()?)
    }

    /// Opens a recorder with a spool of its own in the configured folder, which is created where it is missing.
    ///
    /// # Errors
    /// When the folder cannot be written to, or the redaction key in it cannot be read.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        if !config.capture.enabled {
            return Ok(Self::disabled());
        }
        let folder = &config.spool.dir;
        std::fs::create_dir_all(folder).map_err(|source| OpenError::Folder { path: folder.clone(), source })?;
        let key = key::find(&config.capture.redact, folder)?;
        let journal = Journal::open(folder.clone(), settings::spool(config))?;
        Ok(Self::with(&config.capture, Some(journal), settings::redaction(&config.capture, key)))
    }

    /// Makes a recorder that records nothing, and counts what it was shown.
    #[must_use]
    pub fn disabled() -> Self {
        Self::with(&Capture::default(), None, Redaction::new([0; 32]))
    }

    fn with(capture: &Capture, journal: Option<Journal>, redaction: Redaction) -> Self {
        Self {
            inner: Arc::new(Inner {
                journal,
                capture: capture.clone(),
                limits: settings::limits(capture),
                redaction,
                statements: Statements::new(),
                duplicates: Duplicates::of_the_process(),
                counters: Counters::default(),
            }),
        }
    }

    /// Records one execution of one statement.
    ///
    /// When it returns, the event survives what the spool's durability says. It is skipped, and counted, when nobody
    /// is signed in; counted on an earlier event when the same was asked before in this context.
    pub fn record(&self, observed: &Observed<'_>) {
        self.guarded(|inner| scratch::with(|scratch| inner.record(observed, scratch)));
    }

    /// Whatever panics on the way, an adapter's reading of bindings for one, must not reach the application.
    pub(crate) fn guarded(&self, record: impl FnOnce(&Inner)) {
        if catch_unwind(AssertUnwindSafe(|| record(&self.inner))).is_err() {
            self.inner.counters.dropped_panicked.increment();
        }
    }

    /// Takes an event that the application has made itself; see [`Dispatch`].
    pub fn dispatch(&self, event: Event) -> Dispatch {
        Dispatch::new(self.clone(), event)
    }

    /// Begins a transaction, whose outcome the scope is told.
    #[must_use]
    pub fn begin(&self) -> TransactionScope {
        TransactionScope::new(self.clone())
    }

    /// The keyed hash that a session is known by in the log: never the session's id itself.
    #[must_use]
    pub fn session_hash(&self, session_id: &str) -> String {
        self.inner.redaction.session_hash(session_id)
    }

    /// What was recorded, skipped and dropped so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let reopened = self.inner.journal.as_ref().map_or(0, |journal| journal.reopened.get());
        self.inner.counters.snapshot(reopened)
    }

    /// How the spool is doing; `None` while recording is switched off. It reads files: not for the hot path.
    #[must_use]
    pub fn spool_stats(&self) -> Option<auditq_spool::SpoolStats> {
        self.inner.journal.as_ref().map(|journal| journal.spool().stats())
    }

    /// Records what waited for a transaction, and tells the outcome of all its events.
    pub(crate) fn settle(&self, steps: Vec<Step>, outcome: TransactionOutcome) {
        self.guarded(|inner| inner.settle(steps, outcome));
    }
}

impl Inner {
    fn record(&self, observed: &Observed<'_>, scratch: &mut Scratch) {
        let Some(journal) = &self.journal else { return self.counters.skipped_disabled.increment() };
        let context = &observed.context;
        if !self.wants(context) {
            return;
        }
        let Scratch { front, bindings, record } = scratch;
        let known = self.statements.get(observed.source.system(), observed.sql, &self.redaction, &self.limits, front);
        observed.bindings.lend(&mut |values| {
            encode_bindings(values, &known.statement, &self.redaction, &self.limits, bindings);
        });
        let key = self.key_of(observed, known, bindings);
        let holding = observed.transaction.filter(|_| self.capture.after_commit);
        if holding.is_none() && self.is_repeat(journal, key, observed.started_at, context) {
            return;
        }
        self.encode(observed, known, key.query_hash, bindings, record);
        if holding.is_some_and(|transaction| transaction.hold(key, observed.started_at, context, record)) {
            return self.counters.held.increment();
        }
        if let Some(entry) = self.append(journal, key, observed.started_at, context, record)
            && observed.transaction.is_some_and(|transaction| !transaction.note(entry))
        {
            self.counters.outcomes_unknown.increment();
        }
    }

    /// Only what runs for somebody is recorded, unless the configuration says otherwise.
    pub(crate) fn wants(&self, context: &Context) -> bool {
        if context.is_suppressed() {
            self.counters.skipped_suppressed.increment();
            return false;
        }
        if !context.has_actor() && !self.capture.track_anonymous {
            self.counters.skipped_anonymous.increment();
            return false;
        }
        true
    }

    /// What makes an execution the same as an earlier one: text, bindings, user, database, and all that came of it.
    /// So an error never hides behind a success, and a read of a thousand rows never behind one of none.
    fn key_of(&self, observed: &Observed<'_>, known: &Known, bindings: &[u8]) -> Key {
        let parts = [
            known.keyed_hash,
            observed.source.code().keyed_hash,
            observed.context.user_keyed_hash(),
            observed.status.code().into(),
            observed.error_code.map_or(0, |code| keyed_hash(&code)),
            rows_affected(observed, known).map_or(0, |rows| rows.wrapping_add(1)),
            observed.rows_returned.map_or(0, |rows| rows.wrapping_add(1)),
            observed.transaction.map_or(0, TransactionScope::serial),
        ];
        Key {
            query_hash: query_hash(known.statement.hash(), bindings, observed.context.user()),
            keyed: keyed_hash(&(parts.as_slice(), bindings)),
        }
    }

    /// Counts the execution on an earlier event of the same. `false` when there is none.
    fn is_repeat(&self, journal: &Journal, key: Key, at: i64, context: &Context) -> bool {
        if self.capture.duplicates == Mode::Off {
            return false;
        }
        let duplicates = context.duplicates().unwrap_or(&self.duplicates);
        let Some(Repeat { first, count }) = duplicates.repeat(key, at, self.ttl_us(), journal.generation()) else {
            return false;
        };
        if self.capture.duplicates == Mode::Drop {
            self.counters.dropped_duplicates.increment();
            return true;
        }
        let target = Target { occurred_at: first.occurred_at, seq: first.seq };
        match journal.append(at, &Record::Repeat { target, count, last_at: at }.encode()) {
            Ok(_) => self.counters.collapsed.increment(),
            Err(loss) => self.count(loss),
        }
        true
    }

    fn encode(&self, observed: &Observed<'_>, known: &Known, query_hash: u64, bindings: &[u8], record: &mut Vec<u8>) {
        let message = observed.error_message.map(|message| self.without_secrets(message, observed, known));
        Occurrence {
            occurred_at: observed.started_at,
            recorded_at: observed.ended_at(),
            duration_us: observed.duration_us(),
            query_hash,
            statement: known.statement.encoded(),
            bindings,
            context: [
                observed.context.encoded_actor(&self.limits),
                observed.context.encoded_origin(&self.limits),
                &observed.source.code().encoded,
            ],
            status: observed.status,
            error_code: observed.error_code,
            error_message: message.as_deref(),
            rows_affected: rows_affected(observed, known),
            rows_returned: observed.rows_returned,
            transaction_id: observed.transaction.map(TransactionScope::id),
            transaction_outcome: match observed.transaction {
                Some(_) => TransactionOutcome::Unknown,
                None => TransactionOutcome::Autocommit,
            },
        }
        .encode(&self.limits, record);
    }

    #[cold]
    fn without_secrets(&self, message: &str, observed: &Observed<'_>, known: &Known) -> String {
        let mut redacted = String::new();
        observed.bindings.lend(&mut |values| {
            redacted = self.redaction.redact_error(message, &known.statement, values).into_owned();
        });
        redacted
    }

    /// Writes an event, and remembers it as the first of its kind.
    fn append(&self, journal: &Journal, key: Key, at: i64, context: &Context, record: &[u8]) -> Option<Entry> {
        match journal.append(at, record) {
            Ok(entry) => {
                self.counters.recorded.increment();
                if self.capture.duplicates != Mode::Off {
                    context.duplicates().unwrap_or(&self.duplicates).remember(key, entry, self.ttl_us());
                }
                Some(entry)
            }
            Err(loss) => {
                self.count(loss);
                None
            }
        }
    }

    fn settle(&self, steps: Vec<Step>, outcome: TransactionOutcome) {
        let Some(journal) = &self.journal else { return };
        let entries: Vec<Entry> = steps.into_iter().filter_map(|step| self.entry_of(journal, step)).collect();
        if outcome == TransactionOutcome::Unknown {
            return;
        }
        let generation = journal.generation();
        let (targets, lost): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(|entry| entry.generation == generation);
        self.counters.outcomes_unknown.add(lost.len() as u64);
        for chunk in targets.chunks(TARGETS_PER_RECORD) {
            let targets = chunk.iter().map(|entry| Target { occurred_at: entry.occurred_at, seq: entry.seq }).collect();
            if journal.append(now_us(), &Record::Outcome { outcome, targets }.encode()).is_err() {
                self.counters.outcomes_unknown.add(chunk.len() as u64);
            }
        }
    }

    fn entry_of(&self, journal: &Journal, step: Step) -> Option<Entry> {
        match step {
            Step::Recorded(entry) => Some(entry),
            Step::Held(held) => {
                self.counters.held.decrement();
                if self.is_repeat(journal, held.key, held.occurred_at, &held.context) {
                    return None;
                }
                self.append(journal, held.key, held.occurred_at, &held.context, &held.record)
            }
        }
    }

    pub(crate) fn count(&self, loss: Loss) {
        match loss {
            Loss::Full => self.counters.dropped_full.increment(),
            Loss::Oversized => self.counters.dropped_oversized.increment(),
            Loss::Unavailable => self.counters.dropped_unavailable.increment(),
        }
    }

    fn ttl_us(&self) -> u64 {
        self.capture.ttl.saturating_mul(1_000_000)
    }
}

/// Rows that the statement changed; `None` for one that changes none, because SQLite says of those what it said of the
/// statement before.
fn rows_affected(observed: &Observed<'_>, known: &Known) -> Option<u64> {
    use Operation::{Ddl, Maintenance, Select, Session, Transaction};
    observed
        .rows_affected
        .filter(|_| !matches!(known.statement.operation(), Select | Ddl | Session | Maintenance | Transaction))
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("recording", &self.inner.journal.is_some())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
