use std::time::Duration;

use crate::fields::{FORMAT_VERSION, kind};
use crate::wire::{DecodeError, Reader, put_sized, put_varint};

/// Where one record goes, when that is not where all the others go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The queue, when it is not the configured one.
    pub queue: Option<String>,
    /// How long it stays in the queue before it may be stored, in milliseconds.
    pub delay_ms: u64,
}

/// Writes the front of a routed record; the record itself follows.
///
/// A delay is rounded up to whole milliseconds, so that it is never cut short.
pub fn encode_route(queue: Option<&str>, delay: Duration, out: &mut Vec<u8>) {
    out.extend_from_slice(&[FORMAT_VERSION, kind::ROUTED]);
    put_varint(out, u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
    put_sized(out, queue.unwrap_or_default().as_bytes());
}

/// Reads where a record goes, without decoding the record; `None` when it goes where all go.
#[must_use]
pub fn route_of(record: &[u8]) -> Option<Route> {
    if !record.starts_with(&[FORMAT_VERSION, kind::ROUTED]) {
        return None;
    }
    let mut reader = Reader::new(&record[2..]);
    let delay_ms = reader.varint().ok()?;
    let queue = reader.text().ok()?;
    Some(Route { queue: (!queue.is_empty()).then(|| queue.to_owned()), delay_ms })
}

/// Takes the front off a routed record.
pub(crate) fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    reader.varint()?;
    reader.sized().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Record};

    #[test]
    fn a_routed_record_is_the_record_with_its_way() {
        let event = Event { occurred_at: 5, repeat_count: 1, last_at: 5, ..Event::default() };
        let mut routed = Vec::new();
        encode_route(Some("high-priority"), Duration::from_nanos(1_500_000_001), &mut routed);
        routed.extend(event.encode());
        assert_eq!(route_of(&routed), Some(Route { queue: Some("high-priority".to_owned()), delay_ms: 1_501 }));
        assert_eq!(Record::decode(&routed, [1; 16], 2), Record::decode(&event.encode(), [1; 16], 2));
        assert_eq!(route_of(&event.encode()), None);
    }

    #[test]
    fn a_route_in_a_route_and_one_that_is_cut_short_are_errors() {
        let mut twice = Vec::new();
        encode_route(None, Duration::ZERO, &mut twice);
        let once = twice.clone();
        encode_route(None, Duration::ZERO, &mut twice);
        twice.extend(Event::default().encode());
        assert!(Record::decode(&twice, [0; 16], 0).is_err());
        for end in 0..once.len() {
            assert!(Record::decode(&once[..end], [0; 16], 0).is_err(), "{end}");
        }
    }
}
