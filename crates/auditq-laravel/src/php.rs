//! PHP's `serialize()` format, read and written as data: no class is ever built, nothing of it is ever run.

mod document;
mod error;
mod float;
mod json;
mod parse;
mod value;
mod write;

pub use document::Document;
pub use error::{ParseError, Problem};
pub use json::ExpandError;
pub use parse::{Limits, parse};
pub use value::{Key, Object, Property, Value, Visibility};
pub use write::{TooDeep, write};

pub(crate) use value::{readable, shown};
