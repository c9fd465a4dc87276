//! Many writers, one reader, several spools.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use auditq_spool::{AppendError, Chunk, Options, Reader, Removal, Spool};

use crate::support::{drain, eventually, numbered, open, payload, peek, tiny, written};

#[test]
fn records_come_back_as_they_went_in() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(root.path(), Options { label: b"app=shop".to_vec(), ..tiny() }).unwrap();
    assert_eq!(spool.append(&[b"one", b" ", b"two"]), Ok(0));
    assert_eq!(spool.append(&[]), Ok(1));
    assert_eq!(spool.append(&[&[0; 4072]]), Ok(2));
    assert_eq!(spool.append(&[&[0; 4073]]), Err(AppendError::TooLarge { bytes: 4073, limit: 4072 }));
    let mut reader = open(root.path(), spool.producer_id());
    assert_eq!(reader.label(), b"app=shop");
    assert!(!reader.writer_is_dead().unwrap());
    let mut seen = Vec::new();
    eventually("three records", || {
        seen.extend(drain(&mut reader).records);
        seen.len() == 3
    });
    assert_eq!(seen, [(0, b"one two".to_vec()), (1, Vec::new()), (2, vec![0; 4072])]);
    assert_eq!(spool.stats().bytes_waiting, 0);
    spool.close();
    assert_eq!(spool.append(&[b"late"]), Err(AppendError::Closed));
    assert!(reader.writer_is_dead().unwrap());
}

/// What there is under a folder: names, and what is in the files.
fn tree(root: &std::path::Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut tree = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            tree.extend(self::tree(&entry));
        } else {
            tree.insert(entry.clone(), std::fs::read(&entry).unwrap());
        }
    }
    tree
}

#[test]
fn who_looks_sees_what_waits_and_changes_no_file() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(root.path(), tiny()).unwrap();
    let id = spool.producer_id();
    for number in 0..100 {
        assert_eq!(spool.append(&[&payload(number, 40)]), Ok(number));
    }
    spool.close();
    let before = tree(root.path());
    let look = || {
        let mut reader = Reader::look(root.path(), id).unwrap().unwrap();
        let mut chunk = Chunk::default();
        reader.read(&mut chunk, 1_000, 1 << 20).unwrap();
        assert!(reader.writer_is_dead().unwrap());
        assert!(reader.commit(chunk.end()).is_err());
        chunk.records().next().map(|record| record.seq)
    };
    assert_eq!(look(), Some(0), "before anybody has read");
    assert_eq!(tree(root.path()), before);

    let mut reader = open(root.path(), id);
    assert!(Reader::look(root.path(), id).unwrap().is_none(), "somebody reads it");
    let mut chunk = Chunk::default();
    reader.read(&mut chunk, 7, 1 << 20).unwrap();
    reader.commit(chunk.end()).unwrap();
    let read = chunk.records().len() as u64;
    drop(reader);
    let before = tree(root.path());
    assert_eq!(look(), Some(read), "from the cursor on");
    assert_eq!(tree(root.path()), before);
}

#[test]
fn several_writers_share_numbers_without_a_hole_while_a_reader_follows() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 5_000;
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(root.path(), tiny()).unwrap();
    let done = AtomicBool::new(false);
    let (mut given, delivered) = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut reader, mut all) = (open(root.path(), spool.producer_id()), Vec::new());
            loop {
                let last = done.load(Ordering::Acquire);
                let some = drain(&mut reader);
                assert_eq!(some.gaps, []);
                let idle = some.records.is_empty();
                all.extend(some.records);
                if last && idle && all.len() as u64 == WRITERS * EACH {
                    return all;
                }
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let spool = spool.clone();
                scope.spawn(move || {
                    let mine =
                        |index| (writer * EACH + index, payload(writer * EACH + index, 20 + index as usize % 300));
                    (0..EACH).map(mine).map(|(_, bytes)| (spool.append(&[&bytes]).unwrap(), bytes)).collect::<Vec<_>>()
                })
            })
            .collect();
        let given: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        done.store(true, Ordering::Release);
        (given, reading.join().unwrap())
    });
    given.sort();
    assert_eq!(given.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (0..WRITERS * EACH).collect::<Vec<_>>());
    assert_eq!(delivered, given);
    assert_eq!(spool.stats().dropped, 0);
}

#[test]
fn segments_that_have_been_read_are_used_again_so_the_spool_stays_small() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(root.path(), tiny()).unwrap();
    let mut reader = open(root.path(), spool.producer_id());
    let mut count = 0;
    for number in 0..2_000 {
        spool.append(&[&payload(number, 400)]).unwrap();
        if number % 9 == 8 {
            eventually("all that was written so far", || {
                count += drain(&mut reader).records.len() as u64;
                count == number + 1
            });
        }
    }
    eventually("few segments", || spool.stats().segments <= 8);
}

