use std::io;
use std::path::PathBuf;

use auditq_config::ConfigError;

/// A recorder could not be opened. Nothing after opening can fail; to go on without an audit log all the same, take
/// [`Recorder::disabled`](crate::Recorder::disabled).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder of the spools cannot be used.
    #[error(
        "cannot create spool folder {}: {source}; name a folder that this user may write to in AUDITQ_SPOOL_DIR or \
         spool.dir", path.display()
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] auditq_spool::OpenError),
    /// The redaction key cannot be read or made.
    #[error("cannot {action} redaction key {}: {source}", path.display())]
    Key {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file of the redaction key holds something else.
    #[error("cannot read redaction key {}: it must hold 64 hexadecimal digits; restore it, or remove it to have a new \
             one made (hashes of secrets will then differ from the earlier ones)", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
    },
    /// The redaction key of the environment is none.
    #[error("cannot read AUDITQ_REDACTION_KEY: it must hold 64 hexadecimal digits")]
    KeyVariable,
}
