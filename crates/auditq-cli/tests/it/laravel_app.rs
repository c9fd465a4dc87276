//! A real Laravel application, served unchanged: `auditq work --laravel` in the place of `php artisan queue:work`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use auditq_laravel::php::{Key, Object, Property, Value};
use auditq_laravel::{AppKey, Cipher, JobLimits, NewJob};
use auditq_mysql::testing::TestDatabase as Mysql;
use auditq_postgres::testing::TestDatabase as Postgres;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Done, RedisServer, Running, eventually};

const HELPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/laravel_app.php");

/// A job of another class.
const SEND_MAIL: &str = "<?php
namespace App\\Jobs;

class SendMail implements \\Illuminate\\Contracts\\Queue\\ShouldQueue
{
    use \\Illuminate\\Foundation\\Bus\\Dispatchable, \\Illuminate\\Bus\\Queueable, \\Illuminate\\Queue\\InteractsWithQueue;
    public function __construct(public int $number) {}
    public function handle(): void
    {
        file_put_contents(storage_path('mails'), \"{$this->number}\\n\", FILE_APPEND);
    }
}
";

/// A copy of the application, with databases of its own.
pub(crate) struct Shop {
    dir: TempDir,
    /// Of the process too: the application takes its settings from either.
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// Where the application is: beside this repository, or where `AUDITQ_TEST_LARAVEL_APP` says.
fn original() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/laravel-app");
    let path = std::env::var_os("AUDITQ_TEST_LARAVEL_APP").map_or(PathBuf::from(beside), PathBuf::from);
    assert!(
        path.join("artisan").is_file(),
        "these tests need the Laravel application at {}; name its folder in AUDITQ_TEST_LARAVEL_APP",
        path.display()
    );
    path
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            // Not its rights: the original may be one that nobody writes to.
            std::fs::write(&to, std::fs::read(&from).unwrap()).unwrap();
        }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if self.settings.iter().any(|(_, value)| value == "redis") {
            // Keys that stay behind are untidy, and no reason to fail a test.
            drop(self.php_output(Path::new(HELPER), &format!("{} wipe", self.dir.path().display())));
        }
    }
}

