//! What the tests share.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use auditq_spool::{Chunk, Gap, Options, ProducerId, Reader, Spool};

/// Segments so small that rotation is ordinary.
pub(crate) fn tiny() -> Options {
    Options { segment_bytes: 8192, max_bytes: 64 << 20, ..Options::default() }
}

/// All that a reader delivers until there is nothing more for now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) records: Vec<(u64, Vec<u8>)>,
    pub(crate) gaps: Vec<Gap>,
}

impl Delivered {
    fn take(&mut self, chunk: &Chunk) {
        self.records.extend(chunk.records().map(|record| (record.seq, record.payload.to_vec())));
        self.gaps.extend_from_slice(chunk.gaps());
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.records.extend(more.records);
        self.gaps.extend(more.gaps);
    }

    pub(crate) fn seqs(&self) -> Vec<u64> {
        self.records.iter().map(|(seq, _)| *seq).collect()
    }

    pub(crate) fn missing(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.records).sum()
    }
}

/// Reads and commits until there is nothing more for now.
pub(crate) fn drain(reader: &mut Reader) -> Delivered {
    drain_at_most(reader, usize::MAX)
}

pub(crate) fn drain_at_most(reader: &mut Reader, chunks: usize) -> Delivered {
    let (mut all, mut chunk) = (Delivered::default(), Chunk::default());
    for _ in 0..chunks {
        reader.read(&mut chunk, 100, 16 << 10).unwrap();
        if chunk.is_empty() {
            break;
        }
        all.take(&chunk);
        reader.commit(chunk.end()).unwrap();
    }
    all
}

pub(crate) fn open(root: &Path, id: ProducerId) -> Reader {
    let mut reader = None;
    // A child that another test starts holds a copy of every lock from its fork to its exec.
    eventually("a reader, as nobody else reads this spool", || {
        reader = Reader::open(root, id).unwrap();
        reader.is_some()
    });
    reader.unwrap()
}

/// Reads everything without committing.
pub(crate) fn peek(root: &Path, id: ProducerId) -> Delivered {
    let (mut reader, mut all, mut chunk) = (open(root, id), Delivered::default(), Chunk::default());
    loop {
        reader.read(&mut chunk, 100, 16 << 10).unwrap();
        if chunk.is_empty() {
            return all;
        }
        all.take(&chunk);
    }
}

/// Makes a spool with these records, closes it, and returns who wrote it and its directory.
pub(crate) fn written(root: &Path, options: Options, payloads: &[Vec<u8>]) -> (ProducerId, PathBuf) {
    let spool = Spool::open(root, options).unwrap();
    for payload in payloads {
        spool.append(&[payload]).unwrap();
    }
    let id = spool.producer_id();
    (id, root.join(id.to_string()))
}

pub(crate) fn numbered(count: u64, bytes: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| payload(number, bytes)).collect()
}

pub(crate) fn payload(number: u64, bytes: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(bytes.max(8)).collect()
}

pub(crate) fn segment(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.seg"))
}

pub(crate) fn patch(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Asks until it is so, for at most ten seconds.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
