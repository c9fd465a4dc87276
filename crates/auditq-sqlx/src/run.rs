//! Runs statements under a watch.

use std::future::poll_fn;
use std::pin::pin;

use auditq::{SeenByAdapter, TransactionScope};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use sqlx::pool::PoolConnection;
use sqlx::{Error, Execute, Pool};

use crate::database::{AuditedDatabase, Ready, Step};
use crate::generator::generate;
use crate::watch::{Audit, Watch};

/// Where a statement runs.
pub(crate) enum Lease<'e, DB: AuditedDatabase> {
    /// On whatever connection of the pool is free.
    Pool(Pool<DB>),
    /// On this one.
    Connection(&'e mut DB::Connection),
}

/// A connection, held for one statement.
enum Held<'e, DB: AuditedDatabase> {
    Pooled(Box<PoolConnection<DB>>),
    Borrowed(&'e mut DB::Connection),
}

impl<'e, DB: AuditedDatabase> Lease<'e, DB> {
    async fn hold(self, watch: &mut Watch<'_, DB>) -> Result<Held<'e, DB>, Error> {
        watch.begin();
        match self {
            Self::Connection(connection) => Ok(Held::Borrowed(connection)),
            Self::Pool(pool) => {
                let pooled = marked(&watch.mark, pool.acquire()).await.inspect_err(|error| watch.fail(error))?;
                watch.begin();
                Ok(Held::Pooled(Box::new(pooled)))
            }
        }
    }
}

impl<DB: AuditedDatabase> Held<'_, DB> {
    fn connection(&mut self) -> &mut DB::Connection {
        match self {
            Self::Pooled(pooled) => pooled,
            Self::Borrowed(connection) => connection,
        }
    }
}

pub(crate) fn fetch_many<'e, 'q: 'e, DB: AuditedDatabase>(
    audit: &Audit,
    transaction: Option<&'e TransactionScope>,
    lease: Lease<'e, DB>,
    query: impl Execute<'q, DB>,
) -> BoxStream<'e, Result<Step<DB>, Error>> {
    let (mut query, unencodable) = Ready::new(query);
    let mut watch = Watch::new(audit, transaction, &mut query);
    Box::pin(generate(|out| async move {
        let mut held = match refuse(unencodable, &mut watch) {
            Err(error) => return out.give(Err(error)).await,
            Ok(()) => match lease.hold(&mut watch).await {
                Err(error) => return out.give(Err(error)).await,
                Ok(held) => held,
            },
        };
        let mut steps = DB::fetch_many(held.connection(), query);
        while let Some(step) = next(&mut steps, &watch).await {
            watch.see(&step);
            out.give(step).await;
        }
        watch.finish();
    }))
}

pub(crate) fn fetch_optional<'e, 'q: 'e, DB: AuditedDatabase>(
    audit: &Audit,
    transaction: Option<&'e TransactionScope>,
    lease: Lease<'e, DB>,
    query: impl Execute<'q, DB>,
) -> BoxFuture<'e, Result<Option<DB::Row>, Error>> {
    let (mut query, unencodable) = Ready::new(query);
    let mut watch = Watch::new(audit, transaction, &mut query);
    Box::pin(async move {
        refuse(unencodable, &mut watch)?;
        let mut held = lease.hold(&mut watch).await?;
        let row = marked(&watch.mark, DB::fetch_optional(held.connection(), query)).await;
        watch.see_optional(&row);
        row
    })
}

/// A binding that cannot be encoded keeps the statement from the database; the attempt is recorded.
fn refuse<DB: AuditedDatabase>(unencodable: Option<Error>, watch: &mut Watch<'_, DB>) -> Result<(), Error> {
    let Some(error) = unencodable else { return Ok(()) };
    watch.begin();
    watch.fail(&error);
    Err(error)
}

async fn next<DB: AuditedDatabase>(
    steps: &mut BoxStream<'_, Result<Step<DB>, Error>>,
    watch: &Watch<'_, DB>,
) -> Option<Result<Step<DB>, Error>> {
    marked(&watch.mark, steps.next()).await
}

/// Runs what an adapter sees, or what the driver does for itself, so that the tracing layer leaves it alone.
pub(crate) async fn marked<F: Future>(mark: &SeenByAdapter, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _marked = mark.enter();
        future.as_mut().poll(cx)
    })
    .await
}
