//! The PostgreSQL driver behind pgbouncer, which gives each transaction another connection to the server.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditq_postgres::testing::TestDatabase;
use auditq_postgres::tokio_postgres::{Config, config::Host};
use auditq_postgres::{Database, Options};
use auditq_queue::conformance::Subject;
use auditq_queue::postgres::{PostgresQueue, PostgresQueueOptions};
use auditq_queue::{Clock, Queue, QueueAdmin};
use tempfile::TempDir;

use crate::postgres_database::{message, name, work_off};
use crate::subjects::{RETRY_AFTER, clock};

const INSTALL: &str = "these tests need pgbouncer: run `apt-get install pgbouncer`, it need not be started";

/// A database, and a pgbouncer of a test's own before it.
struct Behind {
    child: Child,
    /// Holds its settings.
    _folder: TempDir,
    database: TestDatabase,
    port: u16,
}

impl Behind {
    async fn start() -> Self {
        let database = TestDatabase::new().await;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = folder.path().join("pgbouncer.ini");
        // Fewer connections than callers, so that each gets one that another has used.
        let settings = format!(
            "[databases]\n{} = {}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 3\nserver_round_robin = 1\n",
            database.name(),
            server(&database.url()),
        );
        fs::write(&file, settings).unwrap();
        let mut command = as_nobody("pgbouncer");
        let started = command.arg("-q").arg(&file).stdin(Stdio::null()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{INSTALL} ({error})"));
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < Duration::from_secs(60),
                "pgbouncer does not come up ({ended:?}); {INSTALL}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { child, _folder: folder, database, port }
    }

    async fn queue(&self, query: &str, clock: Option<Arc<dyn Clock>>) -> PostgresQueue {
        let url = format!("postgres://anyone@127.0.0.1:{}/{}{query}", self.port, self.database.name());
        let options = PostgresQueueOptions { retry_after: RETRY_AFTER, clock, ..PostgresQueueOptions::default() };
        let queue = PostgresQueue::open(Database::open(&url, Options::default()).unwrap(), options).unwrap();
        queue.migrate().await.unwrap();
        queue
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How pgbouncer reaches the server of a URL.
fn server(url: &str) -> String {
    let config: Config = url.parse().unwrap();
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(folder)) => folder.display().to_string(),
        None => panic!("{url} names no host"),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let password = config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
    let password = password.map(|password| format!(" password='{password}'")).unwrap_or_default();
    format!("host={host} port={port} user={}{password}", config.get_user().unwrap_or("postgres"))
}

/// pgbouncer will not run as root.
fn as_nobody(program: &str) -> Command {
    if Command::new("id").arg("-u").output().unwrap().stdout != b"0\n" {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--", program]);
    command
}

/// The suite's subject behind pgbouncer.
pub(crate) async fn subject() -> Subject {
    let (clock, behind) = (clock(), Behind::start().await);
    let queue = Arc::new(behind.queue("?listen=off", Some(Arc::clone(&clock) as _)).await);
    Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(behind) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_workers_behind_pgbouncer_do_each_message_once() {
    let behind = Behind::start().await;
    work_off(Arc::new(behind.queue("?listen=off", None).await), 2_000).await;
}

/// pgbouncer takes the LISTEN and never passes a notification on.
#[tokio::test]
async fn where_nobody_can_listen_a_message_from_elsewhere_is_found_by_looking() {
    let behind = Behind::start().await;
    for query in ["", "?listen=off"] {
        let queue = behind.queue(query, None).await;
        let elsewhere = behind.queue("?application_name=elsewhere", None).await;
        for id in 0..3 {
            assert!(queue.reserve(&[name("audit")], 1).await.unwrap().is_empty());
            elsewhere.push(&[message(id)]).await.unwrap();
            let began = Instant::now();
            queue.wait(&[name("audit")], Duration::from_secs(3_600)).await;
            assert!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
            let reserved = queue.reserve(&[name("audit")], 1).await.unwrap();
            assert_eq!(queue.delete(&[reserved[0].receipt.clone()]).await.unwrap(), []);
        }
    }
}
