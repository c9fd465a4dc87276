//! The folder that a demo works in, and the configuration of all that works there.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use auditq::Config;

/// How often the removal of the folder is tried again.
const REMOVAL_TRIES: usize = 25;

/// A folder with everything that a run makes. It is removed in the end, unless somebody wants to look at it.
#[derive(Debug)]
pub(super) struct Ground {
    folder: PathBuf,
    keep: bool,
    /// The same for the application, the worker processes and the reconciliation.
    pub(super) config: Config,
}

impl Ground {
    /// Makes `keep`, which must be empty or not be there, or else a folder that nobody else can read.
    pub(super) fn prepare(keep: Option<&Path>) -> Result<Self> {
        let folder = keep.map_or_else(temporary, Path::to_owned);
        let make = || format!("cannot work in {}; name another folder with --keep", folder.display());
        let made = match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_empty(&folder) => Ok(()),
            made => made,
        };
        made.with_context(make)?;
        let folder = folder.canonicalize().with_context(make)?;
        // From here on it is removed if anything fails.
        let mut ground = Self { folder, keep: keep.is_some(), config: Config::default() };
        std::fs::write(ground.config_file(), ground.settings()?)?;
        ground.config = Config::load(Some(&ground.config_file()), std::iter::empty::<(String, String)>())?;
        Ok(ground)
    }

    fn settings(&self) -> Result<String> {
        let spool = quoted(&self.folder.join("spool"), "")?;
        let audit = quoted(&self.audit_file(), "sqlite:")?;
        Ok(format!(
            "[capture]\napp = \"demo\"\n\n[spool]\ndir = {spool}\n\n[queue]\nurl = {audit}\n\n[store]\nurl = {audit}\n"
        ))
    }

    /// What is left of it when the run is over.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Leaves the folder where it is, to be looked at.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }

    /// True when it stays.
    pub(super) fn is_kept(&self) -> bool {
        self.keep
    }

    /// The configuration file of the worker processes.
    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.join("auditq.toml")
    }

    /// Queue and audit table.
    pub(super) fn audit_file(&self) -> PathBuf {
        self.folder.join("audit.db")
    }

    /// The application's own database.
    pub(super) fn shop_file(&self) -> PathBuf {
        self.folder.join("shop.db")
    }

    /// Of the recorder that only measures.
    pub(super) fn meter_spool(&self) -> PathBuf {
        self.folder.join("meter-spool")
    }

    /// What worker processes say.
    pub(super) fn worker_log(&self, number: usize) -> PathBuf {
        self.folder.join(format!("worker-{number}.log"))
    }

    /// Everything that auditq writes; the application's own database may hold secrets.
    pub(super) fn written_by_auditq(&self) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in self.folder.read_dir().context("cannot list the demo's folder")? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with("shop.db") {
                paths.push(entry.path());
            }
        }
        Ok(paths)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // A process that was killed this moment may still be writing its last file.
        let mut removed = std::fs::remove_dir_all(&self.folder);
        for _ in 0..REMOVAL_TRIES {
            if removed.is_err() {
                std::thread::sleep(Duration::from_millis(20));
                removed = std::fs::remove_dir_all(&self.folder);
            }
        }
        if let Err(error) = removed {
            crate::output::note(&format!("cannot remove {}: {error}", self.folder.display()));
        }
    }
}

fn temporary() -> PathBuf {
    let unique = super::sessions::random_hex();
    std::env::temp_dir().join(format!("auditq-demo-{}-{unique}", std::process::id()))
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().is_ok_and(|mut entries| entries.next().is_none())
}

/// A path as a text of TOML, whose escapes are those of JSON.
fn quoted(path: &Path, prefix: &str) -> Result<String> {
    let text =
        path.to_str().with_context(|| format!("{} is not UTF-8; name another folder with --keep", path.display()))?;
    Ok(serde_json::to_string(&format!("{prefix}{text}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_removed_unless_it_is_kept() {
        let ground = Ground::prepare(None).unwrap();
        let folder = ground.folder().to_owned();
        assert!(folder.join("auditq.toml").exists());
        assert_eq!(ground.config.spool.dir, folder.join("spool"));
        drop(ground);
        assert!(!folder.exists());

        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("a \"quoted\" folder");
        drop(Ground::prepare(Some(&kept)).unwrap());
        assert!(kept.join("auditq.toml").exists());
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("mine"), "").unwrap();
        let error = Ground::prepare(Some(root.path())).unwrap_err();
        assert!(format!("{error:#}").contains("--keep"), "{error:#}");
        assert_eq!(root.path().read_dir().unwrap().count(), 1);
    }
}