#[test]
fn a_reader_that_did_not_commit_is_followed_by_one_that_reads_it_again() {
    let root = tempfile::tempdir().unwrap();
    let (id, _) = written(root.path(), tiny(), &numbered(10, 50));
    let mut first = open(root.path(), id);
    let mut chunk = Chunk::default();
    first.read(&mut chunk, 4, 1 << 20).unwrap();
    first.commit(chunk.end()).unwrap();
    first.read(&mut chunk, 4, 1 << 20).unwrap();
    assert_eq!(chunk.records().map(|record| record.seq).collect::<Vec<_>>(), [4, 5, 6, 7]);
    assert!(Reader::open(root.path(), id).unwrap().is_none(), "there is one reader at a time");
    drop(first);
    assert_eq!(peek(root.path(), id).seqs(), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_position_that_was_not_read_cannot_be_committed() {
    let root = tempfile::tempdir().unwrap();
    let (id, _) = written(root.path(), tiny(), &numbered(10, 50));
    let mut reader = open(root.path(), id);
    let mut chunk = Chunk::default();
    reader.read(&mut chunk, 4, 1 << 20).unwrap();
    let early = chunk.end();
    reader.read(&mut chunk, 4, 1 << 20).unwrap();
    let late = chunk.end();
    reader.commit(late).unwrap();
    assert!(reader.commit(early).is_err());
    drop(reader);
    let (other, _) = written(root.path(), tiny(), &[]);
    assert!(open(root.path(), other).commit(late).is_err());
}

#[test]
fn the_spool_of_a_dead_writer_is_read_to_its_end_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let (id, directory) = written(root.path(), tiny(), &numbered(100, 200));
    assert_eq!(Reader::producers(root.path()).unwrap(), [id]);
    let Removal::NotFinished(mut reader) = open(root.path(), id).remove_if_finished().unwrap() else {
        panic!("removed unread")
    };
    let all = drain(&mut reader);
    assert_eq!((all.seqs(), all.gaps), ((0..100).collect(), vec![]));
    assert!(matches!(reader.remove_if_finished().unwrap(), Removal::Removed));
    assert!(!directory.exists());
    assert_eq!(Reader::producers(root.path()).unwrap(), []);
    assert!(Reader::open(root.path(), id).unwrap().is_none());
}

#[test]
fn a_spool_whose_last_chunk_ended_with_its_last_record_is_removed_too() {
    let root = tempfile::tempdir().unwrap();
    let (id, _) = written(root.path(), tiny(), &numbered(3, 50));
    let mut reader = open(root.path(), id);
    let mut chunk = Chunk::default();
    reader.read(&mut chunk, 3, 1 << 20).unwrap();
    reader.commit(chunk.end()).unwrap();
    reader.read(&mut chunk, 3, 1 << 20).unwrap();
    assert!(chunk.is_empty());
    assert!(matches!(reader.remove_if_finished().unwrap(), Removal::Removed));
}

#[test]
fn a_spool_that_was_read_but_not_committed_is_not_removed() {
    let root = tempfile::tempdir().unwrap();
    let (id, _) = written(root.path(), tiny(), &numbered(3, 50));
    let mut reader = open(root.path(), id);
    let mut chunk = Chunk::default();
    reader.read(&mut chunk, 100, 1 << 20).unwrap();
    let Removal::NotFinished(reader) = reader.remove_if_finished().unwrap() else { panic!("removed") };
    drop(reader);
    assert_eq!(peek(root.path(), id).seqs(), [0, 1, 2]);
}

#[test]
fn a_living_writers_spool_is_not_removed() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(root.path(), tiny()).unwrap();
    let reader = open(root.path(), spool.producer_id());
    assert!(matches!(reader.remove_if_finished().unwrap(), Removal::NotFinished(_)));
    assert_eq!(spool.append(&[b"still here"]), Ok(0));
    assert_eq!(peek(root.path(), spool.producer_id()).seqs(), [0]);
}

#[test]
fn every_spool_has_an_id_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let spools: Vec<_> = (0..5).map(|_| Spool::open(root.path(), tiny()).unwrap()).collect();
    let ids: HashSet<_> = spools.iter().map(Spool::producer_id).collect();
    assert_eq!(ids, Reader::producers(root.path()).unwrap().into_iter().collect());
    assert_eq!(ids.len(), 5);
}

#[test]
#[expect(unsafe_code, reason = "`pre_exec` is the way to run something in a forked child")]
fn a_forked_child_cannot_write_into_its_parents_spool() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(root.path(), tiny()).unwrap();
    let of_child = spool.clone();
    let mut command = std::process::Command::new("true");
    // SAFETY: `append` is refused by one load before it does anything; it neither locks nor allocates.
    unsafe {
        command.pre_exec(move || match of_child.append(&[b"from the child"]) {
            Err(AppendError::Forked) => Ok(()),
            _ => Err(std::io::Error::from_raw_os_error(1)),
        });
    }
    assert!(command.status().unwrap().success());
    assert_eq!(spool.append(&[b"from the parent"]), Ok(0));
}

#[test]
#[expect(unsafe_code, reason = "`pre_exec` is the way to run something in a forked child")]
fn a_forked_child_keeps_neither_a_closed_spool_alive_nor_its_reader_away() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(root.path(), tiny()).unwrap();
    let (id, first) = (spool.producer_id(), open(root.path(), spool.producer_id()));
    let (mut forked, mut child_says) = std::io::pipe().unwrap();
    let (mut child_hears, go_on) = std::io::pipe().unwrap();
    let mut command = std::process::Command::new("true");
    // SAFETY: it writes to a pipe and reads from another, nothing else.
    unsafe {
        command.pre_exec(move || {
            child_says.write_all(b"!")?;
            child_hears.read_exact(&mut [0])
        });
    }
    std::thread::scope(|scope| {
        let child = scope.spawn(move || command.status().unwrap());
        forked.read_exact(&mut [0]).unwrap();
        drop((spool, first));
        // Told twice, because looking at the lock takes it for a moment.
        let told = [(); 2].map(|()| {
            let mut reader = Reader::open(root.path(), id).unwrap()?;
            Some(reader.writer_is_dead().unwrap())
        });
        (&go_on).write_all(b"!").unwrap();
        assert!(child.join().unwrap().success());
        assert_eq!(told, [Some(true); 2]);
    });
}
