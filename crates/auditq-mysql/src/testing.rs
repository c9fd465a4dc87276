//! Databases for tests, on the server that `AUDITQ_TEST_MYSQL_URL` names.

#![allow(clippy::expect_used, clippy::panic, reason = "for tests, which may panic")]

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};

use crate::{Database, Options};

const SERVER: &str = "mysql://root@127.0.0.1:3306";

/// A database of a test's own; dropped with it.
#[derive(Debug)]
pub struct TestDatabase {
    server: String,
    name: String,
}

impl TestDatabase {
    /// Makes an empty database.
    ///
    /// # Panics
    /// When there is no server: a test that cannot run has failed.
    pub async fn new() -> Self {
        let server = std::env::var("AUDITQ_TEST_MYSQL_URL").unwrap_or_else(|_| SERVER.to_owned());
        let name = format!("auditq_test_{}_{:08x}", std::process::id(), fastrand::u32(..));
        let database = Self { server, name };
        // Not what the server has as its default: a table that says nothing of its collation gets a careless one.
        database.as_root(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", database.name)).await;
        database
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/{}", self.server.trim_end_matches('/'), self.name)
    }

    /// Its URL for another user.
    #[must_use]
    pub fn url_of(&self, user: &str, password: &str) -> String {
        let host = self.server.rsplit(['@', '/']).find(|part| !part.is_empty()).unwrap_or_default();
        format!("mysql://{user}:{password}@{host}/{}", self.name)
    }

    /// Its name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens it.
    #[must_use]
    pub fn open(&self) -> Database {
        Database::open(&self.url(), Options::default()).expect("the URL is one")
    }

    /// A connection of the test's own, in this database and not set up.
    pub async fn connect(&self) -> Conn {
        Conn::new(Opts::from_url(&self.url()).expect("the URL is one")).await.expect("connect")
    }

    /// Runs statements in this database.
    pub async fn run(&self, sql: &str) {
        let mut connection = self.connect().await;
        connection.query_drop(sql).await.unwrap_or_else(|error| panic!("{error} in {sql}"));
        connection.disconnect().await.expect("disconnect");
    }

    /// Runs a statement on the server, in no database.
    pub async fn as_root(&self, sql: &str) {
        let connected = Conn::new(Opts::from_url(&self.server).expect("AUDITQ_TEST_MYSQL_URL is a URL")).await;
        let mut connection = connected.unwrap_or_else(|error| {
            panic!(
                "these tests need MySQL 8.0.17 or MariaDB 10.6, and a user that may create databases and users; start \
                 one with `service mariadb start` or `docker run -e MYSQL_ALLOW_EMPTY_PASSWORD=1 -p 3306:3306 mysql`, \
                 or name one as AUDITQ_TEST_MYSQL_URL=mysql://USER:PASSWORD@HOST:PORT ({error})"
            )
        });
        connection.query_drop(sql).await.unwrap_or_else(|error| panic!("{error} in {sql}"));
        connection.disconnect().await.expect("disconnect");
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE IF EXISTS {}", self.name));
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let opts = Opts::from_url(&server).map_err(std::io::Error::other)?;
                let mut connection = Conn::new(opts).await.map_err(std::io::Error::other)?;
                // A connection that a test left in the middle of a transaction holds the tables.
                connection.query_drop("SET SESSION lock_wait_timeout = 10").await.map_err(std::io::Error::other)?;
                connection.query_drop(sql).await.map_err(std::io::Error::other)
            })
        });
        // A database that stays behind is untidy, and no reason to fail a test.
        drop(dropping.join());
    }
}
