//! What is known of a message, as one line in a header: in the ledger, beside a message, beside a failed one.

use async_nats::HeaderMap;

/// The header that holds the line.
pub(super) const LINE: &str = "Auditq";
/// The id of a message, escaped.
pub(super) const ID: &str = "Auditq-Id";
/// Why a message was given up, escaped.
pub(super) const REASON: &str = "Auditq-Reason";
/// In a message that came back: the number of the failed one it was, in the stream of those.
pub(super) const RETRIED: &str = "Auditq-Retried";

/// Where a message stands that was taken or delayed; one that never was has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Somebody holds it since `at`.
    Held,
    /// It is available from `at` on.
    Free,
    /// It is done: whoever finds this removes the message, then this record.
    Done,
    /// It was given up at `at`: whoever finds this moves it to the failed ones, then removes this record.
    Buried,
}

/// A payload that is kept apart, in so many parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) nonce: u64,
    pub(super) count: u32,
}

/// What the ledger says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) state: State,
    pub(super) attempts: u32,
    /// Of the reservation: what is fenced by.
    pub(super) nonce: u64,
    /// In microseconds since 1970.
    pub(super) at: u64,
    /// How long the payload is.
    pub(super) bytes: u64,
    /// Where the payload is, unless the message itself holds it.
    pub(super) parts: Option<Parts>,
}

/// What a message says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// When it was pushed, or came back, in microseconds since 1970.
    pub(super) at: u64,
    /// In microseconds.
    pub(super) delay: u64,
    pub(super) bytes: u64,
    pub(super) parts: Option<Parts>,
}

/// What a failed message says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FailedNote {
    /// When it failed, in microseconds since 1970.
    pub(super) at: u64,
    pub(super) bytes: u64,
    pub(super) parts: Option<Parts>,
    /// Its number among the messages of the queue, by which a bury that is repeated knows its own.
    pub(super) number: u64,
}

impl State {
    /// True when nothing but cleaning up is left.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Buried)
    }
}

impl Record {
    pub(super) fn to_line(self) -> String {
        let Self { state, attempts, nonce, at, bytes, parts } = self;
        let state = match state {
            State::Held => "held",
            State::Free => "free",
            State::Done => "done",
            State::Buried => "buried",
        };
        format!("{state} {attempts} {nonce:016x} {at} {bytes} {}", parts_to_text(parts))
    }

    pub(super) fn read(line: &str) -> Option<Self> {
        let [state, attempts, nonce, at, bytes, parts] = fields(line)?;
        let state = match state {
            "held" => State::Held,
            "free" => State::Free,
            "done" => State::Done,
            "buried" => State::Buried,
            _ => return None,
        };
        Some(Self {
            state,
            attempts: attempts.parse().ok()?,
            nonce: u64::from_str_radix(nonce, 16).ok()?,
            at: at.parse().ok()?,
            bytes: bytes.parse().ok()?,
            parts: parts_from_text(parts)?,
        })
    }
}

impl Note {
    pub(super) fn to_line(self) -> String {
        let Self { at, delay, bytes, parts } = self;
        format!("{at} {delay} {bytes} {}", parts_to_text(parts))
    }

    pub(super) fn read(line: &str) -> Option<Self> {
        let [at, delay, bytes, parts] = fields(line)?;
        Some(Self {
            at: at.parse().ok()?,
            delay: delay.parse().ok()?,
            bytes: bytes.parse().ok()?,
            parts: parts_from_text(parts)?,
        })
    }

    /// That of a message with this line, which was taken then; one that somebody else has published has none.
    pub(super) fn of(line: Option<&str>, taken_at: u64, bytes: usize) -> Self {
        let foreign = Self { at: taken_at, delay: 0, bytes: bytes as u64, parts: None };
        line.and_then(Self::read).unwrap_or(foreign)
    }

    pub(super) fn due(self) -> u64 {
        self.at.saturating_add(self.delay)
    }
}

impl FailedNote {
    pub(super) fn to_line(self) -> String {
        let Self { at, bytes, parts, number } = self;
        format!("{at} {bytes} {number} {}", parts_to_text(parts))
    }

    pub(super) fn read(line: &str) -> Option<Self> {
        let [at, bytes, number, parts] = fields(line)?;
        Some(Self {
            at: at.parse().ok()?,
            bytes: bytes.parse().ok()?,
            number: number.parse().ok()?,
            parts: parts_from_text(parts)?,
        })
    }
}

fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    line.split(' ').collect::<Vec<_>>().try_into().ok()
}

fn parts_to_text(parts: Option<Parts>) -> String {
    parts.map_or_else(|| "-".to_owned(), |Parts { nonce, count }| format!("{nonce:016x}:{count}"))
}

fn parts_from_text(text: &str) -> Option<Option<Parts>> {
    if text == "-" {
        return Some(None);
    }
    let (nonce, count) = text.split_once(':')?;
    Some(Some(Parts { nonce: u64::from_str_radix(nonce, 16).ok()?, count: count.parse().ok()? }))
}

/// Headers of one line.
pub(super) fn headers(line: String) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(LINE, line);
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let parts = [None, Some(Parts { nonce: 7, count: 3 })];
        for (state, parts) in
            [State::Held, State::Free, State::Done, State::Buried].into_iter().zip(parts.iter().cycle())
        {
            let record = Record { state, attempts: 2, nonce: u64::MAX, at: 1, bytes: 9, parts: *parts };
            assert_eq!(Record::read(&record.to_line()), Some(record));
            let note = Note { at: 5, delay: 6, bytes: 7, parts: *parts };
            assert_eq!(Note::read(&note.to_line()), Some(note));
            let failed = FailedNote { at: 5, bytes: 7, parts: *parts, number: 8 };
            assert_eq!(FailedNote::read(&failed.to_line()), Some(failed));
        }
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for line in ["", "held", "held 1 2 3 4 5", "lost 1 2 3 4 -", "held x 2 3 4 -", "held 1 2 3 4 -  "] {
            assert_eq!(Record::read(line), None, "{line}");
        }
    }
}
