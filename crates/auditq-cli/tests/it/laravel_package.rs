//! The package `clients/laravel` in a real Laravel application: what it sees, and how it hands it over.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use auditq_mysql::testing::TestDatabase as Mysql;
use auditq_postgres::testing::TestDatabase as Postgres;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::laravel_app::{Shop, server};
use crate::support::{Done, Running, SmallDisk, eventually};

const HELPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/laravel_package.php");

const PROVIDER: &str = "Auditq\\Laravel\\AuditServiceProvider::class";

/// The application's own, with its `DB::listen`.
const WITHOUT: &str = "App\\Providers\\AppServiceProvider::class";

const SECRET: &str = "hunter2-Ünsafe";

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/laravel").canonicalize().unwrap()
}

/// The application with the package in the place of its own `DB::listen`, storing into a table of auditq's.
fn shop_with(settings: &[(&'static str, &str)]) -> Shop {
    let mut shop = Shop::new(settings);
    let swap = |file: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(shop.path(file)).unwrap();
        assert!(text.contains(from), "the application's {file} is another one");
        std::fs::write(shop.path(file), text.replace(from, to)).unwrap();
    };
    swap("config/app.php", WITHOUT, PROVIDER);
    let autoload = "<?php\nspl_autoload_register(function (string $class): void {
        $file = str_replace(['Auditq\\\\Laravel\\\\', '\\\\'], [getenv('AUDITQ_PACKAGE') . '/src/', '/'], $class) . '.php';
        if (str_starts_with($class, 'Auditq\\\\Laravel\\\\') && is_file($file)) { require $file; }
    });";
    swap("bootstrap/autoload.php", "<?php", autoload);
    let actor = "fn ($app) => $app->bound('audit.username') ? $app->make('audit.username') : null";
    std::fs::write(shop.path("config/auditq.php"), format!("<?php\nreturn ['actor' => {actor}];")).unwrap();
    std::fs::write(shop.path("auditq.toml"), "[store]\nlayout = \"auditq\"\nurl = \"sqlite:log.db\"\n").unwrap();
    shop.settings.push(("AUDITQ_PACKAGE", package().to_str().unwrap().to_owned()));
    shop
}

fn sqlite_shop(more: &[(&'static str, &str)]) -> Shop {
    shop_with(&[&[("DB_CONNECTION", "sqlite"), ("DB_DATABASE", "storage/audit.sqlite")], more].concat())
}

impl Shop {
    fn act(&self, action: &str) -> Done {
        self.php(Path::new(HELPER), &format!("{} {action}", self.path("").display()))
    }

    /// Adds to the package's settings in the application.
    fn set(&self, settings: &str) {
        let config = std::fs::read_to_string(self.path("config/auditq.php")).unwrap();
        let more = config.replacen("return [", &format!("return [{settings}, "), 1);
        std::fs::write(self.path("config/auditq.php"), more).unwrap();
    }

    fn inbox(&self) -> Vec<String> {
        let names = self.path("storage/auditq-spool/inbox").read_dir().unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    fn laravel_log(&self) -> String {
        std::fs::read_to_string(self.path("storage/logs/laravel.log")).unwrap_or_default()
    }

    /// Everything that is stored, the oldest first, once the queue is empty.
    fn stored(&self) -> Vec<Value> {
        let done = self.run("work --stop-when-empty").ok();
        assert_eq!(self.run("queue size").ok().stdout.trim(), "0", "{done:?}");
        assert!(self.run("queue failed --json").ok().json().is_empty());
        let mut rows = self.run("log --json --limit 10000").ok().json();
        rows.sort_by_key(|row| row["producer_seq"].as_u64());
        rows
    }
}

/// The one row of a statement that begins or goes on like this.
#[track_caller]
fn one<'r>(rows: &'r [Value], sql: &str) -> &'r Value {
    let all = all(rows, sql);
    assert_eq!(all.len(), 1, "{sql}: {:?}", rows.iter().map(|row| &row["sql"]).collect::<Vec<_>>());
    all[0]
}

fn all<'r>(rows: &'r [Value], sql: &str) -> Vec<&'r Value> {
    let plain = |text: &str| text.replace(['"', '`'], "");
    rows.iter().filter(|row| plain(row["sql"].as_str().unwrap()).contains(sql)).collect()
}

