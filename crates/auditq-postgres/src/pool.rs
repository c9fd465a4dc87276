use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::connection::Conn;
use crate::error::{CONNECT, Error, Fault, Kind, Result};
use crate::options::Target;

/// A few connections to one database. One that was in the middle of something when it was let go is closed.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) target: Target,
    idle: Mutex<Vec<Conn>>,
    permits: Semaphore,
    connect_within: Duration,
}

impl Pool {
    pub(crate) fn new(target: Target, connections: usize, connect_within: Duration) -> Self {
        Self { target, idle: Mutex::default(), permits: Semaphore::new(connections.max(1)), connect_within }
    }

    /// Waits for a connection and runs `first` on it; one that died while it was idle is replaced.
    pub(crate) async fn begin(&self, operation: &'static str, first: &str) -> Result<Lease<'_>> {
        let place = &self.target.place;
        let permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| Error::plain(Kind::Unavailable, operation, place, "the pool is closed"))?;
        let began = Instant::now();
        while let Some(connection) = self.take_idle() {
            match connection.batch_execute(first).await.map_err(Fault::from) {
                Ok(()) => return Ok(Lease { pool: self, connection, permit }),
                Err(fault) if fault.is_broken(&connection) && began.elapsed() < self.connect_within => {}
                Err(fault) => return Err(Error::new(operation, place, &fault)),
            }
        }
        let connection = self.connect(|| ()).await?;
        connection.batch_execute(first).await.map_err(|error| Error::new(operation, place, &error.into()))?;
        Ok(Lease { pool: self, connection, permit })
    }

    fn take_idle(&self) -> Option<Conn> {
        // The one that was used last: the others may be closed by the server in time.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// A new connection, outside the pool.
    pub(crate) async fn connect(&self, hear: impl Fn() + Send + 'static) -> Result<Conn> {
        let Target { config, tls, place, .. } = &self.target;
        let opening = Conn::open(config, tls.clone(), place, hear);
        tokio::time::timeout(self.connect_within, opening).await.unwrap_or_else(|_| {
            let message = format!("no connection within {} s", self.connect_within.as_secs());
            Err(Error::plain(Kind::Unavailable, CONNECT, place, message))
        })
    }
}

/// A connection for a while. Unless it is given back it is closed, and what was not committed is undone.
#[derive(Debug)]
pub(crate) struct Lease<'p> {
    pool: &'p Pool,
    pub(crate) connection: Conn,
    #[expect(dead_code, reason = "gives its place back when it is dropped")]
    permit: SemaphorePermit<'p>,
}

impl Lease<'_> {
    /// Keeps the connection for the next caller.
    pub(crate) fn give_back(self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}
