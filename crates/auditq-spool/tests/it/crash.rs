//! Writers killed at any moment.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use auditq_spool::{GapReason, Reader, Removal};

use crate::child;
use crate::support::{Delivered, drain, drain_at_most, eventually, open};

fn rounds() -> u64 {
    std::env::var("AUDITQ_TEST_CRASH_ROUNDS")
        .map_or(50, |rounds| rounds.parse().expect("AUDITQ_TEST_CRASH_ROUNDS is a number"))
}

#[test]
fn every_record_whose_append_returned_is_delivered_once_after_a_kill() {
    let (mut torn, mut acked) = (0, 0);
    for round in 0..rounds() {
        let (delivered, acks) = one_kill(round);
        torn += delivered.missing();
        acked += acks.len();
        check(round, &delivered, &acks);
    }
    println!("{acked} records acknowledged in {} rounds, {torn} appends killed half-way", rounds());
}

/// Kills a writer at a random moment, in every other round with a reader at its heels.
fn one_kill(round: u64) -> (Delivered, Vec<u64>) {
    let root = tempfile::tempdir().unwrap();
    let acks = root.path().join("acks");
    File::create(&acks).unwrap();
    let mut child = child::start_writer(root.path(), &acks);
    eventually("a first record", || fs::metadata(&acks).unwrap().len() > 0);
    let id = Reader::producers(root.path()).unwrap()[0];
    let mut all = Delivered::default();
    let pause = Duration::from_micros(fastrand::u64(0..8_000));
    if round.is_multiple_of(2) {
        let deadline = std::time::Instant::now() + pause;
        while std::time::Instant::now() < deadline {
            all.add(drain_at_most(&mut open(root.path(), id), 5));
        }
    } else {
        thread::sleep(pause);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    all.add(drain(&mut open(root.path(), id)));
    let Removal::Removed = open(root.path(), id).remove_if_finished().unwrap() else { panic!("something is left") };
    (all, read_acks(&acks))
}

fn read_acks(path: &Path) -> Vec<u64> {
    let bytes = fs::read(path).unwrap();
    bytes.chunks_exact(8).map(|number| u64::from_le_bytes(number.try_into().unwrap())).collect()
}

fn check(round: u64, delivered: &Delivered, acks: &[u64]) {
    let mut times = HashMap::new();
    for (_, bytes) in &delivered.records {
        let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert!(
            bytes.iter().enumerate().all(|(at, byte)| *byte == bytes[at % 8]),
            "round {round}: payload of {number}"
        );
        *times.entry(number).or_insert(0) += 1;
    }
    assert!(times.values().all(|&count| count == 1), "round {round}: delivered twice");
    let lost: Vec<_> = acks.iter().filter(|number| !times.contains_key(number)).collect();
    assert!(
        lost.is_empty(),
        "round {round}: {} of {} acknowledged records lost: {:?}",
        lost.len(),
        acks.len(),
        delivered.gaps
    );
    assert!(delivered.gaps.iter().all(|gap| matches!(gap.reason, GapReason::Torn { .. })), "{:?}", delivered.gaps);
    let last = delivered.seqs().last().map_or(0, |seq| seq + 1);
    assert!(delivered.records.len() as u64 + delivered.missing() >= last, "round {round}: a hole that is not reported");
}
