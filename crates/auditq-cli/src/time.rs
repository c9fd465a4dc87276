//! Times as people write and read them.

use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Reads how long: `90d`, `1h30m`, `45s`; units are w, d, h, m and s.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a length of time, such as 15m, 12h or 90d");
    let mut seconds: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let mut after = rest[digits..].chars();
        let unit = match after.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            _ => return Err(wrong()),
        };
        seconds = count.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        rest = after.as_str();
    }
    Ok(Duration::from_secs(seconds))
}

/// Reads when: a length of time ago (`1h`), a day (`2026-11-23`), a local time (`2026-11-23 09:30`), or RFC 3339.
pub(crate) fn parse_moment(text: &str) -> Result<Timestamp, String> {
    moment(text, Timestamp::now(), &TimeZone::system())
}

fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(ago) = parse_duration(text) {
        let ago = SignedDuration::try_from(ago).map_err(|_| format!("{text:?} is too long ago"))?;
        return now.checked_sub(ago).map_err(|_| format!("{text:?} is too long ago"));
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp);
    }
    let local = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from));
    let zoned = local.and_then(|local| local.to_zoned_datetime(zone.clone()));
    zoned.map(|zoned| zoned.timestamp()).map_err(|_| {
        format!("{text:?} is not a time, such as 1h, 2026-11-23, \"2026-11-23 09:30\" or 2026-11-23T09:30:00Z")
    })
}

/// Microseconds before now.
pub(crate) fn micros_ago(ago: Duration) -> i64 {
    let ago = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
    Timestamp::now().as_microsecond().saturating_sub(ago)
}

/// Seconds since a time in microseconds; 0 for one that is still to come.
pub(crate) fn seconds_since(micros: i64) -> f64 {
    let passed = Timestamp::now().as_microsecond().saturating_sub(micros).max(0);
    passed as f64 / 1e6
}

/// A time in the log as this machine's clock on the wall shows it: `2026-11-23 09:30:00`.
pub(crate) fn local(micros: i64) -> String {
    written(micros, "%Y-%m-%d %H:%M:%S")
}

/// As [`local`], to the microsecond and with its zone.
pub(crate) fn local_exactly(micros: i64) -> String {
    written(micros, "%Y-%m-%d %H:%M:%S%.6f %:z")
}

fn written(micros: i64, format: &str) -> String {
    match Timestamp::from_microsecond(micros) {
        Ok(timestamp) => timestamp.to_zoned_datetime(TimeZone::system()).strftime(format).to_string(),
        // Outside the years that a calendar has: a clock that was wrong.
        Err(_) => format!("{micros} µs"),
    }
}

/// A time in the log for programs: RFC 3339 in UTC, to the microsecond.
pub(crate) fn rfc3339(micros: i64) -> String {
    match Timestamp::from_microsecond(micros) {
        Ok(timestamp) => format!("{timestamp:.6}"),
        Err(_) => micros.to_string(),
    }
}

/// Now, for programs.
pub(crate) fn now_rfc3339() -> String {
    format!("{:.6}", Timestamp::now())
}

/// Now, for people.
pub(crate) fn now_local() -> String {
    local(Timestamp::now().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Result<u64, String> {
        parse_duration(text).map(|duration| duration.as_secs())
    }

    #[test]
    fn lengths_of_time_are_read_in_any_unit_and_added_up() {
        assert_eq!(seconds("45s"), Ok(45));
        assert_eq!(seconds("1h30m"), Ok(5_400));
        assert_eq!(seconds("90d"), Ok(90 * 86_400));
        assert_eq!(seconds("2w"), Ok(14 * 86_400));
        for wrong in ["", "90", "d", "-1h", "1y", "1.5h", "99999999999999999999d", "9999999999999999999w"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        for (text, expected) in [
            ("1h", "2026-11-24T11:00:00Z"),
            ("2d", "2026-11-22T12:00:00Z"),
            ("2026-11-23", "2026-11-22T23:00:00Z"),
            ("2026-11-23 09:30", "2026-11-23T08:30:00Z"),
            ("2026-11-23T09:30:00Z", "2026-11-23T09:30:00Z"),
            ("2026-11-23T09:30:00+05:30", "2026-11-23T04:00:00Z"),
        ] {
            assert_eq!(moment(text, now, &zone).map(|moment| moment.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for wrong in ["", "yesterday", "2026-13-01", "99999w999999w"] {
            assert!(moment(wrong, now, &zone).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_that_no_calendar_has_are_still_shown() {
        assert_eq!(local(i64::MAX), format!("{} µs", i64::MAX));
        assert_eq!(rfc3339(1_500_000), "1970-01-01T00:00:01.500000Z");
    }
}
