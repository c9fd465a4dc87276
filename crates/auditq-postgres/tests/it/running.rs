//! Transactions: what they leave, and what happens to them under trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use auditq_postgres::testing::TestDatabase;
use auditq_postgres::tokio_postgres::types::Type;
use auditq_postgres::{Conn, Database, Kind, Worked, attempt};
use tokio::sync::Barrier;

async fn table() -> (TestDatabase, Database) {
    let database = TestDatabase::new().await;
    database.run("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL); INSERT INTO t VALUES (1, 0), (2, 0)").await;
    let opened = database.open();
    (database, opened)
}

async fn ask(database: &Database, sql: &str) -> i64 {
    attempt!(database.single("ask"), connection => {
        connection.query_typed_one(sql, &[]).await.map(|row| row.get(0)).map_err(Into::into)
    })
    .unwrap()
}

async fn sum(database: &Database) -> i64 {
    ask(database, "SELECT sum(n) FROM t").await
}

async fn add(connection: &Conn, id: i32) -> Worked<()> {
    connection.execute_typed("UPDATE t SET n = n + 1 WHERE id = $1", &[(&id, Type::INT4)]).await?;
    Ok(())
}

#[tokio::test]
async fn work_that_fails_is_undone_and_the_connection_used_again() {
    let (_guard, database) = table().await;
    let work = async |connection: &Conn| -> Worked<()> {
        add(connection, 1).await?;
        Ok(connection.batch_execute("INSERT INTO t VALUES (1, 0)").await?)
    };
    let error = attempt!(database.write("add"), connection => work(connection).await).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Rejected, Some("23505")));
    assert_eq!(sum(&database).await, 0);
    assert_eq!(
        ask(
            &database,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'auditq' \
                               AND datname = current_database()"
        )
        .await,
        1
    );
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
    for _ in 0..20 {
        let id = ask(&database, "SELECT pg_backend_pid()::bigint").await;
        guard.run(&format!("SELECT pg_terminate_backend({id})")).await;
        attempt!(database.write("add"), connection => add(connection, 1).await).unwrap();
    }
    assert_eq!(sum(&database).await, 20);
}

#[tokio::test]
async fn a_connection_that_is_killed_in_the_middle_is_unavailable_and_leaves_nothing() {
    let (guard, database) = table().await;
    let mut run = database.write("add");
    let connection = run.begin().await.unwrap();
    add(connection, 1).await.unwrap();
    let row = connection.query_typed_one("SELECT pg_backend_pid()", &[]).await.unwrap();
    guard.run(&format!("SELECT pg_terminate_backend({})", row.get::<_, i32>(0))).await;
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
async fn a_missing_table_and_a_missing_right_and_a_wrong_value_are_told_apart_from_trouble() {
    let (guard, database) = table().await;
    let run = async |sql: &str| {
        attempt!(database.write("ask"), connection => connection.batch_execute(sql).await.map_err(Into::into))
            .unwrap_err()
    };
    let error = run("SELECT * FROM nowhere").await;
    assert_eq!((error.kind(), error.code()), (Kind::Misconfigured, Some("42P01")));
    assert!(error.to_string().ends_with("; run `auditq migrate`"), "{error}");
    let error = run("INSERT INTO t VALUES (3, 'x')").await;
    assert_eq!(error.kind(), Kind::Rejected, "{error}");
    let role = format!("r{:08x}", fastrand::u32(..));
    guard.as_root(&format!("CREATE ROLE {role}")).await;
    let error = run(&format!("SET LOCAL ROLE {role}; INSERT INTO t VALUES (3, 3)")).await;
    guard.as_root(&format!("DROP ROLE {role}")).await;
    assert_eq!((error.kind(), error.code()), (Kind::Misconfigured, Some("42501")));
    assert!(error.to_string().contains("the user needs"), "{error}");
}
