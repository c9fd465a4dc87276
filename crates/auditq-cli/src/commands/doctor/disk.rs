//! Folders and files: there, writable, private, on a local disk with room.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use auditq_config::{Config, Scheme};
use rustix::fs::Access;

use super::Check;
use super::settings::whole;
use crate::output::bytes;

/// Room for the database below which it may soon be full.
const ROOM_LITTLE: u64 = 1 << 30;
const ROOM_NONE: u64 = 32 << 20;

pub(super) fn look(config: &Config) -> Vec<Check> {
    let mut checks = vec![spool_folder(config)];
    checks.extend(databases(config).iter().filter_map(|file| permissions(file)));
    checks.extend(room(config));
    checks
}

/// The SQLite files of queue and store, each once.
pub(super) fn databases(config: &Config) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for url in [&config.queue.url, &config.store.url] {
        let file = whole(&url.file());
        if url.scheme() == Scheme::Sqlite && !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

/// True when this user may write there; false on a file system that is mounted read-only too.
pub(super) fn is_writable(path: &Path) -> bool {
    let wanted = if path.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    rustix::fs::access(path, wanted).is_ok()
}

/// The path itself, or the nearest folder above it that is there.
fn nearest(path: &Path) -> PathBuf {
    let path = whole(path);
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn spool_folder(config: &Config) -> Check {
    const NAME: &str = "spool folder";
    let dir = whole(&config.spool.dir);
    let shown = dir.display();
    let owner = "let the user of application and workers own it, or name another one in spool.dir or AUDITQ_SPOOL_DIR";
    let Ok(metadata) = dir.metadata() else {
        let above = nearest(&dir);
        if !is_writable(&above) {
            return Check::fail(NAME, format!("{shown} is not there and cannot be made by this user"), owner);
        }
        return Check::warn(
            NAME,
            format!("{shown} is not there yet: no application has recorded into it"),
            "start the application; if it runs, give it and the workers the same spool.dir, as a whole path",
        );
    };
    if !metadata.is_dir() {
        return Check::fail(NAME, format!("{shown} is no folder"), "name another one in spool.dir or AUDITQ_SPOOL_DIR");
    }
    if !is_writable(&dir) {
        return Check::fail(NAME, format!("this user may not write to {shown}"), owner);
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        let found = format!("others than its owner may write to {shown}");
        return Check::fail(NAME, found, format!("chmod go-w {shown}"));
    }
    if is_remote(&dir) {
        return Check::fail(NAME, format!("{shown} is on a network file system"), "move it to a local disk");
    }
    let open = dir.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let open: Vec<_> = open.filter(|path| path.is_dir() && mode(path) & 0o007 != 0).collect();
    if let Some(spool) = open.first() {
        let found = format!("everybody may look into {}", spool.display());
        return Check::warn(NAME, found, format!("chmod -R go= {shown}/*/"));
    }
    Check::ok(NAME, shown.to_string())
}

fn mode(path: &Path) -> u32 {
    path.metadata().map_or(0, |metadata| metadata.permissions().mode())
}

/// What is audited is not for everybody to read.
fn permissions(database: &Path) -> Option<Check> {
    let others = mode(database) & 0o007;
    let shown = database.display();
    let beside = ["", "-wal", "-shm"].map(|suffix| format!("{shown}{suffix}"));
    let files: Vec<_> = beside.into_iter().filter(|file| Path::new(file).exists()).collect();
    (others != 0).then(|| {
        let found = format!("everybody may {} {shown}", if others & 2 == 0 { "read" } else { "read and write" });
        Check::warn("permissions", found, format!("chmod o= {}", files.join(" ")))
    })
}

/// Whether there is room for spools and databases: each file system once.
fn room(config: &Config) -> Vec<Check> {
    let spool = &config.spool;
    let mut places = vec![(nearest(&spool.dir), 4 * u64::from(spool.segment_bytes), spool.max_bytes, "spools")];
    places.extend(databases(config).iter().map(|file| (nearest(file), ROOM_NONE, ROOM_LITTLE, "the database")));
    let mut checks: Vec<Check> = Vec::new();
    let mut seen = Vec::new();
    for (place, none, little, what) in places {
        let device = place.metadata().map_or(0, |metadata| metadata.dev());
        let Some(free) = free_bytes(&place) else { continue };
        let check = judge(&place, free, none, little, what);
        if check.advice.is_some() || !seen.contains(&device) {
            checks.push(check);
        }
        seen.push(device);
    }
    checks
}

fn judge(place: &Path, free: u64, none: u64, little: u64, what: &str) -> Check {
    const NAME: &str = "disk space";
    let left = format!("{} free for {what} in {}", bytes(free), place.display());
    if free < none {
        return Check::fail(NAME, format!("only {left}"), "free some space, or move it: what is full waits or is lost");
    }
    if free < little {
        let advice =
            format!("have {} free, so that an outage of the queue or a busy day does not fill it", bytes(little));
        return Check::warn(NAME, format!("only {left}"), advice);
    }
    Check::ok(NAME, left)
}

/// Bytes that this user can still write; `None` where the file system does not say.
fn free_bytes(place: &Path) -> Option<u64> {
    let numbers = rustix::fs::statvfs(place).ok()?;
    (numbers.f_blocks > 0).then(|| numbers.f_bavail.saturating_mul(numbers.f_frsize))
}

/// True on the file systems of NFS and SMB, where locks and mapped memory are not what they are on a disk.
pub(super) fn is_remote(place: &Path) -> bool {
    const NFS_AND_SMB: [u64; 4] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42];
    let kind = rustix::fs::statfs(place).ok().and_then(|numbers| u64::try_from(numbers.f_type).ok());
    kind.is_some_and(|kind| NFS_AND_SMB.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;

    #[test]
    fn little_room_is_a_warning_and_none_a_failure() {
        let level = |free| judge(Path::new("/srv"), free, 10, 100, "spools").status;
        assert_eq!([level(9), level(10), level(99), level(100)], [Level::Fail, Level::Warn, Level::Warn, Level::Ok]);
    }

    #[test]
    fn a_path_that_is_not_there_has_the_room_of_what_is_above_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&dir.path().join("a/b")), dir.path());
        assert!(free_bytes(dir.path()).unwrap() > 0);
        assert!(!is_remote(dir.path()));
    }
}
