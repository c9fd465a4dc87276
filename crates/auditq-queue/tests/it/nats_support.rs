//! Streams on the NATS server that `AUDITQ_TEST_NATS_URL` names, and servers that a test starts itself.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::Client;
use tempfile::TempDir;

const SERVER: &str = "nats://127.0.0.1:4222";

/// Streams of a test's own, by their prefix; removed with it.
#[derive(Debug)]
pub(crate) struct TestStreams {
    server: String,
    pub(crate) prefix: String,
}

impl TestStreams {
    pub(crate) async fn new() -> Self {
        let server = std::env::var("AUDITQ_TEST_NATS_URL").unwrap_or_else(|_| SERVER.to_owned());
        let streams = Self::on(&server);
        streams.connect().await;
        streams
    }

    pub(crate) fn on(server: &str) -> Self {
        let prefix = format!("auditq-test-{}-{:08x}", std::process::id(), fastrand::u32(..));
        Self { server: server.to_owned(), prefix }
    }

    /// For the driver.
    pub(crate) fn url(&self) -> String {
        format!("{}/{}", self.server, self.prefix)
    }

    /// A connection of the test's own.
    pub(crate) async fn connect(&self) -> Client {
        async_nats::connect(&self.server).await.unwrap_or_else(|error| {
            panic!(
                "these tests need a NATS server with JetStream; start one with `nats-server -js -sd FOLDER` or `docker run \
                 -p 4222:4222 nats -js`, or name one as AUDITQ_TEST_NATS_URL=nats://HOST:PORT ({error})"
            )
        })
    }

    /// Asks JetStream; its answer as JSON.
    pub(crate) async fn api(&self, what: &str, body: &str) -> serde_json::Value {
        let client = self.connect().await;
        let answer = client.request(format!("$JS.API.{what}"), body.to_owned().into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }
}

impl Drop for TestStreams {
    fn drop(&mut self) {
        let (server, prefix) = (self.server.clone(), self.prefix.clone());
        let remove = move || -> Option<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let client = async_nats::connect(&server).await.ok()?;
                let body = format!("{{\"subject\":\"{prefix}.>\"}}");
                let names = client.request("$JS.API.STREAM.NAMES", body.into()).await.ok()?;
                let names: serde_json::Value = serde_json::from_slice(&names.payload).ok()?;
                for name in names["streams"].as_array()? {
                    let name = name.as_str()?;
                    client.request(format!("$JS.API.STREAM.DELETE.{name}"), "".into()).await.ok()?;
                }
                Some(())
            })
        };
        // Streams that stay behind are untidy, and no reason to fail a test: their server may have been stopped.
        drop(std::thread::spawn(remove).join());
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

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl TestServer {
    /// With JetStream.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_on(free_port(), &[&["-js"], options].concat())
    }

    pub(crate) fn start_on(port: u16, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { port, folder: tempfile::tempdir().unwrap(), options, child: None };
        server.go_on();
        server
    }

    /// With JetStream and a configuration, in which `{folder}` stands for the server's own.
    pub(crate) fn configured(config: &str) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let file = folder.path().join("server.conf");
        std::fs::write(&file, config.replace("{folder}", &folder.path().display().to_string())).unwrap();
        let options = vec!["-js".to_owned(), "-c".to_owned(), file.display().to_string()];
        let mut server = Self { port, folder, options, child: None };
        server.go_on();
        server
    }

    /// Starts it, again if it was stopped, with the data it had.
    pub(crate) fn go_on(&mut self) {
        let child = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"])
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child
            .unwrap_or_else(|error| panic!("these tests start servers of their own: install `nats-server` ({error})"));
        self.child = Some(child);
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "the server on port {} does not answer", self.port);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}
