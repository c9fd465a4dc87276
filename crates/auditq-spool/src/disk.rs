//! The file operations that can fail, behind a trait so that tests can make them.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

/// The file operations of a spool; each method does the real thing unless it is overridden.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates a file that must not be there yet, readable and writable by its owner only.
    ///
    /// # Errors
    /// What the operating system says.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    /// Gives an empty file `bytes` bytes of disk, all zeros, so that later writes to them cannot find the disk full.
    ///
    /// # Errors
    /// What the operating system says; a file system that cannot allocate ahead gets zeros written instead.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        match retry_interrupted(|| Ok(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes)?)) {
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::NOSYS)) => {
                write_zeros(file, bytes)
            }
            other => other,
        }
    }

    /// Waits until the data of a file is on the disk.
    ///
    /// # Errors
    /// What the operating system says: after that nothing is known of what is on the disk.
    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Waits until the entries of a directory are on the disk.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Renames a file, replacing what has the new name.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// The disk as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {}

/// Repeats a call for as long as a signal interrupts it.
pub(crate) fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = [0; 64 << 10];
    let mut at = 0;
    while at < bytes {
        let count = usize::try_from(bytes - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all_at(&zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

/// Removes a file that may be gone already.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A lock file that this process holds; the kernel gives it back however the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    process: u32,
}

/// Opens a lock file, creating it where it is missing, and tries to take it for this open file alone.
///
/// Returns `None` when somebody else has it.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<Lock>> {
    lock(OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?)
}

/// As [`try_lock`], for somebody who looks: a lock file that is missing is an error, and none is made.
pub(crate) fn try_lock_if_there(path: &Path) -> io::Result<Option<Lock>> {
    lock(File::open(path)?)
}

fn lock(file: File) -> io::Result<Option<Lock>> {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock { file, process: std::process::id() })),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Drop for Lock {
    /// Closing the file is not enough: a child that was forked meanwhile, even one that is about to exec, has it open
    /// too. That child, in turn, must not take the lock from its parent.
    fn drop(&mut self) {
        if self.process == std::process::id() {
            // What fails here is given back when the last copy of the file is closed.
            let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_written_to_the_last_byte_where_nothing_can_be_allocated() {
        let file = tempfile::tempfile().unwrap();
        write_zeros(&file, (64 << 10) + 4096).unwrap();
        assert_eq!(file.metadata().unwrap().len(), (64 << 10) + 4096);
    }
}
