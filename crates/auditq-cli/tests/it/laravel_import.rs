//! `auditq import --laravel`: the old table of a real application, into a log of auditq's own.

use auditq_mysql::testing::TestDatabase as Mysql;
use auditq_postgres::testing::TestDatabase as Postgres;
use serde_json::{Value, json};

use crate::laravel_app::{Shop, server};
use crate::support::Done;

fn sum(done: &Done) -> [u64; 4] {
    let sum = &done.json()[0];
    ["read", "stored", "there_already", "rejected"].map(|name| sum[name].as_u64().unwrap())
}

/// What a row of the application's says, as far as a row of ours says it too.
fn of_theirs(row: &Value) -> Value {
    let text = |name: &str| row[name].as_str().unwrap();
    let time_ms = row["time_ms"].as_f64().unwrap_or_else(|| text("time_ms").parse().unwrap());
    json!({
        "username": row["username"], "sql": row["sql"], "connection": row["connection"],
        "bindings": serde_json::from_str::<Value>(text("bindings")).unwrap(),
        "duration_us": (time_ms * 1_000.0).round(), "query_hash": row["query_hash"],
        "occurred_at": format!("{}.000000Z", text("executed_at").replace(' ', "T")),
    })
}

fn of_ours(row: &Value) -> Value {
    json!({
        "username": row["username"], "sql": row["sql"], "connection": row["connection"], "bindings": row["bindings"],
        "duration_us": row["duration_us"].as_f64(), "query_hash": row["extra"]["query_hash"],
        "occurred_at": row["occurred_at"],
    })
}

fn log(shop: &Shop) -> Vec<Value> {
    shop.run("log --json --limit 1000").ok().json()
}

/// The rows of the table, stored by Laravel's own worker, each once and field by field, in a log of our own.
fn moves_the_applications_table(shop: &Shop, source: &str) {
    let work = |queries: &str| {
        shop.artisan(&format!("app:workload {queries}")).ok();
        shop.artisan("queue:work --queue=audit-logs --stop-when-empty --tries=3").ok();
    };
    work("60 --user=alice");
    work("15 --user=Zoë/1");
    let old = shop.rows();
    assert_eq!(old.len(), 75);
    let very = shop.run("import --json").failed(&["the very table", "AUDITQ_STORE_URL", "store.layout = \"auditq\""]);
    assert_eq!(very.stdout, "");

    std::fs::write(shop.path("auditq.toml"), "[store]\nlayout = \"auditq\"\nurl = \"sqlite:log.db\"\n").unwrap();
    let shown = shop.run("import --json --dry-run").ok().json().remove(0);
    assert_eq!((&shown["rows"], &shown["key"]), (&json!(75), &json!(["id"])));
    assert!(!shop.path("log.db").exists());
    let first = shop.run("import --json").ok();
    assert_eq!(sum(&first), [75, 75, 0, 0], "{first:?}");

    let sorted = |rows: &[Value], of: fn(&Value) -> Value| {
        let mut rows: Vec<Value> = rows.iter().map(of).collect();
        rows.sort_by_key(|row| row["query_hash"].as_str().unwrap().to_owned());
        rows
    };
    let ours = log(shop);
    assert_eq!(sorted(&ours, of_ours), sorted(&old, of_theirs));
    assert!(ours.iter().all(|row| row["extra"]["$import"] == source), "{}", ours[0]["extra"]);
    assert_eq!(shop.rows(), old, "the old table is only read");

    assert_eq!(sum(&shop.run("import --json").ok()), [0, 0, 0, 0], "it goes on where it ended");
    assert_eq!(sum(&shop.run("import --json --again").ok()), [75, 0, 75, 0]);
    work("5 --user=bob");
    assert_eq!(sum(&shop.run("import --json").ok()), [5, 5, 0, 0]);

    // The queue is the application's, as before, and its jobs go into the same log.
    shop.artisan("app:workload 7 --user=carol").ok();
    shop.run("work --stop-when-empty").ok();
    assert_eq!((log(shop).len(), shop.rows().len()), (87, 80));
}

#[test]
fn the_table_of_an_application_in_sqlite_moves_into_a_log_of_our_own() {
    moves_the_applications_table(&Shop::sqlite(&[]), "sqlite:audit.sqlite:audit_sql_logs");
}

#[tokio::test]
async fn the_table_of_an_application_in_mysql_moves_into_a_log_of_our_own() {
    let database = Mysql::new().await;
    let server = server("mysql", &database.url(), database.name());
    let shop = Shop::new(&server.each_ref().map(|(name, value)| (*name, value.as_str())));
    moves_the_applications_table(&shop, &format!("mysql:{}:audit_sql_logs", database.name()));
}

#[tokio::test]
async fn the_table_of_an_application_in_postgres_moves_into_a_log_of_our_own() {
    let database = Postgres::new().await;
    let server = server("pgsql", &database.url(), database.name());
    let shop = Shop::new(&server.each_ref().map(|(name, value)| (*name, value.as_str())));
    moves_the_applications_table(&shop, &format!("postgres:{}:public.audit_sql_logs", database.name()));
}

/// `app.timezone` is not asked for: the application says it.
#[test]
fn times_are_read_in_the_zone_of_the_application() {
    let shop = Shop::sqlite(&[]).in_kathmandu();
    shop.artisan("app:workload 3 --user=alice").ok();
    shop.artisan("queue:work --queue=audit-logs --stop-when-empty --tries=3").ok();
    std::fs::write(shop.path("auditq.toml"), "[store]\nlayout = \"auditq\"\nurl = \"sqlite:log.db\"\n").unwrap();
    shop.run("import --json").ok();
    let now = jiff::Timestamp::now().as_second();
    for row in log(&shop) {
        let at: jiff::Timestamp = row["occurred_at"].as_str().unwrap().parse().unwrap();
        assert!((0..120).contains(&(now - at.as_second())), "{row}");
    }
}
