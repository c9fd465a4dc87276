//! The JSON that a job travels in.

use serde_json::{Map, Value as Json};

use crate::php::Limits;

/// The `job` of every job that is an object.
pub const CALL_QUEUED_HANDLER: &str = "Illuminate\\Queue\\CallQueuedHandler@call";

/// A payload that is no job of Laravel's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Over the limit.
    #[error("cannot read the payload: it has {have} {unit}, more than the limit of {limit}")]
    TooLarge {
        /// Of what.
        unit: &'static str,
        /// How many there are.
        have: usize,
        /// How many may be.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("cannot read the payload at byte {0}: it is not UTF-8")]
    Utf8(usize),
    /// Not JSON.
    #[error("cannot read the payload at byte {offset}: it is not JSON: {problem}")]
    Json {
        /// Where, from 0.
        offset: usize,
        /// What the decoder says.
        problem: String,
    },
    /// JSON, and no job.
    #[error("cannot read the payload: it is JSON, but no job of Laravel's: {0}")]
    NoJob(&'static str),
}

/// A job's payload, decoded. Unknown keys are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// All of it but `data.command`. Empty objects are empty lists: a pop in Redis makes one of the other.
    pub fields: Map<String, Json>,
    /// `data.command` as it stands there.
    pub command: Option<String>,
}

/// What a job says of its own tries. What it does not say is the worker's to decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobLimits {
    /// `maxTries`; 0 is without limit.
    pub tries: Option<u32>,
    /// `maxExceptions`.
    pub max_exceptions: Option<u32>,
    /// `timeout` in seconds; 0 is without limit.
    pub timeout: Option<u32>,
    /// `failOnTimeout`: a timeout is no reason to try again.
    pub fail_on_timeout: bool,
    /// `backoff` in seconds before the second, third, … try; the last one goes on. Where there is none, the delay the
    /// job was dispatched with: so does Laravel.
    pub backoff: Option<Vec<u32>>,
    /// `retryUntil`, Unix seconds: until then tries are without limit.
    pub retry_until: Option<i64>,
}

impl Envelope {
    /// Reads a payload.
    ///
    /// # Errors
    /// When it is not JSON, over a limit, or has no `job`; the error says at which byte.
    pub fn read(payload: &[u8], limits: &Limits) -> Result<Self, EnvelopeError> {
        let json = json_of(payload, limits)?;
        let Json::Object(mut fields) = json else { return Err(EnvelopeError::NoJob("it is no object")) };
        if !fields.get("job").is_some_and(Json::is_string) {
            return Err(EnvelopeError::NoJob("it has no \"job\""));
        }
        let command = match fields.get_mut("data") {
            Some(Json::Object(data)) => match data.remove("command") {
                Some(Json::String(command)) => Some(command),
                Some(other) => {
                    data.insert("command".to_owned(), other);
                    None
                }
                None => None,
            },
            _ => None,
        };
        fields.values_mut().for_each(empty_objects_to_lists);
        Ok(Self { fields, command })
    }

    /// `uuid`, or what else tells the job from others: Redis' `id`.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        let text = |key| self.fields.get(key).and_then(Json::as_str).filter(|text| !text.is_empty());
        text("uuid").or_else(|| text("id"))
    }

    /// `job`: what handles it.
    #[must_use]
    pub fn job(&self) -> &str {
        self.fields.get("job").and_then(Json::as_str).unwrap_or_default()
    }

    /// The class of the job: `data.commandName`, or of a job that is no object what stands before `@`.
    #[must_use]
    pub fn class(&self) -> &str {
        let named = self.fields.get("data").and_then(|data| data.get("commandName")).and_then(Json::as_str);
        let of_job = || self.job().split('@').next().unwrap_or_default();
        named.unwrap_or_else(of_job)
    }

    /// True when it does not say the class of its command.
    #[must_use]
    pub fn is_nameless(&self) -> bool {
        let named = self.fields.get("data").is_some_and(|data| data.get("commandName").is_some_and(Json::is_string));
        self.job() == CALL_QUEUED_HANDLER && !named
    }

    /// `createdAt`: when it was dispatched, Unix seconds. Laravel 12 and later.
    #[must_use]
    pub fn created_at(&self) -> Option<i64> {
        self.fields.get("createdAt").and_then(whole)
    }

    /// What the job says of its own tries.
    #[must_use]
    pub fn limits(&self) -> JobLimits {
        let count = |key: &str| self.fields.get(key).and_then(whole).and_then(|number| u32::try_from(number).ok());
        JobLimits {
            tries: count("maxTries"),
            max_exceptions: count("maxExceptions"),
            timeout: count("timeout"),
            fail_on_timeout: self.fields.get("failOnTimeout").and_then(Json::as_bool).unwrap_or(false),
            backoff: self.fields.get("backoff").and_then(seconds).or_else(|| count("delay").map(|delay| vec![delay])),
            retry_until: self.fields.get("retryUntil").or_else(|| self.fields.get("timeoutAt")).and_then(whole),
        }
    }
}

