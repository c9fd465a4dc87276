//! Databases for tests, on the server that `AUDITQ_TEST_POSTGRES_URL` names.

#![allow(clippy::expect_used, clippy::panic, reason = "for tests, which may panic")]

use tokio_postgres::{Client, NoTls};

use crate::{Database, Options};

const SERVER: &str = "postgres://postgres@127.0.0.1:5432";

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
        let server = std::env::var("AUDITQ_TEST_POSTGRES_URL").unwrap_or_else(|_| SERVER.to_owned());
        let name = format!("auditq_test_{}_{:08x}", std::process::id(), fastrand::u32(..));
        let database = Self { server: server.trim_end_matches('/').to_owned(), name };
        let make = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", database.name);
        database.as_root(&make).await;
        database
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    /// Its URL for another user.
    #[must_use]
    pub fn url_of(&self, user: &str, password: &str) -> String {
        let host = self.server.rsplit(['@', '/']).find(|part| !part.is_empty()).unwrap_or_default();
        format!("postgres://{user}:{password}@{host}/{}", self.name)
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
    pub async fn connect(&self) -> Client {
        connect(&self.url()).await
    }

    /// Runs statements in this database.
    pub async fn run(&self, sql: &str) {
        self.connect().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql}"));
    }

    /// Runs a statement on the server, in no database of a test.
    pub async fn as_root(&self, sql: &str) {
        let client = connect(&format!("{}/postgres", self.server)).await;
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql}"));
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|error| {
        panic!(
            "these tests need PostgreSQL 12 or later, and a user that may create databases and roles; start one with \
             `service postgresql start` or `docker run -e POSTGRES_HOST_AUTH_METHOD=trust -p 5432:5432 postgres`, or \
             name one as AUDITQ_TEST_POSTGRES_URL=postgres://USER:PASSWORD@HOST:PORT ({error:?})"
        )
    });
    tokio::spawn(async move {
        // An error reaches the client with the operation that it ends.
        drop(connection.await);
    });
    client
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let url = format!("{server}/postgres");
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await.map_err(std::io::Error::other)?;
                tokio::spawn(connection);
                let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                client.batch_execute(&sql).await.map_err(std::io::Error::other)
            })
        });
        // A database that stays behind is untidy, and no reason to fail a test.
        drop(dropping.join());
    }
}
