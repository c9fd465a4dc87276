//! The layout of a segment file: one page of header, then frames. Pure.
//!
//! ```text
//! 0     identity: magic, version, producer, number, first seq, salt, creation, size, check
//! 128   tally of dropped records, two copies written in turn, each with a check
//! 256   seal: where the frames end and how many they are, with a check
//! 2048  a second copy of the identity
//! 4096  frames
//! ```

use crate::id::ProducerId;

/// Bytes before the first frame.
pub(crate) const HEADER_BYTES: u32 = 4096;
pub(crate) const SEGMENT_BYTES_MAX: u32 = 1 << 30;
/// Above every segment number and seq: out of reach, and far from overflow.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;
const MAGIC: [u8; 8] = *b"AQSPOOL\0";
const VERSION: u32 = 1;
const IDENTITY_BYTES: usize = 76;
const IDENTITY_AT: [usize; 2] = [0, 2048];
const TALLY_AT: [u32; 2] = [128, 192];
const SEAL_AT: u32 = 256;

/// Which segment a file is, fixed before its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer: ProducerId,
    pub(crate) number: u64,
    /// The seq of its first record.
    pub(crate) base_seq: u64,
    /// Random, new in each life of a recycled file.
    pub(crate) salt: u64,
    pub(crate) created_at_us: u64,
    pub(crate) segment_bytes: u32,
}

impl Identity {
    /// Returns the header page of a segment without records.
    pub(crate) fn page(&self) -> Vec<u8> {
        let mut page = vec![0; HEADER_BYTES as usize];
        let mut identity = Vec::with_capacity(IDENTITY_BYTES);
        identity.extend(MAGIC);
        identity.extend(VERSION.to_le_bytes());
        identity.extend(self.segment_bytes.to_le_bytes());
        identity.extend(self.producer.0);
        for field in [self.number, self.base_seq, self.salt, self.created_at_us, 0] {
            identity.extend(field.to_le_bytes());
        }
        identity.extend(crc32c::crc32c(&identity).to_le_bytes());
        for at in IDENTITY_AT {
            page[at..at + IDENTITY_BYTES].copy_from_slice(&identity);
        }
        page
    }

    /// Reads either copy; `None` when both are damaged or are of another format.
    pub(crate) fn parse(page: &[u8]) -> Option<Self> {
        IDENTITY_AT.iter().find_map(|&at| Self::parse_copy(page.get(at..at + IDENTITY_BYTES)?))
    }

    fn parse_copy(bytes: &[u8]) -> Option<Self> {
        let check = u32_at(bytes, 72)?;
        let sound =
            bytes.get(..8)? == MAGIC && u32_at(bytes, 8)? == VERSION && crc32c::crc32c(bytes.get(..72)?) == check;
        let identity = Self {
            segment_bytes: u32_at(bytes, 12)?,
            producer: ProducerId(bytes.get(16..32)?.try_into().ok()?),
            number: u64_at(bytes, 32)?,
            base_seq: u64_at(bytes, 40)?,
            salt: u64_at(bytes, 48)?,
            created_at_us: u64_at(bytes, 56)?,
        };
        let countable = identity.number < NUMBER_MAX && identity.base_seq < NUMBER_MAX;
        (sound && countable && (HEADER_BYTES..=SEGMENT_BYTES_MAX).contains(&identity.segment_bytes)).then_some(identity)
    }

    /// Computes what every check in this segment starts from.
    pub(crate) fn seed(&self) -> u32 {
        let seed = crc32c::crc32c(&self.salt.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(seed, &self.producer.0), &self.number.to_le_bytes())
    }
}

