//! Transactions: what they leave, and what happens to them under trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{self, Conn};
use auditq_mysql::testing::TestDatabase;
use auditq_mysql::{Database, Kind, attempt};
use tokio::sync::Barrier;

async fn table() -> (TestDatabase, Database) {
    let database = TestDatabase::new().await;
    database.run("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL) ENGINE=InnoDB").await;
    database.run("INSERT INTO t VALUES (1, 0), (2, 0)").await;
    let opened = database.open();
    (database, opened)
}

async fn sum(database: &Database) -> i64 {
    let sql = "SELECT CAST(sum(n) AS SIGNED) FROM t";
    attempt!(database.single("sum"), connection => connection.query_first(sql).await).unwrap().unwrap()
}

async fn add(connection: &mut Conn, id: u32) -> mysql_async::Result<()> {
    connection.exec_drop("UPDATE t SET n = n + 1 WHERE id = ?", (id,)).await
}

#[tokio::test]
async fn work_that_fails_is_undone_and_the_connection_used_again() {
    let (_guard, database) = table().await;
    let work = async |connection: &mut Conn| {
        add(connection, 1).await?;
        connection.query_drop("INSERT INTO t VALUES (1, 0)").await
    };
    let error = attempt!(database.write("add"), connection => work(connection).await).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Rejected, Some(1062)));
    assert_eq!(sum(&database).await, 0);
}

#[tokio::test]
async fn work_that_is_dropped_in_the_middle_is_undone() {
    let (_guard, database) = table().await;
    let mut run = database.write("add");
    add(run.begin().await.unwrap(), 1).await.unwrap();
    drop(run);
    // Waits for the lock on the row, which goes with the connection.
    attempt!(database.write("add"), connection => add(connection, 1).await).unwrap();
    assert_eq!(sum(&database).await, 1);
}

#[tokio::test]
async fn a_connection_that_was_killed_while_idle_is_replaced_in_silence() {
    let (guard, database) = table().await;
    let id: u64 =
        attempt!(database.single("ask"), connection => connection.query_first("SELECT connection_id()").await)
            .unwrap()
            .unwrap();
    guard.as_root(&format!("KILL {id}")).await;
    attempt!(database.write("add"), connection => add(connection, 1).await).unwrap();
    assert_eq!(sum(&database).await, 1);
}

#[tokio::test]
async fn a_connection_that_is_killed_in_the_middle_is_unavailable_and_leaves_nothing() {
    let (guard, database) = table().await;
    let mut run = database.write("add");
    let connection = run.begin().await.unwrap();
    add(connection, 1).await.unwrap();
    guard.as_root(&format!("KILL {}", connection.id())).await;
    let worked = add(connection, 2).await;
    let error = run.end(worked).await.expect("it is not done again").unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert_eq!(sum(&database).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_solved_without_the_callers_hearing_of_it() {
    let (_guard, database) = table().await;
    let (barrier, tries) = (Arc::new(Barrier::new(2)), Arc::new(AtomicU32::new(0)));
    let tasks = [(1, 2), (2, 1)].map(|(first, second)| {
        let (database, barrier, tries) = (database.clone(), Arc::clone(&barrier), Arc::clone(&tries));
        tokio::spawn(async move {
            let mut met = false;
            attempt!(database.write("add"), connection => {
                tries.fetch_add(1, Ordering::Relaxed);
                let mut worked = add(connection, first).await;
                if !met {
                    met = true;
                    // Each holds what the other one wants.
                    barrier.wait().await;
                }
                if worked.is_ok() {
                    worked = add(connection, second).await;
                }
                worked
            })
        })
    });
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(sum(&database).await, 4);
    assert!(tries.load(Ordering::Relaxed) >= 3, "there was no deadlock");
}

#[tokio::test]
async fn a_damaged_statement_and_a_missing_table_are_told_apart_from_trouble() {
    let (_guard, database) = table().await;
    let run = database.single("ask");
    let error = attempt!(run, connection => connection.query_drop("SELECT * FROM nowhere").await).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Misconfigured, Some(1146)));
    assert!(error.to_string().ends_with("; run `auditq migrate`"), "{error}");
    let run = database.write("store");
    let error = attempt!(run, connection => connection.query_drop("INSERT INTO t VALUES (3, 'x')").await).unwrap_err();
    assert_eq!(error.kind(), Kind::Rejected, "{error}");
}
