//! Kills processes, connections and the server, and starts them again.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{Args, acks, config};

/// Between two kills of a process.
const KILL_EVERY_MS: std::ops::Range<u64> = 100..1_200;
/// Between two cuts of all connections.
const CUT_EVERY_MS: std::ops::Range<u64> = 2_000..8_000;

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Chaos {
    pub(super) producers_killed: u64,
    pub(super) workers_killed: u64,
    pub(super) connections_cut: u64,
    pub(super) server_stops: u64,
}

impl Chaos {
    /// Runs producers and workers for the time that `args` say, killing all the while; returns when all are dead.
    pub(super) fn rage(args: &Args, folder: &Path) -> Result<Self> {
        let mut done = Self::default();
        let mut crew = Crew::start(args, folder)?;
        let began = Instant::now();
        let time = Duration::from_secs_f64(args.minutes * 60.0);
        let mut stops = vec![time * 2 / 3, time / 3];
        let mut outage: Option<Outage<'_>> = None;
        let (mut next_kill, mut next_cut) = (Duration::ZERO, Duration::from_secs(2));
        while began.elapsed() < time || outage.is_some() {
            let now = began.elapsed();
            if outage.as_ref().is_some_and(|outage| outage.until <= now) {
                outage.take().map_or(Ok(()), |outage| run(outage.start))?;
            }
            if let (Some(stop), Some(start)) = (&args.stop_server, &args.start_server)
                && outage.is_none()
                && stops.pop_if(|at| *at <= now).is_some()
            {
                run(stop)?;
                done.server_stops += 1;
                outage = Some(Outage { until: began.elapsed() + Duration::from_secs(args.down), start });
            }
            if let Some(cut) = &args.cut_connections
                && outage.is_none()
                && next_cut <= now
            {
                run(cut)?;
                done.connections_cut += 1;
                next_cut = now + Duration::from_millis(fastrand::u64(CUT_EVERY_MS));
            }
            if next_kill <= now {
                match crew.kill_one()? {
                    Role::Producer => done.producers_killed += 1,
                    Role::Worker => done.workers_killed += 1,
                }
                next_kill = now + Duration::from_millis(fastrand::u64(KILL_EVERY_MS));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(done)
    }
}

/// The server is down for a while.
struct Outage<'a> {
    until: Duration,
    start: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Producer,
    Worker,
}

/// The processes. Dropped, they are killed.
struct Crew<'a> {
    args: &'a Args,
    folder: &'a Path,
    members: Vec<(Role, Child)>,
    started: u32,
}

impl<'a> Crew<'a> {
    fn start(args: &'a Args, folder: &'a Path) -> Result<Self> {
        let mut crew = Self { args, folder, members: Vec::new(), started: 0 };
        for _ in 0..args.producers {
            crew.start_one(Role::Producer)?;
        }
        for _ in 0..args.workers {
            crew.start_one(Role::Worker)?;
        }
        Ok(crew)
    }

    fn start_one(&mut self, role: Role) -> Result<()> {
        self.started += 1;
        let config = config(self.args, self.folder);
        let mut command = Command::new(std::env::current_exe()?);
        match role {
            Role::Producer => {
                let acks = acks(self.folder)?.join(self.started.to_string());
                command.args(["torture-produce", "--number", &self.started.to_string()]);
                command.args(["--rate", &self.args.rate.to_string(), "--acks"]).arg(acks);
            }
            Role::Worker => {
                command.args(["torture-work", "--message-events", &config.worker.message_events.to_string()]);
                command.env("AUDITQ_QUEUE_URL", config.queue.url.with_password());
                command.env("AUDITQ_STORE_URL", config.store.url.with_password());
            }
        }
        command.arg("--dir").arg(&config.spool.dir).stdin(Stdio::null()).stdout(Stdio::null());
        self.members.push((role, command.spawn().context("cannot start a process")?));
        Ok(())
    }

    /// Kills one with SIGKILL, and starts another in its place. None may have ended by itself.
    fn kill_one(&mut self) -> Result<Role> {
        for (role, child) in &mut self.members {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("a {role:?} ended by itself: {status}");
            }
        }
        ensure!(!self.members.is_empty(), "there are no processes to kill");
        let (role, mut child) = self.members.swap_remove(fastrand::usize(..self.members.len()));
        child.kill()?;
        child.wait()?;
        self.start_one(role)?;
        Ok(role)
    }
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        for (_, child) in &mut self.members {
            // One that has ended already cannot be killed.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn run(command: &str) -> Result<()> {
    let shell = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = shell.context("cannot run sh")?;
    ensure!(status.success(), "`{command}` ended with {status}");
    Ok(())
}
