//! Recorders killed at any moment.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use auditq::{Observed, Recorder, Source, System};

use crate::support::{alice, events, read, small_config};

const ROLE: &str = "AUDITQ_TEST_ROLE";

fn rounds() -> u64 {
    std::env::var("AUDITQ_TEST_CRASH_ROUNDS")
        .map_or(20, |rounds| rounds.parse().expect("AUDITQ_TEST_CRASH_ROUNDS is a number"))
}

#[test]
#[ignore = "a role that another test starts as a process of its own"]
fn child() {
    assert_eq!(std::env::var(ROLE).as_deref(), Ok("record"));
    let folder = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    record_until_killed(&folder("AUDITQ_TEST_SPOOL"), &folder("AUDITQ_TEST_ACKS"));
}

/// Two threads record numbered events, and note each number once `record` has returned.
fn record_until_killed(spool: &Path, acks: &Path) {
    let mut config = small_config(spool);
    config.spool.segment_bytes = 64 << 10;
    let recorder = Recorder::open(&config).unwrap();
    let source = Source::new(System::Sqlite, "default", "shop.db");
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (recorder, source) = (&recorder, &source);
            scope.spawn(move || {
                let mut acks = OpenOptions::new().append(true).open(acks).unwrap();
                let _inside = alice().enter();
                for index in 0.. {
                    let number = thread << 32 | index;
                    recorder.record(&Observed::new(source, &format!("SELECT {number}")));
                    acks.write_all(&number.to_le_bytes()).unwrap();
                }
            });
        }
    });
}

fn start(spool: &Path, acks: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(ROLE, "record")
        .env("AUDITQ_TEST_SPOOL", spool)
        .env("AUDITQ_TEST_ACKS", acks)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn every_event_whose_record_returned_is_there_once_after_a_kill() {
    let mut acknowledged = 0;
    for round in 0..rounds() {
        acknowledged += one_kill(round);
    }
    println!("{acknowledged} events acknowledged in {} rounds", rounds());
}

/// Kills a recording process at a random moment, and returns how many events it had acknowledged.
fn one_kill(round: u64) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let (spool, acks) = (folder.path().join("spool"), folder.path().join("acks"));
    File::create(&acks).unwrap();
    let mut child = start(&spool, &acks);
    let give_up_at = Instant::now() + Duration::from_secs(30);
    while fs::metadata(&acks).unwrap().len() == 0 {
        assert!(Instant::now() < give_up_at, "round {round}: nothing was recorded");
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_micros(fastrand::u64(0..20_000)));
    child.kill().unwrap();
    child.wait().unwrap();

    let mut stored: HashMap<String, u64> = HashMap::new();
    for event in events(read(&spool)) {
        *stored.entry(event.statement.sql).or_default() += 1;
    }
    assert!(stored.values().all(|&times| times == 1), "round {round}: an event is there twice");
    let bytes = fs::read(&acks).unwrap();
    let acks = bytes.chunks_exact(8).map(|number| u64::from_le_bytes(number.try_into().unwrap()));
    let lost: Vec<u64> = acks.filter(|number| !stored.contains_key(&format!("SELECT {number}"))).collect();
    assert!(lost.is_empty(), "round {round}: {} acknowledged events are not there", lost.len());
    bytes.len() / 8
}
