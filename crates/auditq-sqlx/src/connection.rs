use std::fmt;
use std::ops::{Deref, DerefMut};

use auditq::TransactionScope;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::pool::PoolConnection;
use sqlx::{Connection, Describe, Error, Execute, Executor, SqlStr, Transaction};

use crate::database::{AuditedDatabase, Step};
use crate::run::{self, Lease};
use crate::watch::Audit;

/// A connection whose every statement is recorded; `&mut connection` executes.
///
/// A transaction that is begun by hand, with `BEGIN` as a statement, is not known to be one: its statements stand for
/// themselves in the log. Take [`begin`](Self::begin).
pub struct AuditedConnection<'c, DB: AuditedDatabase> {
    held: Held<'c, DB>,
    /// Present in a transaction. After `held`, so that it is told of the rollback once that has begun.
    scope: Option<TransactionScope>,
    audit: Audit,
}

enum Held<'c, DB: AuditedDatabase> {
    Pooled(PoolConnection<DB>),
    Transaction(Transaction<'c, DB>),
}

impl<DB: AuditedDatabase> Held<'_, DB> {
    fn connection(&mut self) -> &mut DB::Connection {
        match self {
            Self::Pooled(pooled) => pooled,
            Self::Transaction(transaction) => transaction,
        }
    }
}

impl<DB: AuditedDatabase> AuditedConnection<'static, DB> {
    pub(crate) fn pooled(connection: PoolConnection<DB>, audit: Audit) -> Self {
        Self { held: Held::Pooled(connection), scope: None, audit }
    }
}

impl<DB: AuditedDatabase> AuditedConnection<'_, DB> {
    /// Begins a transaction; within one, a savepoint.
    ///
    /// # Errors
    /// As sqlx's own `begin`.
    pub async fn begin(&mut self) -> Result<AuditedTransaction<'_, DB>, Error> {
        let scope = self.scope.as_ref().map_or_else(|| self.audit.recorder.begin(), TransactionScope::savepoint);
        let transaction = self.held.connection().begin().await?;
        Ok(AuditedTransaction::new(transaction, scope, self.audit.clone()))
    }

    /// The connection of sqlx itself. What runs there is **not audited**.
    pub fn inner(&mut self) -> &mut DB::Connection {
        self.held.connection()
    }
}

/// A transaction or savepoint whose every statement is recorded, with what became of it.
///
/// `&mut transaction` executes, and so does `&mut *transaction`. Dropped, it is rolled back, and the log says so.
pub struct AuditedTransaction<'c, DB: AuditedDatabase>(AuditedConnection<'c, DB>);

impl<'c, DB: AuditedDatabase> AuditedTransaction<'c, DB> {
    pub(crate) fn new(transaction: Transaction<'c, DB>, scope: TransactionScope, audit: Audit) -> Self {
        Self(AuditedConnection { held: Held::Transaction(transaction), scope: Some(scope), audit })
    }

    /// Commits; of a savepoint, releases it.
    ///
    /// Where the database refuses, the transaction is rolled back. Where it does not answer, or the caller does not
    /// wait for the answer, the outcome in the log stays unknown.
    ///
    /// # Errors
    /// As sqlx's own `commit`.
    pub async fn commit(self) -> Result<(), Error> {
        let AuditedConnection { held, scope, .. } = self.0;
        let unsure = Unsure(scope);
        let committed = match held {
            Held::Transaction(transaction) => transaction.commit().await,
            Held::Pooled(_) => Ok(()),
        };
        unsure.settle(&committed, TransactionScope::commit);
        committed
    }

    /// Rolls back; of a savepoint, to where it began.
    ///
    /// # Errors
    /// As sqlx's own `rollback`.
    pub async fn rollback(self) -> Result<(), Error> {
        let AuditedConnection { held, scope, .. } = self.0;
        // Whatever happens on the way, what is not committed is rolled back in the end.
        let _told_when_dropped = scope;
        match held {
            Held::Transaction(transaction) => transaction.rollback().await,
            Held::Pooled(_) => Ok(()),
        }
    }
}

/// A transaction on whose commit the database has not answered yet.
struct Unsure(Option<TransactionScope>);

impl Unsure {
    fn settle(mut self, answer: &Result<(), Error>, then: impl FnOnce(TransactionScope)) {
        let Some(scope) = self.0.take() else { return };
        match answer {
            Ok(()) => then(scope),
            Err(Error::Database(_)) => scope.roll_back(),
            Err(_) => scope.lose(),
        }
    }
}

impl Drop for Unsure {
    fn drop(&mut self) {
        if let Some(scope) = self.0.take() {
            scope.lose();
        }
    }
}

impl<'c, DB: AuditedDatabase> Deref for AuditedTransaction<'c, DB> {
    type Target = AuditedConnection<'c, DB>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<DB: AuditedDatabase> DerefMut for AuditedTransaction<'_, DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<'t, DB: AuditedDatabase> Executor<'t> for &'t mut AuditedConnection<'_, DB> {
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step<DB>, Error>>
    where
        't: 'e,
        E: 'q + Execute<'q, DB>,
    {
        run::fetch_many(&self.audit, self.scope.as_ref(), Lease::Connection(self.held.connection()), query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<DB::Row>, Error>>
    where
        't: 'e,
        E: 'q + Execute<'q, DB>,
    {
        run::fetch_optional(&self.audit, self.scope.as_ref(), Lease::Connection(self.held.connection()), query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement, Error>>
    where
        't: 'e,
    {
        DB::prepare_with(self.held.connection(), sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<DB>, Error>>
    where
        't: 'e,
    {
        DB::describe(self.held.connection(), sql)
    }
}

impl<'t, DB: AuditedDatabase> Executor<'t> for &'t mut AuditedTransaction<'_, DB> {
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step<DB>, Error>>
    where
        't: 'e,
        E: 'q + Execute<'q, DB>,
    {
        self.0.fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<DB::Row>, Error>>
    where
        't: 'e,
        E: 'q + Execute<'q, DB>,
    {
        self.0.fetch_optional(query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement, Error>>
    where
        't: 'e,
    {
        self.0.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<DB>, Error>>
    where
        't: 'e,
    {
        self.0.describe(sql)
    }
}

impl<DB: AuditedDatabase> fmt::Debug for AuditedConnection<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditedConnection").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl<DB: AuditedDatabase> fmt::Debug for AuditedTransaction<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuditedTransaction").field(&self.0).finish()
    }
}
