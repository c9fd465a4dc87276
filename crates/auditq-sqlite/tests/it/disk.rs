use std::path::Path;
use std::process::Command;

use auditq_sqlite::{Database, Error, Kind, Options};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::{insert, values, with_table};

/// A file system of two megabytes, for as long as it lives.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=2m", "tmpfs"], directory.path());
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) {
        // Ends with "no space left", which is the purpose.
        assert!(std::fs::write(self.path().join("filler"), vec![0; 4 << 20]).is_err());
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["--lazy"], self.path());
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    let status = Command::new(program).args(arguments).arg(path).status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "this test mounts a small file system, for which it must run as root on Linux: {program}: {status:?}"
    );
}

async fn insert_much(database: &Database) -> Result<(), Error> {
    let work = |connection: &Connection| connection.execute("INSERT INTO t VALUES (zeroblob(400000))", []).map(drop);
    database.write("insert much", work).await
}

#[tokio::test]
async fn a_full_disk_undoes_the_write_and_goes_on_when_there_is_space() {
    let disk = SmallDisk::mount();
    let database = with_table(&disk.path().join("a.db")).await;
    insert(&database, "before").await.unwrap();
    disk.fill();
    let error = insert_much(&database).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    disk.free();
    insert_much(&database).await.unwrap();
    insert(&database, "after").await.unwrap();
    let select = "SELECT count(*) FROM t";
    let count = database.read("count", |connection| connection.query_row(select, [], |row| row.get::<_, i64>(0)));
    assert_eq!(count.await.unwrap(), 3);
}

/// SQLite may undo the whole transaction for one statement; no write of the group may be told that it succeeded.
#[tokio::test]
async fn a_full_disk_fails_every_write_that_shared_the_commit() {
    let disk = SmallDisk::mount();
    let database = with_table(&disk.path().join("a.db")).await;
    disk.fill();
    // More than the cache holds, so that the disk is found full inside the transaction and not at its end.
    let writes = (0..80).map(|_| {
        let database = database.clone();
        tokio::spawn(async move { insert_much(&database).await })
    });
    for write in writes.collect::<Vec<_>>() {
        let error = write.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    }
    disk.free();
    insert(&database, "after").await.unwrap();
    assert_eq!(values(&database).await.unwrap(), ["after"]);
}

#[tokio::test]
async fn a_read_only_file_system_is_refused_at_opening() {
    let disk = SmallDisk::mount();
    Connection::open(disk.path().join("a.db")).unwrap().execute_batch("CREATE TABLE t (value)").unwrap();
    run("mount", &["-o", "remount,ro"], disk.path());
    for file in ["a.db", "new.db"] {
        let error = Database::open(&disk.path().join(file), Options::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Misconfigured, "{error}");
        assert!(error.to_string().contains("must exist and be writable"), "{error}");
    }
}
