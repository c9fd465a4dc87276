//! Tables that others made, read row by row: whatever their columns are, in the order of a key, a page at a time.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::Result;

/// As many bytes as a page has before it ends early: memory stays the same whatever rows hold.
pub(crate) const PAGE_BYTES: usize = 8 << 20;

/// A value as the engine gave it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// A truth value, of engines that have them.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text; dates, times and decimals as the engine writes them.
    Text(String),
    /// Bytes that are no text, or of servers a text that is not UTF-8.
    Bytes(Vec<u8>),
    /// A text that is not UTF-8, of SQLite, which sorts it among texts and not among bytes.
    RawText(Vec<u8>),
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignColumn {
    /// Its name.
    pub name: String,
    /// Its type as the engine writes it, in lower case.
    pub kind: String,
}

/// What a table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AboutTable {
    /// Engine, database and table: the same however the server was spelt, and without a password.
    pub source: String,
    /// The server and the table, for people.
    pub place: String,
    /// The very table, to tell whether two are the same; `None` where the server does not say.
    pub identity: Option<String>,
    /// Its columns in their order.
    pub columns: Vec<ForeignColumn>,
    /// The columns that tell its rows apart, in whose order they are read.
    pub key: Vec<String>,
    /// True when the key is where a row lies and no column: changing the row or packing the table changes it.
    pub by_place: bool,
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignRow {
    /// The values of the key.
    pub key: Vec<Value>,
    /// The values of the columns, in their order.
    pub values: Vec<Value>,
}

/// A table that others made. Nothing of it is ever changed.
#[async_trait]
pub trait ForeignTable: std::fmt::Debug + Send + Sync {
    /// What it is.
    fn about(&self) -> &AboutTable;

    /// Up to `limit` of the rows after a key, in the key's order; fewer where they are large, none when there are none.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer, `Misconfigured` when it does not let us read.
    async fn page(&self, after: Option<&[Value]>, limit: usize) -> Result<Vec<ForeignRow>>;

    /// How many rows there are after a key.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    async fn count(&self, after: Option<&[Value]>) -> Result<u64>;
}

/// How far imports have come, kept beside the log that they fill: a hint that saves reading again, and no more.
#[async_trait]
pub trait ImportLog {
    /// What was noted of a source.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    async fn import_note(&self, source: &str) -> Result<Option<String>>;

    /// Notes how far the import of a source has come. Makes the table `auditq_imports` where it is missing.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    async fn note_import(&self, source: &str, note: &str) -> Result<()>;
}

impl Value {
    /// As JSON; what JSON cannot say is an object of one key, `$base64`, `$text` or `$float`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Float(value) if value.is_finite() => (*value).into(),
            Self::Float(value) => json!({"$float": value.to_string()}),
            Self::Text(text) => text.as_str().into(),
            Self::Bytes(bytes) => json!({"$base64": STANDARD.encode(bytes)}),
            Self::RawText(bytes) => json!({"$text": STANDARD.encode(bytes)}),
        }
    }

    /// From what [`to_json`](Self::to_json) wrote; `None` for anything else.
    #[must_use]
    pub fn from_json(json: Json) -> Option<Self> {
        Some(match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => match number.as_i64() {
                Some(value) => Self::Int(value),
                None => Self::Float(number.as_f64()?),
            },
            Json::String(text) => Self::Text(text),
            Json::Object(object) => {
                let (kind, text) = object.iter().next()?;
                match kind.as_str() {
                    "$float" => Self::Float(text.as_str()?.parse().ok()?),
                    "$base64" => Self::Bytes(STANDARD.decode(text.as_str()?).ok()?),
                    "$text" => Self::RawText(STANDARD.decode(text.as_str()?).ok()?),
                    _ => return None,
                }
            }
            Json::Array(_) => return None,
        })
    }

    /// Roughly the bytes it takes.
    pub(crate) fn size(&self) -> usize {
        16 + match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) | Self::RawText(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// Bytes as text where they are UTF-8.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Bytes(error.into_bytes()),
        }
    }
}

