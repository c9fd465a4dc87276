//! Files that are not as they were written. What is whole is delivered; the rest is counted; nothing panics.

use std::fs;
use std::path::{Path, PathBuf};

use auditq_spool::{Chunk, GapReason, ProducerId, Removal};

use crate::support::{drain, numbered, open, patch, peek, segment, tiny, written};

const HEADER: usize = 4096;
/// Payload of 40 bytes, header of 24.
const FRAME: usize = 64;

/// What is done to the bytes of a file, and its name.
type Harm = (&'static str, fn(&mut Vec<u8>));

fn five_records(root: &Path) -> (ProducerId, PathBuf) {
    written(root, tiny(), &numbered(5, 40))
}

#[test]
fn a_spool_cut_at_every_byte_of_its_last_record_delivers_the_others() {
    for keep in 0..FRAME {
        let root = tempfile::tempdir().unwrap();
        let (id, directory) = five_records(root.path());
        patch(&segment(&directory, 0), |bytes| bytes.truncate(HEADER + 4 * FRAME + keep));
        let all = peek(root.path(), id);
        assert_eq!(all.seqs(), [0, 1, 2, 3], "{keep} bytes kept");
        assert_eq!((all.gaps.len(), all.missing()), (1, 1), "{keep} bytes kept: {:?}", all.gaps);
        assert_eq!(all.gaps[0].first_seq, 4);
    }
}

#[test]
fn an_unsealed_spool_cut_at_every_byte_of_its_last_record_delivers_the_others() {
    for keep in 0..FRAME {
        let root = tempfile::tempdir().unwrap();
        let (id, directory) = five_records(root.path());
        patch(&segment(&directory, 0), |bytes| {
            bytes[256..280].fill(0);
            bytes.truncate(HEADER + 4 * FRAME + keep);
        });
        let all = peek(root.path(), id);
        assert_eq!(all.seqs(), [0, 1, 2, 3], "{keep} bytes kept");
        // A cut at the very start of a record leaves nothing that says there was one.
        assert_eq!(all.gaps.len(), usize::from(keep > 0), "{keep} bytes kept: {:?}", all.gaps);
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_frame_costs_that_record_at_most() {
    let root = tempfile::tempdir().unwrap();
    let (id, directory) = five_records(root.path());
    let whole = fs::read(segment(&directory, 0)).unwrap();
    for bit in 0..FRAME * 8 {
        let mut bytes = whole.clone();
        bytes[HEADER + 2 * FRAME + bit / 8] ^= 1 << (bit % 8);
        fs::write(segment(&directory, 0), bytes).unwrap();
        let all = peek(root.path(), id);
        if all.seqs() == [0, 1, 3, 4] {
            assert_eq!((all.gaps.len(), all.missing(), all.gaps[0].first_seq), (1, 1, 2), "bit {bit}");
        } else {
            // The bits that say how far the writer got: both checks prove that the record is whole.
            assert!((32..64).contains(&bit), "bit {bit}: {:?}", all.seqs());
            assert_eq!((all.seqs(), all.gaps), ((0..5).collect(), vec![]));
        }
        assert!(all.records.iter().all(|(seq, bytes)| bytes[..8] == seq.to_le_bytes()), "bit {bit}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_header_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (id, directory) = five_records(root.path());
    let whole = fs::read(segment(&directory, 0)).unwrap();
    for bit in (0..300 * 8).chain(2048 * 8..2124 * 8) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(segment(&directory, 0), bytes).unwrap();
        let all = peek(root.path(), id);
        assert_eq!((all.seqs(), all.gaps), ((0..5).collect(), vec![]), "bit {bit}");
    }
}

#[test]
fn segments_that_are_empty_or_zeros_or_headless_are_counted_and_passed_over() {
    let garbage = |bytes: &mut Vec<u8>| bytes.fill_with(|| fastrand::u8(..));
    let harms: [Harm; 4] = [
        ("empty", Vec::clear),
        ("zeros", |bytes| bytes.fill(0)),
        ("garbage", garbage),
        ("headless", |bytes| bytes[..HEADER].fill(0)),
    ];
    for (harm, apply) in harms {
        for victim in 0..3 {
            let root = tempfile::tempdir().unwrap();
            // Three segments: 9 records of 424 bytes each in the first two.
            let (id, directory) = written(root.path(), tiny(), &numbered(20, 400));
            patch(&segment(&directory, victim), apply);
            let all = peek(root.path(), id);
            let lost = victim * 9..(victim * 9 + 9).min(20);
            assert_eq!(all.seqs(), (0..20).filter(|seq| !lost.contains(seq)).collect::<Vec<_>>(), "{harm} {victim}");
            assert_eq!(all.gaps.len(), 1, "{harm} {victim}: {:?}", all.gaps);
            assert!(matches!(all.gaps[0].reason, GapReason::Corrupt { segment, .. } if segment == victim), "{harm}");
            // Only the segment after tells how many they were.
            assert_eq!(all.missing(), if victim == 2 { 0 } else { 9 }, "{harm} {victim}");
        }
    }
}

#[test]
fn a_missing_segment_is_counted() {
    let root = tempfile::tempdir().unwrap();
    let (id, directory) = written(root.path(), tiny(), &numbered(20, 400));
    fs::remove_file(segment(&directory, 1)).unwrap();
    let all = peek(root.path(), id);
    assert_eq!(all.missing(), 9);
    assert_eq!(all.gaps[0].reason, GapReason::Missing { before_segment: 2 });
    assert_eq!(all.seqs(), (0..9).chain(18..20).collect::<Vec<_>>());
}

#[test]
fn a_hole_whose_length_word_was_never_written_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let (id, directory) = five_records(root.path());
    patch(&segment(&directory, 0), |bytes| bytes[HEADER + FRAME..HEADER + 3 * FRAME].fill(0));
    let all = peek(root.path(), id);
    assert_eq!(all.seqs(), [0, 3, 4]);
    let (offset, bytes) = ((HEADER + FRAME) as u32, 2 * FRAME as u32);
    assert_eq!(all.gaps[0].reason, GapReason::Torn { segment: 0, offset, bytes });
    assert_eq!((all.gaps.len(), all.missing()), (1, 2));
}

#[test]
fn a_gap_has_the_same_number_however_it_is_read() {
    let root = tempfile::tempdir().unwrap();
    let (id, directory) = written(root.path(), tiny(), &numbered(60, 40));
    patch(&segment(&directory, 0), |bytes| bytes[HEADER + 5 * FRAME..HEADER + 50 * FRAME].fill(0xee));
    let gaps = peek(root.path(), id).gaps;
    assert_eq!((gaps.len(), gaps[0].records), (1, 45));
    for records_max in [1, 3, 1000] {
        let (mut reader, mut chunk, mut seen) = (open(root.path(), id), Chunk::default(), Vec::new());
        loop {
            reader.read(&mut chunk, records_max, 1).unwrap();
            seen.extend_from_slice(chunk.gaps());
            if chunk.is_empty() {
                break;
            }
        }
        assert_eq!(seen, gaps);
    }
}

#[test]
fn payload_that_looks_like_a_frame_is_never_taken_for_one() {
    let root = tempfile::tempdir().unwrap();
    let (id, directory) = five_records(root.path());
    let frame = fs::read(segment(&directory, 0)).unwrap()[HEADER + FRAME..HEADER + 2 * FRAME].to_vec();
    let mut forged = vec![0; 40];
    for _ in 0..30 {
        forged.extend(&frame);
    }
    let (id2, directory) = written(root.path(), tiny(), &[forged, b"after".to_vec()]);
    patch(&segment(&directory, 0), |bytes| bytes[HEADER] ^= 1);
    let all = peek(root.path(), id2);
    assert_eq!(all.records, [(1, b"after".to_vec())]);
    assert_ne!(id, id2);
}

#[test]
fn a_cursor_ahead_of_the_data_is_not_believed() {
    let root = tempfile::tempdir().unwrap();
    let (id, directory) = written(root.path(), tiny(), &numbered(5, 40));
    let mut reader = open(root.path(), id);
    let mut chunk = Chunk::default();
    reader.read(&mut chunk, 4, 1 << 20).unwrap();
    reader.commit(chunk.end()).unwrap();
    drop(reader);
    // A power cut kept the cursor and lost the pages.
    patch(&segment(&directory, 0), |bytes| {
        bytes[256..280].fill(0);
        bytes[HEADER + 2 * FRAME..].fill(0);
    });
    assert_eq!(open(root.path(), id).restarted(), Some("the cursor is ahead of the records"));
    assert_eq!(peek(root.path(), id).seqs(), [0, 1]);
}

#[test]
fn a_cursor_that_is_torn_or_gone_means_reading_again() {
    for len in [None, Some(0), Some(20), Some(51)] {
        let root = tempfile::tempdir().unwrap();
        let (id, directory) = written(root.path(), tiny(), &numbered(5, 40));
        let mut reader = open(root.path(), id);
        let mut chunk = Chunk::default();
        reader.read(&mut chunk, 3, 1 << 20).unwrap();
        reader.commit(chunk.end()).unwrap();
        drop(reader);
        assert_eq!(peek(root.path(), id).seqs(), [3, 4]);
        match len {
            None => fs::remove_file(directory.join("cursor")).unwrap(),
            Some(len) => patch(&directory.join("cursor"), |bytes| bytes.truncate(len)),
        }
        let reader = open(root.path(), id);
        assert_eq!(reader.restarted(), len.map(|_| "the cursor is damaged"));
        drop(reader);
        assert_eq!(peek(root.path(), id).seqs(), [0, 1, 2, 3, 4]);
    }
}

#[test]
fn files_of_others_are_left_alone_and_said_to_be_there() {
    let root = tempfile::tempdir().unwrap();
    let (id, directory) = five_records(root.path());
    for name in ["0.seg", "zzzz.seg", "notes.txt", "ffffffffffffffff.seg"] {
        fs::write(directory.join(name), b"not ours").unwrap();
    }
    fs::write(root.path().join("README"), b"not a producer").unwrap();
    assert_eq!(auditq_spool::Reader::producers(root.path()).unwrap(), [id]);
    let mut reader = open(root.path(), id);
    assert_eq!(drain(&mut reader).seqs(), [0, 1, 2, 3, 4]);
    let Removal::ForeignFiles(left) = reader.remove_if_finished().unwrap() else { panic!("not told") };
    assert_eq!(fs::read_dir(left).unwrap().count(), 4);
}

#[test]
fn a_segment_of_another_producer_is_not_read_as_ours() {
    let root = tempfile::tempdir().unwrap();
    let (_, theirs) = five_records(root.path());
    let (id, ours) = five_records(root.path());
    fs::copy(segment(&theirs, 0), segment(&ours, 0)).unwrap();
    let all = peek(root.path(), id);
    assert_eq!((all.records, all.gaps.len()), (vec![], 1));
}
