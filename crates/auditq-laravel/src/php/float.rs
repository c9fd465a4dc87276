//! Floats as PHP writes them: the shortest text that reads back as the same number.

use super::parse::is_canonical;

/// Reads `-?digits(.digits)?(E[+-]digits)?`, `INF`, `-INF` or `NAN`.
pub(super) fn parse(text: &[u8]) -> Option<f64> {
    match text {
        b"INF" => return Some(f64::INFINITY),
        b"-INF" => return Some(f64::NEG_INFINITY),
        b"NAN" => return Some(f64::NAN),
        _ => {}
    }
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'E' | b'e')) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
        Some(at) => (&mantissa[..at], Some(&mantissa[at + 1..])),
        None => (mantissa, None),
    };
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let exponent_is_one =
        exponent.is_none_or(|text| digits(text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text)));
    if !is_canonical(whole) || !fraction.is_none_or(digits) || !exponent_is_one {
        return None;
    }
    let value: f64 = str::from_utf8(text).ok()?.parse().ok()?;
    // PHP writes INF for what is too large.
    value.is_finite().then_some(value)
}

/// Writes a float as PHP does with its default `serialize_precision` of -1.
pub(super) fn write(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(b"NAN");
        return;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let value = value.abs();
    if value.is_infinite() {
        out.extend_from_slice(b"INF");
    } else if value == 0.0 {
        out.push(b'0');
    } else {
        write_finite(value, out);
    }
}

fn write_finite(value: f64, out: &mut Vec<u8>) {
    // Rust's `{:e}` has the same shortest digits: "1.2345e-7".
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    let digits = even_of_two(value, digits);
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match exponent {
        -4..=-1 => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', usize::try_from(-exponent - 1).unwrap_or(0)));
            out.extend_from_slice(&digits);
        }
        0..=16 => {
            let whole = usize::try_from(exponent).unwrap_or(0) + 1;
            let (front, fraction) = digits.split_at(whole.min(digits.len()));
            out.extend_from_slice(front);
            out.extend(std::iter::repeat_n(b'0', whole - front.len()));
            if !fraction.is_empty() {
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
        }
        _ => {
            out.push(digits[0]);
            out.push(b'.');
            out.extend_from_slice(if digits.len() > 1 { &digits[1..] } else { b"0" });
            out.extend_from_slice(if exponent < 0 { b"E-" } else { b"E+" });
            out.extend_from_slice(exponent.unsigned_abs().to_string().as_bytes());
        }
    }
}

/// Where a value lies half-way between two shortest texts, Rust writes the upper one, and PHP the one that ends even.
fn even_of_two(value: f64, mut digits: Vec<u8>) -> Vec<u8> {
    let last = digits.len() - 1;
    if digits[last].is_multiple_of(2) {
        return digits;
    }
    // More digits than a value that lies half-way has.
    let exact: Vec<u8> = format!("{value:.40e}").bytes().filter(u8::is_ascii_digit).take(41).collect();
    let lower = digits[last] - 1;
    let is_halfway = exact[..last] == digits[..last]
        && exact[last] == lower
        && exact[last + 1] == b'5'
        && exact[last + 2..].iter().all(|digit| *digit == b'0');
    if is_halfway {
        digits[last] = lower;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: f64) -> String {
        let mut out = Vec::new();
        write(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// What PHP 8.2 prints for each, with `serialize_precision` -1.
    const GOLDEN: &[(f64, &str)] = &[
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (12.34, "12.34"),
        (0.1, "0.1"),
        (0.0001, "0.0001"),
        (0.00001, "1.0E-5"),
        (0.000_012_5, "1.25E-5"),
        (1e15, "1000000000000000"),
        (1e16, "10000000000000000"),
        (1e17, "1.0E+17"),
        (123_456_789_012_345_678.0, "1.2345678901234568E+17"),
        (1e25, "1.0E+25"),
        (1.5e300, "1.5E+300"),
        (5e-324, "5.0E-324"),
        (f64::MAX, "1.7976931348623157E+308"),
        (9_007_199_254_740_992.0, "9007199254740992"),
        (123_456_789_012_345.6, "123456789012345.6"),
        (7_658_423_589_288_313.0 / 4.0, "1914605897322078.2"),
        (7_658_423_589_288_315.0 / 4.0, "1914605897322078.8"),
        (1_970_940_541_018_217.0 / 8.0, "246367567627277.12"),
        (1_970_940_541_018_219.0 / 8.0, "246367567627277.38"),
        (f64::INFINITY, "INF"),
        (f64::NEG_INFINITY, "-INF"),
        (f64::NAN, "NAN"),
    ];

    #[test]
    fn floats_are_written_as_php_writes_them_and_read_back() {
        for (value, text) in GOLDEN {
            assert_eq!(written(*value), *text);
            let read = parse(text.as_bytes()).unwrap();
            assert!(read.to_bits() == value.to_bits() || value.is_nan(), "{text}");
        }
    }

    #[test]
    fn other_spellings_are_no_floats() {
        for text in ["", "-", ".5", "5.", "05", "+5", "1e", "1e+", "inf", "nan", "-NAN", "1e999", "0x1", "1 ", "1.5.5"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
