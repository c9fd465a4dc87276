//! The secrets that the application handles, and the proof that none of them left it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

/// Bytes of a file that are looked at together.
const WINDOW: usize = 1 << 20;

/// Every secret that was ever bound to a statement or written into one.
#[derive(Debug, Default)]
pub(super) struct Secrets(Mutex<BTreeSet<String>>);

impl Secrets {
    /// Adds one.
    pub(super) fn add(&self, secret: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(secret.to_owned());
    }

    /// Looks into every file under `paths`, and names those that hold a secret. What is removed meanwhile holds none.
    pub(super) fn found_in(&self, paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut files = Vec::new();
        for path in paths {
            list(path, &mut files).with_context(|| format!("cannot look for secrets in {}", path.display()))?;
        }
        let mut found = Vec::new();
        for file in files {
            let holds = holds_any(&file, &secrets);
            if holds.with_context(|| format!("cannot look for secrets in {}", file.display()))? {
                found.push(file);
            }
        }
        Ok(found)
    }
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    match path.read_dir() {
        Ok(entries) => {
            for entry in entries {
                list(&entry?.path(), files)?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => files.push(path.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// All secrets have a hyphen at the same place, so that one pass finds where to compare.
fn holds_any(file: &Path, secrets: &BTreeSet<String>) -> io::Result<bool> {
    let mut file = match File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let longest = secrets.iter().map(String::len).max().unwrap_or_default();
    let mut window = Vec::with_capacity(WINDOW + longest);
    loop {
        let read = file.by_ref().take(WINDOW as u64).read_to_end(&mut window)?;
        let found = |at: usize| starts_with_any(&window[at..], secrets);
        let mut hyphens = window.iter().enumerate().filter(|(_, byte)| **byte == b'-');
        if hyphens.any(|(at, _)| at >= PREFIX && found(at - PREFIX)) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        // What the next bytes may complete.
        let keep_from = window.len().saturating_sub(longest);
        window.drain(..keep_from);
    }
}

/// Letters before the hyphen that every secret of the demo has.
const PREFIX: usize = 3;

/// All secrets are equally long, so that one look tells.
fn starts_with_any(text: &[u8], secrets: &BTreeSet<String>) -> bool {
    let Some(len) = secrets.first().map(String::len) else { return false };
    let Some(Ok(head)) = text.get(..len).map(std::str::from_utf8) else { return false };
    secrets.contains(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_wherever_it_stands() {
        let secrets = Secrets::default();
        secrets.add("tok-0123456789abcdef");
        secrets.add("pwd-fedcba9876543210");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep").join("file");
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        let search = || secrets.found_in(&[folder.path().to_owned(), PathBuf::from("/nowhere/at/all")]).unwrap();
        for at in [0, 1, WINDOW - 20, WINDOW - 7, WINDOW - 1, WINDOW, 2 * WINDOW - 3] {
            let mut bytes = b".......-".repeat(WINDOW / 4 + 20);
            std::fs::write(&file, &bytes).unwrap();
            assert_eq!(search(), [] as [PathBuf; 0]);
            bytes[at..at + 20].copy_from_slice(b"pwd-fedcba9876543210");
            std::fs::write(&file, &bytes).unwrap();
            assert_eq!(search(), std::slice::from_ref(&file), "at {at}");
        }
        std::fs::write(&file, "pwd-fedcba987654321 tok-0123456789abcdeX tok-").unwrap();
        assert_eq!(search(), [] as [PathBuf; 0]);
    }
}
