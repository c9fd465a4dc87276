use std::sync::Arc;
use std::time::Duration;

use auditq_event::{Database, Limits, Status, System, Value, encode_database};

use crate::context::Context;
use crate::duplicates::keyed_hash;
use crate::journal::now_us;
use crate::transaction::TransactionScope;

/// The database that statements run on: made once for each pool or connection.
#[derive(Clone, Debug)]
pub struct Source(Arc<Database>, Arc<SourceCode>);

/// What every event of the source has.
#[derive(Debug)]
pub(crate) struct SourceCode {
    pub(crate) encoded: Vec<u8>,
    pub(crate) keyed_hash: u64,
}

impl Source {
    /// Names a database: its engine, the application's name of the connection or pool, the database's own name.
    ///
    /// Names over 1 KiB are cut.
    #[must_use]
    pub fn new(system: System, connection: &str, name: &str) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self::of(Database { system, connection: some(connection), name: some(name), ..Database::default() })
    }

    pub(crate) fn of(database: Database) -> Self {
        let code = SourceCode {
            encoded: encode_database(&database, &Limits::default()),
            keyed_hash: keyed_hash(&(database.system, &database.connection, &database.name)),
        };
        Self(Arc::new(database), Arc::new(code))
    }

    /// Which engine it is.
    #[must_use]
    pub fn system(&self) -> System {
        self.0.system
    }

    pub(crate) fn code(&self) -> &SourceCode {
        &self.1
    }
}

/// The bindings of one execution, asked for only when the execution is recorded.
pub trait Bindings {
    /// Lends the values in order to `then`, which is called exactly once for each call.
    fn lend(&self, then: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>));
}

impl<const N: usize> Bindings for [Value<'_>; N] {
    fn lend(&self, then: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>)) {
        then(&mut self.iter().copied());
    }
}

impl Bindings for &[Value<'_>] {
    fn lend(&self, then: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>)) {
        then(&mut self.iter().copied());
    }
}

impl Bindings for Vec<Value<'_>> {
    fn lend(&self, then: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>)) {
        then(&mut self.iter().copied());
    }
}

/// One execution of one statement, as an adapter saw it: borrowed, for the moment of recording.
#[derive(Clone)]
#[non_exhaustive]
pub struct Observed<'a> {
    /// The SQL text; it need not be UTF-8.
    pub sql: &'a [u8],
    /// Where it ran.
    pub source: &'a Source,
    /// Who it ran for, as it was when the statement began.
    pub context: Context,
    /// Its bindings.
    pub bindings: &'a dyn Bindings,
    /// When it began, UTC microseconds.
    pub started_at: i64,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub status: Status,
    /// The database's own code of the error.
    pub error_code: Option<&'a str>,
    /// The database's message; secrets in it are taken out before it is recorded.
    pub error_message: Option<&'a str>,
    /// Rows inserted, updated or deleted.
    pub rows_affected: Option<u64>,
    /// Rows that the caller received.
    pub rows_returned: Option<u64>,
    /// The transaction it ran in; `None` when it stood for itself.
    pub transaction: Option<&'a TransactionScope>,
}

impl<'a> Observed<'a> {
    /// A statement that ran well, just now, in the current context, without bindings. The other fields can be set.
    #[must_use]
    pub fn new(source: &'a Source, sql: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::at(source, sql, Context::current(), now_us())
    }

    /// A statement that ran well, without bindings, for an adapter that looked at context and clock when it began:
    /// see [`now_us`].
    #[must_use]
    pub fn at(source: &'a Source, sql: &'a (impl AsRef<[u8]> + ?Sized), context: Context, started_at: i64) -> Self {
        Self {
            sql: sql.as_ref(),
            source,
            context,
            bindings: &[],
            started_at,
            duration: Duration::ZERO,
            status: Status::Ok,
            error_code: None,
            error_message: None,
            rows_affected: None,
            rows_returned: None,
            transaction: None,
        }
    }

    pub(crate) fn duration_us(&self) -> u64 {
        u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX)
    }

    /// When it had ended, which is when it is recorded: no clock is read for it.
    pub(crate) fn ended_at(&self) -> i64 {
        self.started_at.saturating_add_unsigned(self.duration_us())
    }
}

impl std::fmt::Debug for Observed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observed")
            .field("source", &self.source)
            .field("status", &self.status)
            .field("started_at", &self.started_at)
            .finish_non_exhaustive()
    }
}
