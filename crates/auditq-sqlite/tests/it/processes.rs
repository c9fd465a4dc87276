use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use auditq_sqlite::{Database, Options};
use rusqlite::Connection;

use crate::{insert, values, with_table};

const FILE: &str = "AUDITQ_TEST_FILE";
const CHILDREN: usize = 6;
const ROWS: usize = 60;

/// They make the file, too, all at the same time.
#[tokio::test]
async fn several_processes_write_at_once_and_none_is_told_that_the_file_is_locked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shared.db");
    let children: Vec<_> = (0..CHILDREN).map(|_| child(&path)).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let database = with_table(&path).await;
    assert_eq!(values(&database).await.unwrap().len(), CHILDREN * ROWS);
}

/// Another program's file is in another journal mode, and is switched when that program lets go of it.
#[tokio::test]
async fn opening_waits_for_another_programs_lock() {
    for begin in ["BEGIN; SELECT * FROM t", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("other.db");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE t (value); INSERT INTO t VALUES ('x')").unwrap();
        other.execute_batch(begin).unwrap();
        let opening = std::thread::spawn(move || Database::open(&path, Options::default()).map(drop));
        // Long enough that the other thread has met the lock; were it not, the test would only say less.
        std::thread::sleep(Duration::from_millis(100));
        other.execute_batch("COMMIT").unwrap();
        opening.join().unwrap().unwrap_or_else(|error| panic!("{begin}: {error}"));
    }
}

/// Ended in the middle of closing a file, a process leaves a log without its index, as a crash may.
#[test]
fn a_process_that_waits_until_its_files_are_closed_leaves_one_tidy_file() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let path = directory.path().join(format!("{round}.db"));
        let output = start(&path, "processes::child_that_closes").wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let mut names: Vec<_> =
        directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, (0..10).map(|round| format!("{round}.db")).collect::<Vec<_>>());
}

#[tokio::test]
#[ignore = "is run as a child process by the test above"]
async fn child_that_closes() {
    let path = std::env::var_os(FILE).expect("the parent names the file");
    let database = with_table(Path::new(&path)).await;
    insert(&database, "x").await.unwrap();
    assert!(!auditq_sqlite::wait_until_closed(Duration::from_millis(1)), "it is open");
    let other = database.clone();
    drop(database);
    std::thread::spawn(move || drop(other));
    assert!(auditq_sqlite::wait_until_closed(Duration::from_secs(20)));
    // At once, whatever other threads are at.
    std::process::exit(0);
}

/// Between the removal of the index and that of the log, it looks like one after a crash.
#[tokio::test]
async fn a_file_that_is_being_closed_is_looked_at_a_moment_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (value); INSERT INTO t VALUES ('x')").unwrap();
    let log = directory.path().join("a.db-wal");
    std::fs::write(&log, "brought in already").unwrap();
    let look = Options { read_only: true, ..Options::default() };
    let error = Database::open(&path, look).unwrap_err();
    assert!(error.to_string().contains("left behind by a crash"), "{error}");
    let closing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        std::fs::remove_file(log).unwrap();
    });
    let database = Database::open(&path, look).unwrap();
    closing.join().unwrap();
    assert_eq!(values(&database).await.unwrap(), ["x"]);
}

fn child(path: &Path) -> std::process::Child {
    start(path, "processes::child_that_writes")
}

/// This program again, to run one of its tests.
fn start(path: &Path, test: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "is run as a child process by the test above"]
async fn child_that_writes() {
    let path = std::env::var_os(FILE).expect("the parent names the file");
    let database = with_table(Path::new(&path)).await;
    for _ in 0..ROWS {
        insert(&database, "x").await.unwrap();
    }
}
