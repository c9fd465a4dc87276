use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use auditq_event::Event;
use auditq_sqlite::rusqlite::Connection;
use auditq_sqlite::{Database, Options};
use auditq_store::conformance::{Setup, ordinary_event};
use auditq_store::sqlite::SqliteStore;
use auditq_store::{Batch, Inserted, Result, Store};
use tempfile::TempDir;

/// Events in each batch of [`batch`].
pub(crate) const BATCH: u64 = 50;

/// A store in a folder of its own.
pub(crate) struct InFile {
    pub(crate) store: SqliteStore,
    pub(crate) folder: TempDir,
}

impl InFile {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("audit.db")).await;
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

/// The store in this file, with its tables made.
pub(crate) async fn open(path: &Path) -> SqliteStore {
    let store = SqliteStore::new(Database::open(path, Options::default()).unwrap());
    store.migrate().await.unwrap();
    store
}

pub(crate) async fn insert(store: &SqliteStore, events: Vec<Event>) -> Result<Inserted> {
    store.insert(Arc::new(Batch { events, amendments: Vec::new() })).await
}

/// Batch number `n`: the next [`BATCH`] events after those of the batch before.
pub(crate) fn batch(n: u64) -> Vec<Event> {
    (n * BATCH..(n + 1) * BATCH).map(ordinary_event).collect()
}

/// What a program of somebody else finds in the file: that it is sound, and the sequence numbers of its rows, sorted.
pub(crate) fn seqs_in(path: &Path) -> Vec<u64> {
    let connection = Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut rows = connection.prepare("SELECT producer_seq FROM audit_sql_logs ORDER BY producer_seq").unwrap();
    let seqs = rows.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    seqs.map(|seq| u64::try_from(seq.unwrap()).unwrap()).collect()
}
