//! Child processes: the test binary runs itself again as one of these.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{batch, insert, open};

const FILE: &str = "AUDITQ_STORE_FILE";
const ACKS: &str = "AUDITQ_STORE_ACKS";
const BATCHES: &str = "AUDITQ_STORE_BATCHES";

/// Starts a process that inserts these batches and appends the number of each to `acks` once it is stored.
pub(crate) fn start(file: &Path, acks: &Path, batches: Range<u64>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child::entry", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env(ACKS, acks)
        .env(BATCHES, format!("{} {}", batches.start, batches.end))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The numbers of the batches whose insert returned.
pub(crate) fn acknowledged(acks: &Path) -> Vec<u64> {
    let bytes = std::fs::read(acks).unwrap_or_default();
    bytes.chunks_exact(8).map(|number| u64::from_le_bytes(number.try_into().unwrap())).collect()
}

#[tokio::test]
#[ignore = "a role that other tests start as a process of its own"]
async fn entry() {
    let path = |name| PathBuf::from(std::env::var_os(name).expect("started by another test"));
    let batches = std::env::var(BATCHES).expect("started by another test");
    let (start, end) = batches.split_once(' ').unwrap();
    let mut acks = OpenOptions::new().append(true).create(true).open(path(ACKS)).unwrap();
    let store = open(&path(FILE)).await;
    for number in start.parse().unwrap()..end.parse().unwrap() {
        insert(&store, batch(number)).await.unwrap();
        acks.write_all(&u64::to_le_bytes(number)).unwrap();
    }
}
