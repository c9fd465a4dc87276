//! A worker that dies, or stands still, with messages in its hands: others take them over within ten seconds, by the
//! settings as they are shipped, and what it says late is refused.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use auditq_mysql::testing::TestDatabase as Mysql;
use auditq_postgres::testing::TestDatabase as Postgres;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Done, Running, World, eventually, number, open};

const STATEMENTS: i64 = 40;
const AT_MOST: Duration = Duration::from_secs(10);

/// A queue on an engine, and a log in a file that a test can hold back.
struct Scene {
    world: World,
    /// Holds the log for itself for as long as it lives.
    keeper: rusqlite::Connection,
}

/// A command that looks at the same queue beside another log, because this one is held back.
fn beside(world: &World, line: &str) -> Command {
    let mut command = world.command(line);
    command.env("AUDITQ_STORE_URL", "sqlite:other.db");
    command
}

impl Scene {
    fn new(queue: &str) -> Self {
        let world = World::with(&format!("[queue]\nurl = {queue:?}\n[store]\nurl = \"sqlite:log.db\"\n"));
        world.run("migrate").ok();
        Done::of(beside(&world, "migrate").output().unwrap()).ok();
        let keeper = open(&world.path("log.db"));
        Self { world, keeper }
    }

    fn rows(&self) -> i64 {
        number(&open(&self.world.path("log.db")), "SELECT count(*) FROM audit_sql_logs")
    }

    /// How many messages are `ready`, `reserved` or `failed`.
    fn in_queue(&self, state: &str) -> u64 {
        let looked = Done::of(beside(&self.world, "monitor --json").output().unwrap());
        let snapshot = looked.ok().json().remove(0);
        let mut queues = snapshot["queues"].as_array().unwrap().iter();
        let sizes = queues.find(|queue| queue["queue"] == "audit-logs").unwrap();
        sizes[state].as_u64().unwrap()
    }

    /// A worker that is ready to work.
    fn worker(&self) -> Running {
        let mut worker = self.world.start("work --workers 1 --json");
        worker.says(r#""event":"started""#);
        worker
    }

    /// Has the only worker that is not stopped reserve messages that it cannot store.
    fn hold_messages(&self) {
        self.keeper.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let statements: Vec<_> = (0..STATEMENTS).map(|id| format!("SELECT {id} -- {id}")).collect();
        let statements: Vec<_> = statements.iter().map(|sql| ("alice", sql.as_str())).collect();
        self.world.record(&statements);
        eventually("reserved messages", || self.in_queue("reserved") > 0);
    }

    /// Stops a worker, not in the middle of a transaction: a lock that it takes along into its sleep is another test's
    /// subject.
    fn stop(&self, worker: &Running) {
        eventually("a worker that stands still and holds no lock", || {
            worker.signal(Signal::STOP);
            // The signal is on its way for a while, in which its threads go on.
            eventually("a worker that stands still", || stands_still(worker.pid()));
            let free = self.queue_is_free();
            if !free {
                worker.signal(Signal::CONT);
            }
            free
        });
    }

    /// Whether nobody holds the lock of a queue that is a file.
    fn queue_is_free(&self) -> bool {
        let file = self.world.path("queue.db");
        if !file.exists() {
            return true;
        }
        let queue = open(&file);
        queue.busy_timeout(Duration::ZERO).unwrap();
        queue.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
    }

    fn let_them_store(&self) {
        self.keeper.execute_batch("COMMIT").unwrap();
    }

    fn ends_with_each_row_once(&self) {
        eventually("an empty queue", || self.in_queue("ready") + self.in_queue("reserved") == 0);
        assert_eq!((self.rows(), self.in_queue("failed")), (STATEMENTS, 0));
    }
}

/// Whether all threads of a process are stopped.
fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut states = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")));
    // The state stands behind the name, which may hold brackets itself. A thread that has just ended has none.
    let stopped = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
    states.all(|stat| stat.is_ok_and(stopped))
}

fn messages_of_a_dead_worker_run_again_within_ten_seconds(queue: &str) {
    let scene = Scene::new(queue);
    let (first, second) = (scene.worker(), scene.worker());
    scene.stop(&second);
    scene.hold_messages();
    second.signal(Signal::CONT);
    let began = Instant::now();
    first.signal(Signal::KILL);
    drop(first.ended());
    scene.let_them_store();
    eventually("the rows", || scene.rows() == STATEMENTS);
    let took = began.elapsed();
    assert!(took < AT_MOST, "{took:?}");
    scene.ends_with_each_row_once();
    second.terminated().ok();
}

/// As on a machine that was suspended: when the first worker wakes up, a second has taken over from it and not settled yet.
fn what_a_worker_says_late_is_refused(queue: &str) {
    let scene = Scene::new(queue);
    let (first, second) = (scene.worker(), scene.worker());
    scene.stop(&second);
    scene.hold_messages();
    scene.stop(&first);
    second.signal(Signal::CONT);
    // By then it has taken over, or the first settles below.
    std::thread::sleep(AT_MOST);
    scene.stop(&second);
    first.signal(Signal::CONT);
    scene.let_them_store();
    eventually("the rows", || scene.rows() == STATEMENTS);
    first.terminated().ok();
    assert!(scene.in_queue("ready") + scene.in_queue("reserved") > 0, "the first has settled what the second holds");
    second.signal(Signal::CONT);
    scene.ends_with_each_row_once();
    second.terminated().ok();
}

/// A server of the test's own, so that nothing stays behind.
struct Server {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Server {
    fn redis() -> Self {
        Self::start("redis-server", |port, folder| format!("--bind 127.0.0.1 --port {port} --dir {folder}"))
    }

    fn nats() -> Self {
        Self::start("nats-server", |port, folder| format!("-a 127.0.0.1 -p {port} -js -sd {folder}"))
    }

    fn start(program: &str, arguments: impl Fn(u16, &str) -> String) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments(port, folder.path().to_str().unwrap());
        let started = Command::new(program)
            .args(arguments.split(' '))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = started.unwrap_or_else(|error| panic!("this test needs `{program}`: {error}"));
        eventually(program, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { process, port, _folder: folder }
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Each on every engine.
macro_rules! on_every_engine {
    ($($promise:ident),+) => { $(mod $promise {
        use super::*;

        #[test]
        fn on_sqlite() {
            super::$promise("sqlite:queue.db");
        }

        #[tokio::test]
        async fn on_mysql() {
            super::$promise(&Mysql::new().await.url());
        }

        #[tokio::test]
        async fn on_postgres() {
            super::$promise(&Postgres::new().await.url());
        }

        #[test]
        fn on_redis() {
            super::$promise(&Server::redis().url("redis"));
        }

        #[test]
        fn on_nats() {
            super::$promise(&Server::nats().url("nats"));
        }
    })+ };
}

on_every_engine!(messages_of_a_dead_worker_run_again_within_ten_seconds, what_a_worker_says_late_is_refused);
