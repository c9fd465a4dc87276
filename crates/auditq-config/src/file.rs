use std::path::Path;

use crate::Config;
use crate::error::ConfigError;

/// Longer than any configuration; a wrong path to something huge is refused instead of read.
const BYTES_MAX: u64 = 1 << 20;

/// What a file says, key by key.
#[derive(Default)]
pub(crate) struct Given(toml::Table);

impl Given {
    /// True when the file has the key, whatever its value.
    pub(crate) fn has(&self, section: &str, key: &str) -> bool {
        self.0.get(section).and_then(toml::Value::as_table).is_some_and(|section| section.contains_key(key))
    }
}

/// Reads a configuration file; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<(Config, Given)>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let text = match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > BYTES_MAX => {
            return Err(unreadable(std::io::Error::other("it is over 1 MiB, which no configuration is")));
        }
        Ok(_) => std::fs::read_to_string(path).map_err(unreadable)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let invalid = |error: toml::de::Error| ConfigError::Invalid {
        path: path.to_owned(),
        line: error.span().map(|span| line_of(&text, span.start)),
        message: error.message().replace("unknown field", "unknown key"),
    };
    let mut config: Config = toml::from_str(&text).map_err(invalid)?;
    config.file = Some(path.to_owned());
    Ok(Some((config, Given(toml::from_str(&text).map_err(invalid)?))))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
