//! A disk without room.

use std::path::Path;
use std::process::Command;

use auditq_store::{ErrorKind, StoreReader};
use tempfile::TempDir;

use crate::support::{BATCH, batch, insert, open, seqs_in};

/// A file system of four megabytes, for as long as it lives.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs"], directory.path());
        Self(directory)
    }

    fn fill(&self) {
        // Ends with "no space left", which is the purpose.
        assert!(std::fs::write(self.0.path().join("filler"), vec![0; 8 << 20]).is_err());
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["--lazy"], self.0.path());
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    let status = Command::new(program).args(arguments).arg(path).status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "this test mounts a small file system, for which it must run as root on Linux: {program}: {status:?}"
    );
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_leaves_no_half_batch() {
    let disk = SmallDisk::mount();
    let path = disk.0.path().join("audit.db");
    let store = open(&path).await;
    insert(&store, batch(0)).await.unwrap();
    disk.fill();
    let mut stored = 1;
    // The log has room for some more in the blocks that it has already.
    let error = loop {
        match insert(&store, batch(stored)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1_000, "the disk is never full");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!(insert(&store, batch(stored)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(store.count().await.unwrap(), stored * BATCH, "what is there can be read");

    disk.free();
    assert_eq!(insert(&store, batch(stored)).await.unwrap().stored, BATCH);
    assert_eq!(seqs_in(&path), (0..(stored + 1) * BATCH).collect::<Vec<_>>());
}
