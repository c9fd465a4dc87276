//! The layout of one record. Pure: bytes in, meaning out.
//!
//! ```text
//! 0   u64  state << 32 | payload length       reserved first, committed last
//! 8   u64  seq
//! 16  u32  payload check                       CRC-32C, seeded with the header check
//! 20  u32  header check                        CRC-32C of offset, length and seq, seeded by the segment
//! 24  ...  payload, padded with zeros to a multiple of 8
//! ```
//!
//! All little endian. The segment's seed comes from a random salt, so that no payload can hold bytes that pass for
//! a frame. A header check that matches proves a frame's place and length whatever became of its payload.

/// Bytes before the payload.
pub(crate) const HEADER_BYTES: u32 = 24;
/// Frames start at multiples of this.
pub(crate) const ALIGN: u32 = 8;
const RESERVED: u32 = 0x5245_5356;
const COMMITTED: u32 = 0x434F_4D54;

/// Returns the first word of a frame whose payload is still being copied.
pub(crate) const fn reserved_word(len: u32) -> u64 {
    (RESERVED as u64) << 32 | len as u64
}

/// Returns the first word of a finished frame.
pub(crate) const fn committed_word(len: u32) -> u64 {
    (COMMITTED as u64) << 32 | len as u64
}

/// Returns the payload length of a finished frame from its first word.
pub(crate) fn committed_len(word: u64) -> Option<u32> {
    let (state, len) = split(word);
    (state == COMMITTED).then_some(len)
}

/// Returns both checks in the word that holds them.
pub(crate) const fn checks_word(payload_check: u32, header_check: u32) -> u64 {
    (header_check as u64) << 32 | payload_check as u64
}

/// Returns the bytes that a payload of `len` bytes takes with its header and padding; `None` when they overflow.
pub(crate) fn frame_bytes(len: u32) -> Option<u32> {
    len.checked_add(HEADER_BYTES)?.checked_next_multiple_of(ALIGN)
}

/// Computes the check of a frame's place, length and number.
pub(crate) fn header_check(seed: u32, offset: u32, len: u32, seq: u64) -> u32 {
    let mut covered = [0; 16];
    covered[..4].copy_from_slice(&offset.to_le_bytes());
    covered[4..8].copy_from_slice(&len.to_le_bytes());
    covered[8..].copy_from_slice(&seq.to_le_bytes());
    crc32c::crc32c_append(seed, &covered)
}

/// How far a frame's writer got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Reserved,
    Committed,
    /// Neither: damaged.
    Unknown,
}

/// A frame header whose check matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) state: State,
    pub(crate) len: u32,
    pub(crate) seq: u64,
    pub(crate) header_check: u32,
    pub(crate) payload_check: u32,
}

/// What stands at a place where a frame may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing yet: the first word is zero.
    Empty,
    /// A frame's header.
    Header(Header),
    /// A writer has begun, or what it wrote is damaged.
    Unclear {
        /// The first word claims a finished frame.
        committed: bool,
    },
}

impl Header {
    /// Reads the header at `offset` of a segment with this seed; `None` when there are not enough bytes.
    pub(crate) fn find(bytes: &[u8], offset: u32, seed: u32) -> Option<Found> {
        let word = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let (first, seq, checks) = (word(0)?, word(8)?, word(16)?);
        let (state, len) = split(first);
        let (stored, payload_check) = split(checks);
        if first == 0 {
            return Some(Found::Empty);
        }
        let state = match state {
            RESERVED => State::Reserved,
            COMMITTED => State::Committed,
            _ => State::Unknown,
        };
        if stored != header_check(seed, offset, len, seq) {
            return Some(Found::Unclear { committed: state == State::Committed });
        }
        Some(Found::Header(Self { state, len, seq, header_check: stored, payload_check }))
    }

    /// Tells whether `payload` is what the writer put there.
    pub(crate) fn matches(&self, payload: &[u8]) -> bool {
        crc32c::crc32c_append(self.header_check, payload) == self.payload_check
    }
}

/// Splits a word into its high and its low half.
#[expect(clippy::cast_possible_truncation, reason = "the two halves of a word are what is meant")]
const fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seed: u32, offset: u32, seq: u64, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap();
        let check = header_check(seed, offset, len, seq);
        let mut bytes = committed_word(len).to_le_bytes().to_vec();
        bytes.extend(seq.to_le_bytes());
        bytes.extend(checks_word(crc32c::crc32c_append(check, payload), check).to_le_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_frame_is_found_where_it_was_written_and_nowhere_else() {
        let bytes = frame(7, 4096, 3, b"select 1");
        let Some(Found::Header(header)) = Header::find(&bytes, 4096, 7) else { panic!("not found") };
        assert_eq!((header.len, header.seq, header.state), (8, 3, State::Committed));
        assert!(header.matches(b"select 1"));
        assert!(!header.matches(b"select 2"));
        assert_eq!(Header::find(&bytes, 4104, 7), Some(Found::Unclear { committed: true }));
        assert_eq!(Header::find(&bytes, 4096, 8), Some(Found::Unclear { committed: true }));
    }

    #[test]
    fn every_flipped_bit_outside_the_state_is_seen() {
        let whole = frame(7, 4096, 3, b"select 1");
        for bit in (0..whole.len() * 8).filter(|bit| !(32..64).contains(bit)) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Some(Found::Header(header)) = Header::find(&bytes, 4096, 7) {
                assert!(!header.matches(&bytes[24..]), "bit {bit}");
            }
        }
    }

    #[test]
    fn lengths_near_the_limit_do_not_overflow() {
        assert_eq!(frame_bytes(0), Some(24));
        assert_eq!(frame_bytes(1), Some(32));
        assert_eq!(frame_bytes(u32::MAX), None);
        assert_eq!(frame_bytes(u32::MAX - 25), None);
    }
}
