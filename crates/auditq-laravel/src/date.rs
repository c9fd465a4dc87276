//! `DateTime`, `DateTimeImmutable` and Carbon, as they are serialized: wall time and a zone.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use crate::php::{Document, Object, Value};

/// A moment in the words of PHP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Date<'v> {
    /// Such as `2024-05-17 13:04:05.000001`, in the zone.
    wall: &'v str,
    /// Such as `+02:00`, `EST` or `Europe/Berlin`.
    zone: &'v str,
}

impl<'v> Date<'v> {
    /// Reads a date by the properties that every class of dates has; `None` when the object is none.
    pub(crate) fn of<'a>(document: &Document<'v, 'a>, object: &'v Object<'a>) -> Option<Self> {
        let wall = document.property(object, "date")?.as_text()?;
        let zone = document.property(object, "timezone")?.as_text()?;
        let Value::Int(1..=3) = document.property(object, "timezone_type")? else { return None };
        is_wall_time(wall).then_some(Self { wall, zone })
    }

    /// ISO 8601 with the digits that PHP wrote and the offset from UTC.
    ///
    /// A zone that is not known, and with it the offset, stands behind in brackets.
    pub(crate) fn iso(&self) -> String {
        let wall = self.wall.replacen(' ', "T", 1);
        match self.offset() {
            Some(offset) => format!("{wall}{}", shown(offset)),
            None => format!("{wall}[{}]", self.zone),
        }
    }

    /// Microseconds since the Unix epoch, UTC.
    pub(crate) fn unix_us(&self) -> Option<i64> {
        let wall: DateTime = self.wall.parse().ok()?;
        self.offset()?.to_timestamp(wall).ok().map(jiff::Timestamp::as_microsecond)
    }

    fn offset(&self) -> Option<Offset> {
        if let Some(offset) = fixed_offset(self.zone) {
            return Some(offset);
        }
        let wall: DateTime = self.wall.parse().ok()?;
        let zone = zone(self.zone)?;
        zone.to_ambiguous_timestamp(wall).compatible().ok().map(|at| zone.to_offset(at))
    }
}

/// The zone of an application: `app.timezone` in its configuration.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of that name, such as `Europe/Berlin`; `None` when there is none.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        zone(name).map(Self)
    }

    /// How many seconds its clocks are ahead of UTC at a Unix second.
    #[must_use]
    pub fn offset_at(&self, unix: i64) -> i64 {
        let moment = Timestamp::from_second(unix).unwrap_or(Timestamp::UNIX_EPOCH);
        self.0.to_offset(moment).seconds().into()
    }
}

/// The zone of that name, as in the release of the time zone database that came with the program.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// `-?YYYY-MM-DD hh:mm:ss.uuuuuu`, as PHP writes it.
fn is_wall_time(text: &str) -> bool {
    let shape: Vec<u8> = text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte }).collect();
    let unsigned = shape.strip_prefix(b"-").unwrap_or(&shape);
    let year = unsigned.iter().take_while(|byte| **byte == b'0').count();
    (4..=9).contains(&year) && &unsigned[year..] == b"-00-00 00:00:00.000000"
}

