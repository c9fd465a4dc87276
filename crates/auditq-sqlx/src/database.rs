use auditq::{System, Value};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::{Database, Describe, Either, Error, Execute, Pool, SqlStr};

/// What a statement yields: rows, and at its end what the driver says of it.
pub type Step<DB> = Either<<DB as Database>::QueryResult, <DB as Database>::Row>;

/// A driver of sqlx whose statements can be audited: what differs from one to the next, and nothing else.
pub trait AuditedDatabase: Database<Arguments: Clone + Sync, Statement: Clone + Sync> {
    /// Which engine it is.
    const SYSTEM: System;

    /// The name of the pool's database.
    fn name(pool: &Pool<Self>) -> String;

    /// Rows that a statement changed.
    fn rows_affected(result: &Self::QueryResult) -> u64;

    /// Lends the values of `arguments`, in order and with their types.
    fn lend_values(arguments: &Self::Arguments, then: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>));

    /// Runs a statement on the driver's own connection.
    fn fetch_many<'e>(
        connection: &'e mut Self::Connection,
        query: Ready<Self>,
    ) -> BoxStream<'e, Result<Step<Self>, Error>>;

    /// Runs a statement for its first row.
    fn fetch_optional<'e>(
        connection: &'e mut Self::Connection,
        query: Ready<Self>,
    ) -> BoxFuture<'e, Result<Option<Self::Row>, Error>>;

    /// Prepares a statement without running it.
    fn prepare_with<'e>(
        connection: &'e mut Self::Connection,
        sql: SqlStr,
        parameters: &'e [Self::TypeInfo],
    ) -> BoxFuture<'e, Result<Self::Statement, Error>>;

    /// Describes a statement without running it.
    fn describe<'e>(connection: &'e mut Self::Connection, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Self>, Error>>;
}

/// A query taken apart: what was asked, on its way to the driver.
#[derive(Debug)]
pub struct Ready<DB: AuditedDatabase> {
    sql: SqlStr,
    statement: Option<DB::Statement>,
    arguments: Option<DB::Arguments>,
    persistent: bool,
}

impl<DB: AuditedDatabase> Ready<DB> {
    /// Takes a query apart; the error is that of a binding that could not be encoded.
    pub(crate) fn new<'q>(mut query: impl Execute<'q, DB>) -> (Self, Option<Error>) {
        let (arguments, error) = match query.take_arguments() {
            Ok(arguments) => (arguments, None),
            Err(error) => (None, Some(Error::Encode(error))),
        };
        let ready =
            Self { statement: query.statement().cloned(), persistent: query.persistent(), arguments, sql: query.sql() };
        (ready, error)
    }

    /// What is recorded of it once it has run.
    pub(crate) fn copy(&mut self) -> (SqlStr, Option<DB::Arguments>) {
        let sql = self.sql.clone();
        // The first clone of an owned text copies it, and later ones share that copy.
        self.sql = sql.clone();
        (sql, self.arguments.clone())
    }
}

impl<DB: AuditedDatabase> Execute<'_, DB> for Ready<DB> {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&DB::Statement> {
        self.statement.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<DB::Arguments>, sqlx::error::BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}
