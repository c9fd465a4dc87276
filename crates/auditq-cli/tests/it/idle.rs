//! What a worker costs that has nothing to do.

use std::time::{Duration, Instant};

use crate::support::{Running, World};

/// Processor time of a process, of all its threads.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in brackets, may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // Linux tells user space of hundredths of a second, on every processor that Rust is at home on.
    Duration::from_millis(ticks * 10)
}

/// A worker does about 0.7 operations a second and takes well under one per cent; the limits leave room for a machine
/// that is busy otherwise, and for a build that is not optimised.
#[test]
fn an_idle_worker_costs_next_to_nothing() {
    let world = World::migrated();
    let mut command = world.command("work");
    command.env("AUDITQ_LOG", "auditq=debug");
    let mut worker = Running::of(command);
    worker.says("2 workers on audit-logs");
    let (began, before) = (Instant::now(), processor_time(worker.pid()));
    std::thread::sleep(Duration::from_secs(5));
    let (took, used) = (began.elapsed(), processor_time(worker.pid()).saturating_sub(before));
    let done = worker.terminated().ok();
    let operations = done.stderr.split_once("operations=").unwrap().1;
    let operations: f64 = operations.split_whitespace().next().unwrap().parse().unwrap();
    let share = used.as_secs_f64() / took.as_secs_f64();
    println!(
        "idle worker: {:.2} % of a core, {operations} database operations in {took:.1?}, start included",
        share * 100.0
    );
    assert!(share < 0.05, "{share}");
    // Opening takes about five, once.
    assert!(operations <= 8.0 + took.as_secs_f64() * 1.2, "{operations} in {took:?}");
}
