use auditq_config::Config;
use auditq_event::{Limits, Redaction};

use crate::error::OpenError;
use crate::{key, settings};

/// How much of a statement is kept, and what is taken out of it: for who makes events otherwise than by recording.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What is taken out.
    pub redaction: Redaction,
    /// How much is kept.
    pub limits: Limits,
}

impl Rules {
    /// The rules of this configuration. Makes the redaction key where it is missing, as a recorder does.
    ///
    /// # Errors
    /// When the folder of the spools cannot be made, or the redaction key cannot be read.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let folder = &config.spool.dir;
        std::fs::create_dir_all(folder).map_err(|source| OpenError::Folder { path: folder.clone(), source })?;
        Ok(Self::with(config, key::find(&config.capture.redact, folder)?))
    }

    /// The rules of this configuration; `None` when there is no redaction key yet. Makes nothing.
    ///
    /// # Errors
    /// When the redaction key cannot be read.
    pub fn look(config: &Config) -> Result<Option<Self>, OpenError> {
        Ok(key::look(&config.capture.redact, &config.spool.dir)?.map(|key| Self::with(config, key)))
    }

    /// The rules of this configuration under a key of zeros: secrets are taken out, their hashes mean nothing.
    #[must_use]
    pub fn without_key(config: &Config) -> Self {
        Self::with(config, [0; 32])
    }

    fn with(config: &Config, key: [u8; 32]) -> Self {
        Self { redaction: settings::redaction(&config.capture, key), limits: settings::limits(&config.capture) }
    }
}
