//! What PHP's `var_export()` writes, of the kinds of values that settings are.

/// Arrays within arrays, at the most.
const DEPTH_MAX: usize = 64;

/// A value of a file of settings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Exported {
    /// `NULL`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number as it is written.
    Number(String),
    /// `'text'`
    Text(String),
    /// `array ( … )`: keys as texts, in their order.
    Array(Vec<(String, Exported)>),
    /// An object or a constant: no setting of ours.
    Other,
}

impl Exported {
    /// The value at a path of keys.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |value, key| match value {
            Self::Array(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        })
    }

    /// A text or a number that is not empty.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }
}

/// Reads `<?php return …;`.
///
/// # Errors
/// The line that cannot be read, counted from 1; never what it holds.
pub(crate) fn read(text: &str) -> Result<Exported, usize> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.file().filter(|_| reader.text[reader.at..].trim().is_empty());
    value.ok_or_else(|| text.as_bytes()[..reader.at].iter().filter(|byte| **byte == b'\n').count() + 1)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn file(&mut self) -> Option<Exported> {
        self.take("<?php")?;
        self.take("return")?;
        let value = self.value(0)?;
        self.take(";")?;
        Some(value)
    }

    fn rest(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        &self.text[self.at..]
    }

    fn take(&mut self, token: &str) -> Option<()> {
        self.rest().starts_with(token).then(|| self.at += token.len())
    }

    /// As many of these characters as there are.
    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let word = &rest[..rest.find(|character| !belongs(character)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn value(&mut self, depth: usize) -> Option<Exported> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.rest().as_bytes().first()? {
            b'\'' | b'"' => self.texts().map(Exported::Text),
            b'-' | b'0'..=b'9' => self.number().map(Exported::Number),
            // `(object) array(…)`
            b'(' => {
                self.take("(object)")?;
                self.value(depth + 1).map(|_| Exported::Other)
            }
            _ => self.named(depth),
        }
    }

    fn number(&mut self) -> Option<String> {
        let number = self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        number.starts_with(|c: char| c.is_ascii_digit() || c == '-').then(|| number.to_owned())
    }

    /// A value that begins with a name.
    fn named(&mut self, depth: usize) -> Option<Exported> {
        let name = self.word(|c| c.is_alphanumeric() || matches!(c, '\\' | '_' | ':'));
        match name.to_ascii_lowercase().as_str() {
            "" => None,
            "null" => Some(Exported::Null),
            "true" => Some(Exported::Bool(true)),
            "false" => Some(Exported::Bool(false)),
            "array" => self.array(depth),
            // A case of an enumeration, or an object: `\Name::__set_state(array(…))`.
            _ if self.take("(").is_none() => Some(Exported::Other),
            _ => {
                self.value(depth + 1)?;
                self.take(")").map(|()| Exported::Other)
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Exported> {
        self.take("(")?;
        let mut entries = Vec::new();
        while self.take(")").is_none() {
            let key = match self.rest().as_bytes().first()? {
                b'\'' | b'"' => self.texts()?,
                _ => self.number()?,
            };
            self.take("=>")?;
            entries.push((key, self.value(depth + 1)?));
            self.take(",")?;
        }
        Some(Exported::Array(entries))
    }

    /// A text, or several that are joined: a NUL is written as `'' . "\0" . ''`.
    fn texts(&mut self) -> Option<String> {
        let mut whole = String::new();
        loop {
            if self.take("\"\\0\"").is_some() {
                whole.push('\0');
            } else {
                self.take("'")?;
                self.quoted(&mut whole)?;
            }
            if self.take(".").is_none() {
                return Some(whole);
            }
        }
    }

    /// The rest of a text in single quotes, in which only those and the backslash are escaped.
    fn quoted(&mut self, whole: &mut String) -> Option<()> {
        let mut characters = self.text[self.at..].char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '\'' => {
                    self.at += offset + 1;
                    return Some(());
                }
                '\\' => match characters.next()?.1 {
                    escaped @ ('\'' | '\\') => whole.push(escaped),
                    other => whole.extend(['\\', other]),
                },
                other => whole.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_var_export_writes_is_read() {
        let text = "<?php return array (\n  'app' => \n  array (\n    'name' => 'it\\'s \\\\ a \\n' . \"\\0\" . 'shop',\n    0 => NULL,\n    \
                    1 => true,\n    2 => -3,\n    3 => 1.0E+25,\n    4 => -9223372036854775807-1,\n    'level' => \n    \
                    \\Monolog\\Level::Debug,\n    'at' => \n    \\DateTime::__set_state(array(\n       'date' => 'x',\n    )),\n    \
                    'o' => \n    (object) array(\n    ),\n  ),\n);\n";
        let read = read(text).unwrap();
        let at = |key: &str| read.at(&["app", key]).unwrap().clone();
        assert_eq!(at("name"), Exported::Text("it's \\ a \\n\0shop".to_owned()));
        assert_eq!(
            (at("0"), at("1"), at("2")),
            (Exported::Null, Exported::Bool(true), Exported::Number("-3".to_owned()))
        );
        assert_eq!(at("4"), Exported::Number("-9223372036854775807-1".to_owned()));
        assert_eq!((at("level"), at("at"), at("o")), (Exported::Other, Exported::Other, Exported::Other));
        assert_eq!((read.at(&["app", "none"]), read.at(&["app", "name", "x"])), (None, None));
    }

    #[test]
    fn what_is_none_is_refused_with_its_line_within_bounds() {
        for (text, line) in [
            ("", 1),
            ("<?php\nreturn array (\n  'a' => f(1,\n", 3),
            ("<?php return array (\n'a' => 'b\n", 2),
            ("<?php return array ( 'a' => $x, );", 1),
            ("<?php return array ( 'a' => 1 );", 1),
            ("<?php return 1; more", 1),
            ("<?php return \"x$y\";", 1),
        ] {
            assert_eq!(read(text), Err(line), "{text}");
        }
        let deep = format!("<?php return {}", "array ( 0 => ".repeat(100_000));
        assert_eq!(read(&deep), Err(1));
        let objects = format!("<?php return {}", "(object) ".repeat(100_000));
        assert_eq!(read(&objects), Err(1));
        let keys = format!("<?php return {}", "array ( ".repeat(100_000));
        assert_eq!(read(&keys), Err(1));
    }
}
