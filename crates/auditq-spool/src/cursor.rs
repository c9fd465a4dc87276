//! How far a spool has been read, for good. A hint: it may lag, and is not believed when it leads.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::disk::{Disk, remove_if_there};
use crate::error::{Attempt as _, DiskError};
use crate::id::ProducerId;
use crate::segment;

/// File name of the cursor in a producer's directory.
pub(crate) const FILE_NAME: &str = "cursor";
const NEXT_FILE_NAME: &str = "cursor.next";
const MAGIC: [u8; 8] = *b"AQCURSR\x01";
const BYTES: usize = 52;

/// A place between two records of one spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u32,
    pub(crate) seq: u64,
}

impl Position {
    /// Returns the place of a segment's first frame.
    pub(crate) fn start_of(segment: u64, seq: u64) -> Self {
        Self { segment, offset: segment::HEADER_BYTES, seq }
    }

    /// Returns the seq of the next record.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.seq
    }
}

/// Reads the cursor; `None` when there is none or it is damaged.
pub(crate) fn load(directory: &Path, producer: ProducerId) -> Result<Option<Position>, DiskError> {
    let path = directory.join(FILE_NAME);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(decode(&bytes, producer)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::new("read the cursor", &path, error)),
    }
}

/// Replaces the cursor in one step; on a full disk, where there is no room for a second file, in its place.
///
/// It is not synced: a power cut may bring an older cursor back, or none, and then records are read again.
pub(crate) fn store(
    disk: &dyn Disk,
    directory: &Path,
    producer: ProducerId,
    position: Position,
) -> Result<(), DiskError> {
    let (next, path) = (directory.join(NEXT_FILE_NAME), directory.join(FILE_NAME));
    let bytes = encode(producer, position);
    remove_if_there(disk, &next).attempt("remove", &next)?;
    let written = disk.create(&next).and_then(|mut file| file.write_all(&bytes));
    match written.and_then(|()| disk.rename(&next, &path)) {
        // Reading is what makes room: it must go on. Whoever reads a torn cursor does not believe it.
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            let in_place = OpenOptions::new().write(true).open(&path).and_then(|file| file.write_all_at(&bytes, 0));
            in_place.attempt("overwrite the cursor", &path)
        }
        replaced => replaced.attempt("replace the cursor", &path),
    }
}

/// Removes the cursor and what a killed [`store`] left.
pub(crate) fn remove(disk: &dyn Disk, directory: &Path) -> Result<(), DiskError> {
    [FILE_NAME, NEXT_FILE_NAME].iter().try_for_each(|name| {
        let path = directory.join(name);
        remove_if_there(disk, &path).attempt("remove", &path)
    })
}

fn encode(producer: ProducerId, position: Position) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.extend(MAGIC);
    bytes.extend(producer.0);
    bytes.extend(position.segment.to_le_bytes());
    bytes.extend(u64::from(position.offset).to_le_bytes());
    bytes.extend(position.seq.to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8], producer: ProducerId) -> Option<Position> {
    let word = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let check = u32::from_le_bytes(bytes.get(48..)?.try_into().ok()?);
    let sound = bytes[..8] == MAGIC && bytes[8..24] == producer.0 && crc32c::crc32c(&bytes[..48]) == check;
    let position = Position { segment: word(24)?, offset: u32::try_from(word(32)?).ok()?, seq: word(40)? };
    let countable = position.segment < segment::NUMBER_MAX && position.seq < segment::NUMBER_MAX;
    (sound && countable && position.offset >= segment::HEADER_BYTES).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: ProducerId = ProducerId([7; 16]);

    #[test]
    fn a_cursor_with_a_flipped_bit_or_a_missing_byte_is_none() {
        let position = Position { segment: 3, offset: 4128, seq: 99 };
        let bytes = encode(PRODUCER, position);
        assert_eq!(decode(&bytes, PRODUCER), Some(position));
        assert_eq!(decode(&bytes, ProducerId([8; 16])), None);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged, PRODUCER), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len], PRODUCER), None, "{len} bytes");
        }
    }
}
