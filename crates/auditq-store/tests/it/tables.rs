//! A table of the same name that another program made.

use auditq_event::Event;
use auditq_sqlite::rusqlite::Connection;
use auditq_sqlite::{Database, Options};
use auditq_store::conformance::{ordinary_event, ordinary_events};
use auditq_store::sqlite::SqliteStore;
use auditq_store::{ErrorKind, Filter, Store, StoreReader};

use crate::support::insert;

/// As the package for Laravel that this product takes the place of makes it.
const OF_LARAVEL: &str = "
    CREATE TABLE audit_sql_logs (
        id integer PRIMARY KEY AUTOINCREMENT NOT NULL, username varchar NOT NULL, sql text NOT NULL, bindings text,
        query_hash varchar NOT NULL, execution_time float, ip varchar, url varchar,
        created_at datetime, updated_at datetime);
    CREATE INDEX audit_sql_logs_username_index ON audit_sql_logs (username);
    INSERT INTO audit_sql_logs (username, sql, query_hash, created_at)
        VALUES ('alice', 'select * from orders', '0cc175b9c0f1b6a831c399e269772661', '2024-05-01 10:00:00');";

fn old(folder: &tempfile::TempDir) -> SqliteStore {
    let path = folder.path().join("laravel.db");
    Connection::open(&path).unwrap().execute_batch(OF_LARAVEL).unwrap();
    SqliteStore::new(Database::open(&path, Options::default()).unwrap())
}

#[tokio::test]
async fn the_old_table_of_laravel_is_refused_with_a_hint_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = old(&folder);
    let error = store.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    let text = error.to_string();
    for part in ["laravel.db", "it lacks the columns stored_at, event_id", "ALTER TABLE audit_sql_logs RENAME TO"] {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    for error in [
        insert(&store, ordinary_events(1)).await.unwrap_err(),
        store.search(&Filter::default()).await.unwrap_err(),
        store.prune(i64::MAX, 10).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    }
    let connection = Connection::open(store.database().path()).unwrap();
    let tables = "SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'";
    let tables: String = connection.query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(tables, "audit_sql_logs");
    let user: String = connection.query_row("SELECT username FROM audit_sql_logs", [], |row| row.get(0)).unwrap();
    assert_eq!(user, "alice");
}

#[tokio::test]
async fn the_hint_works_and_the_old_rows_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = old(&folder);
    store.migrate().await.unwrap_err();
    let connection = Connection::open(store.database().path()).unwrap();
    connection.execute_batch("ALTER TABLE audit_sql_logs RENAME TO audit_sql_logs_old").unwrap();
    store.migrate().await.unwrap();
    assert_eq!(insert(&store, ordinary_events(3)).await.unwrap().stored, 3);
    let old: i64 = connection.query_row("SELECT count(*) FROM audit_sql_logs_old", [], |row| row.get(0)).unwrap();
    assert_eq!((old, store.count().await.unwrap()), (1, 3));
}

/// A file of a newer release is not written to by an older one.
#[tokio::test]
async fn a_file_of_a_newer_release_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::support::open(&folder.path().join("audit.db")).await;
    let newer = "INSERT INTO auditq_migrations VALUES ('store 999', 0)";
    Connection::open(store.database().path()).unwrap().execute_batch(newer).unwrap();
    let error = store.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("install that release"), "{error}");
}

#[tokio::test]
async fn a_file_of_the_first_release_gets_the_column_it_lacks_and_keeps_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::support::open(&folder.path().join("audit.db")).await;
    insert(&store, ordinary_events(2)).await.unwrap();
    let first_release =
        "ALTER TABLE audit_sql_logs DROP COLUMN extra; DELETE FROM auditq_migrations WHERE name = 'store 2'";
    Connection::open(store.database().path()).unwrap().execute_batch(first_release).unwrap();
    let store = SqliteStore::new(Database::open(store.database().path(), Options::default()).unwrap());
    let error = store.search(&Filter::default()).await.unwrap_err();
    assert!(error.to_string().contains("run `auditq migrate`"), "{error}");
    store.migrate().await.unwrap();
    let said = Event { extra: Some("{\"a\":1}".to_owned()), ..ordinary_event(2) };
    insert(&store, vec![said]).await.unwrap();
    let rows = store.search(&Filter::default()).await.unwrap().rows;
    let extra: Vec<_> = rows.iter().map(|row| row.event.extra.as_deref()).collect();
    assert_eq!(extra, [Some("{\"a\":1}"), None, None]);
}
