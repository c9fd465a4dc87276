//! The key of the HMACs that stand for secrets.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use auditq_config::Redact;

use crate::error::OpenError;

/// A key has 32 bytes, written as 64 hexadecimal digits.
type Key = [u8; 32];

/// Name of the key's file in the folder of the spools.
const FILE_NAME: &str = "redaction.key";

/// Finds the key where the configuration says, or makes one in the folder of the spools.
///
/// Every process of an application must find the same key, or the same secret has two hashes: of several processes
/// that start at once one makes the key, and the others take that one.
pub(crate) fn find(redact: &Redact, spool_dir: &Path) -> Result<Key, OpenError> {
    match look(redact, spool_dir)? {
        Some(key) => Ok(key),
        None => make(&path_of(redact, spool_dir)),
    }
}

/// Finds the key where the configuration says; `None` when there is none yet.
pub(crate) fn look(redact: &Redact, spool_dir: &Path) -> Result<Option<Key>, OpenError> {
    if let Some(key) = &redact.key {
        return parse(key.expose()).ok_or(OpenError::KeyVariable).map(Some);
    }
    match read(&path_of(redact, spool_dir)) {
        Err(OpenError::Key { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

fn path_of(redact: &Redact, spool_dir: &Path) -> PathBuf {
    redact.key_file.clone().unwrap_or_else(|| spool_dir.join(FILE_NAME))
}

fn read(path: &Path) -> Result<Key, OpenError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(1024).read_to_string(&mut text))
        .map_err(|source| key_error("read", path, source))?;
    parse(text.trim()).ok_or_else(|| OpenError::KeyFile { path: path.to_owned() })
}

/// The file appears under its name whole or not at all, and the first to give it the name wins.
fn make(path: &Path) -> Result<Key, OpenError> {
    let mut key = Key::default();
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .map_err(|source| key_error("draw random bytes for", path, source))?;
    let draft = draft_of(path);
    let written = write(&draft, &key).and_then(|()| std::fs::hard_link(&draft, path));
    // A draft left behind is harmless, and what matters has been decided.
    let _left = std::fs::remove_file(&draft);
    match written {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(source) => Err(key_error("make", path, source)),
    }
}

fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{:x}.new", std::process::id(), fastrand::u64(..)));
    PathBuf::from(name)
}

fn write(path: &Path, key: &Key) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{digits}")?;
    file.sync_all()
}

fn parse(text: &str) -> Option<Key> {
    let mut key = Key::default();
    if text.len() != 2 * key.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}

fn key_error(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Key { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    use auditq_config::Secret;

    use super::*;

    #[test]
    fn all_who_start_at_once_get_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let start = Barrier::new(8);
        let keys: Vec<Key> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        find(&Redact::default(), dir.path()).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0] && *key != Key::default()));
        let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "no draft is left: {files:?}");
        let mode = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_configured_key_goes_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let redact = Redact { key: Some(Secret::new("0f".repeat(32))), ..Redact::default() };
        assert_eq!(find(&redact, dir.path()).unwrap(), [0x0f; 32]);
        assert!(!dir.path().join(FILE_NAME).exists());
    }

    #[test]
    fn a_damaged_key_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        std::fs::write(&path, "0123").unwrap();
        let message = find(&Redact::default(), dir.path()).unwrap_err().to_string();
        assert!(message.contains("64 hexadecimal digits") && message.contains(FILE_NAME), "{message}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0123");
    }
}
