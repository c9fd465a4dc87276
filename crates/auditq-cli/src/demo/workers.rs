//! The worker processes: `auditq work`, several times, and one of them killed.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::{Child, Command};

use super::ground::Ground;

/// How long workers may take to begin.
const STARTING_MAX: Duration = Duration::from_secs(30);
/// How long a worker may take to finish what it holds.
const STOPPING_MAX: Duration = Duration::from_secs(30);

/// Worker processes at work. Dropped, they are killed.
#[derive(Debug)]
pub(super) struct Workers {
    /// With the numbers of their logs.
    running: Vec<(usize, Child)>,
    /// How many there have been.
    started: usize,
}

impl Workers {
    /// Starts `count` processes.
    pub(super) fn start(ground: &Ground, count: usize) -> Result<Self> {
        let mut workers = Self { running: Vec::new(), started: 0 };
        for _ in 0..count {
            workers.start_one(ground)?;
        }
        Ok(workers)
    }

    /// Starts one more. It runs this very program, with nothing of the caller's environment that concerns auditq.
    pub(super) fn start_one(&mut self, ground: &Ground) -> Result<()> {
        self.started += 1;
        let path = ground.worker_log(self.started);
        let log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let program = std::env::current_exe().context("cannot find this program to start workers")?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let begins_with = |prefix: &&str| name.to_string_lossy().starts_with(*prefix);
            if ["AUDITQ_", "AUDIT_LOG_", "QUEUE_"].iter().any(begins_with) && name != "AUDITQ_LOG" {
                command.env_remove(&name);
            }
        }
        command.arg("--config").arg(ground.config_file()).arg("work").current_dir(ground.folder());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        self.running.push((self.started, command.spawn().context("cannot start a worker process")?));
        Ok(())
    }

    /// Waits until one of them reads the application's spool, so that there is something to interrupt.
    pub(super) async fn forwarding(&mut self, ground: &Ground) -> Result<()> {
        let give_up = Instant::now() + STARTING_MAX;
        // Where the system lists no locks, there is nothing to wait for.
        while let Ok(None) = forwarding_process(&ground.config.spool.dir) {
            self.must_be_alive(ground)?;
            let log = ground.worker_log(1);
            ensure!(Instant::now() < give_up, "no worker process begins to read the spool; see {}", log.display());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Kills one with SIGKILL: the one that forwards at this moment, where that can be told.
    pub(super) async fn kill_one(&mut self, ground: &Ground) -> Result<()> {
        self.must_be_alive(ground)?;
        let forwarding = forwarding_process(&ground.config.spool.dir).unwrap_or_default();
        let place = self.running.iter().position(|(_, child)| child.id().is_some() && child.id() == forwarding);
        let (_, mut child) = self.running.remove(place.unwrap_or(0));
        child.kill().await.context("cannot kill a worker process")
    }

    /// Fails when a process has ended by itself.
    pub(super) fn must_be_alive(&mut self, ground: &Ground) -> Result<()> {
        for (number, child) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                let log = ground.worker_log(*number);
                bail!("a worker process has ended by itself ({status}); see {}", log.display());
            }
        }
        Ok(())
    }

    /// Asks all to finish, and waits until they have.
    pub(super) async fn stop(mut self) -> Result<()> {
        for (_, child) in &self.running {
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
            let pid = pid.context("a worker process has ended by itself")?;
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .context("cannot stop a worker process")?;
        }
        for (_, child) in &mut self.running {
            let ended: io::Result<ExitStatus> = tokio::time::timeout(STOPPING_MAX, child.wait())
                .await
                .context("a worker process does not stop when asked to")?;
            let status = ended?;
            ensure!(status.success(), "a worker process that was asked to stop ended with {status}");
        }
        Ok(())
    }
}

/// The process that holds the lock of a spool's reader, as Linux lists it.
fn forwarding_process(spool_dir: &Path) -> io::Result<Option<u32>> {
    let locks = std::fs::read_to_string("/proc/locks")?;
    for spool in spool_dir.read_dir()? {
        let Ok(lock) = spool?.path().join("reader.lock").metadata() else { continue };
        if let Some(process) = holder(&locks, lock.ino()) {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

/// A line reads `1: FLOCK  ADVISORY  WRITE 4711 08:01:131073 0 EOF`: process, then device and inode.
fn holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| !word.starts_with("WRITE"));
        let process = words.nth(1)?.parse().ok()?;
        let listed: u64 = words.next()?.rsplit(':').next()?.parse().ok()?;
        (listed == inode).then_some(process)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_by_its_inode() {
        let locks = "1: POSIX  ADVISORY  READ 12 08:01:99 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 08:01:131073 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 4712 08:01:131073 0 EOF\ngarbage\n";
        assert_eq!(holder(locks, 131_073), Some(4711));
        assert_eq!(holder(locks, 7), None);
    }
}