/// Reads JSON within limits on its bytes and values.
pub(crate) fn json_of(bytes: &[u8], limits: &Limits) -> Result<Json, EnvelopeError> {
    if bytes.len() > limits.bytes {
        return Err(EnvelopeError::TooLarge { unit: "bytes", have: bytes.len(), limit: limits.bytes });
    }
    let text = str::from_utf8(bytes).map_err(|error| EnvelopeError::Utf8(error.valid_up_to()))?;
    // Each value takes a byte at the least.
    if bytes.len() > limits.values {
        let values = values_in(bytes);
        if values > limits.values {
            return Err(EnvelopeError::TooLarge { unit: "values", have: values, limit: limits.values });
        }
    }
    serde_json::from_str(text)
        .map_err(|error| EnvelopeError::Json { offset: offset_of(bytes, &error), problem: without_place(&error) })
}

/// At most as many values as the JSON has: each follows a comma or an opening bracket, or is the whole.
fn values_in(json: &[u8]) -> usize {
    let (mut values, mut in_text, mut escaped) = (1, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values
}

fn offset_of(json: &[u8], error: &serde_json::Error) -> usize {
    let lines = json.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    let offset = lines.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1);
    if error.is_eof() { json.len() } else { offset.min(json.len()) }
}

/// What is wrong, without line and column: a payload is one line.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(problem, _)| problem.to_owned())
}

fn empty_objects_to_lists(value: &mut Json) {
    match value {
        Json::Object(object) if object.is_empty() => *value = Json::Array(Vec::new()),
        Json::Object(object) => object.values_mut().for_each(empty_objects_to_lists),
        Json::Array(list) => list.iter_mut().for_each(empty_objects_to_lists),
        _ => {}
    }
}

/// A whole number, also one that a program wrote as text or as a float.
pub(crate) fn whole(value: &Json) -> Option<i64> {
    match value {
        Json::String(text) => text.trim().parse().ok(),
        Json::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15)?;
            format!("{float:.0}").parse().ok()
        }),
        _ => None,
    }
}

/// `5`, `"5"`, `"1,5,10"` or `[1, 5, 10]`. As in PHP what is no number counts as 0, and what is negative too.
fn seconds(value: &Json) -> Option<Vec<u32>> {
    let second = |number: i64| u32::try_from(number.max(0)).unwrap_or(u32::MAX);
    match value {
        Json::String(text) => Some(text.split(',').map(|part| second(part.trim().parse().unwrap_or(0))).collect()),
        Json::Array(list) if !list.is_empty() => {
            Some(list.iter().map(|value| second(whole(value).unwrap_or(0))).collect())
        }
        Json::Number(_) => whole(value).map(|number| vec![second(number)]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Envelope, EnvelopeError> {
        Envelope::read(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn limits_are_read_however_they_are_spelled() {
        let limits = |fields: &str| read(&format!("{{\"job\":\"a@b\"{fields}}}")).unwrap().limits();
        assert_eq!(limits(""), JobLimits::default());
        let all = limits(
            ",\"maxTries\":\"5\",\"maxExceptions\":2.0,\"timeout\":0,\"failOnTimeout\":true,\"backoff\":\"1, 5,x\",\"retryUntil\":1893456000",
        );
        let expected = JobLimits {
            tries: Some(5),
            max_exceptions: Some(2),
            timeout: Some(0),
            fail_on_timeout: true,
            backoff: Some(vec![1, 5, 0]),
            retry_until: Some(1_893_456_000),
        };
        assert_eq!(all, expected);
        assert_eq!(limits(",\"backoff\":7,\"delay\":300").backoff, Some(vec![7]));
        assert_eq!(limits(",\"backoff\":null,\"delay\":300").backoff, Some(vec![300]));
        assert_eq!(limits(",\"backoff\":[1,2]").backoff, Some(vec![1, 2]));
        assert_eq!(limits(",\"backoff\":[],\"maxTries\":-1").backoff, None);
    }

    #[test]
    fn what_is_no_job_says_why_and_where() {
        let message = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(
            message("{\"foo\":1}"),
            "cannot read the payload: it is JSON, but no job of Laravel's: it has no \"job\""
        );
        assert_eq!(message("[1]"), "cannot read the payload: it is JSON, but no job of Laravel's: it is no object");
        assert!(
            message("{\"job\":x}").starts_with("cannot read the payload at byte 7: it is not JSON: expected value")
        );
        assert!(message("{\"job\":").contains("at byte 7: it is not JSON: EOF"));
        assert!(message("{\n\"job\": x}").contains("at byte 9:"), "{}", message("{\n\"job\": x}"));
        let error = Envelope::read(b"{\"job\":\"\xFF\"}", &Limits::default()).unwrap_err();
        assert_eq!(error, EnvelopeError::Utf8(8));
        assert!(message("{\"job\":\"\\ud800\"}").contains("at byte"));
    }

    #[test]
    fn json_that_is_all_brackets_takes_no_memory() {
        let deep = "[".repeat(1 << 20);
        assert!(matches!(read(&deep).unwrap_err(), EnvelopeError::TooLarge { unit: "values", .. }));
        let wide = format!("[{}0]", "[],".repeat(200_000));
        assert!(matches!(read(&wide).unwrap_err(), EnvelopeError::TooLarge { unit: "values", .. }));
        let nested = format!("{{\"job\":\"a\",\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(read(&nested).unwrap_err().to_string().contains("recursion limit"));
        assert!(
            read(&format!("{{\"job\":\"a\",\"x\":\"{}\"}}", "[,{".repeat(300_000))).is_ok(),
            "in a text they are letters"
        );
    }
}
