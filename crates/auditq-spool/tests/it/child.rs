//! Child processes: the test binary runs itself again as one of these.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use auditq_spool::{AppendError, Options, ProducerId, Reader, Spool};

use crate::full;
use crate::support::{eventually, payload, tiny};

const ROLE: &str = "AUDITQ_SPOOL_CHILD";

#[test]
#[ignore = "a role that other tests start as a process of its own"]
fn entry() {
    let argument = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")));
    match std::env::var(ROLE).expect("started by another test").as_str() {
        "write" => write_until_killed(&argument("SPOOL"), &argument("ACKS")),
        "fill" => fill_and_wait(&argument("SPOOL"), &argument("ACKS")),
        "open" => open_both(&argument("SPOOL"), &argument("HIDDEN")),
        "small disk" => {
            let root = argument("SPOOL");
            let spool = Spool::open(&root, tiny()).unwrap();
            full::a_full_spool_counts_and_recovers(&spool, &root, "No space left");
        }
        role => panic!("no role {role}"),
    }
}

fn command(program: &Path, role: &str, spool: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--ignored", "--exact", "child::entry", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env("SPOOL", spool);
    command
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// Starts a process whose two threads append numbered records and note each number once `append` returned.
pub(crate) fn start_writer(spool: &Path, acks: &Path) -> Child {
    let mut command = command(&this_program(), "write", spool);
    command.env("ACKS", acks).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn write_until_killed(root: &Path, acks: &Path) {
    let spool = Spool::open(root, tiny()).unwrap();
    thread::scope(|scope| {
        for writer in 0..2_u64 {
            let spool = &spool;
            scope.spawn(move || {
                let mut acks = OpenOptions::new().append(true).open(acks).unwrap();
                for index in 0.. {
                    let number = writer << 32 | index;
                    spool.append(&[&payload(number, 8 + index as usize % 700)]).unwrap();
                    acks.write_all(&number.to_le_bytes()).unwrap();
                }
            });
        }
    });
}

/// Has a process fill a spool beyond its limit, kills it, and returns whose spool it was, with how many records it
/// kept and how many it dropped.
pub(crate) fn fill_and_be_killed(root: &Path) -> (ProducerId, (u64, u64)) {
    let told = root.join("told");
    let mut child = command(&this_program(), "fill", root).env("ACKS", &told).stdout(Stdio::null()).spawn().unwrap();
    eventually("counts", || told.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let text = fs::read_to_string(&told).unwrap();
    let (kept, dropped) = text.split_once(' ').unwrap();
    let id = Reader::producers(root).unwrap()[0];
    (id, (kept.parse().unwrap(), dropped.parse().unwrap()))
}

fn fill_and_wait(root: &Path, told: &Path) {
    let spool = Spool::open(root, Options { max_bytes: 3 * 8192, ..tiny() }).unwrap();
    let results: Vec<_> = (0..100).map(|number| spool.append(&[&payload(number, 400)])).collect();
    let dropped = results.iter().filter(|result| **result == Err(AppendError::Full)).count();
    fs::write(told.with_extension("next"), format!("{} {dropped}", results.len() - dropped)).unwrap();
    fs::rename(told.with_extension("next"), told).unwrap();
    loop {
        thread::park();
    }
}

/// Has a user without any rights open a spool in each directory, and returns what it was told.
pub(crate) fn open_as_nobody(shared: &Path, spools: &Path, hidden: &Path) -> String {
    let program = shared.join("child");
    fs::copy(this_program(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = command(&program, "open", spools);
    command.env("HIDDEN", hidden).current_dir("/");
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn open_both(spools: &Path, hidden: &Path) {
    eprintln!("{}", Spool::open(spools, tiny()).unwrap_err());
    eprintln!("{}", Reader::producers(hidden).unwrap_err());
}

/// Fills a spool on a file system of its own of this size.
pub(crate) fn on_a_small_disk(bytes: u64) {
    let mount = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size={bytes} tmpfs \"$SPOOL\" && exec \"$@\"");
    let mut shell = Command::new("unshare");
    shell.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]).arg(this_program());
    shell
        .args(["--ignored", "--exact", "child::entry", "--nocapture"])
        .env(ROLE, "small disk")
        .env("SPOOL", mount.path());
    let output = shell.output().expect("this test needs unshare(1) and a kernel that lets it mount a tmpfs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "on a small disk (needs unshare(1) and the right to mount a tmpfs): {said}");
}
