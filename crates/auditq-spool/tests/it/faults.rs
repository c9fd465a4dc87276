//! A disk that refuses.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use auditq_spool::{AppendError, Chunk, Disk, Durability, Options, Reader, Spool};

use crate::child;
use crate::full;
use crate::support::{eventually, open, payload, peek, tiny, written};

/// The real disk, but for what a test makes it refuse.
#[derive(Debug, Default)]
pub(crate) struct Faulty {
    no_space: AtomicBool,
    no_rename: AtomicBool,
    no_sync: AtomicBool,
    slow_sync: AtomicBool,
    pub(crate) syncs: AtomicU64,
}

impl Faulty {
    fn refuse(&self, what: &AtomicBool, errno: i32) -> io::Result<()> {
        if what.load(Ordering::SeqCst) { Err(io::Error::from_raw_os_error(errno)) } else { Ok(()) }
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl Disk for Faulty {
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.refuse(&self.no_space, ENOSPC)?;
        auditq_spool::RealDisk.allocate(file, bytes)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.refuse(&self.no_sync, EIO)?;
        if self.slow_sync.load(Ordering::SeqCst) {
            // As long as a disk takes: what a group commit is for.
            std::thread::sleep(Duration::from_millis(2));
        }
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.refuse(&self.no_rename, EIO)?;
        std::fs::rename(from, to)
    }
}

pub(crate) fn slow_disk() -> Arc<Faulty> {
    let disk = Arc::new(Faulty::default());
    disk.slow_sync.store(true, Ordering::SeqCst);
    disk
}

fn on(disk: &Arc<Faulty>, root: &Path, options: Options) -> Spool {
    Spool::open_on(Arc::<Faulty>::clone(disk), root, options).unwrap()
}

#[test]
fn an_allocation_that_fails_is_a_shortage_and_what_was_read_makes_room() {
    let (root, disk) = (tempfile::tempdir().unwrap(), Arc::new(Faulty::default()));
    let spool = on(&disk, root.path(), tiny());
    disk.no_space.store(true, Ordering::SeqCst);
    full::a_full_spool_counts_and_recovers(&spool, root.path(), "No space left");
}

#[test]
fn a_spool_goes_on_by_itself_when_there_is_space_again() {
    let (root, disk) = (tempfile::tempdir().unwrap(), Arc::new(Faulty::default()));
    let spool = on(&disk, root.path(), tiny());
    disk.no_space.store(true, Ordering::SeqCst);
    while spool.append(&[&payload(0, 400)]).is_ok() {}
    disk.no_space.store(false, Ordering::SeqCst);
    eventually("room", || spool.append(&[&payload(0, 400)]).is_ok());
    eventually("no shortage", || spool.stats().shortage.is_none());
}

#[test]
fn a_segment_that_cannot_be_put_in_place_is_a_shortage_until_it_can() {
    let (root, disk) = (tempfile::tempdir().unwrap(), Arc::new(Faulty::default()));
    let spool = on(&disk, root.path(), tiny());
    disk.no_rename.store(true, Ordering::SeqCst);
    let kept = (0..).find(|&number| spool.append(&[&payload(number, 400)]).is_err()).unwrap();
    assert_eq!(kept, 9, "what fits into the first segment");
    assert_eq!(spool.append(&[b"small"]), Ok(9), "the rest of the segment is still good for smaller records");
    disk.no_rename.store(false, Ordering::SeqCst);
    assert_eq!(spool.append(&[&payload(10, 400)]), Ok(10));
    spool.close();
    assert_eq!(peek(root.path(), spool.producer_id()).seqs(), (0..=10).collect::<Vec<_>>());
}

#[test]
fn a_failed_sync_poisons_the_spool_and_what_was_written_stays_readable() {
    let (root, disk) = (tempfile::tempdir().unwrap(), Arc::new(Faulty::default()));
    let options = Options { durability: Durability::PowerLoss, ..tiny() };
    let spool = on(&disk, root.path(), options.clone());
    assert_eq!(spool.append(&[b"safe"]), Ok(0));
    disk.no_sync.store(true, Ordering::SeqCst);
    assert_eq!(spool.append(&[b"unsure"]), Err(AppendError::Poisoned));
    disk.no_sync.store(false, Ordering::SeqCst);
    assert_eq!(spool.append(&[b"late"]), Err(AppendError::Poisoned));
    assert!(spool.stats().poisoned);
    let id = spool.producer_id();
    drop(spool);

    let fresh = on(&disk, root.path(), options);
    assert_eq!(fresh.append(&[b"safe again"]), Ok(0));
    let mut orphan = open(root.path(), id);
    assert!(orphan.writer_is_dead().unwrap());
    let mut chunk = Chunk::default();
    orphan.read(&mut chunk, 10, 1 << 20).unwrap();
    let payloads: Vec<_> = chunk.records().map(|record| record.payload).collect();
    assert_eq!(payloads, [&b"safe"[..], b"unsure"]);
}

#[test]
fn a_cursor_that_cannot_be_replaced_is_an_error_and_the_records_come_again() {
    let (root, disk) = (tempfile::tempdir().unwrap(), Arc::new(Faulty::default()));
    let (id, _) = written(root.path(), tiny(), &[b"one".to_vec(), b"two".to_vec()]);
    let mut reader = Reader::open_on(Arc::<Faulty>::clone(&disk), root.path(), id).unwrap().unwrap();
    let mut chunk = Chunk::default();
    reader.read(&mut chunk, 1, 1 << 20).unwrap();
    disk.no_rename.store(true, Ordering::SeqCst);
    let error = reader.commit(chunk.end()).unwrap_err().to_string();
    assert!(error.contains("cannot replace the cursor"), "{error}");
    drop(reader);
    assert_eq!(peek(root.path(), id).seqs(), [0, 1]);
}

#[test]
fn a_spool_that_cannot_be_opened_leaves_nothing_behind() {
    let (root, disk) = (tempfile::tempdir().unwrap(), Arc::new(Faulty::default()));
    disk.no_space.store(true, Ordering::SeqCst);
    let error = Spool::open_on(Arc::<Faulty>::clone(&disk), root.path(), tiny()).unwrap_err().to_string();
    assert!(error.contains("No space left") && error.contains("free some space"), "{error}");
    disk.no_rename.store(true, Ordering::SeqCst);
    Spool::open_on(disk, root.path(), tiny()).unwrap_err();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn a_file_in_place_of_the_directory_is_named_in_the_error() {
    let root = tempfile::NamedTempFile::new().unwrap();
    let error = Spool::open(root.path(), tiny()).unwrap_err().to_string();
    assert!(error.contains(root.path().to_str().unwrap()), "{error}");
    let error = Reader::producers(root.path()).unwrap_err().to_string();
    assert!(error.contains("name a directory"), "{error}");
}

#[test]
fn a_directory_without_the_right_to_write_or_read_is_a_clear_error() {
    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (spools, hidden) = (root.path().join("spools"), root.path().join("hidden"));
    for (path, mode) in [(&spools, 0o555), (&hidden, 0o000)] {
        std::fs::create_dir(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let said = child::open_as_nobody(root.path(), &spools, &hidden);
    assert!(said.contains("cannot create a directory for this process"), "{said}");
    assert!(said.contains("give this user the right to write there"), "{said}");
    assert!(said.contains("cannot list"), "{said}");
}
