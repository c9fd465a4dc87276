//! The fields that records are made of: a key (`number << 2 | wire type`), then a value.

/// Wire type of a base-128 varint.
const VARINT: u64 = 0;
/// Wire type of 8 bytes, little endian.
const FIXED: u64 = 1;
/// Wire type of a varint length and as many bytes.
const BYTES: u64 = 2;

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by a release with another format.
    #[error("cannot decode record of format version {0}: this release reads version 1; upgrade auditq, then retry")]
    UnknownVersion(u8),
    /// Written by a release that knows more kinds of record.
    #[error("cannot decode record of kind {0}: this release does not know it; upgrade auditq, then retry")]
    UnknownKind(u8),
    /// It ends in the middle of a value.
    #[error("cannot decode record: it ends in the middle of a value")]
    Truncated,
    /// Not made of fields.
    #[error("cannot decode record: {0}")]
    Malformed(&'static str),
    /// A value that its field cannot have.
    #[error("cannot decode record: field {field} of {group} has {problem}")]
    Field {
        /// The part of the record.
        group: &'static str,
        /// The field's number in it.
        field: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Writes a length, then the bytes.
pub(crate) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_varint_field(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 2 | VARINT);
    put_varint(out, value);
}

pub(crate) fn put_fixed_field(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 2 | FIXED);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_bytes_field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 2 | BYTES);
    put_sized(out, bytes);
}

pub(crate) const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Reads values from the front of a slice; lengths are checked against what is there.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.bytes.split_first().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(first)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed("a number has more than 64 bits"))
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(crate) fn sized(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        str::from_utf8(self.sized()?).map_err(|_| DecodeError::Malformed("a text is not UTF-8"))
    }

    /// Reads the next field of `group`, or `None` at the end.
    pub(crate) fn field(&mut self, group: &'static str) -> Result<Option<Field<'a>>, DecodeError> {
        if self.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 3 {
            VARINT => FieldValue::Number(self.varint()?),
            FIXED => FieldValue::Number(u64::from_le_bytes(self.array()?)),
            BYTES => FieldValue::Bytes(self.sized()?),
            _ => return Err(DecodeError::Malformed("a field has wire type 3, which no release writes")),
        };
        Ok(Some(Field { group, number: key >> 2, value }))
    }
}

/// One field with its value still raw.
pub(crate) struct Field<'a> {
    group: &'static str,
    pub(crate) number: u64,
    value: FieldValue<'a>,
}

enum FieldValue<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub(crate) const fn problem(&self, problem: &'static str) -> DecodeError {
        DecodeError::Field { group: self.group, field: self.number, problem }
    }

    pub(crate) const fn number(&self) -> Result<u64, DecodeError> {
        match self.value {
            FieldValue::Number(value) => Ok(value),
            FieldValue::Bytes(_) => Err(self.problem("bytes where a number belongs")),
        }
    }

    pub(crate) fn time(&self) -> Result<i64, DecodeError> {
        self.number().map(u64::cast_signed)
    }

    pub(crate) const fn bytes(&self) -> Result<&'a [u8], DecodeError> {
        match self.value {
            FieldValue::Bytes(bytes) => Ok(bytes),
            FieldValue::Number(_) => Err(self.problem("a number where bytes belong")),
        }
    }

    pub(crate) fn text(&self) -> Result<String, DecodeError> {
        str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| self.problem("a text that is not UTF-8"))
    }

    /// Reads a number that is at most 255, such as an enum's code.
    pub(crate) fn code(&self) -> Result<u8, DecodeError> {
        u8::try_from(self.number()?).map_err(|_| self.problem("a code over 255"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_overlong_ones_are_refused() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Reader::new(&out).varint(), Ok(value));
        }
        assert!(Reader::new(&[0xff; 11]).varint().is_err());
        assert_eq!(Reader::new(&[0x80]).varint(), Err(DecodeError::Truncated));
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn a_length_past_the_end_is_truncation() {
        assert_eq!(Reader::new(&[0x85, 0x80, 0x80, 0x80, 0x10, 1]).sized(), Err(DecodeError::Truncated));
    }
}
