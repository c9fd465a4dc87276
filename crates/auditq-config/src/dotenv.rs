//! The `.env` file of a Laravel application, read as phpdotenv reads it.

use std::collections::BTreeMap;

/// Variables by name, in no order.
pub(crate) type Variables = BTreeMap<String, String>;

/// Reads a `.env` file; `known` are the variables of the process, which win, and which `${NAME}` may name.
///
/// Names with values; of a name that comes twice the last counts. A line that names no value is passed over.
///
/// # Errors
/// The number of a line that cannot be read, counted from 1, and what is wrong with it; never what it holds.
pub(crate) fn read(text: &str, known: &Variables) -> Result<Variables, (usize, &'static str)> {
    let mut found = Variables::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let at = |why| (number + 1, why);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, rest)) = line.split_once('=') else {
            name_of(line).ok_or_else(|| at("its name has other characters than letters, digits, `_` and `.`"))?;
            continue;
        };
        let name = name_of(name.trim())
            .ok_or_else(|| at("its name has other characters than letters, digits, `_` and `.`"))?;
        let mut value = Value::default();
        let mut rest = rest.trim().to_owned();
        loop {
            rest.chars().try_for_each(|character| value.take(character)).map_err(at)?;
            if value.state != State::Double {
                break;
            }
            // What is in double quotes may go on in the next line.
            let Some((_, next)) = lines.next() else { return Err(at("its closing quote is missing")) };
            rest = format!("\n{next}");
        }
        if matches!(value.state, State::Single | State::Escape) {
            return Err(at("its closing quote is missing"));
        }
        let look_up = |name: &str| known.get(name).or_else(|| found.get(name)).cloned();
        let value = value.resolved(look_up);
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

/// The name, without `export` before it and quotes around it; `None` when it is none.
fn name_of(name: &str) -> Option<&str> {
    let name = match name.strip_prefix("export") {
        Some(rest) if name.len() > 8 && rest.starts_with(char::is_whitespace) => rest.trim_start(),
        _ => name,
    };
    let quoted = ['"', '\''].into_iter().find_map(|quote| name.strip_prefix(quote)?.strip_suffix(quote));
    let name = quoted.filter(|inside| !inside.is_empty()).unwrap_or(name);
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    (!name.is_empty() && name.bytes().all(is_part)).then_some(name)
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Start,
    Unquoted,
    Single,
    Double,
    /// After a backslash in double quotes.
    Escape,
    /// After the value.
    Space,
    Comment,
}

/// A value as far as it was read.
#[derive(Default)]
struct Value {
    state: State,
    text: String,
    /// Where a `$` stands that may begin a `${NAME}`.
    dollars: Vec<usize>,
}

impl Value {
    fn take(&mut self, character: char) -> Result<(), &'static str> {
        self.state = match (self.state, character) {
            (State::Start, '\'') => State::Single,
            (State::Start, '"') | (State::Escape, '"' | '\\' | '$' | 'f' | 'n' | 'r' | 't' | 'v') => {
                if self.state == State::Escape {
                    self.text.push(unescaped(character));
                }
                State::Double
            }
            (State::Start | State::Unquoted | State::Space | State::Comment, '#') | (State::Comment, _) => {
                State::Comment
            }
            (State::Start | State::Unquoted | State::Space, space) if space.is_ascii_whitespace() => State::Space,
            (State::Start | State::Unquoted, other) => {
                self.keep(other);
                State::Unquoted
            }
            (State::Single, '\'') | (State::Double, '"') => State::Space,
            (State::Single, other) => {
                self.text.push(other);
                State::Single
            }
            (State::Double, '\\') => State::Escape,
            (State::Double, other) => {
                self.keep(other);
                State::Double
            }
            (State::Escape, _) => return Err("it has a backslash before a character that takes none; write \\\\"),
            (State::Space, _) => return Err("a value with spaces in it must be in quotes"),
        };
        Ok(())
    }

    fn keep(&mut self, character: char) {
        if character == '$' {
            self.dollars.push(self.text.len());
        }
        self.text.push(character);
    }

    /// The text with each `${NAME}` replaced; one that is not known stays as it is.
    fn resolved(mut self, look_up: impl Fn(&str) -> Option<String>) -> String {
        for at in self.dollars.into_iter().rev() {
            let Some(inside) = self.text[at..].strip_prefix("${") else { continue };
            let Some((name, _)) = inside.split_once('}') else { continue };
            let end = at + name.len() + 3;
            if let Some(value) = look_up(name) {
                self.text.replace_range(at..end, &value);
            }
        }
        self.text
    }
}

fn unescaped(character: char) -> char {
    match character {
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<String, &'static str> {
        let known = Variables::from([("HOST".to_owned(), "db.example".to_owned())]);
        read(line, &known).map(|found| found.into_values().next().unwrap_or_default()).map_err(|(_, why)| why)
    }

    /// Each as PHP 8.2 with phpdotenv 5.5 reads it.
    #[test]
    fn values_are_what_phpdotenv_makes_of_them() {
        for (line, value) in [
            ("A=b", "b"),
            ("A = b ", "b"),
            ("A=", ""),
            ("A=b # c", "b"),
            ("A=b#c", "b"),
            ("A=pa$word", "pa$word"),
            ("A=pa\"q'r", "pa\"q'r"),
            ("A=a\\nb", "a\\nb"),
            ("A='a b # $HOST ${HOST} \\n'", "a b # $HOST ${HOST} \\n"),
            ("A=\"a b # c\" # d", "a b # c"),
            ("A=\"a\\\"b\\\\c\\nd\\$HOST\"", "a\"b\\c\nd$HOST"),
            ("A=\"${HOST}:1\"", "db.example:1"),
            ("A=${HOST}/${NONE}/$HOST", "db.example/${NONE}/$HOST"),
            ("export AB=b", "b"),
            ("A=\"b\"#c", "b"),
            ("A=\"a\n#b\nc\"", "a\n#b\nc"),
            ("A=a=b", "a=b"),
            ("'A'=b", "b"),
            ("A=\"one\ntwo\"", "one\ntwo"),
            ("A=base64:abc==", "base64:abc=="),
        ] {
            assert_eq!(one(line).as_deref(), Ok(value), "{line}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_without_what_it_holds() {
        for line in ["A=b c", "A='b'c", "A=b\\ c", "A=\"b", "A='b", "A=\"\\x\"", "A B=c", "=c", "ä=1", "A=\"b\" c"] {
            let (number, why) = read(&format!("X=1\n\n{line}"), &Variables::new()).unwrap_err();
            assert_eq!(number, 3, "{line}");
            assert!(!why.contains("b c"), "{why}");
        }
    }

    #[test]
    fn the_last_of_a_name_counts_and_later_lines_may_name_earlier_ones() {
        let found = read("# c\nA=1\nA=2\nB=${A}3\nC\n", &Variables::new()).unwrap();
        assert_eq!(found.get("A").map(String::as_str), Some("2"));
        assert_eq!(found.get("B").map(String::as_str), Some("23"));
        assert!(!found.contains_key("C"));
    }
}
