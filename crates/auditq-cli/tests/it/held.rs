//! A worker that dies, or falls asleep, with messages in its hands: with the settings as shipped, another has stored them
//! within ten seconds, and nothing is stored twice.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use auditq_mysql::testing::TestDatabase as Mysql;
use auditq_postgres::testing::TestDatabase as Postgres;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{World, eventually, open};

/// From the death of a worker until all that it held is in the log.
const WITHIN: Duration = Duration::from_secs(10);

/// A server of the test's own.
struct Server {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Server {
    fn start(program: &str, options: &[&str], folder_option: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(options).arg(port.to_string()).arg(folder_option).arg(folder.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("this test starts a server: install `{program}` ({error})"));
        let server = Self { child, port, _folder: folder };
        eventually("the server to answer", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How many messages are held, and how many there are.
fn held(world: &World) -> (u64, u64) {
    let stats = world.run("monitor --stats --json").ok().json().remove(0);
    let queue = &stats["queues"][0];
    let count = |name: &str| queue[name].as_u64().unwrap_or_default();
    assert_ne!(queue["failed"], Value::from(1), "{stats}");
    (count("reserved"), count("ready") + count("reserved") + count("delayed"))
}

/// Records, has a worker hold what was recorded, does away with it, and has another one store it.
fn takes_over(world: &World, signal: Signal, before: i64) {
    let first = world.start("work");
    world.record(&[("alice", "SELECT 1")]);
    eventually("the first worker to be at work", || world.rows() == before + 1);
    let database = open(&world.path("auditq.db"));
    // The log takes nothing: whoever wants to store holds on to what it has.
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    world.record(&[("bob", "SELECT 2"), ("carol", "SELECT 3")]);
    eventually("the first worker to have something in its hands", || {
        let said = first.stdout() + &first.stderr();
        said.contains("database is locked")
    });
    first.signal(signal);
    let died_at = Instant::now();
    database.execute_batch("ROLLBACK").unwrap();
    let second = world.start("work");
    eventually("another worker to store what was held", || world.rows() == before + 3);
    assert!(died_at.elapsed() < WITHIN, "{:?}", died_at.elapsed());
    if signal == Signal::STOP {
        // It goes on where it was: it stores what is there already, and its receipts are of no use any more.
        first.signal(Signal::CONT);
        world.record(&[("dave", "SELECT 4")]);
        eventually("the fourth", || world.rows() == before + 4);
        first.signal(Signal::TERM);
        assert_eq!(first.ended().code, Some(0));
    }
    second.signal(Signal::TERM);
    assert_eq!(second.ended().code, Some(0));
    assert_eq!(held(world), (0, 0));
    let doubled = "SELECT count(*) - count(DISTINCT event_id) FROM audit_sql_logs";
    assert_eq!(world.number(doubled), 0);
}

fn taken_over_from_the_dead_and_the_sleeping(queue: &str) {
    let world = World::with(&format!("[queue]\nurl = {queue:?}\n[store]\nurl = \"sqlite:auditq.db\"\n"));
    world.run("migrate").ok();
    takes_over(&world, Signal::KILL, 0);
    takes_over(&world, Signal::STOP, 3);
}

#[test]
fn what_a_killed_worker_held_in_sqlite_is_stored_within_ten_seconds() {
    taken_over_from_the_dead_and_the_sleeping("sqlite:queue.db");
}

#[tokio::test]
async fn what_a_killed_worker_held_in_postgres_is_stored_within_ten_seconds() {
    let database = Postgres::new().await;
    taken_over_from_the_dead_and_the_sleeping(&database.url());
}

#[tokio::test]
async fn what_a_killed_worker_held_in_mysql_is_stored_within_ten_seconds() {
    let database = Mysql::new().await;
    taken_over_from_the_dead_and_the_sleeping(&database.url());
}

#[test]
fn what_a_killed_worker_held_in_redis_is_stored_within_ten_seconds() {
    let server = Server::start("redis-server", &["--bind", "127.0.0.1", "--save", "", "--port"], "--dir");
    taken_over_from_the_dead_and_the_sleeping(&format!("redis://127.0.0.1:{}", server.port));
}

#[test]
fn what_a_killed_worker_held_in_nats_is_stored_within_ten_seconds() {
    let server = Server::start("nats-server", &["-js", "-a", "127.0.0.1", "-p"], "-sd");
    taken_over_from_the_dead_and_the_sleeping(&format!("nats://127.0.0.1:{}", server.port));
}
