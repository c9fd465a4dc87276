//! Times and durations as applications write them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::php::Value;

/// Microseconds of a duration that is a number of `unit` microseconds, or a text that may say its unit.
pub(crate) fn duration_us(value: &Value<'_>, unit: f64) -> Option<u64> {
    let (number, unit) = match value {
        Value::Int(number) => (*number as f64, unit),
        Value::Float(number) => (*number, unit),
        _ => {
            let text = value.as_text()?.trim();
            let digits = text.trim_end_matches(|letter: char| letter.is_alphabetic() || letter == ' ');
            let unit = match text[digits.len()..].trim() {
                "" => unit,
                "us" | "µs" => 1.0,
                "ms" => 1_000.0,
                "s" => 1_000_000.0,
                _ => return None,
            };
            (digits.replace(',', "").parse().ok()?, unit)
        }
    };
    let micros = (number * unit).round();
    // Longer than a year is no duration of a statement.
    (0.0..=3.2e13).contains(&micros).then(|| format!("{micros:.0}").parse().ok()).flatten()
}

/// A Unix time in seconds, milliseconds or microseconds; which, its size tells.
pub(crate) fn unix_us(number: f64) -> Option<i64> {
    let unit = match number.abs() {
        seconds if seconds < 1e11 => 1_000_000.0,
        millis if millis < 1e14 => 1_000.0,
        micros if micros < 1e17 => 1.0,
        _ => return None,
    };
    format!("{:.0}", (number * unit).round()).parse().ok()
}

/// A time as text: ISO 8601, `Y-m-d H:i:s` in `zone`, or a number.
pub(crate) fn parse_us(text: &str, zone: &TimeZone) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return unix_us(number);
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment.as_microsecond());
    }
    let wall: DateTime = text.parse().ok()?;
    zone.to_ambiguous_timestamp(wall).compatible().ok().map(Timestamp::as_microsecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_their_unit() {
        let of = |value: Value<'_>| duration_us(&value, 1_000.0);
        assert_eq!(of(Value::Float(12.34)), Some(12_340));
        assert_eq!(of(Value::Int(3)), Some(3_000));
        assert_eq!(of(Value::text("0.01")), Some(10));
        assert_eq!(of(Value::text("1,234.5 ms")), Some(1_234_500));
        assert_eq!(of(Value::text("2s")), Some(2_000_000));
        assert_eq!(of(Value::text("7 µs")), Some(7));
        for value in
            [Value::text("fast"), Value::text("3 days"), Value::Float(-1.0), Value::Float(f64::NAN), Value::Null]
        {
            assert_eq!(of(value.clone()), None, "{value:?}");
        }
    }

    #[test]
    fn times_are_read_in_their_spelling_and_zone() {
        let berlin = crate::date::zone("Europe/Berlin").unwrap();
        let of = |text: &str| parse_us(text, &berlin);
        assert_eq!(of("2024-05-17 13:04:05"), Some(1_715_943_845_000_000));
        assert_eq!(of("2024-05-17T11:04:05.000001Z"), Some(1_715_943_845_000_001));
        assert_eq!(of("2024-05-17T13:04:05+02:00"), Some(1_715_943_845_000_000));
        assert_eq!(of("1715943845.5"), Some(1_715_943_845_500_000));
        assert_eq!(unix_us(1_715_943_845_123.0), Some(1_715_943_845_123_000));
        assert_eq!(unix_us(1_715_943_845_123_456.0), Some(1_715_943_845_123_456));
        assert_eq!((of("yesterday"), of(""), unix_us(f64::NAN), unix_us(1e300)), (None, None, None, None));
    }
}