/// `+02:00`, `-04:30:15`, or an abbreviation.
fn fixed_offset(zone: &str) -> Option<Offset> {
    if let Some(seconds) = abbreviation(zone) {
        return Offset::from_seconds(seconds).ok();
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let mut seconds = 0;
    for (part, unit) in digits.split(':').zip([3600, 60, 1]) {
        let is_part = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        seconds += is_part.then(|| part.parse::<i32>().ok()).flatten()? * unit;
    }
    Offset::from_seconds(sign * seconds).ok()
}

/// Abbreviations that PHP writes for dates that were read with one, in seconds east of UTC as PHP 8.2 has them.
fn abbreviation(name: &str) -> Option<i32> {
    let quarters = match name.to_ascii_uppercase().as_str() {
        "Z" | "UTC" | "GMT" | "WET" | "UCT" => 0,
        "BST" | "WEST" | "CET" | "WAT" => 4,
        "CEST" | "EET" | "IST" | "SAST" | "CAT" => 8,
        "EEST" | "MSK" | "EAT" => 12,
        "MSD" => 16,
        "PKT" => 20,
        "WIB" => 28,
        "HKT" | "AWST" | "WITA" => 32,
        "KST" => 34,
        "JST" | "WIT" => 36,
        "ACST" => 38,
        "AEST" | "CHST" => 40,
        "ACDT" => 42,
        "AEDT" => 44,
        "NZST" => 48,
        "NZDT" => 52,
        "ADT" => -12,
        "NST" => -14,
        "AST" | "EDT" => -16,
        "EST" | "CDT" => -20,
        "CST" | "MDT" => -24,
        "MST" | "PDT" => -28,
        "PST" | "AKDT" => -32,
        "AKST" => -36,
        "HDT" => -38,
        "HST" => -40,
        "SST" => -44,
        _ => return None,
    };
    Some(quarters * 900)
}

fn shown(offset: Offset) -> String {
    let seconds = offset.seconds();
    let (sign, east) = if seconds < 0 { ('-', -seconds) } else { ('+', seconds) };
    let (hours, minutes, rest) = (east / 3600, east / 60 % 60, east % 60);
    if rest == 0 {
        format!("{sign}{hours:02}:{minutes:02}")
    } else {
        format!("{sign}{hours:02}:{minutes:02}:{rest:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date<'v>(wall: &'v str, zone: &'v str) -> Date<'v> {
        Date { wall, zone }
    }

    #[test]
    fn a_zone_gives_the_offset_of_that_day() {
        assert_eq!(date("2024-05-17 13:04:05.123456", "Europe/Berlin").iso(), "2024-05-17T13:04:05.123456+02:00");
        assert_eq!(date("2024-01-17 13:04:05.000000", "Europe/Berlin").iso(), "2024-01-17T13:04:05.000000+01:00");
        assert_eq!(date("2024-05-17 13:04:05.000000", "Asia/Kathmandu").iso(), "2024-05-17T13:04:05.000000+05:45");
        assert_eq!(date("1880-05-17 13:04:05.000000", "Europe/Berlin").iso(), "1880-05-17T13:04:05.000000+00:53:28");
    }

    #[test]
    fn offsets_and_abbreviations_are_as_they_are() {
        assert_eq!(date("2024-05-17 13:04:05.000000", "-03:30").iso(), "2024-05-17T13:04:05.000000-03:30");
        assert_eq!(date("2024-05-17 13:04:05.000000", "EST").iso(), "2024-05-17T13:04:05.000000-05:00");
        assert_eq!(date("2024-05-17 13:04:05.000000", "XYZ").iso(), "2024-05-17T13:04:05.000000[XYZ]");
        assert_eq!(date("-0001-11-30 00:00:00.000000", "UTC").iso(), "-0001-11-30T00:00:00.000000+00:00");
    }

    #[test]
    fn a_moment_is_one_number() {
        assert_eq!(date("1970-01-01 01:00:00.000001", "+01:00").unix_us(), Some(1));
        assert_eq!(date("2024-05-17 13:04:05.000000", "America/New_York").unix_us(), Some(1_715_965_445_000_000));
        assert_eq!(date("2024-05-17 13:04:05.000000", "Nowhere/Town").unix_us(), None);
        assert_eq!(date("99999-05-17 13:04:05.000000", "+00:00").unix_us(), None);
    }

    #[test]
    fn only_what_php_writes_is_a_date() {
        assert!(is_wall_time("2024-05-17 13:04:05.000000") && is_wall_time("-0001-11-30 00:00:00.000000"));
        for text in ["", "2024-05-17", "2024-05-17 13:04:05", "2024-05-17T13:04:05.000000", "24-05-17 13:04:05.000000"]
        {
            assert!(!is_wall_time(text), "{text}");
        }
    }
}
