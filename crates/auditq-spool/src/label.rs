//! What a producer says of itself, kept beside its segments. Pure.

/// File name of the label in a producer's directory.
pub(crate) const FILE_NAME: &str = "label";
const MAGIC: [u8; 8] = *b"AQLABEL\x01";

pub(crate) fn encode(label: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(crc32c::crc32c(label).to_le_bytes());
    bytes.extend(label);
    bytes
}

/// Returns the label; `None` when it is damaged.
pub(crate) fn decode(bytes: &[u8]) -> Option<&[u8]> {
    let (check, label) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
    (u32::from_le_bytes(*check) == crc32c::crc32c(label)).then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_label_is_none() {
        let bytes = encode(b"app=shop");
        assert_eq!(decode(&bytes), Some(&b"app=shop"[..]));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged), None, "bit {bit}");
        }
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode(b""), None);
    }
}