/// These columns of a row.
fn columns(row: &Value, names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| row[name].clone()).collect()
}

/// What an application does, and what must be stored of it.
struct Expected {
    system: &'static str,
    duplicate_key: &'static str,
    syntax_error: &'static str,
    no_column: &'static str,
}

fn sees_what_happens(shop: &Shop, expected: &Expected) {
    let done = shop.act(&format!("shop {SECRET}")).ok();
    // What violates a unique index has, since Laravel 10, a class of its own.
    let thrown = |name: &str| done.stdout.matches(name).count();
    assert_eq!(thrown("QueryException") + thrown("UniqueConstraintViolationException"), 3, "{done:?}");
    let sent = shop.act("payloads").ok().stdout;
    assert_eq!(sent.lines().count(), 1, "one message a request");
    assert!(!sent.contains("hunter2"), "no secret leaves the process: {sent}");
    let rows = shop.stored();
    assert_eq!(shop.laravel_log(), "");
    assert!(!rows.iter().any(|row| row.to_string().contains("hunter2")));

    let row = one(&rows, "insert into notes (id, text) values (?, ?), (?, ?)");
    assert_eq!(
        columns(
            row,
            &[
                "status",
                "rows_affected",
                "operation",
                "username",
                "actor_type",
                "db_system",
                "connection",
                "app",
                "origin"
            ]
        ),
        [
            json!("ok"),
            json!(2),
            json!("insert"),
            json!("alice"),
            json!("user"),
            json!(expected.system),
            json!("app"),
            json!("shop"),
            json!("cli")
        ]
    );
    assert_eq!(row["bindings"], json!([1, "one", 2, "zwölf 🎉"]));
    assert_eq!(row["transaction_outcome"], "autocommit");
    let row = one(&rows, "update notes set text = ? where id > ?");
    assert_eq!(columns(row, &["rows_affected", "bindings"]), [json!(2), json!(["both", 0])]);
    assert_eq!(
        columns(one(&rows, "select * from notes where id < ?"), &["rows_returned", "rows_affected"]),
        [json!(2), json!(null)]
    );
    assert_eq!(one(&rows, "select * from notes order by id")["rows_returned"], 2, "counted as they are read");

    let row = one(&rows, "insert into notes (text, id) values (?, ?)");
    assert_eq!(
        columns(row, &["status", "error_code", "rows_affected"]),
        [json!("error"), json!(expected.duplicate_key), json!(null)]
    );
    let message = row["error_message"].as_str().unwrap();
    assert!(message.to_lowercase().contains("unique") || message.contains("Duplicate"), "{message}");
    assert!(!message.contains("insert into"), "the database's own words: {message}");
    assert_eq!(
        columns(one(&rows, "selekt 1"), &["status", "error_code"]),
        [json!("error"), json!(expected.syntax_error)]
    );
    assert_eq!(
        columns(one(&rows, "nowhere = 1"), &["status", "error_code"]),
        [json!("error"), json!(expected.no_column)]
    );
    assert!(one(&rows, "nowhere = 1")["sql"].as_str().unwrap().contains("[redacted:"));

    let outcomes: Vec<_> = all(&rows, "update notes set text = ? where id = ?")
        .iter()
        .map(|row| (row["bindings"][0].as_str().unwrap(), row["transaction_outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(
        outcomes,
        [("committed", "committed"), ("undone", "rolled back"), ("outer", "committed"), ("inner", "rolled back")]
    );
    let transactions: Vec<_> =
        all(&rows, "update notes set text = ? where id = ?").iter().map(|row| &row["transaction_id"]).collect();
    assert!(transactions[2] == transactions[3] && transactions[0] != transactions[1], "{transactions:?}");

    let row = one(&rows, "select count(*) as many");
    assert_eq!(row["repeat_count"], 3);
    assert!(row["last_at"].as_str() > row["occurred_at"].as_str(), "{row}");
    let row = one(&rows, "insert into accounts");
    assert_eq!(row["bindings"][1], "a@example.com");
    assert!(row["bindings"][2]["redacted"].is_string(), "{row}");
    let typed = one(&rows, "select 1 where 1 = ?");
    assert_eq!(typed["bindings"], json!([1, 2.5, true]));
    let bytes = &one(&rows, "select ? as bytes")["bindings"][0];
    if expected.system != "postgresql" {
        assert_eq!(columns(bytes, &["type", "len"]), [json!("bytes"), json!(3)], "{bytes}");
    }
    assert!(all(&rows, "delete from notes").is_empty(), "pretended is not done");
    assert!(all(&rows, "into jobs").is_empty(), "nor is the queue's own table");
    let numbers: Vec<u64> = rows.iter().map(|row| row["producer_seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "without a hole");
}

#[test]
fn on_sqlite_it_sees_what_happens() {
    let expected = Expected { system: "sqlite", duplicate_key: "19", syntax_error: "1", no_column: "1" };
    sees_what_happens(&sqlite_shop(&[]), &expected);
}

#[tokio::test]
async fn on_mysql_it_sees_what_happens() {
    let database = Mysql::new().await;
    let settings = server("mysql", &database.url(), database.name());
    let shop = shop_with(&settings.each_ref().map(|(name, value)| (*name, value.as_str())));
    let expected = Expected { system: "mysql", duplicate_key: "1062", syntax_error: "1064", no_column: "1054" };
    sees_what_happens(&shop, &expected);
}

#[tokio::test]
async fn on_postgres_it_sees_what_happens() {
    let database = Postgres::new().await;
    let settings = server("pgsql", &database.url(), database.name());
    let shop = shop_with(&settings.each_ref().map(|(name, value)| (*name, value.as_str())));
    let expected = Expected { system: "postgresql", duplicate_key: "23505", syntax_error: "42601", no_column: "42703" };
    sees_what_happens(&shop, &expected);
}

#[test]
fn through_redis_it_sees_what_happens() {
    let prefix = format!("auditq_test_{:08x}_", fastrand::u32(..));
    let shop = sqlite_shop(&[("QUEUE_CONNECTION", "redis"), ("REDIS_PREFIX", &prefix)]);
    let expected = Expected { system: "sqlite", duplicate_key: "19", syntax_error: "1", no_column: "1" };
    sees_what_happens(&shop, &expected);
}

#[test]
fn a_request_is_one_message_after_the_response_with_the_user_of_each_moment() {
    let shop = sqlite_shop(&[("AUDITQ_TRACK_ANONYMOUS", "true")]);
    let done = shop.act("request").ok();
    assert_eq!(done.stdout, "200 shown\nbefore the response: 0\nafter it: 1\n", "{}", shop.laravel_log());
    let rows = shop.stored();
    let who = |sql: &str| columns(one(&rows, sql), &["user_id", "username", "actor_type"]);
    assert_eq!(who("before_login"), [json!(null), json!(null), json!("anonymous")]);
    assert_eq!(who("after_login"), [json!("7"), json!("alice"), json!("user")]);
    assert_eq!(who("after_logout"), [json!(null), json!(null), json!("anonymous")]);
    let row = one(&rows, "after_login");
    assert_eq!(row["extra"], json!({"guard": "web"}));
    let from = columns(row, &["origin", "http_method", "url_path", "ip", "user_agent", "request_id", "trace_id"]);
    let expected = ["http", "GET", "/orders/17", "192.0.2.7", "Test/1", "r-17", "0af7651916cd43dd8448eb211c80319c"];
    assert_eq!(from, expected.map(Value::from));
}

#[test]
fn for_nobody_nothing_is_recorded() {
    let shop = sqlite_shop(&[]);
    assert!(shop.act("anonymous").ok().stdout.contains("after it: 0"));
    let shop = sqlite_shop(&[("AUDIT_LOG_ENABLED", "false")]);
    shop.act("shop x").ok();
    assert_eq!(shop.act("payloads").ok().stdout, "");
}

/// An application that makes its own connections goes on doing so.
#[test]
fn connections_of_the_applications_own_are_heard_by_db_listen() {
    let shop = sqlite_shop(&[]);
    shop.act("own-resolver").ok();
    let rows = shop.stored();
    assert_eq!(columns(one(&rows, "select 5 as heard"), &["status", "username"]), [json!("ok"), json!("alice")]);
    assert_eq!(one(&rows, "heard_too")["transaction_outcome"], "unknown");
    assert_eq!(shop.laravel_log().matches("records sqlite by DB::listen only").count(), 1);
}

#[test]
fn what_is_handed_over_in_an_open_transaction_gets_its_outcome_later() {
    let shop = sqlite_shop(&[]);
    shop.set("'buffer' => ['queries' => 10]");
    shop.act("open 100").ok();
    assert_eq!(shop.act("payloads").ok().stdout.lines().count(), 3, "40, 40, and 20 with the outcome of all");
    let rows = shop.stored();
    assert_eq!(rows.len(), 100);
    assert!(rows.iter().all(|row| row["transaction_outcome"] == "committed" && row["transaction_id"] == "t1"));
    assert_eq!(shop.laravel_log(), "");
}

impl Shop {
    /// The messages that wait, each as `laravel decode` shows it once they are stored, and the rows.
    fn decoded_and_stored(&self) -> (Vec<Value>, Vec<Value>) {
        let sent = self.act("payloads").ok().stdout;
        let rows = self.stored();
        let decode = |payload: &str| {
            std::fs::write(self.path("message.json"), payload).unwrap();
            let mut shown = self.run("laravel decode message.json").ok().json();
            assert_eq!(shown.len(), 1, "one object");
            shown.remove(0)
        };
        (sent.lines().map(decode).collect(), rows)
    }
}

#[test]
fn a_message_is_shown_as_what_is_stored_of_it() {
    let shop = sqlite_shop(&[]);
    shop.act(&format!("shop {SECRET}")).ok();
    let (messages, mut rows) = shop.decoded_and_stored();
    let [message] = &messages[..] else { panic!("{messages:?}") };
    let parts: Vec<&str> = message.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(parts, ["encrypted", "envelope", "events"]);
    assert_eq!(message["encrypted"], false);
    assert_eq!(message["envelope"]["job"], "auditq@queries");
    assert_eq!(
        columns(&message["envelope"]["data"], &["auditq", "app", "batch"]),
        [json!(1), json!("shop"), json!(null)]
    );
    assert!(!message.to_string().contains("hunter2"), "{message}");
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        assert!(row.remove("id").is_some() && row.remove("stored_at").is_some());
    }
    assert!(rows.len() > 10);
    assert_eq!(message["events"].as_array().unwrap(), &rows);
}

#[test]
fn a_message_is_shown_with_the_outcomes_it_tells_of_earlier_ones() {
    let shop = sqlite_shop(&[]);
    shop.set("'buffer' => ['queries' => 10]");
    shop.act("open 100").ok();
    let (messages, rows) = shop.decoded_and_stored();
    let sizes: Vec<_> = messages.iter().map(|message| message["events"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [40, 40, 20]);
    let before = &messages[0]["events"][0];
    assert_eq!((&before["transaction_outcome"], &messages[0]["outcomes"]), (&json!("unknown"), &json!(null)));
    let outcomes = messages[2]["outcomes"].as_array().unwrap();
    assert!(outcomes.iter().all(|outcome| outcome["transaction_outcome"] == "committed"), "{outcomes:?}");
    let told: std::collections::BTreeSet<_> =
        outcomes.iter().map(|outcome| &outcome["event_id"]).map(Value::to_string).collect();
    let earlier: std::collections::BTreeSet<_> = rows[..80].iter().map(|row| row["event_id"].to_string()).collect();
    assert_eq!(told, earlier);
}

#[test]
fn a_process_that_ends_early_still_hands_over() {
    let shop = sqlite_shop(&[]);
    assert_eq!(shop.act("end").code, Some(3));
    one(&shop.stored(), "last_words");
}

/// Nothing of it reaches the application; what cannot be kept is said once.
#[test]
fn a_queue_that_is_down_is_the_applications_business_no_more() {
    let down = [("QUEUE_CONNECTION", "redis"), ("REDIS_PORT", "1")];
    let shop = sqlite_shop(&down);
    let workload = shop.artisan("app:workload 2500 --user=alice").ok();
    assert_eq!(workload.json()[0]["queries"], 2500);
    let log = shop.laravel_log();
    assert_eq!(log.matches("auditq could not").count(), 1, "{log}");
    assert!(log.contains("hand statements over to the queue audit-logs"), "{log}");
}

/// Laravel's own worker gives such a message back; without the package it fails it, and `queue:retry` brings it back.
#[test]
fn laravels_own_worker_loses_nothing() {
    for queue in ["database", "redis"] {
        let prefix = format!("auditq_test_{:08x}_", fastrand::u32(..));
        let shop = sqlite_shop(&[("QUEUE_CONNECTION", queue), ("REDIS_PREFIX", &prefix)]);
        shop.run("migrate").ok();
        shop.artisan("app:workload 5 --user=alice").ok();
        shop.artisan("queue:work --queue=audit-logs --stop-when-empty --tries=1").ok();
        assert_eq!(shop.run("queue failed --json").ok().json().len(), 0);
        assert!(shop.artisan("queue:failed").ok().stdout.contains("No failed jobs"));
        assert_eq!(shop.run("queue size").ok().stdout.trim(), "1", "{queue}");

        let without = std::fs::read_to_string(shop.path("config/app.php")).unwrap();
        let without = without.replace(PROVIDER, WITHOUT);
        shop.act("hurry").ok();
        std::fs::write(shop.path("config/app.php"), without).unwrap();
        shop.artisan("queue:work --queue=audit-logs --stop-when-empty --tries=1");
        let failed = shop.artisan("queue:failed").ok();
        assert!(failed.stdout.contains("auditq@queries"), "{failed:?}");
        shop.artisan("queue:retry all").ok();
        let rows = shop.stored();
        assert_eq!(rows.len(), 5, "{queue}");
        assert!(rows.iter().all(|row| row["bindings"][1] == "paid" && row["username"] == "alice"));
    }
}

#[test]
fn the_table_that_the_application_made_is_filled_too() {
    let shop = sqlite_shop(&[]);
    std::fs::remove_file(shop.path("auditq.toml")).unwrap();
    shop.artisan("app:workload 3 --user=alice").ok();
    shop.run("work --stop-when-empty").ok();
    let rows = shop.run("log --json --limit 10").ok().json();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["username"] == "alice" && row["sql"].as_str().unwrap().contains("orders")));
}

/// The application with the spool in the place of its queue.
fn spooling_shop() -> Shop {
    sqlite_shop(&[("AUDITQ_HANDOVER", "spool")])
}

#[test]
fn what_is_left_in_the_inbox_is_seen_and_stored() {
    let shop = spooling_shop();
    shop.run("migrate").ok();
    shop.artisan("app:workload 5 --user=alice").ok();
    let files = shop.inbox();
    assert!(files.len() == 1 && files[0].ends_with(".json"), "{files:?}");
    let mode = std::fs::metadata(shop.path("storage/auditq-spool/inbox").join(&files[0])).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let monitor = shop.run("monitor").ok().stdout;
    assert!(monitor.contains("in its inbox: 1 request"), "{monitor}");
    let doctor = shop.run("doctor --json").json();
    let checks = doctor[0]["checks"].as_array().unwrap();
    let inbox = checks.iter().find(|check| check["check"] == "inbox").unwrap();
    assert_eq!((inbox["found"].as_str(), inbox["status"].as_str()), (Some("1 request waiting"), Some("ok")));
    assert_eq!(shop.stored().len(), 5);
    assert!(shop.inbox().is_empty());
}

/// At any moment, again and again, while the application goes on: no row lost, none doubled.
#[test]
fn a_forwarder_that_is_killed_loses_and_doubles_nothing() {
    let shop = spooling_shop();
    shop.set("'buffer' => ['queries' => 5]");
    let settings = std::fs::read_to_string(shop.path("auditq.toml")).unwrap();
    let slow = "[worker]\nbatch = 2\nrest = 0.01\ntimeout = 2\n[queue]\nretry_after = 3\n";
    std::fs::write(shop.path("auditq.toml"), format!("{settings}{slow}")).unwrap();
    for _ in 0..6 {
        shop.artisan("app:workload 300 --user=alice").ok();
        let worker = Running::of(shop.auditq("work"));
        std::thread::sleep(std::time::Duration::from_millis(fastrand::u64(40..400)));
        worker.signal(Signal::KILL);
        drop(worker.ended());
    }
    let mut worker = Running::of(shop.auditq("work"));
    worker.says("workers on audit-logs");
    eventually("an empty inbox", || shop.inbox().is_empty());
    eventually("an empty queue", || shop.run("queue size").ok().stdout.trim() == "0");
    worker.terminated().ok();
    let rows = shop.run("log --json --limit 10000").ok().json();
    let events: std::collections::BTreeSet<_> = rows.iter().map(|row| row["event_id"].as_str().unwrap()).collect();
    assert_eq!((rows.len(), events.len()), (1_800, 1_800));
    assert!(shop.run("queue failed --json").ok().json().is_empty());
}

#[test]
fn a_queue_that_is_down_leaves_it_to_the_spool() {
    let mut shop = sqlite_shop(&[("QUEUE_CONNECTION", "redis"), ("REDIS_PORT", "1")]);
    shop.settings.push(("AUDITQ_SPOOL_DIR", shop.path("storage/auditq-spool").to_str().unwrap().to_owned()));
    shop.artisan("app:workload 2500 --user=alice").ok();
    assert_eq!(shop.inbox().len(), 3, "1,000, 1,000 and 500");
    assert_eq!(shop.laravel_log().matches("auditq could not").count(), 1, "{}", shop.laravel_log());
}

#[test]
fn a_full_disk_costs_no_request() {
    let disk = SmallDisk::mount("128k");
    let mut shop = spooling_shop();
    shop.set("'buffer' => ['queries' => 200]");
    shop.settings.push(("AUDITQ_SPOOL_DIR", disk.path().to_str().unwrap().to_owned()));
    let workload = shop.artisan("app:workload 3000 --user=alice").ok();
    assert_eq!(workload.json()[0]["queries"], 3000);
    let log = shop.laravel_log();
    assert!(log.matches("auditq could not").count() == 1 && log.contains("is the disk full?"), "{log}");
    let names: Vec<_> = disk.path().join("inbox").read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_str().unwrap().ends_with(".tmp")), "{names:?}");
}

#[test]
fn the_packages_own_tests_pass() {
    let disk = SmallDisk::mount("64k");
    let mut command = std::process::Command::new("php");
    command.arg(package().join("tests/run.php")).env("AUDITQ_TEST_SMALL_DISK", disk.path());
    let done = Done::of(command.output().unwrap());
    assert_eq!(done.code, Some(0), "{done:?}");
}
