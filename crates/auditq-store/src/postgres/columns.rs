//! Rows as arrays, one for each column, which is how one statement takes any number of them.

use std::borrow::Cow;
use std::error::Error;

use auditq_postgres::tokio_postgres::types::private::BytesMut;
use auditq_postgres::tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Text,
    Id,
}

/// What no text in PostgreSQL can hold.
const NUL: char = '\0';
/// Stands before what stands for a NUL, and for itself; a character that nobody uses.
const ESCAPE: char = '\u{10fffd}';

/// A text as PostgreSQL can hold it.
pub(super) fn escaped(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains([NUL, ESCAPE]) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            NUL => safe.extend([ESCAPE, '0']),
            ESCAPE => safe.extend([ESCAPE, ESCAPE]),
            other => safe.push(other),
        }
    }
    safe.into()
}

/// The text that was escaped; what an escape cannot be followed by stays as it is.
pub(super) fn unescaped(text: &str) -> String {
    if !text.contains(ESCAPE) {
        return text.to_owned();
    }
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(ESCAPE) {
        plain.push_str(before);
        (rest, _) = match after.strip_prefix('0') {
            Some(after) => (after, plain.push(NUL)),
            None => (after.strip_prefix(ESCAPE).unwrap_or(after), plain.push(ESCAPE)),
        };
    }
    plain + rest
}

/// Sixteen bytes, which the server calls a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) [u8; 16]);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    accepts!(UUID);
}

#[derive(Debug)]
enum Column<'e> {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<Cow<'e, str>>>),
    Id(Vec<Id>),
}

/// Rows that are being collected.
#[derive(Debug)]
pub(super) struct Columns<'e> {
    columns: Vec<Column<'e>>,
    next: usize,
    /// About how large they are.
    pub(super) bytes: usize,
}

impl<'e> Columns<'e> {
    pub(super) fn new(kinds: &[(&str, Kind)], rows: usize) -> Self {
        let column = |(_, kind): &(&str, Kind)| match kind {
            Kind::Int => Column::Int(Vec::with_capacity(rows)),
            Kind::Text => Column::Text(Vec::with_capacity(rows)),
            Kind::Id => Column::Id(Vec::with_capacity(rows)),
        };
        Self { columns: kinds.iter().map(column).collect(), next: 0, bytes: 0 }
    }

    /// The column that the next value goes to. A value of another kind would be a mistake in this crate, which the
    /// server refuses as arrays of unequal length.
    fn column(&mut self) -> Option<&mut Column<'e>> {
        let place = self.next;
        self.next = (self.next + 1) % self.columns.len();
        self.columns.get_mut(place)
    }

    pub(super) fn int(&mut self, value: impl Into<Option<i64>>) {
        self.bytes += 12;
        if let Some(Column::Int(values)) = self.column() {
            values.push(value.into());
        }
    }

    pub(super) fn id(&mut self, value: [u8; 16]) {
        self.bytes += 20;
        if let Some(Column::Id(values)) = self.column() {
            values.push(Id(value));
        }
    }

    pub(super) fn text(&mut self, value: impl Into<Option<&'e str>>) {
        self.cow(value.into().map(Cow::Borrowed));
    }

    /// A text that was made for the purpose.
    pub(super) fn made(&mut self, value: Option<String>) {
        self.cow(value.map(Cow::Owned));
    }

    /// A text in which everything is escaped that has to be.
    pub(super) fn json(&mut self, value: String) {
        self.push(Some(value.into()));
    }

    fn cow(&mut self, value: Option<Cow<'e, str>>) {
        self.push(value.map(escaped));
    }

    fn push(&mut self, value: Option<Cow<'e, str>>) {
        self.bytes += 4 + value.as_ref().map_or(0, |text| text.len());
        if let Some(Column::Text(values)) = self.column() {
            values.push(value);
        }
    }

    /// The arrays, as parameters of a statement.
    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.columns
            .iter()
            .map(|column| -> (&(dyn ToSql + Sync), Type) {
                match column {
                    Column::Int(values) => (values, Type::INT8_ARRAY),
                    Column::Text(values) => (values, Type::TEXT_ARRAY),
                    Column::Id(values) => (values, Type::UUID_ARRAY),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_nul_and_the_escape_itself_come_back() {
        for text in ["", "plain", "a\0b", "\u{10fffd}", "\u{10fffd}0\0\0", "0\u{10fffd}\u{10fffd}"] {
            let safe = escaped(text.into());
            assert!(!safe.contains('\0'));
            assert_eq!(unescaped(&safe), text);
        }
        assert_eq!(unescaped("a\u{10fffd}b\u{10fffd}"), "a\u{10fffd}b\u{10fffd}");
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "[\\x00\u{10fffd}0a]{0,12}") {
            prop_assert_eq!(unescaped(&escaped(text.as_str().into())), text);
        }
    }
}
