//! What a spool may use and what it promises.

use std::time::Duration;

use crate::error::OpenError;
use crate::segment;

/// Says what survives what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A record survives the death of its process (panic, abort, `kill -9`) once `append` returned; a power cut or a
    /// kernel crash may take the last seconds.
    #[default]
    ProcessCrash,
    /// A record also survives a power cut: `append` waits for an `fdatasync`, which it shares with every other
    /// append that waits at the time.
    PowerLoss,
}

/// Says what becomes of a record for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// `append` waits until there is room, for at most [`Options::block_at_most`].
    Block,
    /// `append` gives the record up at once; it is counted, and the reader learns of it as a gap.
    #[default]
    DropNewest,
}

/// The settings of one spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Size of a segment file in bytes: a multiple of 4,096 from 8 KiB to 1 GiB. A record must fit into one; about
    /// four segments are mapped at a time, which is what the spool adds to the memory of the process.
    /// Defaults to 8 MiB.
    pub segment_bytes: u32,
    /// Bytes of disk that all segments of this spool may take together; at least two segments. Defaults to 1 GiB.
    pub max_bytes: u64,
    /// What a record survives once `append` returned. Defaults to [`Durability::ProcessCrash`].
    pub durability: Durability,
    /// What becomes of a record when no room can be had. Defaults to [`WhenFull::DropNewest`].
    pub when_full: WhenFull,
    /// The longest that one append may wait under [`WhenFull::Block`]; the record is dropped and counted after that.
    /// `None` waits for ever. Defaults to `None`.
    pub block_at_most: Option<Duration>,
    /// What the producer wants its reader to know of it, at most 4 KiB, opaque here. It stays readable after the
    /// producer died. Defaults to nothing.
    pub label: Vec<u8>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
            max_bytes: 1 << 30,
            durability: Durability::default(),
            when_full: WhenFull::default(),
            block_at_most: None,
            label: Vec::new(),
        }
    }
}

impl Options {
    /// Most bytes that a label may have.
    pub const LABEL_BYTES_MAX: usize = 4096;

    /// Returns the size in bytes of the largest record that fits.
    #[must_use]
    pub fn record_bytes_max(&self) -> u32 {
        self.segment_bytes.saturating_sub(segment::HEADER_BYTES + crate::frame::HEADER_BYTES)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// `Invalid` names the field and what it may be.
    pub(crate) fn validate(&self) -> Result<(), OpenError> {
        if !self.segment_bytes.is_multiple_of(4096)
            || !(8192..=segment::SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
        {
            return Err(OpenError::Invalid(format!(
                "segment_bytes is {}, and must be a multiple of 4096 from 8192 to {}",
                self.segment_bytes,
                segment::SEGMENT_BYTES_MAX
            )));
        }
        if self.max_bytes / 2 < u64::from(self.segment_bytes) {
            return Err(OpenError::Invalid(format!(
                "max_bytes is {}, and must hold at least two segments of {} bytes",
                self.max_bytes, self.segment_bytes
            )));
        }
        if self.label.len() > Self::LABEL_BYTES_MAX {
            return Err(OpenError::Invalid(format!(
                "the label has {} bytes, and may have {}",
                self.label.len(),
                Self::LABEL_BYTES_MAX
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Options::default().validate().unwrap();
    }

    #[test]
    fn a_bad_setting_is_refused_by_name() {
        let cases = [
            (Options { segment_bytes: 5000, ..Options::default() }, "segment_bytes"),
            (Options { segment_bytes: 4096, ..Options::default() }, "segment_bytes"),
            (Options { max_bytes: 9 << 20, ..Options::default() }, "max_bytes"),
            (Options { label: vec![0; 4097], ..Options::default() }, "label"),
        ];
        for (options, field) in cases {
            let message = options.validate().unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
    }
}
