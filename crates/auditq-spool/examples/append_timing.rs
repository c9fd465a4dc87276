//! Prints what an append costs its caller, in nanoseconds: `cargo run --release -p auditq-spool --example append_timing`.
//!
//! Each line: how it was driven, threads, median, p99, p99.9 and the largest, each including two readings of the clock.
#![allow(clippy::print_stdout, reason = "printing is what the program is for")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use auditq_spool::{Chunk, Options, Reader, Spool};

const RECORD: [u8; 400] = [b'q'; 400];

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let root = tempfile::tempdir()?;
    println!("clock only: {} ns", clock_ns());
    let pace = Some(Duration::from_micros(10));
    for threads in [1, 4] {
        measure(root.path(), "paced 100 k/s each", threads, 200_000, pace, true)?;
        measure(root.path(), "flat out, with a reader", threads, 500_000, None, true)?;
        measure(root.path(), "flat out, nobody reads", threads, 500_000, None, false)?;
    }
    Ok(())
}

fn clock_ns() -> u128 {
    let started = Instant::now();
    for _ in 0..1_000_000 {
        std::hint::black_box(Instant::now());
    }
    started.elapsed().as_nanos() / 1_000_000
}

fn measure(
    root: &Path,
    how: &str,
    threads: usize,
    appends: usize,
    pace: Option<Duration>,
    read: bool,
) -> Result<(), Failure> {
    let spool = Spool::open(root, Options { max_bytes: 4 << 30, ..Options::default() })?;
    // The spool makes its first segments ready in the background.
    while spool.stats().segments < 3 {
        thread::yield_now();
    }
    let done = AtomicBool::new(false);
    let (mut samples, seconds) = thread::scope(|scope| {
        let reader = read.then(|| scope.spawn(|| drain(root, &spool, &done)));
        let started = Instant::now();
        let writers: Vec<_> = (0..threads).map(|_| scope.spawn(|| append(&spool, appends, pace))).collect();
        let mut samples = Vec::with_capacity(threads * appends);
        for writer in writers {
            samples.extend(writer.join().map_err(|_| "a writer panicked")??);
        }
        let seconds = started.elapsed().as_secs_f64();
        done.store(true, Ordering::Release);
        if let Some(reader) = reader {
            reader.join().map_err(|_| "the reader panicked")??;
        }
        Ok::<_, Failure>((samples, seconds))
    })?;
    samples.sort_unstable();
    let at = |permille: usize| samples[(samples.len() - 1) * permille / 1000];
    println!(
        "{how}, {threads} threads: median {} ns, p99 {} ns, p99.9 {} ns, max {} ns, {:.0} records/s, dropped {}",
        at(500),
        at(990),
        at(999),
        at(1000),
        samples.len() as f64 / seconds,
        spool.stats().dropped
    );
    drop(spool);
    std::fs::remove_dir_all(root)?;
    Ok(())
}

fn append(spool: &Spool, appends: usize, pace: Option<Duration>) -> Result<Vec<u128>, Failure> {
    let mut samples = Vec::with_capacity(appends);
    let mut due = Instant::now();
    for _ in 0..appends {
        if let Some(pace) = pace {
            due += pace;
            while Instant::now() < due {
                std::hint::spin_loop();
            }
        }
        let started = Instant::now();
        spool.append(&[&RECORD[..40], &RECORD[40..]])?;
        samples.push(started.elapsed().as_nanos());
    }
    Ok(samples)
}

fn drain(root: &Path, spool: &Spool, done: &AtomicBool) -> Result<(), Failure> {
    let mut reader = Reader::open(root, spool.producer_id())?.ok_or("somebody else reads")?;
    let mut chunk = Chunk::default();
    loop {
        let last = done.load(Ordering::Acquire);
        reader.read(&mut chunk, 10_000, 1 << 20)?;
        if !chunk.is_empty() {
            reader.commit(chunk.end())?;
        } else if last {
            return Ok(());
        } else {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
