//! The whole way under SIGKILL: applications that record and workers that store are killed again and again, and every
//! event whose `record` had returned is a row, once.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use auditq::{Actor, ActorExt as _, Config, Context, Observed, Recorder, Source, System};
use rusqlite::Connection;

const PATIENCE: Duration = Duration::from_secs(120);
const SETTINGS: &str = "[spool]\nsegment_bytes = 262144\nmax_bytes = 1073741824\n[worker]\nmessage_events = 50\n";

fn rounds() -> u64 {
    std::env::var("AUDITQ_TEST_CRASH_ROUNDS").map_or(8, |rounds| rounds.parse().unwrap())
}

/// The application: records numbered statements until it is killed, and notes each number once `record` has returned.
#[test]
#[ignore = "a role that the test below starts as a process of its own"]
fn application() {
    let folder = PathBuf::from(std::env::var_os("AUDITQ_TEST_FOLDER").unwrap());
    let round: u64 = std::env::var("AUDITQ_TEST_ROUND").unwrap().parse().unwrap();
    let config = Config::load(Some(&folder.join("auditq.toml")), std::iter::empty::<(String, String)>());
    let mut config = config.unwrap();
    config.spool.dir = folder.join("auditq-spool");
    let recorder = Recorder::open(&config).unwrap();
    let source = Source::new(System::Sqlite, "default", "shop.db");
    let mut acks = OpenOptions::new().append(true).open(folder.join("acks")).unwrap();
    let _inside = Context::of(Actor::user(round, "alice")).enter();
    for index in 0_u64.. {
        let number = round << 32 | index;
        recorder.record(&Observed::new(&source, &format!("SELECT {number}")));
        acks.write_all(&number.to_le_bytes()).unwrap();
    }
}

fn start_application(folder: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "killed::application", "--nocapture", "--test-threads=1"])
        .env("AUDITQ_TEST_FOLDER", folder)
        .env("AUDITQ_TEST_ROUND", round.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn work(folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditq"));
    command.arg("work").args(options).current_dir(folder).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn number(database: &Connection, sql: &str) -> i64 {
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn every_event_whose_record_returned_is_a_row_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("auditq.toml"), SETTINGS).unwrap();
    let acks = folder.path().join("acks");
    std::fs::write(&acks, []).unwrap();
    let mut workers: Vec<Child> = (0..2).map(|_| work(folder.path(), &[]).spawn().unwrap()).collect();
    for round in 0..rounds() {
        let before = std::fs::metadata(&acks).unwrap().len();
        let mut application = start_application(folder.path(), round);
        let give_up_at = Instant::now() + PATIENCE;
        while std::fs::metadata(&acks).unwrap().len() == before {
            assert!(Instant::now() < give_up_at, "round {round}: nothing was recorded");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..30_000)));
        kill(&mut application);
        let worker = &mut workers[usize::from(fastrand::bool())];
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..100_000)));
        kill(worker);
        *worker = work(folder.path(), &[]).spawn().unwrap();
    }
    workers.iter_mut().for_each(kill);

    // What the killed workers had reserved comes back by itself after some seconds.
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let drained = work(folder.path(), &["--stop-when-empty"]).stderr(Stdio::piped()).output().unwrap();
        assert!(drained.status.success(), "{:?}: {}", drained.status, String::from_utf8_lossy(&drained.stderr));
        let database = Connection::open(folder.path().join("auditq.db")).unwrap();
        if number(&database, "SELECT count(*) FROM jobs") == 0 {
            break;
        }
        assert!(Instant::now() < give_up_at, "messages are left in the queue");
        std::thread::sleep(Duration::from_millis(200));
    }
    reconcile(folder.path(), &std::fs::read(&acks).unwrap());
}

/// Holds the numbers that were acknowledged against the rows.
#[expect(clippy::print_stdout, reason = "the counts are what one runs it at length for")]
fn reconcile(folder: &Path, acks: &[u8]) {
    let mut database = Connection::open(folder.join("auditq.db")).unwrap();
    database.execute_batch("CREATE TEMP TABLE acks (sql TEXT PRIMARY KEY) WITHOUT ROWID").unwrap();
    let acknowledged = acks.chunks_exact(8).map(|number| u64::from_le_bytes(number.try_into().unwrap()));
    let transaction = database.transaction().unwrap();
    for number in acknowledged {
        transaction.execute("INSERT INTO acks VALUES (?1)", [format!("SELECT {number}")]).unwrap();
    }
    transaction.commit().unwrap();
    let stored = number(&database, "SELECT count(*) FROM audit_sql_logs WHERE sql <> ''");
    let lost = "SELECT count(*) FROM acks WHERE sql NOT IN (SELECT sql FROM audit_sql_logs)";
    let lost = number(&database, lost);
    let duplicated = "SELECT count(*) - count(DISTINCT sql) FROM audit_sql_logs WHERE sql <> ''";
    let duplicated = number(&database, duplicated);
    let failed = number(&database, "SELECT count(*) FROM failed_jobs");
    println!(
        "{} rounds: acknowledged {}, stored {stored}, lost {lost}, duplicated {duplicated}, failed {failed}",
        rounds(),
        acks.len() / 8,
    );
    assert_eq!((lost, duplicated, failed), (0, 0, 0));
}
