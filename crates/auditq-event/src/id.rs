use std::fmt;
use std::str::FromStr;

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// The largest time that 48 bits of milliseconds hold, in microseconds.
const MAX_TIME_US: i64 = ((1 << 48) - 1) * 1000 + 999;

/// Identity of one event: a UUIDv7 in shape, derived instead of drawn.
///
/// The same time, producer and sequence number always give the same id, so reading a spool twice adds no row twice.
/// Ids sort by time to the microsecond.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; 16]);

impl EventId {
    /// Derives the id of an event.
    ///
    /// 48 bits are milliseconds, 10 bits the microseconds within, 64 bits XXH3 of producer and sequence number. Times
    /// before 1970 or past the year 10889 count as the nearest time that fits.
    #[must_use]
    pub fn derive(occurred_at_us: i64, producer_id: &[u8; 16], seq: u64) -> Self {
        let time = u64::try_from(occurred_at_us.clamp(0, MAX_TIME_US)).unwrap_or(0);
        let mut source = [0u8; 24];
        source[..16].copy_from_slice(producer_id);
        source[16..].copy_from_slice(&seq.to_le_bytes());
        let hash = xxh3_64(&source);

        let high = (time / 1000) << 16 | 0x7000 | (time % 1000) << 2 | hash >> 62;
        let low = 1 << 63 | hash & (u64::MAX >> 2);
        let mut id = [0u8; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        Self(id)
    }

    /// Takes an id as it was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes in network order, as they are stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(Uuid::from_bytes(self.0).as_hyphenated(), f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

/// A text that is no event id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {text:?} as an event id: expected 32 hexadecimal digits in the form 8-4-4-4-12")]
pub struct ParseEventIdError {
    text: String,
}

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text)
            .map(|id| Self(id.into_bytes()))
            .map_err(|_| ParseEventIdError { text: text.chars().take(64).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: [u8; 16] = [7; 16];

    #[test]
    fn ids_are_what_they_were_in_the_first_release() {
        let golden = [
            (0, [0; 16], 0, "00000000-0000-7001-b43d-f94ee4c78a2a"),
            (1_700_000_000_123_456, PRODUCER, 1, "018bcfe5-687b-7723-9437-d1240bacd27f"),
            (-5, PRODUCER, u64::MAX, "00000000-0000-7002-b435-77f1b0ad2d16"),
            (i64::MAX, PRODUCER, 2, "ffffffff-ffff-7f9d-b981-3facc1b99edb"),
        ];
        let ids: Vec<String> = golden.iter().map(|(at, p, seq, _)| EventId::derive(*at, p, *seq).to_string()).collect();
        let expected: Vec<&str> = golden.iter().map(|g| g.3).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn ids_have_the_shape_of_uuid_7() {
        let id = Uuid::from_bytes(*EventId::derive(1_700_000_000_999_999, &PRODUCER, 3).as_bytes());
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn ids_sort_by_microsecond() {
        let at = |us| EventId::derive(us, &PRODUCER, 9);
        assert!(at(1_000_000) < at(1_000_001));
        assert!(at(1_000_999) < at(1_001_000));
    }

    #[test]
    fn ids_survive_their_text() {
        let id = EventId::derive(1_700_000_000_123_456, &PRODUCER, 42);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("not an id".parse::<EventId>().unwrap_err().to_string().contains("not an id"));
    }
}
