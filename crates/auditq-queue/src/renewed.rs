//! What a job needs before it is tried anew.

use std::ops::Range;

/// The payload without a `retryUntil` that has passed, which would make the job fail at once; `None` when it has none.
///
/// No other byte changes. Laravel asks the job's class for a new one, which nobody can do without PHP.
pub(crate) fn renewed(payload: &[u8], now: i64) -> Option<Vec<u8>> {
    serde_json::from_slice::<serde::de::IgnoredAny>(payload).ok()?;
    let mut renewed = payload.to_vec();
    let mut changed = false;
    for key in ["retryUntil", "timeoutAt"] {
        let Some(place) = value_of(&renewed, key) else { continue };
        let until = std::str::from_utf8(&renewed[place.clone()]).ok().and_then(|text| text.parse::<f64>().ok());
        if until.is_some_and(|until| until <= now as f64) {
            renewed.splice(place, *b"null");
            changed = true;
        }
    }
    changed.then_some(renewed)
}

/// Where the number that a key stands for is, at the top of a JSON object.
fn value_of(json: &[u8], key: &str) -> Option<Range<usize>> {
    let (mut at, mut depth) = (0, 0_u32);
    while at < json.len() {
        match json[at] {
            b'"' => {
                let end = end_of_text(json, at)?;
                let colon = end + json[end..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                if depth == 1 && json.get(colon) == Some(&b':') && &json[at + 1..end - 1] == key.as_bytes() {
                    let from =
                        colon + 1 + json[colon + 1..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                    let digits = json[from..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.'));
                    return Some(from..from + digits.count());
                }
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The byte behind the quote that closes what opens at `from`.
fn end_of_text(json: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_that_has_passed_is_taken_out_and_nothing_else_changes() {
        let of = |text: &str| renewed(text.as_bytes(), 1_000).map(|bytes| String::from_utf8(bytes).unwrap());
        let job =
            |until: &str| format!(r#"{{"data":{{"retryUntil":1,"x":"a\"b"}}, "retryUntil" : {until},"attempts":3}}"#);
        assert_eq!(of(&job("1000")), Some(job("null")));
        assert_eq!(of(&job("1001")), None);
        assert_eq!(of(&job("null")), None);
        assert_eq!(of(r#"{"timeoutAt":5}"#).as_deref(), Some(r#"{"timeoutAt":null}"#));
        assert_eq!(of(r#"["retryUntil", 5]"#), None);
        assert_eq!(of("{\"retryUntil\":5"), None);
    }
}
