use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{CONNECT, Error, Kind, Result, is_broken};
use crate::server::{Server, set_up};

/// A few connections to one database. One that was in the middle of something when it was let go is closed.
pub(crate) struct Pool {
    opts: Opts,
    pub(crate) place: Arc<str>,
    idle: Mutex<Vec<Conn>>,
    permits: Semaphore,
    server: Mutex<Option<Server>>,
    open_within: std::time::Duration,
}

impl Pool {
    pub(crate) fn new(opts: Opts, place: &str, connections: usize, open_within: std::time::Duration) -> Self {
        let permits = Semaphore::new(connections.max(1));
        Self { opts, place: place.into(), idle: Mutex::default(), permits, server: Mutex::default(), open_within }
    }

    pub(crate) fn opts(&self) -> &Opts {
        &self.opts
    }

    /// What the server said of itself at the last connecting.
    pub(crate) fn server(&self) -> Option<Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a connection and runs `first` on it; one that died while it was idle is replaced.
    pub(crate) async fn begin(&self, operation: &'static str, first: &str) -> Result<Lease<'_>> {
        let permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| Error::plain(Kind::Unavailable, operation, &self.place, "the pool is closed"))?;
        let began = Instant::now();
        while let Some(mut connection) = self.take_idle() {
            match connection.query_drop(first).await {
                Ok(()) => return Ok(Lease { pool: self, connection, permit }),
                Err(error) if is_broken(&error) && began.elapsed() < self.open_within => {}
                Err(error) => return Err(Error::new(operation, &self.place, &error)),
            }
        }
        let mut connection = self.connect().await?;
        connection.query_drop(first).await.map_err(|error| Error::new(operation, &self.place, &error))?;
        Ok(Lease { pool: self, connection, permit })
    }

    fn take_idle(&self) -> Option<Conn> {
        // The one that was used last: the others may be closed by the server in time.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn connect(&self) -> Result<Conn> {
        let opening = async {
            let opened = Conn::new(self.opts.clone()).await;
            let mut connection = opened.map_err(|error| Error::new(CONNECT, &self.place, &error))?;
            let server = set_up(&mut connection, &self.place).await?;
            *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
            Ok(connection)
        };
        tokio::time::timeout(self.open_within, opening).await.unwrap_or_else(|_| {
            let message = format!("no connection within {} s", self.open_within.as_secs());
            Err(Error::plain(Kind::Unavailable, CONNECT, &self.place, message))
        })
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("place", &self.place).finish_non_exhaustive()
    }
}

/// A connection for a while. Unless it is given back it is closed, and what was not committed is undone.
#[derive(Debug)]
pub(crate) struct Lease<'p> {
    pool: &'p Pool,
    connection: Conn,
    #[expect(dead_code, reason = "gives its place back when it is dropped")]
    permit: SemaphorePermit<'p>,
}

impl Lease<'_> {
    pub(crate) fn connection(&mut self) -> &mut Conn {
        &mut self.connection
    }

    /// Keeps the connection for the next caller.
    pub(crate) fn give_back(self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}