/// Records that were dropped while a segment was the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) first_at_us: u64,
    pub(crate) last_at_us: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, at_us: u64) {
        if self.count == 0 {
            self.first_at_us = at_us;
        }
        self.count += 1;
        self.last_at_us = at_us;
    }

    /// Returns where the tally goes and its words. Two copies take turns, so that a kill in the middle of one leaves
    /// the other.
    pub(crate) fn words(&self, seed: u32) -> (u32, [u64; 4]) {
        let fields = [self.count, self.first_at_us, self.last_at_us];
        let at = TALLY_AT[usize::from(self.count.is_multiple_of(2))];
        (at, [fields[0], fields[1], fields[2], check(seed, at, &fields)])
    }

    /// Reads the newer sound copy; nothing was dropped when neither is.
    pub(crate) fn parse(page: &[u8], seed: u32) -> Self {
        let copies = TALLY_AT.iter().filter_map(|&at| {
            let [count, first_at_us, last_at_us] = checked(page, seed, at)?;
            Some(Self { count, first_at_us, last_at_us })
        });
        copies.max_by_key(|tally| tally.count).unwrap_or_default()
    }
}

/// Where a segment's frames end. It is written when every append to the segment has finished, and so says that
/// nothing in it will change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) end: u32,
    pub(crate) records: u64,
}

impl Seal {
    pub(crate) fn words(&self, seed: u32) -> (u32, [u64; 3]) {
        let fields = [u64::from(self.end), self.records];
        (SEAL_AT, [fields[0], fields[1], check(seed, SEAL_AT, &fields)])
    }

    pub(crate) fn parse(page: &[u8], seed: u32) -> Option<Self> {
        let [end, records] = checked(page, seed, SEAL_AT)?;
        Some(Self { end: u32::try_from(end).ok()?, records })
    }
}

/// Returns the file name of a segment.
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// Returns the number of the segment that has this file name.
pub(crate) fn number_of(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(".seg")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (number < NUMBER_MAX && self::file_name(number) == file_name).then_some(number)
}

fn check(seed: u32, at: u32, fields: &[u64]) -> u64 {
    let start = crc32c::crc32c_append(seed, &at.to_le_bytes());
    u64::from(fields.iter().fold(start, |sum, field| crc32c::crc32c_append(sum, &field.to_le_bytes())))
}

fn checked<const N: usize>(page: &[u8], seed: u32, at: u32) -> Option<[u64; N]> {
    let start = at as usize;
    let mut fields = [0; N];
    for (index, field) in fields.iter_mut().enumerate() {
        *field = u64_at(page, start + 8 * index)?;
    }
    (u64_at(page, start + 8 * N)? == check(seed, at, &fields)).then_some(fields)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            producer: ProducerId([5; 16]),
            number: 3,
            base_seq: 70,
            salt: 0x1234_5678_9abc_def0,
            created_at_us: 1,
            segment_bytes: 8192,
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_in_the_header_changes_nothing() {
        let page = identity().page();
        for bit in 0..page.len() * 8 {
            let mut damaged = page.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Identity::parse(&damaged), Some(identity()), "bit {bit}");
        }
    }

    #[test]
    fn a_page_damaged_in_both_copies_is_nobodys() {
        let mut page = identity().page();
        page[IDENTITY_AT[0] + 40] ^= 1;
        page[IDENTITY_AT[1] + 41] ^= 1;
        assert_eq!(Identity::parse(&page), None);
        assert_eq!(Identity::parse(&[]), None);
        assert_eq!(Identity::parse(&[0; 4096]), None);
    }

    #[test]
    fn a_tally_torn_in_its_newest_copy_falls_back_to_the_one_before() {
        let (seed, mut page, mut tally) = (9, vec![0; 4096], Tally::default());
        for at_us in [10, 20, 30] {
            tally.add(at_us);
            let (at, words) = tally.words(seed);
            for (index, word) in words.iter().enumerate() {
                let start = at as usize + 8 * index;
                page[start..start + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
        assert_eq!(Tally::parse(&page, seed), Tally { count: 3, first_at_us: 10, last_at_us: 30 });
        page[tally.words(seed).0 as usize] ^= 1;
        assert_eq!(Tally::parse(&page, seed), Tally { count: 2, first_at_us: 10, last_at_us: 20 });
        assert_eq!(Tally::parse(&[0; 4096], seed), Tally::default());
    }

    #[test]
    fn only_a_segments_own_file_name_is_one() {
        assert_eq!(number_of(&file_name(0xabc)), Some(0xabc));
        for name in [
            "0.seg",
            "000000000000000A.seg",
            "+00000000000000a.seg",
            "000000000000000a.seg.tmp",
            "ffffffffffffffff.seg",
            "label",
        ] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
