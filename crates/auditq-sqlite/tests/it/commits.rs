use std::sync::mpsc;

use auditq_sqlite::{Database, Kind};
use rusqlite::Connection;
use tokio::task::JoinHandle;

use crate::{insert, values, with_table};

/// Keeps the writer busy until the sender is dropped, so that writes pile up behind it.
fn hold_up(database: &Database) -> (mpsc::Sender<()>, JoinHandle<()>) {
    let (release, released) = mpsc::channel::<()>();
    let database = database.clone();
    let held = tokio::spawn(async move {
        let wait = move |_: &Connection| {
            let _gone = released.recv();
            Ok(())
        };
        database.write("wait", wait).await.unwrap();
    });
    (release, held)
}

/// Lets the other tasks run until so many more operations have been asked for.
async fn asked_for(database: &Database, operations: u64) {
    while database.operations() < operations {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn writes_that_wait_share_a_commit() {
    let directory = tempfile::tempdir().unwrap();
    let database = with_table(&directory.path().join("a.db")).await;
    let (before, asked) = (database.commits(), database.operations());
    let (release, held) = hold_up(&database);
    asked_for(&database, asked + 1).await;
    let writes: Vec<_> = (0..40)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { insert(&database, "x").await })
        })
        .collect();
    asked_for(&database, asked + 41).await;
    drop(release);
    held.await.unwrap();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    assert_eq!(values(&database).await.unwrap().len(), 40);
    // One may have begun before the rest had come.
    assert!(database.commits() - before <= 3, "{} commits", database.commits() - before);
}

#[tokio::test]
async fn a_write_that_fails_undoes_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let database = with_table(&directory.path().join("a.db")).await;
    let asked = database.operations();
    let (release, held) = hold_up(&database);
    asked_for(&database, asked + 1).await;
    let good = |value| {
        let database = database.clone();
        tokio::spawn(async move { insert(&database, value).await })
    };
    let first = good("first");
    asked_for(&database, asked + 2).await;
    let failing = tokio::spawn({
        let database = database.clone();
        async move {
            let work =
                |connection: &Connection| connection.execute_batch("INSERT INTO t VALUES ('bad'); SELECT nonsense");
            database.write("fail half-way", work).await
        }
    });
    let panicking = tokio::spawn({
        let database = database.clone();
        async move {
            let work = |connection: &Connection| -> rusqlite::Result<()> {
                connection.execute("INSERT INTO t VALUES ('worse')", [])?;
                panic!("on purpose")
            };
            database.write("panic half-way", work).await
        }
    });
    asked_for(&database, asked + 4).await;
    let last = good("last");
    asked_for(&database, asked + 5).await;
    drop(release);
    held.await.unwrap();
    first.await.unwrap().unwrap();
    last.await.unwrap().unwrap();
    let error = failing.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.operation()), (Kind::Misconfigured, "fail half-way"));
    let error = panicking.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Rejected);
    assert!(error.to_string().contains("it panicked: on purpose"), "{error}");
    assert_eq!(values(&database).await.unwrap(), ["first", "last"]);
}

#[tokio::test]
async fn a_lone_write_that_fails_or_panics_leaves_nothing_and_the_next_one_works() {
    let directory = tempfile::tempdir().unwrap();
    let database = with_table(&directory.path().join("a.db")).await;
    let fails = |connection: &Connection| connection.execute_batch("INSERT INTO t VALUES ('bad'); SELECT nonsense");
    assert_eq!(database.write("fail", fails).await.unwrap_err().kind(), Kind::Misconfigured);
    let panics = |connection: &Connection| -> rusqlite::Result<()> {
        connection.execute("INSERT INTO t VALUES ('worse')", [])?;
        panic!("on purpose")
    };
    assert_eq!(database.write("panic", panics).await.unwrap_err().kind(), Kind::Rejected);
    let panics = |_: &Connection| -> rusqlite::Result<()> { panic!("on purpose") };
    assert_eq!(database.read("panic", panics).await.unwrap_err().kind(), Kind::Rejected);
    insert(&database, "good").await.unwrap();
    assert_eq!(values(&database).await.unwrap(), ["good"]);
}

#[tokio::test]
async fn a_write_whose_caller_has_left_is_withdrawn() {
    let directory = tempfile::tempdir().unwrap();
    let database = with_table(&directory.path().join("a.db")).await;
    let asked = database.operations();
    let (release, held) = hold_up(&database);
    asked_for(&database, asked + 1).await;
    let abandoned = tokio::spawn({
        let database = database.clone();
        async move { insert(&database, "abandoned").await }
    });
    asked_for(&database, asked + 2).await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    drop(release);
    held.await.unwrap();
    insert(&database, "kept").await.unwrap();
    assert_eq!(values(&database).await.unwrap(), ["kept"]);
}

#[tokio::test]
async fn a_constraint_is_the_writes_own_fault_and_not_the_databases() {
    let directory = tempfile::tempdir().unwrap();
    let database = with_table(&directory.path().join("a.db")).await;
    let work = |connection: &Connection| {
        connection.execute_batch("CREATE TABLE u (x UNIQUE); INSERT INTO u VALUES (1); INSERT INTO u VALUES (1)")
    };
    assert_eq!(database.write("insert twice", work).await.unwrap_err().kind(), Kind::Rejected);
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let directory = tempfile::tempdir().unwrap();
    let database = with_table(&directory.path().join("a.db")).await;
    let work = |connection: &Connection| connection.execute("INSERT INTO t VALUES (1)", []);
    assert_eq!(database.read("write", work).await.unwrap_err().kind(), Kind::Misconfigured);
}

#[tokio::test]
async fn the_same_file_has_one_writer_in_a_process() {
    let directory = tempfile::tempdir().unwrap();
    let database = with_table(&directory.path().join("a.db")).await;
    let again = with_table(&directory.path().join(".").join("a.db")).await;
    assert!(database.is_same(&again));
    assert!(!database.is_same(&with_table(&directory.path().join("b.db")).await));
}

#[tokio::test]
async fn the_state_changes_with_a_commit_and_not_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let database = with_table(&directory.path().join("a.db")).await;
    let before = database.state();
    database.write("change nothing", |_| Ok(())).await.unwrap();
    values(&database).await.unwrap();
    assert_eq!(database.state(), before);
    insert(&database, "x").await.unwrap();
    assert_ne!(database.state(), before);
}

#[tokio::test]
async fn relaxed_writes_are_seen_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let database = with_table(&directory.path().join("a.db")).await;
    let work = |connection: &Connection| connection.execute("INSERT INTO t VALUES ('relaxed')", []);
    database.write_relaxed("insert", work).await.unwrap();
    let other = Connection::open(database.path()).unwrap();
    let value: String = other.query_row("SELECT value FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(value, "relaxed");
}
