use std::borrow::Cow;

use super::error::{ParseError, Problem};
use super::float;
use super::value::{Key, Object, Property, Value, readable, shown};

/// What a reader takes, whoever wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a text. Defaults to 16 MiB.
    pub bytes: usize,
    /// Arrays and objects in each other. Defaults to 128.
    pub depth: usize,
    /// Values, each key counted with its value. Defaults to 262,144.
    pub values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 16 << 20, depth: 128, values: 1 << 18 }
    }
}

/// The least that an entry of an array takes: `i:0;N;`.
const ENTRY_BYTES_MIN: usize = 6;

/// Entries that memory is taken for before they are read: a count may lie, in each of many arrays.
const ENTRIES_AHEAD: usize = 64;

/// As much of what was found as an error shows, and as much of each name on the way there.
const SHOWN_BYTES: usize = 40;

/// Reads what PHP's `serialize()` wrote.
///
/// Stricter than PHP's `unserialize()`: numbers with a plus sign or leading zeros, `S:` strings and bytes behind the
/// value are refused, because `serialize()` never writes them. Takes time in proportion to the text; memory too, and
/// never more than the limits allow, whatever the text says of its lengths.
///
/// # Errors
/// Where the text is no such value or over a limit; the error says at which byte and in which property.
pub fn parse<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Value<'a>, ParseError> {
    let mut parser = Parser { bytes, at: 0, depth: 0, limits: *limits, values: Vec::new(), seen: 0, opaque_from: None };
    if bytes.len() > limits.bytes {
        return Err(parser.error(Problem::Size { have: bytes.len(), limit: limits.bytes }));
    }
    let value = parser.value(Place::Value)?;
    match bytes.len() - parser.at {
        0 => Ok(value),
        more => Err(parser.error(Problem::Trailing(more))),
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    limits: Limits,
    /// The values that have a number, in order: true for an object, to which `r:` may refer.
    values: Vec<bool>,
    /// All values so far: an `R:` has no number.
    seen: usize,
    /// Numbers over this one are not known: a `C:` object may have counted values of its own.
    opaque_from: Option<usize>,
}

/// What a value may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Value,
    Key,
}

