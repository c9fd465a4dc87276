//! Power-loss durability.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use auditq_spool::{Durability, Options, Spool};

use crate::faults::slow_disk;
use crate::support::{payload, peek, tiny};

#[test]
fn appends_that_wait_at_the_same_time_share_a_sync() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 25;
    let (root, disk) = (tempfile::tempdir().unwrap(), slow_disk());
    let options = Options { durability: Durability::PowerLoss, ..tiny() };
    let spool = Spool::open_on(Arc::clone(&disk) as _, root.path(), options).unwrap();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let spool = &spool;
            scope.spawn(move || {
                for index in 0..EACH {
                    spool.append(&[&payload(writer * EACH + index, 100)]).unwrap();
                }
            });
        }
    });
    let syncs = disk.syncs.load(Ordering::SeqCst);
    assert!((EACH..WRITERS * EACH / 2).contains(&syncs), "{syncs} syncs for {} appends", WRITERS * EACH);
    assert_eq!(spool.stats().appended, WRITERS * EACH);
    spool.close();
    assert_eq!(peek(root.path(), spool.producer_id()).seqs(), (0..WRITERS * EACH).collect::<Vec<_>>());
}

#[test]
fn no_append_returns_before_a_sync() {
    let (root, disk) = (tempfile::tempdir().unwrap(), slow_disk());
    let options = Options { durability: Durability::PowerLoss, ..tiny() };
    let spool = Spool::open_on(Arc::clone(&disk) as _, root.path(), options).unwrap();
    for number in 0..30 {
        let before = disk.syncs.load(Ordering::SeqCst);
        spool.append(&[&payload(number, 400)]).unwrap();
        assert!(disk.syncs.load(Ordering::SeqCst) > before);
    }
}

#[test]
fn process_crash_durability_never_syncs() {
    let (root, disk) = (tempfile::tempdir().unwrap(), slow_disk());
    let spool = Spool::open_on(Arc::clone(&disk) as _, root.path(), tiny()).unwrap();
    for number in 0..100 {
        spool.append(&[&payload(number, 400)]).unwrap();
    }
    spool.close();
    assert_eq!(disk.syncs.load(Ordering::SeqCst), 0);
}
