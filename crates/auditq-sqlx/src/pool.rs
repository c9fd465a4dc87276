use auditq::{Recorder, SeenByAdapter, Source};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::{Describe, Error, Execute, Executor, Pool, SqlStr};

use crate::connection::{AuditedConnection, AuditedTransaction};
use crate::database::{AuditedDatabase, Step};
use crate::run::{self, Lease, marked};
use crate::watch::Audit;

/// A pool of sqlx whose every statement is recorded, with the person it ran for.
///
/// `&pool` goes where a `&Pool` of sqlx goes: to `sqlx::query!`, `query_as`, `query_scalar` and the rest. A statement
/// is recorded when it ends, however it ends, and also when the caller drops it half-way. `BEGIN`, `COMMIT` and
/// savepoints are no rows of their own: each statement's transaction and its outcome say the same.
#[derive(Debug)]
pub struct AuditedPool<DB: AuditedDatabase> {
    pool: Pool<DB>,
    audit: Audit,
}

impl<DB: AuditedDatabase> AuditedPool<DB> {
    /// Wraps a pool. In the log its connection is called `default`, and its database by its own name.
    pub fn new(pool: Pool<DB>, recorder: &Recorder) -> Self {
        Self::named("default", pool, recorder)
    }

    /// Wraps a pool under the application's own name for it, at most 1 KiB.
    pub fn named(connection: &str, pool: Pool<DB>, recorder: &Recorder) -> Self {
        let source = Source::new(DB::SYSTEM, connection, &DB::name(&pool));
        Self { audit: Audit { recorder: recorder.clone(), source }, pool }
    }

    /// The pool of sqlx itself, for migrations and whatever else takes nothing but one. What runs there is **not
    /// audited**.
    pub fn inner(&self) -> &Pool<DB> {
        &self.pool
    }

    /// Waits for a connection to keep for several statements.
    ///
    /// # Errors
    /// As sqlx's own `acquire`.
    pub async fn acquire(&self) -> Result<AuditedConnection<'static, DB>, Error> {
        Ok(AuditedConnection::pooled(marked(&SeenByAdapter::mark(), self.pool.acquire()).await?, self.audit.clone()))
    }

    /// Waits for a connection and begins a transaction on it.
    ///
    /// # Errors
    /// As sqlx's own `begin`.
    pub async fn begin(&self) -> Result<AuditedTransaction<'static, DB>, Error> {
        let scope = self.audit.recorder.begin();
        Ok(AuditedTransaction::new(marked(&SeenByAdapter::mark(), self.pool.begin()).await?, scope, self.audit.clone()))
    }

    /// Closes the pool, as sqlx's own `close`.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl<DB: AuditedDatabase> Clone for AuditedPool<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), audit: self.audit.clone() }
    }
}

impl<'p, DB: AuditedDatabase> Executor<'p> for &'p AuditedPool<DB> {
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step<DB>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        run::fetch_many(&self.audit, None, Lease::Pool(self.pool.clone()), query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<DB::Row>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        run::fetch_optional(&self.audit, None, Lease::Pool(self.pool.clone()), query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement, Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { DB::prepare_with(&mut *self.pool.acquire().await?, sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<DB>, Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { DB::describe(&mut *self.pool.acquire().await?, sql).await })
    }
}