impl ForeignRow {
    pub(crate) fn size(&self) -> usize {
        self.key.iter().chain(&self.values).map(Value::size).sum()
    }
}

/// The parts of a table's name: `audit`, `public.audit`, `"my table"`, `"odd.schema"."odd.table"`.
///
/// # Errors
/// When a quote is not closed, or a part is empty.
pub fn table_name(text: &str) -> std::result::Result<(Option<String>, String), String> {
    let refuse = || format!("cannot read {text:?} as a table's name; write it as name, schema.name or \"odd name\"");
    let (mut parts, mut rest) = (Vec::new(), text.trim());
    loop {
        let (part, after) = match rest.chars().next() {
            Some(quote @ ('"' | '`')) => {
                let mut name = String::new();
                let mut letters = rest.char_indices().skip(1).peekable();
                let end = loop {
                    match letters.next() {
                        Some((_, letter)) if letter == quote => match letters.peek() {
                            Some((_, next)) if *next == quote => {
                                letters.next();
                                name.push(quote);
                            }
                            other => break other.map_or(rest.len(), |(at, _)| *at),
                        },
                        Some((_, letter)) => name.push(letter),
                        None => return Err(refuse()),
                    }
                };
                (name, &rest[end..])
            }
            _ => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if part.is_empty() {
            return Err(refuse());
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None if after.is_empty() => break,
            None => return Err(refuse()),
        }
    }
    let name = parts.pop().ok_or_else(refuse)?;
    match parts.len() {
        0 => Ok((None, name)),
        1 => Ok((parts.pop(), name)),
        _ => Err(refuse()),
    }
}

/// A part of a source's name, quoted where it holds what stands between parts: two tables must not get one name.
pub(crate) fn name_part(name: &str, separators: &[char]) -> String {
    if name.contains(separators) || name.contains('"') {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

/// The condition for rows after a key, and which value of the key each of its parameters is.
///
/// Spelt out, since not every engine finds a comparison of rows in its index.
pub(crate) fn after_key(columns: &[String], parameter: impl Fn(usize, usize) -> String) -> (String, Vec<usize>) {
    let mut order = Vec::new();
    let mut next = |value: usize| {
        order.push(value);
        parameter(order.len(), value)
    };
    let Some((last, firsts)) = columns.split_last() else { return (String::new(), Vec::new()) };
    let mut sql = String::new();
    for (value, column) in firsts.iter().enumerate() {
        let (bound, more, same) = (next(value), next(value), next(value));
        sql.push_str(&format!("{column} >= {bound} AND ({column} > {more} OR ({column} = {same} AND "));
    }
    sql.push_str(&format!("{last} > {}", next(firsts.len())));
    sql.push_str(&"))".repeat(firsts.len()));
    (sql, order)
}

/// A statement's parts: what is read, from where, in which order.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The columns, as they are read.
    pub(crate) columns: Vec<String>,
    /// The key, as it is read.
    pub(crate) key_read: Vec<String>,
    /// The key, as it is compared and sorted by.
    pub(crate) key: Vec<String>,
    /// The table's name, quoted.
    pub(crate) table: String,
}

impl Plan {
    pub(crate) fn select(&self, after: Option<&str>, limit: usize) -> String {
        let all: Vec<&str> = self.key_read.iter().chain(&self.columns).map(String::as_str).collect();
        let (all, table, order) = (all.join(", "), &self.table, self.key.join(", "));
        let condition = after.map(|after| format!(" WHERE {after}")).unwrap_or_default();
        format!("SELECT {all} FROM {table}{condition} ORDER BY {order} LIMIT {limit}")
    }

    pub(crate) fn count(&self, after: Option<&str>) -> String {
        let condition = after.map(|after| format!(" WHERE {after}")).unwrap_or_default();
        format!("SELECT count(*) FROM {}{condition}", self.table)
    }

    /// Finds whether a key that was named does not tell rows apart.
    pub(crate) fn ambiguous(&self) -> String {
        let key = self.key.join(", ");
        let nulls: Vec<_> = self.key.iter().map(|column| format!("{column} IS NULL")).collect();
        format!("SELECT 1 FROM {} GROUP BY {key} HAVING count(*) > 1 OR {} LIMIT 1", self.table, nulls.join(" OR "))
    }

    /// A row of [`select`](Self::select) from its values.
    pub(crate) fn row(&self, mut values: Vec<Value>) -> ForeignRow {
        let rest = values.split_off(self.key.len().min(values.len()));
        ForeignRow { key: values, values: rest }
    }
}

/// Why a table cannot be read, with what to do.
pub(crate) fn missing(place: &str, table: &str) -> String {
    format!("there is no table {table} in {place} that this user may see; name it with --table")
}

pub(crate) fn keyless(table: &str) -> String {
    format!(
        "cannot tell the rows of {table} apart: it has neither a primary key nor a unique key without NULLs; name a column \
         whose values are unique with --key"
    )
}

pub(crate) fn ambiguous(table: &str, key: &[String]) -> String {
    format!("cannot read {table} by {}: values are NULL or stand in several rows; name another --key", key.join(", "))
}

pub(crate) fn no_column(table: &str, column: &str) -> String {
    format!("cannot read {table} by {column}: it has no such column; name one of its columns with --key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_name_may_be_quoted_and_may_have_a_schema() {
        let name = |text: &str| table_name(text);
        let of = |schema: Option<&str>, table: &str| Ok((schema.map(str::to_owned), table.to_owned()));
        assert_eq!(name("audit"), of(None, "audit"));
        assert_eq!(name("public.audit"), of(Some("public"), "audit"));
        assert_eq!(name("\"my table\""), of(None, "my table"));
        assert_eq!(name("`a``b`.\"c.d\""), of(Some("a`b"), "c.d"));
        assert_eq!(name("grüße"), of(None, "grüße"));
        for wrong in ["", ".", "a.", "\"a", "a.b.c", "\"a\"b"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_two_tables_have_the_name_of_one_source() {
        let name = |schema: &str, table: &str| format!("{}.{}", name_part(schema, &['.']), name_part(table, &['.']));
        assert_eq!(name("public", "audit logs"), "public.audit logs");
        assert_eq!(name("a.b", "c"), "\"a.b\".c");
        let pairs = [("a.b", "c"), ("a", "b.c"), ("\"a", "b\".c"), ("\"a.b\"", "c"), ("a", "\"b.c\""), ("a\".b", "c")];
        let names: std::collections::BTreeSet<_> = pairs.iter().map(|(schema, table)| name(schema, table)).collect();
        assert_eq!(names.len(), pairs.len(), "{names:?}");
    }

    #[test]
    fn a_key_of_several_columns_is_compared_from_left_to_right() {
        let columns = ["a".to_owned(), "b".to_owned()];
        let (sql, order) = after_key(&columns, |_, _| "?".to_owned());
        assert_eq!((sql.as_str(), order), ("a >= ? AND (a > ? OR (a = ? AND b > ?))", vec![0, 0, 0, 1]));
        let (sql, _) = after_key(&columns[..1], |number, _| format!("${number}"));
        assert_eq!(sql, "a > $1");
    }

    #[test]
    fn values_survive_a_file() {
        let values = vec![
            Value::Null,
            Value::Int(i64::MIN),
            Value::Float(0.1),
            Value::Text("a\0ü".to_owned()),
            Value::Bytes(vec![0, 255]),
            Value::Bool(true),
            Value::RawText(vec![255]),
        ];
        for value in [values, vec![Value::Float(f64::INFINITY), Value::Float(5.0)]].concat() {
            let text = value.to_json().to_string();
            assert_eq!(Value::from_json(serde_json::from_str(&text).unwrap()), Some(value));
        }
    }
}
