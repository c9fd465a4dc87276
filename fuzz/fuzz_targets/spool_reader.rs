//! Feeds the spool's reader a segment file of any bytes, or a sound one with any damage.
//!
//! It must neither panic nor loop, and must deliver no record that was not written.
#![no_main]

use std::fs;

use auditq_spool::scan::{sample_segment, scan};
use auditq_spool::{Chunk, ProducerId, Reader};
use libfuzzer_sys::fuzz_target;

const PRODUCER: ProducerId = ProducerId([0xab; 16]);

fuzz_target!(|input: &[u8]| {
    let Some((&kind, input)) = input.split_first() else { return };
    let (bytes, written) = if kind % 4 == 0 { (input.to_vec(), None) } else { damaged(input) };
    let summary = scan(&bytes).expect("bytes in memory are always read");
    let records = read(&bytes);
    if summary.readable {
        // A header of another producer or number is sound to the scan, and not to the reader.
        assert!(records.is_empty() || records.len() as u64 == summary.records);
    }
    if let Some(written) = written {
        assert!(records.iter().all(|record| written.contains(record)), "a record that nobody wrote");
    }
});

/// Makes a segment of records from the first half of the input, and damages it as the second half says: each four
/// bytes are a place, what to change there by, and how often to go on with it.
fn damaged(input: &[u8]) -> (Vec<u8>, Option<Vec<Vec<u8>>>) {
    let (records, damage) = input.split_at(input.len() / 2);
    let payloads: Vec<&[u8]> = records.chunks(37).collect();
    let mut bytes = sample_segment(PRODUCER, 0, 0, 16 << 10, &payloads);
    for change in damage.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        let end = (at + 1 + usize::from(change[3])).min(bytes.len());
        for byte in &mut bytes[at..end] {
            *byte ^= change[2];
        }
    }
    (bytes, Some(payloads.into_iter().map(<[u8]>::to_vec).collect()))
}

/// Reads the bytes as the only segment of a dead process's spool.
fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
    let root = std::env::temp_dir().join(format!("auditq-fuzz-spool-{}", std::process::id()));
    let directory = root.join(PRODUCER.to_string());
    fs::create_dir_all(&directory).expect("a directory for the spool");
    fs::write(directory.join("0000000000000000.seg"), bytes).expect("a segment");
    let mut reader = Reader::open(&root, PRODUCER).expect("a readable directory").expect("nobody else reads it");
    let (mut chunk, mut records) = (Chunk::default(), Vec::new());
    loop {
        reader.read(&mut chunk, 10, 4096).expect("a readable file");
        if chunk.is_empty() {
            return records;
        }
        records.extend(chunk.records().map(|record| record.payload.to_vec()));
    }
}
