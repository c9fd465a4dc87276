use std::time::{Duration, Instant};

use auditq_config::{Duplicates, WhenFull};
use auditq_spool::{Chunk, GapReason, Reader};

use crate::support::{Setup, alice, open, setup_with};

fn tiny(when_full: WhenFull) -> Setup {
    setup_with(|config| {
        config.spool.segment_bytes = 64 << 10;
        config.spool.max_bytes = 128 << 10;
        config.spool.when_full = when_full;
        config.capture.duplicates = Duplicates::Off;
    })
}

#[test]
fn a_full_spool_drops_the_newest_and_says_how_many() {
    let setup = tiny(WhenFull::DropNewest);
    alice().run(|| (0..2_000).for_each(|_| setup.record("SELECT 'something of some length' FROM orders")));
    let stats = setup.recorder.stats();
    assert!(stats.dropped_full > 0 && stats.recorded > 0, "{stats:?}");
    assert_eq!(stats.recorded + stats.dropped_full, 2_000);

    let producer = Reader::producers(setup.folder.path()).unwrap()[0];
    let mut reader = open(setup.folder.path(), producer);
    drop(setup.recorder);
    let (mut chunk, mut records, mut lost) = (Chunk::default(), 0, 0);
    loop {
        reader.read(&mut chunk, 10_000, 1 << 20).unwrap();
        let gaps = chunk.gaps().iter().filter(|gap| matches!(gap.reason, GapReason::DroppedFull { .. }));
        lost += gaps.map(|gap| gap.records).sum::<u64>();
        let before = records;
        records += chunk.records().count() as u64;
        if records == before && chunk.gaps().is_empty() {
            break;
        }
    }
    assert_eq!((records, lost), (stats.recorded, stats.dropped_full), "the log itself says what is missing");
}

#[test]
fn a_full_spool_that_blocks_loses_nothing() {
    let setup = tiny(WhenFull::Block);
    let read = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let producer = Reader::producers(setup.folder.path()).unwrap()[0];
            let mut reader = open(setup.folder.path(), producer);
            let (mut chunk, mut read) = (Chunk::default(), 0);
            let give_up_at = Instant::now() + Duration::from_secs(30);
            while read < 2_000 && Instant::now() < give_up_at {
                reader.read(&mut chunk, 100, 1 << 20).unwrap();
                reader.commit(chunk.end()).unwrap();
                read += chunk.records().count();
                std::thread::yield_now();
            }
            read
        });
        alice().run(|| (0..2_000).for_each(|_| setup.record("SELECT 'something of some length' FROM orders")));
        reading.join().unwrap()
    });
    let stats = setup.recorder.stats();
    assert_eq!((read, stats.recorded, stats.dropped_full), (2_000, 2_000, 0));
}

#[test]
fn an_event_larger_than_a_segment_leaves_a_gap_that_says_so() {
    let setup = setup_with(|config| {
        config.spool.segment_bytes = 64 << 10;
        config.capture.limits.sql_bytes = 1 << 20;
    });
    alice().run(|| setup.record(&format!("SELECT '{}'", "x".repeat(100_000))));
    assert_eq!(setup.recorder.stats().dropped_oversized, 1);
    let records = setup.read();
    let [auditq_event::Record::Gap(gap)] = records.as_slice() else { panic!("{records:?}") };
    assert!(gap.lost == 1 && gap.reason.contains("too large"), "{gap:?}");
}
