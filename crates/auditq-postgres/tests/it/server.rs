//! A server of a test's own: with passwords, and with TLS by a certificate of its own.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use auditq_postgres::{Database, Error, Kind, Options, attempt};
use tempfile::TempDir;

const PASSWORD: &str = "the-right-one";

struct Server {
    folder: TempDir,
    child: Child,
    port: u16,
}

/// A command as a user that PostgreSQL agrees to run as.
fn as_postgres(program: &Path) -> Command {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"]).arg(program);
    command
}

/// The newest server that is installed.
fn binaries() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").expect("these tests need `apt-get install postgresql`");
    installed.map(|version| version.unwrap().path().join("bin")).max().unwrap()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        fs::write(&password, PASSWORD).unwrap();
        run(as_postgres(&binaries().join("initdb"))
            .args(["-A", "scram-sha-256", "-U", "postgres", "--no-sync", "-E", "UTF8", "--pwfile"])
            .arg(&password)
            .arg("-D")
            .arg(&data));
        // An authority, and a certificate of it for a name that the server is not reached by.
        let openssl = |arguments: &str| {
            run(as_postgres(Path::new("openssl")).args(arguments.split(' ')).current_dir(folder.path()));
        };
        openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
        openssl("req -newkey rsa:2048 -nodes -subj /CN=db.example -keyout server.key -out server.csr");
        fs::write(folder.path().join("names"), "subjectAltName=DNS:db.example,DNS:localhost").unwrap();
        openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 2 -extfile names -out server.pem");
        fs::set_permissions(folder.path().join("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = File::create(folder.path().join("log")).unwrap();
        let setting = |name: &str, file: &str| format!("{name}={}", folder.path().join(file).display());
        let child = as_postgres(&binaries().join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "ssl=on", "-c", "unix_socket_directories=", "-c", "fsync=off"])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", &setting("ssl_key_file", "server.key")])
            .args(["-c", &setting("ssl_cert_file", "server.pem")])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { folder, child, port }
    }

    fn url(&self, password: &str, query: &str) -> String {
        format!("postgres://postgres:{password}@localhost:{}/postgres{query}", self.port)
    }

    /// The file of an authority, with what stands before it in a URL.
    fn roots(&self) -> String {
        format!("sslrootcert={}", self.folder.path().join("ca.pem").display())
    }

    async fn answers(&self) {
        let began = Instant::now();
        while let Err(error) = use_it(&self.url(PASSWORD, "")).await {
            assert!(began.elapsed() < Duration::from_secs(60), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fast: ends its children too.
        drop(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status());
        drop(self.child.wait());
    }
}

/// Whether the session is encrypted.
async fn use_it(url: &str) -> Result<bool, Error> {
    let database = Database::open(url, Options::default())?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    attempt!(database.single("use it"), connection => {
        connection.query_typed_one(sql, &[]).await.map(|row| row.get(0)).map_err(Into::into)
    })
}

#[tokio::test]
async fn passwords_and_certificates_are_checked_as_the_url_says() {
    let server = Server::start();
    server.answers().await;

    let error = use_it(&server.url("hunter2", "")).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Misconfigured, Some("28P01")));
    let text = format!("{error} {error:?}");
    assert!(text.contains("check the user and the password") && !text.contains("hunter2"), "{text}");

    for query in ["", "?sslmode=prefer", "?sslmode=require"] {
        assert!(use_it(&server.url(PASSWORD, query)).await.unwrap(), "{query} is encrypted");
    }
    assert!(!use_it(&server.url(PASSWORD, "?sslmode=disable")).await.unwrap());

    // The authority is nobody's but ours.
    let strange = use_it(&server.url(PASSWORD, "?sslmode=verify-ca")).await.unwrap_err();
    assert_eq!(strange.kind(), Kind::Misconfigured, "{strange}");
    assert!(strange.to_string().contains("sslrootcert"), "{strange}");
    let roots = server.roots();
    assert!(use_it(&server.url(PASSWORD, &format!("?sslmode=verify-ca&{roots}"))).await.unwrap());
    assert!(use_it(&server.url(PASSWORD, &format!("?sslmode=verify-full&{roots}"))).await.unwrap());

    // By its address, the server has not the name that its certificate says.
    let by_address = |mode| server.url(PASSWORD, &format!("?sslmode={mode}&{roots}")).replace("localhost", "127.0.0.1");
    assert!(use_it(&by_address("verify-ca")).await.unwrap());
    let other = use_it(&by_address("verify-full")).await.unwrap_err();
    assert_eq!(other.kind(), Kind::Misconfigured, "{other}");
}
