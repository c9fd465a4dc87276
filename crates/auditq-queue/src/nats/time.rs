//! The server's clock, one for all workers, however wrong their own are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::link::Link;
use super::names::Names;
use super::streams;
use crate::clock::{Clock, SystemClock};
use crate::{Error, ErrorKind, Result};

use super::DRIVER;

/// The time of the server, or of a test.
#[derive(Debug)]
pub(super) struct Time {
    test: Option<Arc<dyn Clock>>,
    /// The server's time, in microseconds since 1970, and when it was that.
    known: Mutex<Option<(Instant, u64)>>,
}

impl Time {
    pub(super) fn new(test: Option<Arc<dyn Clock>>) -> Self {
        Self { test, known: Mutex::default() }
    }

    /// Microseconds since 1970 on the clock that reservations go by.
    pub(super) fn now(&self) -> u64 {
        self.test.as_ref().map_or_else(|| self.server_now(), |clock| micros(clock.now()))
    }

    /// Microseconds since 1970 on the server's clock.
    pub(super) fn server_now(&self) -> u64 {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.map_or_else(|| micros(SystemClock.now()), |(at, time)| time.saturating_add(micros(at.elapsed())))
    }

    /// Asks the server: it notes when it took a message.
    pub(super) async fn learn(&self, link: &Link, names: &Names) -> Result<()> {
        const OPERATION: &str = "read the time";
        let subject = names.control("clock");
        link.publish(OPERATION, &subject, &HeaderMap::new(), &Bytes::new()).await?;
        let taken = Instant::now();
        // Another worker's may be the last by now, which was taken even later.
        let found = streams::get(link, &names.ledger(), &json!({ "last_by_subj": subject })).await?;
        let time = found.map(|found| found.taken_at()).filter(|time| *time > 0).ok_or_else(|| {
            Error::new(ErrorKind::Misconfigured, DRIVER, "cannot read the time: the server's answer is odd")
        })?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((taken, time));
        Ok(())
    }
}

/// Reads `2026-11-24T12:56:11.123456789Z`, as microseconds since 1970.
pub(super) fn read(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day]: [u64; 3] = numbers(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second]: [u64; 3] = numbers(time, ':')?;
    let fraction = format!("{fraction:0<6}").get(..6)?.parse::<u64>().ok()?;
    // Days of the civil calendar, in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let seconds = days.checked_sub(719_469)? * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000_000 + fraction)
}

fn numbers<const N: usize>(text: &str, between: char) -> Option<[u64; N]> {
    text.split(between).map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()?.try_into().ok()
}

/// Microseconds, up to a time that is far enough.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(4_000_000_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_server_writes_them() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:01.5Z", 1_500_000),
            ("2000-02-29T23:59:59.123456789Z", 951_868_799_123_456),
            ("2026-11-24T12:56:11.000001Z", 1_795_524_971_000_001),
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
        for text in ["", "2026-11-24", "2026-11-24T12:56:11", "2026-11-24T12:56Z", "a-b-cT1:2:3Z"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
