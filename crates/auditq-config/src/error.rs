use std::path::{Path, PathBuf};

/// A configuration that cannot be used: which key, from where, and what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be: not TOML, an unknown key, a value of another type.
    #[error("{}{}: {message}", path.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in it, counted from 1.
        line: Option<usize>,
        /// What is wrong, with the keys that are known.
        message: String,
    },
    /// An environment variable has a value that it cannot have, or a name that nothing reads.
    #[error("environment variable {name} {message}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A value breaks a rule.
    #[error("{key} {message}")]
    Rule {
        /// The key, with its section.
        key: &'static str,
        /// The rule, and what to do.
        message: String,
    },
}

impl ConfigError {
    pub(crate) fn rule(key: &'static str, message: impl Into<String>) -> Self {
        Self::Rule { key, message: message.into() }
    }

    pub(crate) fn variable(name: &str, message: impl Into<String>) -> Self {
        Self::Variable { name: name.to_owned(), message: message.into() }
    }

    pub(crate) fn missing_file(path: &Path) -> Self {
        Self::Unreadable { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() }
    }
}
