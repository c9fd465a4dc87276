use std::path::Path;

use auditq_sqlite::{Database, Kind, Options};
use rusqlite::Connection;

use crate::{insert, values, with_table};

#[test]
fn a_file_that_is_not_a_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    let text = "not a database\n".repeat(1_000);
    std::fs::write(&path, &text).unwrap();
    let error = Database::open(&path, Options::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains("notes.txt") && error.to_string().contains("name another file"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_path_that_cannot_be_opened_says_what_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.join("a.db"), directory.path().join("none").join("a.db"), directory.path().to_owned()] {
        let error = Database::open(&path, Options::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Misconfigured, "{error}");
        assert!(error.to_string().contains("must exist and be writable"), "{error}");
    }
    let error =
        Database::open(&directory.path().join("none.db"), Options { create: false, ..Options::default() }).unwrap_err();
    assert_eq!(error.kind(), Kind::Misconfigured, "{error}");
    assert!(!directory.path().join("none.db").exists());
}

#[tokio::test]
async fn a_database_that_is_made_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let database = with_table(&directory.path().join("a.db")).await;
    insert(&database, "private").await.unwrap();
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// A database that another program made, with one row of its own.
fn make(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("CREATE TABLE t (value); INSERT INTO t VALUES ('of the new file')").unwrap();
}

/// Puts another database at the path while the old one's log still holds what was written last.
async fn replaced(directory: &Path) -> Database {
    let database = with_table(&directory.join("a.db")).await;
    insert(&database, "of the old file").await.unwrap();
    assert_eq!(values(&database).await.unwrap().len(), 1);
    let other = directory.join("other.db");
    make(&other);
    std::fs::rename(&other, directory.join("a.db")).unwrap();
    database
}

fn seen_by_others(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut statement = connection.prepare("SELECT value FROM t ORDER BY rowid").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_file_that_was_replaced_is_written_to_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let database = replaced(directory.path()).await;
    insert(&database, "added").await.unwrap();
    let expected = ["of the new file", "added"];
    assert_eq!(values(&database).await.unwrap(), expected);
    assert_eq!(seen_by_others(database.path()), expected);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_read_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let database = replaced(directory.path()).await;
    assert_eq!(values(&database).await.unwrap(), ["of the new file"]);
    insert(&database, "added").await.unwrap();
    let expected = ["of the new file", "added"];
    assert_eq!(values(&database).await.unwrap(), expected);
    assert_eq!(seen_by_others(database.path()), expected);
}

#[tokio::test]
async fn a_file_that_is_gone_is_an_error_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let database = with_table(&directory.path().join("a.db")).await;
    let away = directory.path().join("away.db");
    std::fs::rename(database.path(), &away).unwrap();
    let refused = [insert(&database, "x").await.unwrap_err(), values(&database).await.unwrap_err()];
    for error in refused {
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains("the file has gone"), "{error}");
    }
    std::fs::rename(&away, database.path()).unwrap();
    insert(&database, "back").await.unwrap();
    assert_eq!(values(&database).await.unwrap(), ["back"]);
}

#[tokio::test]
async fn a_missing_table_is_named_and_so_is_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("a.db"), Options::default()).unwrap();
    let error = insert(&database, "x").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("no such table: t"), "{error}");
    assert!(error.to_string().contains("run `auditq migrate`"), "{error}");
}

/// The names in a folder, and what is in the files.
fn contents(directory: &std::path::Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

#[tokio::test]
async fn who_only_looks_sees_every_commit_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("50% of a?b#c.db");
    let look = Options { read_only: true, ..Options::default() };
    assert!(Database::open(&path, look).is_err());
    assert!(contents(directory.path()).is_empty(), "nothing is made where there is nothing");

    let database = with_table(&path).await;
    insert(&database, "one").await.unwrap();
    let looking = Database::open(&path, look).unwrap();
    assert_eq!(values(&looking).await.unwrap(), ["one"], "from the write-ahead log");
    insert(&database, "two").await.unwrap();
    assert_eq!(values(&looking).await.unwrap(), ["one", "two"]);
    let error = insert(&looking, "three").await.unwrap_err();
    assert!(error.kind() == Kind::Misconfigured && looking.is_read_only(), "{error}");
    drop(looking);

    // A copy, as of a backup: nobody has it open, and nothing is beside it.
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("a.db");
    Connection::open(&path).unwrap().execute("VACUUM INTO ?1", [copied.to_str().unwrap()]).unwrap();
    Connection::open(&copied).unwrap().execute_batch("PRAGMA journal_mode = WAL").unwrap();
    let before = contents(copy.path());
    assert_eq!(before.len(), 1);
    let looking = Database::open(&copied, look).unwrap();
    assert_eq!(values(&looking).await.unwrap(), ["one", "two"]);
    drop(looking);
    assert_eq!(contents(copy.path()), before);

    // Commits that stand in a log without an index cannot be seen, and are not passed over in silence.
    std::fs::write(copy.path().join("a.db-wal"), "commits").unwrap();
    let error = Database::open(&copied, look).unwrap_err();
    assert!(error.to_string().contains("; open it once as a user who may write"), "{error}");
}

#[tokio::test]
async fn a_new_database_can_be_read_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let database = with_table(&path).await;
    insert(&database, "one").await.unwrap();
    for file in contents(directory.path()).keys() {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", file.display());
    }
}
