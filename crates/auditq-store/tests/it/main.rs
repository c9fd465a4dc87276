//! The audit table: the promises of each driver, and what it does under trouble.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod mysql_database;

use async_trait::async_trait;
use auditq_sqlite::{Database, Options};
use auditq_store::Store;
use auditq_store::conformance::Setup;
use auditq_store::sqlite::SqliteStore;
use tempfile::TempDir;

struct InFile {
    store: SqliteStore,
    #[expect(dead_code, reason = "removes the folder when the test ends")]
    folder: TempDir,
}

impl InFile {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("audit.db"), Options::default()).unwrap();
        let store = SqliteStore::new(database);
        store.migrate().await.unwrap();
        Self { store, folder }
    }

    async fn run(&self, sql: String) {
        self.store.database().write("prepare a test", move |connection| connection.execute_batch(&sql)).await.unwrap();
    }
}

#[async_trait]
impl Setup for InFile {
    type Driver = SqliteStore;

    fn store(&self) -> &SqliteStore {
        &self.store
    }

    async fn refuse(&self, sql: &str) {
        let sql = sql.replace('\'', "''");
        self.run(format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_sql_logs WHEN new.sql = '{sql}' \
             BEGIN SELECT RAISE(ABORT, 'refused by a trigger'); END"
        ))
        .await;
    }

    async fn remove_table(&self) {
        self.run("DROP TABLE audit_sql_logs".to_owned()).await;
    }
}

auditq_store::store_conformance!(sqlite, InFile::new());
auditq_store::store_conformance!(mysql, mysql_database::InDatabase::new());
