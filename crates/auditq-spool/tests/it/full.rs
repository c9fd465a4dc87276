//! A spool without room.

use std::thread;
use std::time::{Duration, Instant};

use auditq_spool::{AppendError, GapReason, Options, Spool, WhenFull};

use crate::child;
use crate::support::{drain, eventually, open, payload, tiny};

fn four_segments(when_full: WhenFull) -> Options {
    Options { max_bytes: 4 * 8192, when_full, ..tiny() }
}

/// Appends until there is no room; returns how many found some.
fn fill(spool: &Spool) -> u64 {
    (0..).find(|&number| spool.append(&[&payload(number, 400)]) == Err(AppendError::Full)).unwrap()
}

/// Fills a spool that drops, empties it, and checks that every record and every drop is accounted for.
pub(crate) fn a_full_spool_counts_and_recovers(spool: &Spool, root: &std::path::Path, cause: &str) {
    let kept = fill(spool);
    for _ in 0..6 {
        assert_eq!(spool.append(&[&payload(0, 400)]), Err(AppendError::Full));
    }
    let stats = spool.stats();
    assert_eq!((stats.appended, stats.dropped), (kept, 7));
    assert!(stats.shortage.as_ref().is_some_and(|why| why.contains(cause)), "{:?}", stats.shortage);

    let mut reader = open(root, spool.producer_id());
    let mut records = 0;
    eventually("all that was kept, up to the newest segment", || {
        records += drain(&mut reader).records.len() as u64;
        records == kept
    });
    eventually("room again", || spool.append(&[&payload(kept, 400)]).is_ok());
    let dropped = spool.stats().dropped;
    spool.close();
    let rest = drain(&mut reader);
    assert_eq!(rest.seqs(), [kept], "a drop takes no seq");
    assert_eq!((rest.gaps.len(), rest.missing()), (1, dropped), "{:?}", rest.gaps);
    let GapReason::DroppedFull { first_at_us, last_at_us } = rest.gaps[0].reason else { panic!("{:?}", rest.gaps) };
    assert!(0 < first_at_us && first_at_us <= last_at_us);
}

#[test]
fn a_spool_at_its_limit_drops_the_newest_and_reports_how_many() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(root.path(), four_segments(WhenFull::DropNewest)).unwrap();
    a_full_spool_counts_and_recovers(&spool, root.path(), "limit of 32768 bytes");
}

#[test]
fn drops_are_counted_even_if_the_process_is_killed() {
    let root = tempfile::tempdir().unwrap();
    let (id, told) = child::fill_and_be_killed(root.path());
    let all = drain(&mut open(root.path(), id));
    let dropped: u64 = all.gaps.iter().map(|gap| gap.records).sum();
    assert_eq!((all.records.len() as u64, dropped), told);
    assert!(all.gaps.iter().all(|gap| matches!(gap.reason, GapReason::DroppedFull { .. })));
}

#[test]
fn a_blocking_spool_waits_for_the_reader_and_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(root.path(), four_segments(WhenFull::Block)).unwrap();
    let mut reader = open(root.path(), spool.producer_id());
    let mut seqs = Vec::new();
    thread::scope(|scope| {
        let writing = scope.spawn(|| (0..200).try_for_each(|number| spool.append(&[&payload(number, 400)]).map(drop)));
        eventually("a spool that waits for room", || spool.stats().shortage.is_some());
        assert!(!writing.is_finished());
        eventually("every record", || {
            seqs.extend(drain(&mut reader).seqs());
            seqs.len() == 200
        });
        writing.join().unwrap().unwrap();
    });
    assert_eq!(seqs, (0..200).collect::<Vec<_>>());
    assert_eq!(spool.stats().dropped, 0);
}

#[test]
fn a_blocking_spool_waits_no_longer_than_it_may() {
    let root = tempfile::tempdir().unwrap();
    let patience = Duration::from_millis(120);
    let options = Options { block_at_most: Some(patience), ..four_segments(WhenFull::Block) };
    let spool = Spool::open(root.path(), options).unwrap();
    let started = Instant::now();
    assert_eq!(fill(&spool), 36);
    let waited = started.elapsed();
    assert!(patience <= waited && waited < patience * 20, "{waited:?}");
    assert_eq!(spool.stats().dropped, 1);
}

#[test]
fn closing_ends_the_wait_for_room() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(root.path(), four_segments(WhenFull::Block)).unwrap();
    thread::scope(|scope| {
        let writing = scope.spawn(|| (0..).find_map(|number| spool.append(&[&payload(number, 400)]).err()));
        eventually("a spool that waits for room", || spool.stats().shortage.is_some());
        spool.close();
        assert_eq!(writing.join().unwrap(), Some(AppendError::Closed));
    });
}

#[test]
fn a_disk_without_space_is_a_shortage_and_not_a_crash() {
    child::on_a_small_disk(96 << 10);
}
