//! Keys on the Redis that `AUDITQ_TEST_REDIS_URL` names, and servers that a test starts itself.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::Connection;
use tempfile::TempDir;

const SERVER: &str = "redis://127.0.0.1:6379/15";

/// Keys of a test's own, by their prefix; removed with it.
#[derive(Debug)]
pub(crate) struct TestKeys {
    server: String,
    prefix: String,
}

impl TestKeys {
    pub(crate) fn new() -> Self {
        let server = std::env::var("AUDITQ_TEST_REDIS_URL").unwrap_or_else(|_| SERVER.to_owned());
        Self::on(&server)
    }

    pub(crate) fn on(server: &str) -> Self {
        let prefix = format!("auditq_test_{}_{:08x}_", std::process::id(), fastrand::u32(..));
        let keys = Self { server: server.to_owned(), prefix };
        drop(keys.connect());
        keys
    }

    /// For the driver.
    pub(crate) fn url(&self) -> String {
        format!("{}?prefix={}", self.server, self.prefix)
    }

    /// A key by Laravel's name for it, as it is on the server.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A connection of the test's own.
    pub(crate) fn connect(&self) -> Connection {
        let connected = redis::Client::open(self.server.as_str()).and_then(|client| client.get_connection());
        connected.unwrap_or_else(|error| {
            panic!(
                "these tests need Redis 6.2 or Valkey; start one with `service redis-server start` or `docker run -p \
                 6379:6379 redis`, or name one as AUDITQ_TEST_REDIS_URL=redis://HOST:PORT/DATABASE ({error})"
            )
        })
    }

    /// The keys there are, sorted.
    pub(crate) fn all(&self) -> Vec<String> {
        let mut connection = self.connect();
        let mut command = redis::cmd("SCAN");
        command.cursor_arg(0).arg("MATCH").arg(format!("{}*", self.prefix)).arg("COUNT").arg(1_000);
        let mut keys: Vec<String> = command.iter(&mut connection).unwrap().map(Result::unwrap).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl Drop for TestKeys {
    fn drop(&mut self) {
        let remove = || -> redis::RedisResult<()> {
            let mut connection = redis::Client::open(self.server.as_str())?.get_connection()?;
            let mut command = redis::cmd("SCAN");
            command.cursor_arg(0).arg("MATCH").arg(format!("{}*", self.prefix)).arg("COUNT").arg(1_000);
            let keys = command.iter(&mut connection)?.collect::<redis::RedisResult<Vec<String>>>()?;
            for key in keys {
                redis::cmd("UNLINK").arg(key).exec(&mut connection)?;
            }
            Ok(())
        };
        // Keys that stay behind are untidy, and no reason to fail a test: its server may have been stopped.
        drop(remove());
    }
}

/// A server of a test's own, in a folder of its own; stopped with it.
#[derive(Debug)]
pub(crate) struct TestServer {
    pub(crate) port: u16,
    folder: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl TestServer {
    pub(crate) fn start(options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { port, folder: tempfile::tempdir().unwrap(), options, child: None };
        server.go_on();
        server
    }

    /// Starts it, again if it was stopped, with the data it had.
    pub(crate) fn go_on(&mut self) {
        self.begin();
        for _ in 0..500 {
            if let Ok(mut connection) = self.try_connect() {
                let answer: redis::RedisResult<String> = redis::cmd("PING").query(&mut connection);
                // One that asks for a password has started too.
                if answer.is_ok() || answer.is_err_and(|error| error.code() == Some("NOAUTH")) {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server on port {} does not answer", self.port);
    }

    /// Starts it without waiting for it.
    pub(crate) fn begin(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("these tests start servers of their own: install `redis-server` or Valkey's ({error})")
        });
        self.child = Some(child);
    }

    /// Adds options for the next start.
    pub(crate) fn options(&mut self, more: &[&str]) {
        self.options.extend(more.iter().map(|option| (*option).to_owned()));
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    fn try_connect(&self) -> redis::RedisResult<Connection> {
        redis::Client::open(self.url())?.get_connection()
    }

    pub(crate) fn connect(&self) -> Connection {
        self.try_connect().unwrap()
    }

    /// Runs a command given as words.
    pub(crate) fn run<T: redis::FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        command.query(&mut self.connect()).unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}
