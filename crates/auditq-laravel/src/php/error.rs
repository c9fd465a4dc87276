use std::fmt;

/// Serialized data that cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The byte, from 0, at which it cannot be read any further.
    pub offset: usize,
    /// The way there: a class, then keys and names.
    pub path: Vec<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with serialized data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It ends too early.
    #[error("the data ends in the middle of {0}")]
    Truncated(&'static str),
    /// Something else stands there.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A length or count that cannot be true.
    #[error("{what} says it has {said} {unit}, but only {left} bytes follow")]
    Impossible {
        /// A string, an array, …
        what: &'static str,
        /// How many.
        said: u64,
        /// Of what.
        unit: &'static str,
        /// What is left.
        left: usize,
    },
    /// A number that PHP does not write, or of more than 64 bits.
    #[error("\"{found}\" is no {what} as PHP writes it")]
    Number {
        /// Integer, float or length.
        what: &'static str,
        /// What stands there.
        found: String,
    },
    /// A name that cannot be one.
    #[error("\"{found}\" is no name of a {what}")]
    Name {
        /// Class, property, …
        what: &'static str,
        /// What stands there.
        found: String,
    },
    /// A reference to what is not there, or cannot be referred to.
    #[error("the reference to value {slot} has no target: {why}")]
    Reference {
        /// The number.
        slot: u64,
        /// Why.
        why: &'static str,
    },
    /// Arrays in arrays, over the limit.
    #[error("arrays and objects are nested deeper than the limit of {0}")]
    Depth(usize),
    /// Values, over the limit.
    #[error("there are more values than the limit of {0}")]
    Count(usize),
    /// Bytes, over the limit.
    #[error("it has {have} bytes, more than the limit of {limit}")]
    Size {
        /// How many there are.
        have: usize,
        /// How many may be.
        limit: usize,
    },
    /// Something follows the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read serialized PHP data at byte {}", self.offset)?;
        if !self.path.is_empty() {
            write!(f, " ({})", self.path.join(" > "))?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for ParseError {}
