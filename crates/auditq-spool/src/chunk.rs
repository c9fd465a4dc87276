//! What one read delivers.

use std::ops::Range;

use crate::cursor::Position;

/// The records and gaps of one read; reusing it costs no allocation once it has grown.
#[derive(Debug, Default)]
pub struct Chunk {
    pub(crate) buffer: Vec<u8>,
    pub(crate) records: Vec<(u64, Range<usize>)>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) end: Position,
}

/// One record, as it was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number in its spool, from 0, without holes.
    pub seq: u64,
    /// Its parts, joined.
    pub payload: &'a [u8],
}

/// Records that will never come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Identifies the gap among all gaps and seqs of its producer: read again, it has the same number, and no record
    /// has it (bit 63 is set).
    pub number: u64,
    /// The seq of the first missing record; of the next record when the missing ones never had a seq.
    pub first_seq: u64,
    /// How many are missing for certain. 0 when bytes were damaged of which nothing says that they held a record.
    pub records: u64,
    /// Why.
    pub reason: GapReason,
}

/// Why records will never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapReason {
    /// There was no room and they were dropped; they had no seq. Times are UTC microseconds since 1970.
    DroppedFull {
        /// When the first was dropped.
        first_at_us: u64,
        /// When the last was dropped.
        last_at_us: u64,
    },
    /// Their writer was killed in the middle of `append`, which had not returned, or the file was cut off.
    Torn {
        /// Number of the segment.
        segment: u64,
        /// Where it starts in the segment, in bytes.
        offset: u32,
        /// Bytes passed over.
        bytes: u32,
    },
    /// Their bytes were changed on disk.
    Corrupt {
        /// Number of the segment.
        segment: u64,
        /// Where it starts in the segment, in bytes.
        offset: u32,
        /// Bytes passed over.
        bytes: u32,
    },
    /// Segment files are gone.
    Missing {
        /// Number of the first segment after them.
        before_segment: u64,
    },
}

/// Where in its segment each kind of gap that has no offset of its own is numbered.
pub(crate) const DROPPED_AT: u32 = 0;
pub(crate) const MISSING_AT: u32 = 1;

impl Gap {
    pub(crate) fn new(segment: u64, offset: u32, first_seq: u64, records: u64, reason: GapReason) -> Self {
        let number = 1 << 63 | (segment & 0x7fff_ffff) << 32 | u64::from(offset);
        Self { number, first_seq, records, reason }
    }
}

impl Chunk {
    /// Returns the records, in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.records.iter().map(|(seq, range)| Record { seq: *seq, payload: &self.buffer[range.clone()] })
    }

    /// Returns what is missing among and around the records.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Returns where this chunk ends: what to commit once everything in it is safe elsewhere.
    #[must_use]
    pub fn end(&self) -> Position {
        self.end
    }

    /// Tells whether there is neither a record nor a gap.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.gaps.is_empty()
    }

    pub(crate) fn clear(&mut self, start: Position) {
        self.buffer.clear();
        self.records.clear();
        self.gaps.clear();
        self.end = start;
    }
}