type Parsed<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    fn error(&self, problem: Problem) -> ParseError {
        self.error_at(self.at, problem)
    }

    fn error_at(&self, offset: usize, problem: Problem) -> ParseError {
        ParseError { offset, path: Vec::new(), problem }
    }

    /// Counts a value; all but `R:` have a number.
    fn count_value(&mut self, tag: Option<u8>) -> Parsed<()> {
        self.seen += 1;
        if self.seen > self.limits.values {
            return Err(self.error(Problem::Count(self.limits.values)));
        }
        if tag != Some(b'R') {
            self.values.push(matches!(tag, Some(b'O' | b'C' | b'E' | b'r')));
        }
        Ok(())
    }

    fn value(&mut self, place: Place) -> Parsed<Value<'a>> {
        let start = self.at;
        let tag = self.bytes.get(self.at).copied();
        let is_key = place == Place::Key;
        if is_key && !matches!(tag, None | Some(b'i' | b's')) {
            return Err(self.unexpected("a key, i: or s:"));
        }
        if !is_key {
            self.count_value(tag)?;
        }
        match tag {
            None if is_key => Err(self.error(Problem::Truncated("an array or object, before a key"))),
            None => Err(self.error(Problem::Truncated("the data, before a value"))),
            Some(b'N') => self.token(b"N;", "null").map(|()| Value::Null),
            Some(b'b') => self.boolean(),
            Some(b'i') => {
                let text = self.scalar(b"i:", "an integer")?;
                int(text).map(Value::Int).ok_or_else(|| self.bad_number(start, "integer", text))
            }
            Some(b'd') => {
                let text = self.scalar(b"d:", "a float")?;
                float::parse(text).map(Value::Float).ok_or_else(|| self.bad_number(start, "float", text))
            }
            Some(b's') => {
                let bytes = self.string(b"s:", "a string")?;
                self.token(b";", "a string")?;
                Ok(Value::Str(Cow::Borrowed(bytes)))
            }
            Some(b'a') => self.array(),
            Some(b'O') => self.object(),
            Some(b'E') => self.case(),
            Some(b'C') => self.custom(),
            Some(b'r') => self.reference(b"r:").map(Value::Same),
            Some(b'R') => self.reference(b"R:").map(Value::Alias),
            Some(b'S') => Err(self.unexpected("a value that PHP's serialize() writes, which S: is not")),
            Some(_) => Err(self.unexpected("a value (N, b:, i:, d:, s:, a:, O:, E:, C:, r: or R:)")),
        }
    }

    fn boolean(&mut self) -> Parsed<Value<'a>> {
        self.token(b"b:", "a truth value")?;
        let value = match self.bytes.get(self.at) {
            Some(b'0') => false,
            Some(b'1') => true,
            None => return Err(self.error(Problem::Truncated("a truth value"))),
            Some(_) => return Err(self.unexpected("0 or 1")),
        };
        self.at += 1;
        self.token(b";", "a truth value")?;
        Ok(Value::Bool(value))
    }

    fn array(&mut self) -> Parsed<Value<'a>> {
        self.token(b"a:", "an array")?;
        let count = self.count(b":{", "an array")?;
        self.enter()?;
        let mut items = Vec::with_capacity(count.min(ENTRIES_AHEAD));
        for _ in 0..count {
            let key = self.key()?;
            let value = self.value(Place::Value).map_err(|error| error.within(|| key.shown().into_owned()))?;
            items.push((key, value));
        }
        self.leave("an array")?;
        Ok(Value::Array(items))
    }

    fn object(&mut self) -> Parsed<Value<'a>> {
        let class = self.class(b"O:")?;
        let properties = self.properties().map_err(|error| error.within(|| class.to_owned()))?;
        Ok(Value::Object(Object { class: Cow::Borrowed(class), properties }))
    }

    fn properties(&mut self) -> Parsed<Vec<(Property<'a>, Value<'a>)>> {
        self.token(b":", "an object")?;
        let count = self.count(b":{", "an object")?;
        self.enter()?;
        let mut properties = Vec::with_capacity(count.min(ENTRIES_AHEAD));
        for _ in 0..count {
            let start = self.at;
            let property = Property::mangled(self.key()?)
                .map_err(|key| self.error_at(start, Problem::Name { what: "property", found: cut(&key.shown()) }))?;
            let value = self.value(Place::Value).map_err(|error| error.within(|| property.shown().into_owned()))?;
            properties.push((property, value));
        }
        self.leave("an object")?;
        Ok(properties)
    }

    fn key(&mut self) -> Parsed<Key<'a>> {
        match self.value(Place::Key)? {
            Value::Int(number) => Ok(Key::Int(number)),
            Value::Str(bytes) => Ok(Key::Str(bytes)),
            _ => Err(self.unexpected("a key, i: or s:")),
        }
    }

    fn case(&mut self) -> Parsed<Value<'a>> {
        let start = self.at;
        let bytes = self.string(b"E:", "an enum")?;
        self.token(b";", "an enum")?;
        let name = str::from_utf8(bytes).ok().and_then(|text| text.split_once(':'));
        match name {
            Some((class, case)) if is_class(class) && is_class(case) && !case.contains('\\') => {
                Ok(Value::Enum { class: Cow::Borrowed(class), case: Cow::Borrowed(case) })
            }
            _ => Err(self.error_at(start, Problem::Name { what: "case of an enum", found: show(bytes) })),
        }
    }

    fn custom(&mut self) -> Parsed<Value<'a>> {
        let class = self.class(b"C:")?;
        let data = self.custom_data().map_err(|error| error.within(|| class.to_owned()))?;
        self.opaque_from.get_or_insert(self.values.len());
        Ok(Value::Custom { class: Cow::Borrowed(class), data: Cow::Borrowed(data) })
    }

    fn custom_data(&mut self) -> Parsed<&'a [u8]> {
        self.token(b":", "an object")?;
        let start = self.at;
        let length = self.length(b":{", "an object")?;
        let data = self.take(start, length, "an object")?;
        self.token(b"}", "an object")?;
        Ok(data)
    }

    fn reference(&mut self, head: &'static [u8]) -> Parsed<usize> {
        let start = self.at;
        let text = self.scalar(head, "a reference")?;
        let slot = length(text).ok_or_else(|| self.bad_number(start, "number of a value", text))?;
        let refuse = |why| Err(self.error_at(start, Problem::Reference { slot, why }));
        // An `r:` has a number of its own by now.
        let known = self.values.len() - usize::from(head == b"r:");
        let index = match usize::try_from(slot) {
            Ok(slot) if slot >= 1 && slot <= known => slot,
            _ => return refuse("no value before it has that number"),
        };
        if self.opaque_from.is_some_and(|from| index > from) {
            return refuse("a C: object before it may have numbered values of its own");
        }
        if head == b"r:" && !self.values[index - 1] {
            return refuse("that value is no object");
        }
        Ok(index)
    }

    fn class(&mut self, head: &'static [u8]) -> Parsed<&'a str> {
        let start = self.at;
        let bytes = self.string(head, "an object")?;
        let class = str::from_utf8(bytes).ok().filter(|class| is_class(class));
        class.ok_or_else(|| self.error_at(start, Problem::Name { what: "class", found: show(bytes) }))
    }

    fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > self.limits.depth { Err(self.error(Problem::Depth(self.limits.depth))) } else { Ok(()) }
    }

    fn leave(&mut self, what: &'static str) -> Parsed<()> {
        self.depth -= 1;
        self.token(b"}", what)
    }

    /// Takes the number of entries, which must fit in what is left.
    fn count(&mut self, end: &'static [u8], what: &'static str) -> Parsed<usize> {
        let start = self.at;
        let said = self.length(end, what)?;
        let left = self.bytes.len() - self.at;
        match usize::try_from(said) {
            Ok(count) if count <= left / ENTRY_BYTES_MIN && count <= self.limits.values => Ok(count),
            Ok(count) if count <= left / ENTRY_BYTES_MIN => {
                Err(self.error_at(start, Problem::Count(self.limits.values)))
            }
            _ => Err(self.error_at(start, Problem::Impossible { what, said, unit: "entries", left })),
        }
    }

    /// Takes `s:5:"hello"` without what follows.
    fn string(&mut self, head: &'static [u8], what: &'static str) -> Parsed<&'a [u8]> {
        self.token(head, what)?;
        let start = self.at;
        let length = self.length(b":\"", what)?;
        let bytes = self.take(start, length, what)?;
        self.token(b"\"", what)?;
        Ok(bytes)
    }

    fn take(&mut self, said_at: usize, length: u64, what: &'static str) -> Parsed<&'a [u8]> {
        let left = &self.bytes[self.at..];
        let bytes = usize::try_from(length).ok().and_then(|length| left.get(..length));
        let Some(bytes) = bytes else {
            let problem = Problem::Impossible { what, said: length, unit: "bytes", left: left.len() };
            return Err(self.error_at(said_at, problem));
        };
        self.at += bytes.len();
        Ok(bytes)
    }

    /// Takes digits and what ends them.
    fn length(&mut self, end: &'static [u8], what: &'static str) -> Parsed<u64> {
        let start = self.at;
        let text = self.until(|byte| !byte.is_ascii_digit());
        if self.at == self.bytes.len() {
            return Err(self.error(Problem::Truncated(what)));
        }
        let value = length(text).ok_or_else(|| self.bad_number(start, "length", self.upcoming(start)))?;
        self.token(end, what)?;
        Ok(value)
    }

    /// Takes `i:5;` whole and gives what is between.
    fn scalar(&mut self, head: &'static [u8], what: &'static str) -> Parsed<&'a [u8]> {
        self.token(head, what)?;
        // Longer than any number that PHP writes.
        let start = self.at;
        let text = self.until(|byte| byte == b';');
        if text.len() > SHOWN_BYTES {
            return Err(self.bad_number(start, "number", text));
        }
        self.token(b";", what)?;
        Ok(text)
    }

    /// Takes bytes up to the first of which `is_end` holds; a number's length of them at the most.
    fn until(&mut self, is_end: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let front = &rest[..rest.len().min(SHOWN_BYTES + 1)];
        let end = front.iter().position(|byte| is_end(*byte)).unwrap_or(front.len());
        self.at += end;
        &front[..end]
    }

    fn token(&mut self, token: &'static [u8], what: &'static str) -> Parsed<()> {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(token) {
            self.at += token.len();
            return Ok(());
        }
        if token.starts_with(rest) {
            self.at = self.bytes.len();
            return Err(self.error(Problem::Truncated(what)));
        }
        let same = rest.iter().zip(token).take_while(|(have, want)| have == want).count();
        self.at += same;
        Err(self.unexpected(named(&token[same..])))
    }

    fn unexpected(&self, expected: &'static str) -> ParseError {
        self.error(Problem::Unexpected { expected, found: format!("\"{}\"", show(self.upcoming(self.at))) })
    }

    fn bad_number(&self, start: usize, what: &'static str, found: &[u8]) -> ParseError {
        self.error_at(start, Problem::Number { what, found: show(found) })
    }

    fn upcoming(&self, at: usize) -> &'a [u8] {
        let rest = &self.bytes[at..];
        &rest[..rest.len().min(12)]
    }
}

