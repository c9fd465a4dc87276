//! Writing several files: all of them or none.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// A file to be written.
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) text: String,
    /// Permissions, less what the umask takes.
    pub(super) mode: u32,
}

/// Writes `files` into `dir`. Without `force` a file that is there already stops all of it.
///
/// Each is written in full under another name first, so that no half of one is ever seen.
pub(super) fn write_all(dir: &Path, files: &[File], force: bool) -> Result<()> {
    let present: Vec<_> = files.iter().map(|file| file.name).filter(|name| is_there(&dir.join(name))).collect();
    if !present.is_empty() && !force {
        bail!(
            "{} has {} already, and nothing was written; add --force to replace, or name another folder with --dir",
            dir.display(),
            present.join(", ")
        );
    }
    let mut drafts = Drafts::default();
    for file in files {
        drafts.write(dir, file).with_context(|| format!("cannot write {}", dir.join(file.name).display()))?;
    }
    drafts.put_in_place(force)
}

/// True for anything of that name, a link that leads nowhere included.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Files under a name for the time being. Those that were not put in place are removed in the end.
#[derive(Default)]
struct Drafts {
    waiting: Vec<(PathBuf, PathBuf)>,
    placed: Vec<PathBuf>,
}

impl Drafts {
    fn write(&mut self, dir: &Path, file: &File) -> io::Result<()> {
        let draft = dir.join(format!(".{}.{}.new", file.name, std::process::id()));
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&draft)?;
        self.waiting.push((draft, dir.join(file.name)));
        opened.write_all(file.text.as_bytes())?;
        opened.sync_all()
    }

    fn put_in_place(mut self, force: bool) -> Result<()> {
        for (draft, path) in &self.waiting {
            // A link, unlike a rename, does not replace what somebody has put there this moment.
            let placed = if force { fs::rename(draft, path) } else { fs::hard_link(draft, path) };
            if let Err(error) = placed {
                self.take_back(force);
                return Err(error).with_context(|| format!("cannot write {}", path.display()));
            }
            self.placed.push(path.clone());
        }
        Ok(())
    }

    /// Removes what was put in place; what was replaced on demand stays replaced.
    fn take_back(&self, force: bool) {
        for path in self.placed.iter().filter(|_| !force) {
            // The error that is reported is the one that stopped it.
            drop(fs::remove_file(path));
        }
    }
}

impl Drop for Drafts {
    fn drop(&mut self) {
        for (draft, _) in &self.waiting {
            // Gone already where it was renamed.
            drop(fs::remove_file(draft));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> [File; 2] {
        ["a", "b"].map(|name| File { name, text: format!("new {name}"), mode: 0o600 })
    }

    fn listing(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn one_file_that_is_there_stops_all_and_force_replaces() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b"), "mine").unwrap();
        let message = write_all(dir.path(), &files(), false).unwrap_err().to_string();
        assert!(message.contains(" has b already") && message.contains("; add --force"), "{message}");
        assert_eq!(listing(dir.path()), ["b"]);
        assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "mine");

        write_all(dir.path(), &files(), true).unwrap();
        assert_eq!(listing(dir.path()), ["a", "b"]);
        assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "new b");
    }

    #[test]
    fn a_file_that_comes_in_between_is_kept_and_the_others_are_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut drafts = Drafts::default();
        for file in files() {
            drafts.write(dir.path(), &file).unwrap();
        }
        fs::write(dir.path().join("b"), "mine").unwrap();
        drafts.put_in_place(false).unwrap_err();
        assert_eq!(listing(dir.path()), ["b"]);
        assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "mine");
    }
}
