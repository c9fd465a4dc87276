//! Old audit tables, and backups, moved into the log.

use std::fmt::Write as _;

use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::testing::TestDatabase as Mysql;
use auditq_postgres::testing::TestDatabase as Postgres;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Done, World, event, open};

/// The table that a Laravel application makes, in the words of all three engines.
const TABLE: &str = "CREATE TABLE audit_sql_logs (id {id}, query_hash varchar(64) NULL, username varchar(255) NULL, \
                     sql_text text NULL, bindings text NULL, time_ms double precision NULL, connection varchar(64) NULL, \
                     url text NULL, executed_at {time} NULL, created_at {time} NULL, level bigint NULL)";

fn table(id: &str, time: &str) -> String {
    TABLE.replace("{id}", id).replace("{time}", time)
}

/// Rows as a Laravel application stores them.
fn rows(first: u32, count: u32) -> String {
    let mut sql =
        "INSERT INTO audit_sql_logs (id, query_hash, username, sql_text, bindings, time_ms, connection, url, \
                   executed_at, created_at, level) VALUES "
            .to_owned();
    for id in first..first + count {
        let comma = if id == first { "" } else { ", " };
        write!(
            sql,
            "{comma}({id}, 'h{id}', 'alice', 'insert into users (name, password) values (?, ?)', \
             '[\"bob{id}\",\"hunter2\"]', 1.25, 'pgsql', 'https://shop.example/users?page=2', '2024-05-17 13:04:05', \
             '2024-05-17 13:04:06', 9007199254740993)"
        )
        .unwrap();
    }
    sql
}

/// Imports into a log of the world's own.
fn import(world: &World, from: &str, more: &str) -> Done {
    world.run(&format!("import --from {from} --json {more}"))
}

fn sum(done: &Done) -> [u64; 4] {
    let sum = &done.json()[0];
    ["read", "stored", "there_already", "rejected"].map(|name| sum[name].as_u64().unwrap())
}

fn log(world: &World) -> Vec<Value> {
    world.run("log --json --limit 10000").ok().json()
}

/// What is stored of a row of [`rows`], field by field.
#[track_caller]
fn assert_is_row(stored: &Value, id: u32, source: &str) {
    for (field, expected) in [
        ("username", json!("alice")),
        ("sql", json!("insert into users (name, password) values (?, ?)")),
        ("duration_us", json!(1_250)),
        ("connection", json!("pgsql")),
        ("db_system", json!("postgresql")),
        ("url_path", json!("/users")),
        ("occurred_at", json!("2024-05-17T11:04:05.000000Z")),
        ("operation", json!("insert")),
        ("tables", json!(["users"])),
        ("status", json!("ok")),
        ("repeat_count", json!(1)),
    ] {
        assert_eq!(stored[field], expected, "{field} of {stored}");
    }
    assert_eq!(stored["bindings"][0], json!(format!("bob{id}")));
    assert!(stored["bindings"][1]["redacted"].as_str().unwrap().starts_with("hmac:"), "{stored}");
    let extra = json!({
        "id": id, "query_hash": format!("h{id}"), "created_at": "2024-05-17 13:04:06", "level": 9_007_199_254_740_993_u64,
        "url": "https://shop.example/users?page=2", "$import": source,
    });
    assert_eq!(stored["extra"], extra);
    assert!(!stored.to_string().contains("hunter2"), "{stored}");
}

#[track_caller]
fn assert_moves(world: &World, from: &str, source: &str) {
    let first = import(world, from, "--timezone Europe/Berlin").ok();
    assert_eq!(sum(&first), [40, 40, 0, 0], "{first:?}");
    let mut stored = log(world);
    stored.sort_by_key(|row| row["extra"]["id"].as_u64());
    assert_eq!(stored.len(), 40);
    for (row, id) in stored.iter().zip(1..) {
        assert_is_row(row, id, source);
    }
    let again = import(world, from, "--timezone Europe/Berlin --again").ok();
    assert_eq!((sum(&again), world.rows()), ([40, 0, 40, 0], 40));
}