impl Shop {
    pub(crate) fn new(settings: &[(&'static str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&original(), dir.path());
        // Its databases have fixed names, and tests run beside each other.
        let config = dir.path().join("config/database.php");
        let text = std::fs::read_to_string(&config).unwrap();
        let named = text
            .replace("'database' => $name,", "'database' => env('DB_DATABASE', $name),")
            .replace(
                "'username' => 'root', 'password' => ''",
                "'username' => env('DB_USERNAME', 'root'), 'password' => env('DB_PASSWORD', '')",
            )
            .replace(
                "'username' => 'postgres', 'password' => ''",
                "'username' => env('DB_USERNAME', 'postgres'), 'password' => env('DB_PASSWORD', '')",
            );
        assert_ne!(text, named, "the application's config/database.php is another one");
        std::fs::write(config, named).unwrap();
        let mut settings: Vec<_> = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        if settings.iter().all(|(name, _)| *name != "CACHE_DRIVER") {
            settings.push(("CACHE_DRIVER", "file".to_owned()));
        }
        let cache = dir.path().join("config/cache.php");
        let stores =
            "'stores' => [\n    'database' => ['driver' => 'database', 'table' => 'cache', 'connection' => null],";
        let text = std::fs::read_to_string(&cache).unwrap().replacen("'stores' => [", stores, 1);
        std::fs::write(cache, text).unwrap();
        std::fs::write(dir.path().join("app/Jobs/SendMail.php"), SEND_MAIL).unwrap();
        let shop = Self { dir, settings };
        let lines = shop.settings.iter().map(|(name, value)| format!("{name}=\"{value}\"\n"));
        std::fs::write(shop.path(".env"), lines.collect::<String>()).unwrap();
        shop.artisan("migrate --force").ok();
        shop
    }

    pub(crate) fn sqlite(queue: &[(&'static str, &str)]) -> Self {
        let all = [&[("DB_CONNECTION", "sqlite"), ("DB_DATABASE", "storage/audit.sqlite")], queue].concat();
        Self::new(&all)
    }

    /// One whose queue is in Redis, under a prefix of its own, with its database in SQLite.
    fn redis() -> Self {
        Self::on_redis(&[("DB_CONNECTION", "sqlite"), ("DB_DATABASE", "storage/audit.sqlite")])
    }

    fn on_redis(database: &[(&'static str, &str)]) -> Self {
        let prefix = format!("auditq_test_{:08x}_", fastrand::u32(..));
        Self::new(&[database, &[("QUEUE_CONNECTION", "redis"), ("REDIS_PREFIX", &prefix)]].concat())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn php(&self, script: &Path, line: &str) -> Done {
        Done::of(self.php_output(script, line).unwrap_or_else(|error| {
            panic!("these tests need PHP and Laravel, see install_laravel in ./check: {error}")
        }))
    }

    fn php_output(&self, script: &Path, line: &str) -> std::io::Result<std::process::Output> {
        let mut command = Command::new("php");
        command.arg(script).args(line.split(' ')).current_dir(self.dir.path()).stdin(Stdio::null());
        command.envs(self.settings.iter().map(|(name, value)| (*name, value.as_str())));
        if self.settings.iter().any(|(_, value)| value == "sqlite") {
            command.env("DB_DIR", self.path("storage"));
        }
        command.output()
    }

    pub(crate) fn artisan(&self, line: &str) -> Done {
        self.php(&self.path("artisan"), line)
    }

    fn help(&self, action: &str) -> Done {
        self.php(Path::new(HELPER), &format!("{} {action}", self.dir.path().display())).ok()
    }

    /// auditq, which knows of the application what its `.env` says.
    pub(crate) fn auditq(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditq"));
        command.args(line.split(' ')).arg("--laravel").arg(self.dir.path()).current_dir(self.dir.path());
        for (name, _) in std::env::vars_os() {
            let name = name.into_string().unwrap_or_default();
            if ["AUDIT", "QUEUE_", "DB_", "REDIS_", "CACHE_", "APP_"].iter().any(|begin| name.starts_with(begin)) {
                command.env_remove(name);
            }
        }
        command.env("TZ", "UTC").env("COLUMNS", "100").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Done {
        Done::of(self.auditq(line).output().unwrap())
    }

    /// The application's table, without what differs from run to run.
    pub(crate) fn rows(&self) -> Vec<serde_json::Value> {
        let mut rows = self.help("rows").json();
        for row in &mut rows {
            let stored = row.as_object_mut().unwrap().remove("created_at").unwrap();
            assert!(stored.as_str().unwrap().starts_with("20"), "{stored}");
        }
        rows
    }

    /// Holds what auditq stores against what Laravel's own worker stores of the same jobs.
    fn stores_what_laravel_stores(&self) {
        self.artisan("app:workload 120 --user=alice").ok();
        self.artisan("app:workload 30 --user=Zoë/1").ok();
        self.help("save");
        self.artisan("queue:work --queue=audit-logs --stop-when-empty --tries=3").ok();
        let expected = self.rows();
        assert_eq!(expected.len(), 150);
        self.help("restore");
        let done = self.run("work --stop-when-empty").ok();
        assert_eq!(self.rows(), expected, "{done:?}");
        // A second delivery of what is there already adds nothing, and takes nothing away.
        let log = self.run("log --json --limit 1000").ok().json();
        assert_eq!(log.len(), 150);
        assert!(log.iter().any(|row| row["username"] == "Zoë/1"), "{}", log[0]);
    }
}

#[test]
fn on_sqlite_it_stores_what_laravel_stores() {
    Shop::sqlite(&[]).stores_what_laravel_stores();
}

#[tokio::test]
async fn on_mysql_it_stores_what_laravel_stores() {
    let database = Mysql::new().await;
    Shop::new(
        &server("mysql", &database.url(), database.name()).each_ref().map(|(name, value)| (*name, value.as_str())),
    )
    .stores_what_laravel_stores();
}

#[tokio::test]
async fn on_postgres_it_stores_what_laravel_stores() {
    let database = Postgres::new().await;
    Shop::new(
        &server("pgsql", &database.url(), database.name()).each_ref().map(|(name, value)| (*name, value.as_str())),
    )
    .stores_what_laravel_stores();
}

#[test]
fn on_redis_it_stores_what_laravel_stores() {
    let shop = Shop::redis();
    shop.stores_what_laravel_stores();
    assert_eq!(shop.run("queue size").ok().stdout.trim(), "0");
}

/// Without `.env`, as on a server on which `config:cache` is a step of each deployment.
#[test]
fn an_application_whose_settings_are_cached_is_served_by_those() {
    let shop = Shop::sqlite(&[]);
    shop.artisan("config:cache").ok();
    std::fs::remove_file(shop.path(".env")).unwrap();
    shop.stores_what_laravel_stores();
    let found = shop.run("doctor --json").stdout;
    assert!(found.contains("bootstrap/cache/config.php") && found.contains("reservations: 300 s"), "{found}");
}

/// A database as an application's `.env` names it; from the URL that the tests go by.
pub(crate) fn server(driver: &str, url: &str, name: &str) -> [(&'static str, String); 5] {
    let rest = url.split_once("://").unwrap().1;
    let (login, place) = rest.split_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let host = place.split('/').next().unwrap();
    let port = host.split_once(':').map_or(if driver == "mysql" { "3306" } else { "5432" }, |(_, port)| port);
    assert!(host.starts_with("127.0.0.1"), "the application's own settings lead to this machine");
    [
        ("DB_CONNECTION", driver.to_owned()),
        ("DB_PORT", port.to_owned()),
        ("DB_DATABASE", name.to_owned()),
        ("DB_USERNAME", user.to_owned()),
        ("DB_PASSWORD", password.to_owned()),
    ]
}

/// At any moment, again and again: no row lost, none doubled.
#[test]
fn killed_in_the_middle_it_loses_and_doubles_nothing() {
    let shop = Shop::sqlite(&[]);
    let config = std::fs::read_to_string(shop.path("config/queue.php")).unwrap();
    std::fs::write(shop.path("config/queue.php"), config.replace("'retry_after' => 300", "'retry_after' => 31"))
        .unwrap();
    shop.artisan("app:workload 1200 --user=alice").ok();
    std::fs::write(shop.path("auditq.toml"), "[worker]\nbatch = 5\nrest = 0.01\n").unwrap();
    for _ in 0..6 {
        let worker = Running::of(shop.auditq("work"));
        std::thread::sleep(std::time::Duration::from_millis(fastrand::u64(30..250)));
        worker.signal(Signal::KILL);
        drop(worker.ended());
    }
    // What the last ones held comes back when its reservation has lapsed.
    let mut worker = Running::of(shop.auditq("work"));
    worker.says("workers on audit-logs");
    eventually("an empty queue", || shop.run("queue size").ok().stdout.trim() == "0");
    worker.terminated().ok();
    assert_eq!(shop.rows().len(), 1200);
}

/// Buried by auditq, it is there for Laravel's commands, and back for auditq after `queue:retry`.
#[test]
fn laravels_commands_go_on_working_on_failed_jobs() {
    let shop = Shop::sqlite(&[]);
    shop.help("break");
    shop.run("work --stop-when-empty").ok();
    let failed = shop.artisan("queue:failed").ok();
    assert!(failed.stdout.contains("App\\Jobs\\ProcessAuditLog") && failed.stdout.contains("database"), "{failed:?}");
    let ours = shop.run("queue failed --json").ok().json();
    assert!(ours[0]["reason"].as_str().unwrap().contains("holds no SQL"), "{}", ours[0]);
    shop.artisan("queue:retry all").ok();
    assert_eq!(shop.run("queue size").ok().stdout.trim(), "1");
    assert_eq!(shop.run("queue failed --json").ok().json(), Vec::<serde_json::Value>::new());
    shop.run("work --stop-when-empty").ok();
    assert_eq!(shop.run("queue failed --json").ok().json().len(), 1);
    shop.artisan("queue:flush").ok();
    assert_eq!(shop.run("queue failed --json").ok().json().len(), 0);

    shop.artisan("app:workload 3 --user=alice").ok();
    let monitor = shop.artisan("queue:monitor database:audit-logs").ok();
    assert!(monitor.stdout.contains("[3]") || monitor.stdout.contains("| 3"), "{monitor:?}");
    shop.artisan("queue:clear database --queue=audit-logs --force").ok();
    assert_eq!(shop.run("queue size").ok().stdout.trim(), "0");
}

fn settings<'s>(server: &'s [(&'static str, String); 5]) -> [(&'static str, &'s str); 5] {
    server.each_ref().map(|(name, value)| (*name, value.as_str()))
}

#[test]
fn what_fails_in_redis_is_in_failed_jobs_in_sqlite() {
    Shop::redis().keeps_what_failed_where_laravel_does();
}

#[tokio::test]
async fn what_fails_in_redis_is_in_failed_jobs_in_mysql() {
    let database = Mysql::new().await;
    let server = server("mysql", &database.url(), database.name());
    Shop::on_redis(&settings(&server)).keeps_what_failed_where_laravel_does();
}

#[tokio::test]
async fn what_fails_in_redis_is_in_failed_jobs_in_postgres() {
    let database = Postgres::new().await;
    let server = server("pgsql", &database.url(), database.name());
    Shop::on_redis(&settings(&server)).keeps_what_failed_where_laravel_does();
}

/// A zone that no clock of a server shows by chance, and whose clocks are never put forward.
const KATHMANDU: &str = "Asia/Kathmandu";
const KATHMANDU_OFFSET: i64 = (5 * 60 + 45) * 60;

impl Shop {
    /// The application with another `app.timezone`.
    pub(crate) fn in_kathmandu(self) -> Self {
        let config = std::fs::read_to_string(self.path("config/app.php")).unwrap();
        let moved = config.replace("'timezone' => 'UTC'", &format!("'timezone' => '{KATHMANDU}'"));
        assert_ne!(config, moved, "the application's config/app.php is another one");
        std::fs::write(self.path("config/app.php"), moved).unwrap();
        self
    }

    /// When each job failed, as it stands in the application's table, in seconds since 1970 on the wall.
    fn failed_at(&self) -> Vec<i64> {
        let wall = |text: &str| text.parse::<jiff::civil::DateTime>().unwrap().in_tz("UTC").unwrap().timestamp();
        self.help("failed-at").stdout.lines().map(|line| wall(line).as_second()).collect()
    }

    /// A job that Laravel's own worker fails and one that ours gives up stand side by side.
    fn notes_when_a_job_failed_as_laravel_does(&self) {
        self.help("break");
        self.artisan("queue:work --queue=audit-logs --stop-when-empty");
        assert_eq!(self.failed_at().len(), 1);
        self.help("break");
        self.run("work --stop-when-empty").ok();
        let now = jiff::Timestamp::now().as_second();
        let failed_at = self.failed_at();
        assert_eq!(failed_at.len(), 2);
        for wall in failed_at {
            let late = now + KATHMANDU_OFFSET - wall;
            assert!((0..120).contains(&late), "noted {late} s before it is {now} by UTC");
        }
        for failed in self.failed() {
            let at: jiff::Timestamp = failed["failed_at"].as_str().unwrap().parse().unwrap();
            assert!((0..120).contains(&(now - at.as_second())), "{failed}");
        }
        assert_eq!(self.run("queue flush --hours 1").ok().stdout, "Dropped 0 failed messages.\n");
        self.help("age-failed");
        assert_eq!(self.run("queue flush --hours 3").ok().stdout, "Dropped 0 failed messages.\n");
        assert_eq!(self.run("queue flush --hours 1").ok().stdout, "Dropped 2 failed messages.\n");
    }
}

#[test]
fn on_sqlite_a_failure_is_noted_by_the_applications_clock() {
    Shop::sqlite(&[]).in_kathmandu().notes_when_a_job_failed_as_laravel_does();
}

#[tokio::test]
async fn on_mysql_a_failure_is_noted_by_the_applications_clock() {
    let database = Mysql::new().await;
    let server = server("mysql", &database.url(), database.name());
    Shop::new(&settings(&server)).in_kathmandu().notes_when_a_job_failed_as_laravel_does();
}

#[tokio::test]
async fn on_postgres_a_failure_is_noted_by_the_applications_clock() {
    let database = Postgres::new().await;
    let server = server("pgsql", &database.url(), database.name());
    Shop::new(&settings(&server)).in_kathmandu().notes_when_a_job_failed_as_laravel_does();
}

#[test]
fn of_redis_a_failure_is_noted_by_the_applications_clock_in_sqlite() {
    Shop::redis().in_kathmandu().notes_when_a_job_failed_as_laravel_does();
}

#[tokio::test]
async fn of_redis_a_failure_is_noted_by_the_applications_clock_in_mysql() {
    let database = Mysql::new().await;
    let server = server("mysql", &database.url(), database.name());
    Shop::on_redis(&settings(&server)).in_kathmandu().notes_when_a_job_failed_as_laravel_does();
}

#[tokio::test]
async fn of_redis_a_failure_is_noted_by_the_applications_clock_in_postgres() {
    let database = Postgres::new().await;
    let server = server("pgsql", &database.url(), database.name());
    Shop::on_redis(&settings(&server)).in_kathmandu().notes_when_a_job_failed_as_laravel_does();
}

impl Shop {
    fn size(&self) -> String {
        self.run("queue size").ok().stdout.trim().to_owned()
    }

    fn failed(&self) -> Vec<serde_json::Value> {
        self.run("queue failed --json").ok().json()
    }

    /// Laravel's commands and ours, in turn, on a job that both fail.
    fn keeps_what_failed_where_laravel_does(&self) {
        self.help("break");
        self.run("work --stop-when-empty").ok();
        assert_eq!(self.size(), "0");
        let theirs = self.artisan("queue:failed").ok();
        assert!(theirs.stdout.contains("App\\Jobs\\ProcessAuditLog") && theirs.stdout.contains("redis"), "{theirs:?}");
        assert!(self.failed()[0]["reason"].as_str().unwrap().contains("holds no SQL"));
        // Put back by Laravel, failed by us again.
        self.artisan("queue:retry all").ok();
        assert_eq!((self.size().as_str(), self.failed().len()), ("1", 0));
        self.run("work --stop-when-empty").ok();
        assert_eq!((self.size().as_str(), self.failed().len()), ("0", 1));
        // Put back by us, failed by Laravel.
        self.run("queue retry all").ok();
        assert_eq!((self.size().as_str(), self.failed().len()), ("1", 0));
        self.artisan("queue:work --queue=audit-logs --stop-when-empty");
        assert_eq!(self.size(), "0");
        let failed = self.failed();
        assert!(failed[0]["reason"].as_str().unwrap().contains("Undefined"), "{}", failed[0]);
        // By its id, there and back.
        let id = failed[0]["id"].as_str().unwrap();
        self.run(&format!("queue:retry {id}")).ok();
        assert_eq!((self.size().as_str(), self.failed().len()), ("1", 0));
        self.run("work --stop-when-empty").ok();
        self.artisan(&format!("queue:retry {id}")).ok();
        self.run("work --stop-when-empty").ok();
        assert_eq!(self.failed()[0]["id"], id);
        self.artisan(&format!("queue:forget {id}")).ok();
        assert_eq!((self.size().as_str(), self.failed().len()), ("0", 0));
        self.help("break");
        self.run("work --stop-when-empty").ok();
        self.run("queue flush").ok();
        assert!(self.artisan("queue:failed").stdout.contains("No failed jobs"));
    }
}

#[test]
fn a_restart_that_laravel_asks_for_in_files_ends_the_worker() {
    Shop::sqlite(&[]).stops_when_laravel_asks_for_it();
}

#[test]
fn a_restart_that_laravel_asks_for_in_a_table_ends_the_worker_on_sqlite() {
    Shop::sqlite(&[("CACHE_DRIVER", "database")]).stops_when_laravel_asks_for_it();
}

#[tokio::test]
async fn a_restart_that_laravel_asks_for_in_a_table_ends_the_worker_on_mysql() {
    let database = Mysql::new().await;
    let server = server("mysql", &database.url(), database.name());
    Shop::new(&[&settings(&server)[..], &[("CACHE_DRIVER", "database")]].concat()).stops_when_laravel_asks_for_it();
}

#[tokio::test]
async fn a_restart_that_laravel_asks_for_in_a_table_ends_the_worker_on_postgres() {
    let database = Postgres::new().await;
    let server = server("pgsql", &database.url(), database.name());
    Shop::new(&[&settings(&server)[..], &[("CACHE_DRIVER", "database")]].concat()).stops_when_laravel_asks_for_it();
}

#[test]
fn a_restart_that_laravel_asks_for_in_redis_ends_the_worker() {
    let sqlite = [("DB_CONNECTION", "sqlite"), ("DB_DATABASE", "storage/audit.sqlite")];
    Shop::on_redis(&[&sqlite[..], &[("CACHE_DRIVER", "redis")]].concat()).stops_when_laravel_asks_for_it();
}

impl Shop {
    fn stops_when_laravel_asks_for_it(&self) {
        if self.settings.iter().any(|(name, value)| *name == "CACHE_DRIVER" && value == "database") {
            self.help("cache");
        }
        self.leaves_a_paused_queue_alone("pause", "resume");
        // What was asked before it started is no concern of its.
        self.artisan("queue:restart").ok();
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        self.artisan("app:workload 5 --user=alice").ok();
        let mut worker = Running::of(self.auditq("work"));
        worker.says("stored 5 rows");
        assert_eq!(self.size(), "0");
        self.artisan("queue:restart").ok();
        worker.says("stopped: a restart was asked for");
        worker.ended().ok();
    }
}

impl Shop {
    /// From before the worker starts, and while it is at work.
    fn leaves_a_paused_queue_alone(&self, pause: &str, resume: &str) {
        self.help(pause);
        self.artisan("app:workload 4 --user=bob").ok();
        let mut worker = Running::of(self.auditq("work"));
        worker.says("workers on audit-logs");
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(self.size(), "4");
        self.help(resume);
        worker.says("stored 4 rows");
        self.help(pause);
        // It looks every three seconds.
        std::thread::sleep(std::time::Duration::from_secs(4));
        self.artisan("app:workload 3 --user=carol").ok();
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert_eq!(self.size(), "3");
        self.help(resume);
        worker.says("stored 3 rows");
        worker.terminated().ok();
    }
}

/// Its jobs wait while it is down for maintenance, as they do for Laravel's own worker.
#[test]
fn while_the_application_is_down_nothing_is_taken() {
    let shop = Shop::sqlite(&[]);
    shop.artisan("down").ok();
    shop.artisan("app:workload 5 --user=alice").ok();
    let mut worker = Running::of(shop.auditq("work"));
    worker.says("workers on audit-logs");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(shop.size(), "5");
    shop.artisan("up").ok();
    worker.says("stored 5 rows");
    worker.terminated().ok();
}

/// Since Laravel 10 that can be said in a cache, for several machines.
#[test]
fn while_the_cache_says_that_the_application_is_down_nothing_is_taken() {
    let shop = Shop::sqlite(&[("APP_MAINTENANCE_DRIVER", "cache"), ("APP_MAINTENANCE_STORE", "file")]);
    let config = std::fs::read_to_string(shop.path("config/app.php")).unwrap();
    let maintenance = "return ['maintenance' => ['driver' => 'cache', 'store' => 'file'],";
    std::fs::write(shop.path("config/app.php"), config.replacen("return [", maintenance, 1)).unwrap();
    shop.leaves_a_paused_queue_alone("down", "up");
    assert!(!shop.path("storage/framework/down").exists());
}

/// The key that `config/app.php` of the application has.
const KEY: &str = "base64:a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

#[test]
fn an_encrypted_job_is_read_by_the_applications_key_and_by_those_it_had() {
    let other = format!("base64:{}b28=", "b29v".repeat(10));
    for (key, previous) in [(KEY, ""), (&other, KEY)] {
        let shop = Shop::sqlite(&[("APP_KEY", key), ("APP_PREVIOUS_KEYS", previous)]);
        let class = std::fs::read_to_string(shop.path("app/Jobs/ProcessAuditLog.php")).unwrap();
        let encrypted = "implements \\Illuminate\\Contracts\\Queue\\ShouldBeEncrypted, ShouldQueue";
        let class = class.replace("implements ShouldQueue", encrypted);
        std::fs::write(shop.path("app/Jobs/ProcessAuditLog.php"), class).unwrap();
        shop.stores_what_laravel_stores();
        assert!(!std::fs::read_to_string(shop.path("storage/jobs.json")).unwrap().contains("paid"));
    }
}

/// Laravel's own worker runs a job that was written here.
#[test]
fn a_job_that_we_write_laravels_own_worker_stores() {
    for shop in [Shop::sqlite(&[]), Shop::redis()] {
        let on_redis = shop.settings.iter().any(|(_, value)| value == "redis");
        let key = AppKey::parse(KEY).unwrap();
        for (number, cipher) in [None, Some(Cipher::Cbc(&key, [5; 16]))].into_iter().enumerate() {
            let hash = format!("ours-{number}");
            let id = "a".repeat(31) + &number.to_string();
            let job = new_job(&hash, on_redis.then_some(id.as_str()));
            let payload = match cipher {
                None => job.payload(),
                Some(cipher) => job.encrypted_payload(&cipher),
            };
            std::fs::write(shop.path("payload"), payload.unwrap()).unwrap();
            shop.help("push");
        }
        shop.artisan("queue:work --queue=audit-logs --stop-when-empty --tries=3").ok();
        let rows = shop.rows();
        assert_eq!((rows.len(), shop.failed().len()), (2, 0), "{rows:?}");
        for (row, hash) in rows.iter().zip(["ours-0", "ours-1"]) {
            assert_eq!((&row["query_hash"], &row["sql"]), (&hash.into(), &"select '🎉' where 1 = ?".into()));
            assert_eq!((&row["bindings"], &row["username"]), (&"[1,2.5,null,\"Zo\\u00eb\"]".into(), &"Zoë".into()));
        }
    }
}

fn new_job<'j>(hash: &'j str, redis_id: Option<&'j str>) -> NewJob<'j> {
    let list = |items: Vec<Value<'j>>| Value::Array((0..).map(Key::Int).zip(items).collect());
    let data = [
        ("query_hash", Value::text(hash)),
        ("username", Value::text("Zoë")),
        ("sql", Value::text("select '🎉' where 1 = ?")),
        ("bindings", list(vec![Value::Int(1), Value::Float(2.5), Value::Null, Value::text("Zoë")])),
        ("time", Value::Float(1.5)),
        ("connection", Value::text("app")),
        ("executed_at", Value::text("2024-01-01 00:00:00")),
    ];
    let data = data.map(|(key, value)| (Key::Str(key.as_bytes().into()), value));
    NewJob {
        uuid: uuid::Uuid::from_u128(fastrand::u128(..)),
        command: Object {
            class: "App\\Jobs\\ProcessAuditLog".into(),
            properties: vec![(Property::public("queryData"), Value::Array(data.into()))],
        },
        created_at: 1_795_433_469,
        limits: JobLimits { tries: Some(3), timeout: Some(30), ..JobLimits::default() },
        redis_id,
    }
}

#[test]
fn a_thousand_jobs_of_others_hold_up_nothing_on_sqlite() {
    // One after the other: on SQLite Laravel's worker fails when another process writes.
    Shop::sqlite(&[]).leaves_to_others_what_is_theirs(false);
}

#[test]
fn a_thousand_jobs_of_others_hold_up_nothing_on_redis() {
    Shop::redis().leaves_to_others_what_is_theirs(true);
}

impl Shop {
    fn leaves_to_others_what_is_theirs(&self, together: bool) {
        self.help("mail");
        self.help("chain");
        self.artisan("app:workload 200 --user=alice").ok();
        let began = std::time::Instant::now();
        let mut worker = Running::of(self.auditq("work"));
        worker.says("stored 200 rows");
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
        eventually("what is left to be as it was", || {
            let left = self.help("attempts").json().remove(0);
            (&left["jobs"], &left["attempts"]) == (&1_001.into(), &0.into())
        });
        if together {
            // Laravel's own worker gets at them while ours goes on looking for its own.
            eventually("what is left to Laravel's own worker to be done", || {
                self.artisan("queue:work --queue=audit-logs --stop-when-empty").ok();
                self.help("mails").stdout.trim() == "1001" && self.size() == "0"
            });
        }
        let said = worker.terminated().ok().stdout;
        assert!(said.contains("leaving jobs of App\\Jobs\\SendMail in the queue"), "{said}");
        assert!(said.contains("leaving chained jobs of App\\Jobs\\ProcessAuditLog in the queue"), "{said}");
        if !together {
            // What our worker looked at last is out of the way for a moment.
            eventually("Laravel's own worker to do the rest", || {
                self.artisan("queue:work --queue=audit-logs --stop-when-empty").ok();
                self.size() == "0"
            });
        }
        assert_eq!((self.help("mails").stdout.trim(), self.rows().len()), ("1001", 201));
    }
}

impl Shop {
    /// Nesting, counts and lengths that lie, references into themselves, a cut at every byte, a hundred megabytes. Of these
    /// the engine refuses so many itself.
    fn gives_up_hostile_payloads_and_goes_on(&self, refused: usize, peak_mib_max: u64) {
        let sent = self.help("hostile").json().remove(0);
        assert_eq!(sent["refused"].as_array().unwrap().len(), refused, "{sent}");
        self.artisan("app:workload 50 --user=alice").ok();
        let began = std::time::Instant::now();
        let worker = Running::of(self.auditq("work"));
        // A server that has a hundred megabytes to move answers nobody meanwhile.
        eventually("an empty queue", || self.run("queue size").stdout == "0\n");
        assert!(began.elapsed() < std::time::Duration::from_secs(50), "{:?}", began.elapsed());
        let peak = worker.peak_bytes();
        assert!(peak < peak_mib_max << 20, "{peak} bytes");
        worker.terminated().ok();
        assert_eq!(self.rows().len(), 50);
        let failed = self.run("queue failed --json --limit 0").ok().json();
        assert_eq!(failed.len() as u64, sent["there"].as_u64().unwrap());
        for failed in failed {
            let reason = failed["reason"].as_str().unwrap();
            let says_where = ["at byte", "limit of", "no job of Laravel's", "under sql, query,", "no query data"];
            assert!(says_where.iter().any(|part| reason.contains(part)), "{reason}");
            assert!(reason.len() < 2_000, "{reason}");
        }
    }
}

#[test]
fn on_sqlite_hostile_payloads_are_given_up_with_the_reason_and_the_queue_goes_on() {
    Shop::sqlite(&[]).gives_up_hostile_payloads_and_goes_on(0, 700);
}

/// It refuses what is over `max_allowed_packet`, and what is no UTF-8: bytes, a letter that is none, and half a letter.
#[tokio::test]
async fn on_mysql_hostile_payloads_are_given_up_with_the_reason_and_the_queue_goes_on() {
    let database = Mysql::new().await;
    let server = server("mysql", &database.url(), database.name());
    Shop::new(&settings(&server)).gives_up_hostile_payloads_and_goes_on(4, 700);
}

/// It refuses what is no UTF-8; of a text with a NUL the application sends what stands before it.
#[tokio::test]
async fn on_postgres_hostile_payloads_are_given_up_with_the_reason_and_the_queue_goes_on() {
    let database = Postgres::new().await;
    let server = server("pgsql", &database.url(), database.name());
    Shop::new(&settings(&server)).gives_up_hostile_payloads_and_goes_on(3, 700);
}

#[test]
fn on_redis_hostile_payloads_are_given_up_with_the_reason_and_the_queue_goes_on() {
    // One of its own: while it moves what is large, others would wait in vain.
    let server = RedisServer::start();
    let port = server.port.to_string();
    let sqlite = [("DB_CONNECTION", "sqlite"), ("DB_DATABASE", "storage/audit.sqlite")];
    let shop = Shop::on_redis(&[&sqlite[..], &[("REDIS_PORT", port.as_str())]].concat());
    shop.gives_up_hostile_payloads_and_goes_on(0, 1_000);
}

#[test]
fn doctor_says_which_jobs_are_left_and_which_cache_is_not_seen() {
    let shop = Shop::sqlite(&[("CACHE_DRIVER", "array")]);
    shop.run("migrate").ok();
    let checks = shop.run("doctor --json").stdout;
    let checks: serde_json::Value = serde_json::from_str(&checks).unwrap();
    let found: Vec<_> =
        checks["checks"].as_array().unwrap().iter().filter_map(|check| check["found"].as_str()).collect();
    let says = |what: &str| found.iter().any(|found| found.contains(what));
    assert!(says("chained, batched or unique ones, are left in the queue for Laravel's own worker"), "{found:?}");
    assert!(says("its cache is \"array\", so that `php artisan queue:restart`"), "{found:?}");
}
