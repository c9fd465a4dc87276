use crate::event::Database;
use crate::fields::{FORMAT_VERSION, label as field};
use crate::wire::{DecodeError, Reader, put_bytes_field, put_varint_field};

/// Which process recorded a batch of records: said once for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerLabel {
    /// The process: 128 random bits, drawn once a process.
    pub producer_id: [u8; 16],
    /// The application.
    pub app: Option<String>,
    /// The host it runs on.
    pub host: Option<String>,
    /// Its process id.
    pub pid: Option<u32>,
}

impl ProducerLabel {
    /// Writes the label as bytes, to be kept with a spool.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT_VERSION];
        put_bytes_field(&mut out, field::PRODUCER_ID, &self.producer_id);
        if let Some(app) = &self.app {
            put_bytes_field(&mut out, field::APP, app.as_bytes());
        }
        if let Some(host) = &self.host {
            put_bytes_field(&mut out, field::HOST, host.as_bytes());
        }
        if let Some(pid) = self.pid {
            put_varint_field(&mut out, field::PID, pid.into());
        }
        out
    }

    /// Reads a label back.
    ///
    /// # Errors
    /// When the bytes are no label, or one of an unknown version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.byte()? {
            FORMAT_VERSION => {}
            version => return Err(DecodeError::UnknownVersion(version)),
        }
        let mut label = Self::default();
        let mut named = false;
        while let Some(value) = reader.field("label")? {
            match value.number {
                field::PRODUCER_ID => {
                    label.producer_id =
                        value.bytes()?.try_into().map_err(|_| value.problem("a length other than 16"))?;
                    named = true;
                }
                field::APP => label.app = Some(value.text()?),
                field::HOST => label.host = Some(value.text()?),
                field::PID => {
                    let pid = u32::try_from(value.number()?).map_err(|_| value.problem("a number over 32 bits"))?;
                    label.pid = Some(pid);
                }
                _ => {}
            }
        }
        if named { Ok(label) } else { Err(DecodeError::Malformed("a label names no producer")) }
    }

    /// Says application, host and process of a database that does not say them itself.
    pub fn fill(&self, database: &mut Database) {
        if database.app.is_none() {
            database.app.clone_from(&self.app);
        }
        if database.host.is_none() {
            database.host.clone_from(&self.host);
        }
        database.pid = database.pid.or(self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_survives_its_bytes() {
        let label = ProducerLabel { producer_id: [3; 16], app: Some("shop".into()), host: None, pid: Some(u32::MAX) };
        assert_eq!(ProducerLabel::decode(&label.encode()), Ok(label));
    }

    #[test]
    fn a_label_without_a_producer_is_refused() {
        assert_eq!(ProducerLabel::decode(&[1]), Err(DecodeError::Malformed("a label names no producer")));
        assert_eq!(ProducerLabel::decode(&[9]), Err(DecodeError::UnknownVersion(9)));
    }
}