/// A SQLite file with an application's table.
fn old(world: &World, name: &str, count: u32) -> rusqlite::Connection {
    let old = open(&world.path(name));
    old.execute_batch(&table("integer primary key", "datetime")).unwrap();
    if count > 0 {
        old.execute_batch(&rows(1, count)).unwrap();
    }
    old
}

#[test]
fn rows_of_a_sqlite_file_move_field_by_field_and_only_once() {
    let world = World::new();
    let old = old(&world, "old.db", 40);
    let before: String = old.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_moves(&world, "sqlite:old.db", "sqlite:old.db:audit_sql_logs");
    let after: String = old.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(before, after, "the old file is left as it is");
    old.execute_batch(&rows(41, 5)).unwrap();
    let more = import(&world, "sqlite:old.db", "--timezone Europe/Berlin").ok();
    assert_eq!((sum(&more), world.rows()), ([5, 5, 0, 0], 45), "a later import goes on where the first ended");
    let said = import(&world, "sqlite:old.db", "--timezone UTC --again");
    said.failed(&["other settings for its times", "a second time"]);
}

#[tokio::test]
async fn rows_of_a_mysql_table_move_field_by_field_and_only_once() {
    let database = Mysql::new().await;
    database.run(&table("bigint unsigned primary key", "datetime")).await;
    database.run(&rows(1, 40)).await;
    let source = format!("mysql:{}:audit_sql_logs", database.name());
    assert_moves(&World::new(), &database.url(), &source);
}

#[tokio::test]
async fn rows_of_a_postgres_table_move_field_by_field_and_only_once() {
    let database = Postgres::new().await;
    database.run(&table("bigint primary key", "timestamp")).await;
    database.run(&rows(1, 40)).await;
    let source = format!("postgres:{}:public.audit_sql_logs", database.name());
    assert_moves(&World::new(), &database.url(), &source);
}

