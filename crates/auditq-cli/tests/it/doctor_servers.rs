//! What doctor finds where queue and log are on servers.

use auditq_postgres::testing::TestDatabase as Postgres;
use serde_json::Value;

use crate::doctor::of;
use crate::support::World;

/// A folder whose queue is there and whose log is there.
fn world(queue: &str, store: &str) -> World {
    World::with(&format!("[queue]\nurl = {queue:?}\n[store]\nurl = {store:?}\n"))
}

fn look(world: &World) -> Value {
    world.run("doctor --json").json().remove(0)
}

/// Empty at first, then migrated, then with an event in queue and log.
fn from_nothing_to_the_first_row(url: &str) {
    let world = world(url, url);
    let report = look(&world);
    for check in ["queue", "log"] {
        let (status, found, advice) = of(&report, check);
        assert!(status == "fail" && advice.contains("auditq migrate"), "{found}: {report}");
    }
    world.run("migrate").ok();
    assert_eq!(of(&look(&world), "log").1.rsplit("; ").next().unwrap(), "no rows yet");
    world.record(&[("alice", "SELECT 1")]);
    world.run("work --stop-when-empty").ok();
    let report = look(&world);
    assert_eq!(report["status"], "ok", "{report}");
    assert!(of(&report, "queue").1.ends_with("messages: 0 ready, 0 delayed, 0 held by workers"), "{report}");
    assert!(of(&report, "log").1.contains("the last stored"), "{report}");
    assert!(of(&report, "settlement").1.contains("one transaction"), "{report}");
}

#[tokio::test]
async fn an_empty_postgres_is_to_be_migrated_and_then_all_is_well() {
    let database = Postgres::new().await;
    from_nothing_to_the_first_row(&database.url());
    database.run(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name())).await;
    let report = look(&world(&database.url(), &database.url()));
    let (status, found, advice) = of(&report, "durability");
    assert_eq!((status, found), ("warn", "a crash of the server loses its last moments: `synchronous_commit` is off"));
    assert!(advice.contains("set it to on"), "{advice}");
}

#[tokio::test]
async fn an_empty_mysql_is_to_be_migrated_and_then_all_is_well() {
    let database = auditq_mysql::testing::TestDatabase::new().await;
    from_nothing_to_the_first_row(&database.url());
}

#[test]
fn a_server_that_is_not_there_is_a_failure_without_the_password() {
    for url in
        ["postgres://u:hunter2@127.0.0.1:1/a", "mysql://u:hunter2@127.0.0.1:1/a", "redis://u:hunter2@127.0.0.1:1"]
    {
        let done = world(url, "sqlite:auditq.db").run("doctor --json");
        let report = done.json().remove(0);
        let (status, found, _) = of(&report, "queue");
        assert!(status == "fail" && found.contains("127.0.0.1:1"), "{report}");
        assert!(!format!("{done:?}").contains("hunter2"), "{done:?}");
    }
}

