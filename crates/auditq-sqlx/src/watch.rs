use std::time::Instant;

use auditq::{Bindings, Context, Observed, Recorder, SeenByAdapter, Source, Status, TransactionScope, Value};
use sqlx::{Either, Error, SqlStr};

use crate::database::{AuditedDatabase, Ready, Step};

/// Where statements are recorded, and as whose.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    pub(crate) recorder: Recorder,
    pub(crate) source: Source,
}

/// Watches one statement from its begin to its end, and records it when dropped: also when the caller gave it up.
pub(crate) struct Watch<'e, DB: AuditedDatabase> {
    audit: Audit,
    context: Context,
    transaction: Option<&'e TransactionScope>,
    sql: SqlStr,
    arguments: Option<DB::Arguments>,
    /// `None` until it is first polled: what never began is not recorded.
    began: Option<(i64, Instant)>,
    rows_affected: Option<u64>,
    rows_returned: u64,
    end: End,
    pub(crate) mark: SeenByAdapter,
}

enum End {
    /// Not ended: dropped in this state it was cancelled.
    Open,
    Ok,
    Failed {
        code: Option<String>,
        message: String,
    },
}

impl<'e, DB: AuditedDatabase> Watch<'e, DB> {
    /// Snapshots who the statement runs for: whoever called, wherever the future is polled later.
    pub(crate) fn new(audit: &Audit, transaction: Option<&'e TransactionScope>, query: &mut Ready<DB>) -> Self {
        let (sql, arguments) = query.copy();
        Self {
            audit: audit.clone(),
            context: Context::current(),
            transaction,
            sql,
            arguments,
            began: None,
            rows_affected: None,
            rows_returned: 0,
            end: End::Open,
            mark: SeenByAdapter::mark(),
        }
    }

    /// Starts the clock; called again once there is a connection, so that waiting for one does not count.
    pub(crate) fn begin(&mut self) {
        self.began = Some((auditq::now_us(), Instant::now()));
    }

    pub(crate) fn see(&mut self, step: &Result<Step<DB>, Error>) {
        match step {
            Ok(Either::Left(result)) => {
                let rows = self.rows_affected.unwrap_or(0).saturating_add(DB::rows_affected(result));
                self.rows_affected = Some(rows);
                self.end = End::Ok;
            }
            Ok(Either::Right(_)) => {
                self.rows_returned += 1;
                // Of several statements in one text another one has begun.
                self.end = End::Open;
            }
            Err(error) => self.fail(error),
        }
    }

    pub(crate) fn see_optional(&mut self, row: &Result<Option<DB::Row>, Error>) {
        match row {
            Ok(row) => {
                self.rows_returned = row.is_some().into();
                self.end = End::Ok;
            }
            Err(error) => self.fail(error),
        }
    }

    pub(crate) fn fail(&mut self, error: &Error) {
        let (code, message) = match error.as_database_error() {
            Some(database) => (database.code().map(Into::into), database.message().to_owned()),
            None => (None, error.to_string()),
        };
        self.end = End::Failed { code, message };
    }

    /// The driver has nothing more to say.
    pub(crate) fn finish(&mut self) {
        if matches!(self.end, End::Open) {
            self.end = End::Ok;
        }
    }
}

impl<DB: AuditedDatabase> Drop for Watch<'_, DB> {
    fn drop(&mut self) {
        let Some((started_at, start)) = self.began else { return };
        let bindings = Arguments::<DB>(self.arguments.as_ref());
        let mut observed =
            Observed::at(&self.audit.source, self.sql.as_str(), std::mem::take(&mut self.context), started_at);
        observed.duration = start.elapsed();
        observed.bindings = &bindings;
        observed.rows_affected = self.rows_affected;
        observed.rows_returned = Some(self.rows_returned);
        observed.transaction = self.transaction;
        match &self.end {
            End::Open => observed.status = Status::Cancelled,
            End::Ok => {}
            End::Failed { code, message } => {
                observed.status = Status::Error;
                observed.error_code = code.as_deref();
                observed.error_message = Some(message);
            }
        }
        self.audit.recorder.record(&observed);
    }
}

struct Arguments<'a, DB: AuditedDatabase>(Option<&'a DB::Arguments>);

impl<DB: AuditedDatabase> Bindings for Arguments<'_, DB> {
    fn lend(&self, then: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>)) {
        match self.0 {
            Some(arguments) => DB::lend_values(arguments, then),
            None => then(&mut std::iter::empty()),
        }
    }
}