#[test]
fn columns_of_any_names_are_read_as_the_mapping_says() {
    let world = World::new();
    let old = open(&world.path("old.db"));
    old.execute_batch(
        "CREATE TABLE \"my \"\"odd\"\" table\" (\"the key\" TEXT NOT NULL UNIQUE, \"what?\" TEXT, who TEXT, \"when\" TEXT, b TEXT);
         INSERT INTO \"my \"\"odd\"\" table\" VALUES ('k1', 'select 1', 'eve', '2024-05-17T13:04:05Z', 'x'), \
         ('k2', 'select 2', 'eve', '2024-05-17T13:04:05Z', NULL)",
    )
    .unwrap();
    let mut command =
        world.command("import --from sqlite:old.db --json --map sql=what? --map username=who --map occurred_at=when");
    command.args(["--table", "\"my \"\"odd\"\" table\""]);
    assert_eq!(sum(&Done::of(command.output().unwrap()).ok()), [2, 2, 0, 0]);
    let stored = log(&world);
    assert_eq!(stored[0]["username"], "eve");
    assert_eq!(stored[0]["occurred_at"], "2024-05-17T13:04:05.000000Z");
    let mut keys: Vec<_> = stored.iter().map(|row| row["extra"]["the key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    assert_eq!(keys, ["k1", "k2"]);
    let wrong = world.run("import --from sqlite:old.db --table nope");
    wrong.failed(&["there is no table nope", "--table"]);
}

#[test]
fn an_import_that_is_killed_again_and_again_stores_each_row_once() {
    let world = World::migrated();
    let old = old(&world, "old.db", 0);
    for first in (1..50_000).step_by(10_000) {
        old.execute_batch(&rows(first, 10_000)).unwrap();
    }
    let mut killed = 0;
    for _ in 0..4 {
        let before = world.rows();
        let running = world.start("import --from sqlite:old.db");
        crate::support::eventually("some rows", || world.rows() > before);
        running.signal(Signal::KILL);
        killed += u32::from(running.ended().code.is_none());
    }
    assert!(killed >= 2, "it was killed in the middle {killed} times");
    import(&world, "sqlite:old.db", "").ok();
    assert_eq!(world.rows(), 50_000);
    assert_eq!(world.number("SELECT count(DISTINCT extra ->> '$.id') FROM audit_sql_logs"), 50_000);
}

#[test]
fn odd_values_are_kept_and_a_row_that_is_none_is_set_aside() {
    let world = World::new();
    let old = open(&world.path("old.db"));
    old.execute_batch("CREATE TABLE logs (sql, bindings, note, big, executed_at, created_at)").unwrap();
    old.execute_batch(
        "INSERT INTO logs VALUES
           (CAST(x'73656c65637420ff' AS TEXT), '[null,1.5,9223372036854775807]', x'00ff', -9223372036854775808, '0000-00-00 00:00:00', '2024-05-17 13:04:05'),
           ('select ''a' || char(0) || 'b''', 'no json', 'a' || char(0) || 'b', 1e300, 1715951045, NULL),
           (NULL, NULL, 'no sql', 0, NULL, NULL),
           ('select ' || replace(hex(zeroblob(3000000)), '00', 'x,'), '[]', NULL, NULL, '2024-05-17', NULL)",
    )
    .unwrap();
    let done = import(&world, "sqlite:old.db", "--table logs");
    assert_eq!(done.code, Some(4), "{done:?}");
    assert_eq!(sum(&done), [4, 3, 0, 1]);
    assert!(done.stderr.contains("told apart by where they lie (rowid)"), "{}", done.stderr);
    let rejects = std::fs::read_to_string(world.path("auditq-import-rejects.jsonl")).unwrap();
    assert!(rejects.contains("\"key\":\"[3]\"") && rejects.contains("holds no SQL"), "{rejects}");
    let mut stored = log(&world);
    stored.sort_by_key(|row| row["id"].as_u64());
    assert_eq!(stored[0]["bindings"], json!([null, 1.5, i64::MAX]));
    assert_eq!(stored[0]["occurred_at"], "2024-05-17T13:04:05.000000Z");
    assert_eq!(stored[0]["extra"]["executed_at"], "0000-00-00 00:00:00");
    assert_eq!(stored[0]["extra"]["big"], json!(i64::MIN));
    assert_eq!(stored[1]["occurred_at"], "2024-05-17T13:04:05.000000Z");
    assert_eq!(stored[1]["extra"]["note"], "a\0b");
    assert_eq!(stored[1]["extra"]["bindings"], "no json");
    assert!(stored[2]["truncated"].to_string().contains("\"len\":6000007"), "{}", stored[2]["truncated"]);
}

#[test]
fn the_very_table_of_the_store_is_refused_with_what_to_do() {
    let world = World::new();
    drop(old(&world, "auditq.db", 3));
    let done = import(&world, "sqlite:./auditq.db", "");
    done.failed(&["the very table", "RENAME TO audit_sql_logs_old", "--table audit_sql_logs_old"]);
    open(&world.path("auditq.db")).execute_batch("ALTER TABLE audit_sql_logs RENAME TO audit_sql_logs_old").unwrap();
    let done = import(&world, "sqlite:auditq.db", "--table audit_sql_logs_old").ok();
    assert_eq!(sum(&done), [3, 3, 0, 0]);
    let zero = import(&World::new(), "sqlite:nowhere.db", "");
    zero.failed(&["there is no database at nowhere.db"]);
}

/// Of a table that looks the same in another place it cannot be told whether it is the same.
#[test]
fn two_files_of_one_name_are_not_taken_for_each_other() {
    let world = World::new();
    for (folder, first, count) in [("a", 1, 40), ("b", 41, 60), ("c", 1, 40)] {
        std::fs::create_dir(world.path(folder)).unwrap();
        let old = old(&world, &format!("{folder}/old.db"), 0);
        old.execute_batch(&rows(first, count)).unwrap();
    }
    assert_eq!(sum(&import(&world, "sqlite:a/old.db", "").ok()), [40, 40, 0, 0]);
    let refused = import(&world, "sqlite:b/old.db", "");
    let name = "sqlite:old.db:audit_sql_logs";
    refused.failed(&[
        "rows of two tables must not get the same ids",
        "a/old.db",
        "b/old.db",
        "--source-id with a new name",
        name,
    ]);
    assert_eq!(world.rows(), 40, "nothing of it was stored");
    assert_eq!(sum(&import(&world, "sqlite:b/old.db", "--source-id of-b").ok()), [60, 60, 0, 0]);
    assert_eq!(sum(&import(&world, "sqlite:b/old.db", "--source-id of-b").ok()), [0, 0, 0, 0]);
    let moved = import(&world, "sqlite:c/old.db", &format!("--source-id {name}")).ok();
    assert_eq!(sum(&moved), [40, 0, 40, 0], "the same rows in another place");
    assert!(moved.stderr.contains("was imported before from") && moved.stderr.contains("a/old.db"), "{}", moved.stderr);
    assert_eq!(world.rows(), 100);
    let noted = "SELECT count(*) FROM auditq_imports WHERE source IN ('of-b', 'sqlite:old.db:audit_sql_logs')";
    assert_eq!((world.number(noted), world.number("SELECT count(*) FROM auditq_imports")), (2, 2));
    // With a name that another table has got already, its rows are read from the first, not after the other's last.
    let mistaken = import(&world, "sqlite:a/old.db", "--source-id of-b").ok();
    assert_eq!(sum(&mistaken), [40, 40, 0, 0], "{mistaken:?}");
}

#[tokio::test]
async fn two_tables_of_one_server_whose_names_are_spelt_alike_are_two_sources() {
    let database = Postgres::new().await;
    database
        .run(
            "CREATE SCHEMA \"a.b\"; CREATE SCHEMA a; \
             CREATE TABLE \"a.b\".c (id int PRIMARY KEY, sql text, executed_at timestamp); \
             CREATE TABLE a.\"b.c\" (id int PRIMARY KEY, sql text, executed_at timestamp); \
             INSERT INTO \"a.b\".c SELECT n, 'select 1', '2024-05-17 13:04:05' FROM generate_series(1, 5) n; \
             INSERT INTO a.\"b.c\" SELECT n, 'select 2', '2024-05-17 13:04:05' FROM generate_series(1, 5) n",
        )
        .await;
    let mysql = Mysql::new().await;
    let (one, other) = (format!("{}:x", mysql.name()), mysql.name().to_owned());
    mysql.as_root(&format!("CREATE DATABASE `{one}`")).await;
    for (schema, table) in [(&one, "y"), (&other, "x:y")] {
        mysql
            .as_root(&format!(
                "CREATE TABLE `{schema}`.`{table}` (id int PRIMARY KEY, `sql` text, executed_at datetime)"
            ))
            .await;
        mysql.as_root(&format!("INSERT INTO `{schema}`.`{table}` VALUES (1, 'select 1', '2024-05-17 13:04:05')")).await;
    }
    let world = World::new();
    let tables = [
        (database.url(), "\"a.b\".c".to_owned(), 5),
        (database.url(), "a.\"b.c\"".to_owned(), 5),
        (mysql.url(), format!("`{one}`.y"), 1),
        (mysql.url(), format!("`{other}`.`x:y`"), 1),
    ];
    for (url, table, count) in &tables {
        let done = import(&world, url, &format!("--table {table}"));
        assert_eq!(sum(&done), [*count, *count, 0, 0], "{table}: {done:?}");
    }
    mysql.as_root(&format!("DROP DATABASE `{one}`")).await;
    assert_eq!((world.rows(), world.number("SELECT count(*) FROM auditq_imports")), (12, 4));
}

#[test]
fn a_dry_run_shows_what_would_be_stored_and_stores_nothing() {
    let world = World::new();
    drop(old(&world, "old.db", 10));
    let shown = import(&world, "sqlite:old.db", "--dry-run").ok().json().remove(0);
    assert_eq!((shown["rows"].as_u64(), shown["key"].clone()), (Some(10), json!(["id"])));
    let part = |name: &str| {
        let columns = shown["columns"].as_array().unwrap();
        columns.iter().find(|column| column["column"] == name).unwrap()["becomes"].clone()
    };
    assert_eq!([part("sql_text"), part("level"), part("username")], ["sql", "extra", "username"]);
    assert_eq!(shown["sample"].as_array().unwrap().len(), 3);
    assert!(!shown.to_string().contains("hunter2"));
    let text = world.run("import --from sqlite:old.db --dry-run").ok().stdout;
    assert!(text.contains("10 rows in the order of id") && text.ends_with("Nothing was stored.\n"), "{text}");
    assert!(!world.path("auditq.db").exists() && !world.path("auditq-spool").exists());
}

#[tokio::test]
async fn a_view_a_table_without_a_key_and_a_table_in_a_schema_are_read() {
    let database = Postgres::new().await;
    database
        .run(
            "CREATE SCHEMA \"Odd.One\"; CREATE TABLE \"Odd.One\".\"Log\" (code char(8) PRIMARY KEY, \"SQL\" text, at timestamptz);
             INSERT INTO \"Odd.One\".\"Log\" SELECT 'k' || n, 'select ' || n, '2024-05-17 13:04:05+02' FROM generate_series(1, 2500) n;
             CREATE VIEW seen AS SELECT * FROM \"Odd.One\".\"Log\"; CREATE TABLE keyless (query text);
             INSERT INTO keyless SELECT 'select 1' FROM generate_series(1, 2500)",
        )
        .await;
    let world = World::new();
    let url = database.url();
    let done = import(&world, &url, "--table \"Odd.One\".\"Log\" --map occurred_at=at").ok();
    assert_eq!(sum(&done), [2_500, 2_500, 0, 0]);
    assert_eq!(world.run("log --json --limit 1").ok().json()[0]["occurred_at"], "2024-05-17T11:04:05.000000Z");
    import(&world, &url, "--table seen").failed(&["neither a primary key nor a unique key", "--key"]);
    import(&world, &url, "--table seen --key SQL --map occurred_at=at --dry-run").ok();
    import(&world, &url, "--table seen --key at").failed(&["stand in several rows"]);
    let done = import(&world, &url, "--table keyless").ok();
    assert_eq!(sum(&done), [2_500, 2_500, 0, 0], "rows that are alike are several");
    assert!(done.stderr.contains("(ctid)"), "{}", done.stderr);
    assert_eq!(sum(&import(&world, &url, "--table keyless --again").ok()), [2_500, 0, 2_500, 0]);
}

#[tokio::test]
async fn zero_dates_composite_keys_and_a_keyless_table_of_mysql() {
    let database = Mysql::new().await;
    database.run("SET SESSION sql_mode = ''; CREATE TABLE logs (a int, b varchar(9), query text, executed_at datetime, created_at timestamp NULL, PRIMARY KEY (a, b)); INSERT INTO logs SELECT seq DIV 50, seq, 'select 1', '0000-00-00', '2024-05-17 13:04:05' FROM seq_1_to_4500; CREATE TABLE keyless (query text)").await;
    let world = World::new();
    let done = import(&world, &database.url(), "--table logs").ok();
    assert_eq!(sum(&done), [4_500, 4_500, 0, 0], "{done:?}");
    assert_eq!(world.run("log --json --limit 1").ok().json()[0]["extra"]["executed_at"], "0000-00-00 00:00:00");
    import(&world, &database.url(), "--table keyless").failed(&["neither a primary key nor a unique key"]);
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_right_are_told_without_the_password() {
    let postgres = Postgres::new().await;
    let user = format!("{}_reader", postgres.name());
    postgres
        .run(&format!("CREATE TABLE logs (id int PRIMARY KEY, sql text); CREATE ROLE {user} LOGIN PASSWORD 'tiger7'"))
        .await;
    let world = World::new();
    let denied = import(&world, &postgres.url_of(&user, "tiger7"), "--table logs");
    postgres.as_root(&format!("DROP ROLE {user}")).await;
    assert!(!denied.stderr.contains("tiger7"), "{}", denied.stderr);
    denied.failed(&["permission denied"]);
    let mysql = Mysql::new().await;
    let wrong = import(&world, &mysql.url_of("nobody_here", "tiger7"), "");
    assert!(!wrong.stderr.contains("tiger7"), "{}", wrong.stderr);
    wrong.failed(&["cannot connect", "Access denied"]);
}

#[tokio::test]
async fn keys_that_no_float_tells_apart_are_read_to_the_end() {
    let database = Mysql::new().await;
    database
        .run(
            "CREATE TABLE wide (id bigint unsigned PRIMARY KEY, query text); \
             INSERT INTO wide SELECT 18446744073709540000 + seq, 'select 1' FROM seq_1_to_4500; \
             CREATE TABLE exact (id decimal(30, 2) PRIMARY KEY, query text); \
             INSERT INTO exact SELECT 90071992547409930000 + seq / 100, 'select 1' FROM seq_1_to_4500",
        )
        .await;
    let world = World::new();
    for table in ["wide", "exact"] {
        let done = import(&world, &database.url(), &format!("--table {table}")).ok();
        assert_eq!(sum(&done), [4_500, 4_500, 0, 0], "{table}");
    }
    let old = open(&world.path("old.db"));
    old.execute_batch(
        "CREATE TABLE logs (k TEXT NOT NULL UNIQUE, sql TEXT); WITH RECURSIVE n(n) AS (SELECT 10000 UNION ALL SELECT n + 1 \
         FROM n WHERE n < 14499) INSERT INTO logs SELECT CAST(x'ff' || n AS TEXT), 'select 1' FROM n",
    )
    .unwrap();
    assert_eq!(sum(&import(&world, "sqlite:old.db", "--table logs").ok()), [4_500, 4_500, 0, 0]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for() {
    let database = Postgres::new().await;
    database.run(&table("bigint primary key", "timestamp")).await;
    database.run(&rows(1, 40)).await;
    let world = World::new();
    // Nobody listens there for now.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let away = format!("postgres://postgres@127.0.0.1:{port}/{}", database.name());
    let running = world.start(&format!("import --from {away} --json"));
    crate::support::eventually("word that it waits", || running.stderr().contains("which does not answer"));
    let server = std::env::var("AUDITQ_TEST_POSTGRES_URL").unwrap_or_default();
    let server = server.rsplit('@').next().filter(|server| !server.is_empty()).unwrap_or("127.0.0.1:5432").to_owned();
    let gate = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for client in gate.incoming() {
            let (client, server) = (client.unwrap(), std::net::TcpStream::connect(&server).unwrap());
            pass(client.try_clone().unwrap(), server.try_clone().unwrap());
            pass(server, client);
        }
    });
    let done = running.ended().ok();
    assert_eq!(sum(&done), [40, 40, 0, 0]);
    assert!(done.stderr.contains("answers again after"), "{}", done.stderr);
}

/// Hands on what one says to the other, until it ends.
fn pass(mut from: std::net::TcpStream, mut to: std::net::TcpStream) {
    std::thread::spawn(move || {
        // Either may have gone; then there is nobody to tell.
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(std::net::Shutdown::Both));
    });
}

/// A backup of auditq's own table of a server goes back, and into another engine, as it was.
#[track_caller]
fn assert_backup_restores(url: &str, empty: &dyn Fn()) {
    let world = World::with(&format!("[store]\nurl = \"{url}\"\n"));
    world.run("migrate").ok();
    let events: Vec<_> = (0..1_500)
        .map(|number| {
            let mut event = event(number);
            event.statement.sql = format!("select 'a\0\u{1f980}{number}'");
            event.extra = Some(format!(r#"{{"n":{number}}}"#));
            event
        })
        .collect();
    world.push(&events);
    world.run("work --stop-when-empty").ok();
    let said = world.run("backup copy.jsonl").ok().stdout;
    assert!(said.contains("(1,500 rows, "), "{said}");
    world.run("backup copy.jsonl").failed(&["exists already", "never overwritten"]);
    let shown = |world: &World| {
        let mut rows = log(world);
        for row in &mut rows {
            row.as_object_mut().unwrap().retain(|name, _| name != "stored_at" && name != "id");
        }
        rows.sort_by_key(|row| row["event_id"].as_str().unwrap().to_owned());
        rows
    };
    let before = shown(&world);
    assert_eq!(before.len(), 1_500);
    assert_eq!(sum(&import(&world, "copy.jsonl", "").ok()), [1_500, 0, 1_500, 0], "nothing is doubled");
    empty();
    assert_eq!(sum(&import(&world, "copy.jsonl", "--again").ok()), [1_500, 1_500, 0, 0]);
    assert_eq!(shown(&world), before);
    let other = World::new();
    let copy = world.path("copy.jsonl");
    assert_eq!(sum(&import(&other, copy.to_str().unwrap(), "").ok()), [1_500, 1_500, 0, 0]);
    assert_eq!(shown(&other), before);
    let whole = std::fs::read(&copy).unwrap();
    other.write("cut.jsonl", std::str::from_utf8(&whole[..whole.len() / 2]).unwrap());
    import(&other, "cut.jsonl", "").failed(&["its last line is missing"]);
    let third = World::new();
    assert_eq!(sum(&import(&third, url, "").ok()), [1_500, 1_500, 0, 0], "straight from the server");
    assert_eq!(shown(&third), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_the_log_in_mysql_goes_back_as_it_was() {
    let database = Mysql::new().await;
    let handle = tokio::runtime::Handle::current();
    let empty = || tokio::task::block_in_place(|| handle.block_on(database.run("DELETE FROM audit_sql_logs")));
    assert_backup_restores(&database.url(), &empty);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_the_log_in_postgres_goes_back_as_it_was() {
    let database = Postgres::new().await;
    let handle = tokio::runtime::Handle::current();
    let empty = || tokio::task::block_in_place(|| handle.block_on(database.run("DELETE FROM audit_sql_logs")));
    assert_backup_restores(&database.url(), &empty);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_an_applications_own_table_goes_into_an_empty_one() {
    let database = Mysql::new().await;
    let made = table("bigint unsigned primary key auto_increment", "datetime").replace("sql_text", "`sql`");
    database.run(&made).await;
    database.run(&rows(1, 30).replace("sql_text", "`sql`")).await;
    let world = World::with(&format!("[store]\nurl = \"{}\"\nlayout = \"laravel\"\n", database.url()));
    let said = world.run("backup copy.jsonl").ok().stdout;
    assert!(said.contains("(30 rows, "), "{said}");
    import(&world, "copy.jsonl", "").failed(&["would be there twice", "rename the table"]);
    database.run("RENAME TABLE audit_sql_logs TO before_it").await;
    database.run(&made).await;
    assert_eq!(sum(&import(&world, "copy.jsonl", "").ok()), [30, 30, 0, 0]);
    let same: Option<u32> = database
        .connect()
        .await
        .query_first(
            "SELECT count(*) FROM before_it a JOIN audit_sql_logs b USING \
             (query_hash, username, `sql`, time_ms, connection, url, executed_at, created_at, level)",
        )
        .await
        .unwrap();
    assert_eq!(same, Some(30), "all but the bindings, whose secrets are taken out, is as it was");
}