impl ParseError {
    /// The same error, seen from one step further out.
    fn within(mut self, step: impl FnOnce() -> String) -> Self {
        self.path.insert(0, cut(&step()));
        self
    }
}

/// The name of a piece of punctuation, in an error.
const fn named(token: &[u8]) -> &'static str {
    match token {
        b";" => "a semicolon",
        b":" => "a colon",
        b"\"" => "a quotation mark",
        b":\"" => "a colon and a quotation mark",
        b"{" | b":{" => "an opening brace",
        b"}" => "a closing brace: there are more entries than it said",
        _ => "another character",
    }
}

/// `-?(0|[1-9][0-9]*)` within 64 bits.
fn int(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = is_canonical(digits) && text != b"-0";
    canonical.then(|| str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// `0|[1-9][0-9]*` within 64 bits.
fn length(text: &[u8]) -> Option<u64> {
    is_canonical(text).then(|| str::from_utf8(text).ok()?.parse().ok()).flatten()
}

pub(super) fn is_canonical(digits: &[u8]) -> bool {
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits[0] != b'0')
}

/// As PHP's own check: letters, digits, underscore, backslash, and anything that is not ASCII.
fn is_class(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'\\' | 128..))
}

fn show(bytes: &[u8]) -> String {
    cut(&readable(&bytes[..bytes.len().min(SHOWN_BYTES)]))
}

fn cut(text: &str) -> String {
    shown(text, SHOWN_BYTES)
}
