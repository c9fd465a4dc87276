use std::borrow::Cow;
use std::fmt::Write;

/// Makes text of bytes: what is not UTF-8 is written as `\xHH`.
pub(crate) fn escaped(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _infallible = write!(out, "\\x{byte:02X}");
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf_8_are_written_as_hexadecimal() {
        assert_eq!(escaped(b"caf\xc3\xa9"), "café");
        assert_eq!(escaped(b"caf\xe9 ok\xff\xfe"), "caf\\xE9 ok\\xFF\\xFE");
    }
}