/// Whoever is told so knows where to mend it.
#[test]
fn what_is_wrong_with_a_server_names_the_setting_and_what_to_do() {
    let redis = std::env::var("AUDITQ_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let (_, redis) = redis.split_once("://").unwrap();
    for (queue, store, what, setting) in [
        ("mysql://u:hunter2@127.0.0.1:1/a", "sqlite:a.db", "start the server", "`queue.url`"),
        ("nats://u:hunter2@127.0.0.1:1", "sqlite:a.db", "start the server", "AUDITQ_QUEUE_URL"),
        ("sqlite:a.db", "postgres://u:hunter2@127.0.0.1:1/a", "start the server", "AUDITQ_STORE_URL"),
        (&format!("rediss://{redis}"), "sqlite:a.db", "the server offers no TLS on that port", "`queue.url`"),
    ] {
        let done = world(queue, store).run("migrate").failed(&[what, setting]);
        assert!(!done.stderr.contains("hunter2"), "{done:?}");
    }
}

#[test]
fn the_log_beside_a_queue_in_redis_is_looked_at_and_not_made() {
    let redis = std::env::var("AUDITQ_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let prefix = format!("auditq_test_{:08x}:", fastrand::u32(..));
    let world = world(&format!("{}?prefix={prefix}", redis.trim_end_matches('/')), "sqlite:auditq.db");
    let report = look(&world);
    assert_eq!(of(&report, "queue").0, "ok", "{report}");
    assert!(of(&report, "log").1.contains("is not there yet"), "{report}");
    assert!(!world.path("auditq.db").exists(), "it only looks");
}

/// Tables that no release of ours made, in the words of all three engines: what makes them of migrated ones, which check
/// says so, and what is said.
const SHAPES: &[(&[&str], &str, &str)] = &[
    (
        &[
            "DROP TABLE jobs",
            "CREATE TABLE jobs (id bigint PRIMARY KEY, queue varchar(255), payload text, attempts int, reserved_at int, \
             available_at int, created_at int, priority int NOT NULL)",
        ],
        "queue",
        "cannot use the table `jobs`: its column `priority` demands a value and has no default",
    ),
    (
        &[
            "DROP TABLE jobs",
            "CREATE TABLE jobs (id bigint PRIMARY KEY, queue varchar(255), payload text, attempts int, reserved_at int, \
             available_at int)",
        ],
        "queue",
        "cannot use the table `jobs`: it has no column `created_at`",
    ),
    (
        // As Laravel made it up to 7.
        &[
            "DROP TABLE failed_jobs",
            "CREATE TABLE failed_jobs (id bigint PRIMARY KEY, connection text, queue text, payload text, exception text, \
             failed_at timestamp)",
        ],
        "queue",
        "cannot use the table `failed_jobs`: it has no column `uuid`",
    ),
    (
        &["DROP TABLE audit_sql_logs", "CREATE TABLE audit_sql_logs (id bigint PRIMARY KEY, query text)"],
        "log",
        "so another program made it",
    ),
    (
        &["INSERT INTO auditq_migrations (name, applied_at) VALUES ('store 9', 0)"],
        "log",
        "a newer release of auditq made it (it has the migration \"store 9\")",
    ),
];

/// What a worker refuses to start on is a failure, with what the worker says of it.
#[track_caller]
fn is_refused_by_both(world: &World, check: &str, says: &str) {
    world.run("work --stop-when-empty").failed(&[says]);
    let done = world.run("doctor --json");
    assert_eq!(done.code, Some(1), "{says}: {done:?}");
    let report = done.json().remove(0);
    let (status, found, advice) = of(&report, check);
    assert!(status == "fail" && found.contains(says) && !advice.is_empty(), "{says}: {report}");
}

#[tokio::test]
async fn tables_of_another_shape_in_postgres_are_a_failure_as_they_are_for_a_worker() {
    for (change, check, says) in SHAPES {
        let database = Postgres::new().await;
        let world = world(&database.url(), &database.url());
        world.run("migrate").ok();
        for sql in *change {
            database.run(sql).await;
        }
        is_refused_by_both(&world, check, says);
    }
    let database = Postgres::new().await;
    world(&database.url(), &database.url()).run("migrate").ok();
    let monthly = World::with(&format!(
        "[queue]\nurl = {url:?}\n[store]\nurl = {url:?}\npartitions = \"monthly\"\n",
        url = database.url()
    ));
    is_refused_by_both(&monthly, "log", "it is there and not partitioned");
}

#[tokio::test]
async fn tables_of_another_shape_in_mysql_are_a_failure_as_they_are_for_a_worker() {
    let engines: &[(&[&str], &str, &str)] = &[
        (
            &[
                "DROP TABLE jobs",
                "CREATE TABLE jobs (id bigint PRIMARY KEY, queue varchar(99), payload text, attempts int, reserved_at int, \
                 available_at int, created_at int) ENGINE=MyISAM",
            ],
            "queue",
            "its engine is MyISAM, which has no transactions",
        ),
        (&["ALTER TABLE audit_sql_logs ENGINE=MyISAM"], "log", "its engine is MyISAM, which has no transactions"),
    ];
    for (change, check, says) in SHAPES.iter().chain(engines) {
        let database = auditq_mysql::testing::TestDatabase::new().await;
        let world = world(&database.url(), &database.url());
        world.run("migrate").ok();
        for sql in *change {
            database.run(sql).await;
        }
        is_refused_by_both(&world, check, says);
    }
}

#[test]
fn tables_of_another_shape_in_sqlite_are_a_failure_as_they_are_for_a_worker() {
    for (change, check, says) in SHAPES {
        let world = World::migrated();
        for sql in *change {
            world.database().execute_batch(sql).unwrap();
        }
        is_refused_by_both(&world, check, says);
    }
}

/// An application's own table is looked at too, before the first row.
#[tokio::test]
async fn an_applications_table_that_cannot_be_filled_is_a_failure_as_it_is_for_a_worker() {
    let (postgres, mysql) = (Postgres::new().await, auditq_mysql::testing::TestDatabase::new().await);
    let sql = "CREATE TABLE audit_sql_logs (id bigint PRIMARY KEY, note text)";
    postgres.run(sql).await;
    mysql.run(sql).await;
    for url in [postgres.url(), mysql.url(), "sqlite:app.db".to_owned()] {
        let settings = format!("[queue]\nurl = \"sqlite:queue.db\"\n[store]\nurl = {url:?}\nlayout = \"laravel\"\n");
        let world = World::with(&settings);
        crate::support::open(&world.path("app.db")).execute_batch(sql).unwrap();
        is_refused_by_both(&world, "log", "the table audit_sql_logs has no column for the statement's text");
    }
}
