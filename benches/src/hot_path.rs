//! What recording one statement costs the caller.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use auditq::Recorder;
use auditq_config::{Config, Duplicates};
use auditq_spool::{Chunk, ProducerId, Reader};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::workload;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Statements that each thread records
    #[arg(long, default_value_t = 300_000)]
    events: u64,
    /// Statements that each thread records a second; 0 is as fast as it can
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let clock = clock_cost();
    let one = measure(args, 1)?;
    let four = measure(args, 4)?;
    let push = vec_push(args.events, one.event_bytes)?;
    let write = write_call(args.events, one.event_bytes)?;
    let summary = |run: &Run| {
        json!({
            "threads": run.threads,
            "median_ns": run.nanoseconds.value_at_quantile(0.5),
            "p99_ns": run.nanoseconds.value_at_quantile(0.99),
            "p999_ns": run.nanoseconds.value_at_quantile(0.999),
            "max_ns": run.nanoseconds.max(),
            "recorded": run.recorded,
            "dropped": run.dropped,
        })
    };
    let median = one.nanoseconds.value_at_quantile(0.5);
    let ratio = |other: &Histogram<u64>| ratio(median, other.value_at_quantile(0.5));
    let report = json!({
        "median_ns": four.nanoseconds.value_at_quantile(0.5).max(median),
        "p99_ns": four.nanoseconds.value_at_quantile(0.99).max(one.nanoseconds.value_at_quantile(0.99)),
        "threads": four.threads,
        "event_bytes": one.event_bytes,
        "durability": "process",
        "rate_per_thread": args.rate,
        "clock_ns": clock,
        "runs": [summary(&one), summary(&four)],
        "vec_push_median_ns": push.value_at_quantile(0.5),
        "write_median_ns": write.value_at_quantile(0.5),
        "ratio_to_vec_push": ratio(&push),
        "ratio_to_write": ratio(&write),
        "resident_growth_bytes": four.grown.max(one.grown),
    });
    print(args.json, &report)
}

struct Run {
    threads: u64,
    nanoseconds: Histogram<u64>,
    event_bytes: u64,
    recorded: u64,
    dropped: u64,
    grown: u64,
}

/// Records on `threads` threads while a reader takes the events away, as a forwarder does.
fn measure(args: &Args, threads: u64) -> Result<Run> {
    let folder = tempfile::tempdir()?;
    let mut config = Config::default();
    config.spool.dir = folder.path().join("spool");
    config.capture.duplicates = Duplicates::Off;
    let recorder = Recorder::open(&config)?;
    let done = AtomicBool::new(false);
    let before = auditq_worker::resident_bytes().unwrap_or_default();
    let (histograms, bytes) = std::thread::scope(|scope| -> Result<_> {
        let reading = scope.spawn(|| read_away(&config.spool.dir, &done));
        let writing: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn({
                    let recorder = recorder.clone();
                    move || record_paced(&recorder, args, thread)
                })
            })
            .collect();
        let histograms: Vec<_> = writing.into_iter().map(|thread| thread.join().map_err(|_| panicked())).collect();
        done.store(true, Ordering::Release);
        let bytes = reading.join().map_err(|_| panicked())??;
        Ok((histograms.into_iter().collect::<Result<Vec<_>>>()?, bytes))
    })?;
    let mut nanoseconds = Histogram::new(3)?;
    for histogram in histograms {
        nanoseconds.add(histogram?)?;
    }
    let stats = recorder.stats();
    anyhow::ensure!(
        stats.recorded + stats.dropped_full == threads * args.events,
        "not every statement is accounted for: {stats:?}"
    );
    let grown = auditq_worker::resident_bytes().unwrap_or_default().saturating_sub(before);
    let event_bytes = bytes / stats.recorded.max(1);
    Ok(Run { threads, nanoseconds, event_bytes, recorded: stats.recorded, dropped: stats.dropped_full, grown })
}

fn panicked() -> anyhow::Error {
    anyhow::anyhow!("a thread of the benchmark panicked")
}

fn record_paced(recorder: &Recorder, args: &Args, thread: u64) -> Result<Histogram<u64>> {
    let source = workload::source();
    let _inside = workload::context(thread).enter();
    let mut nanoseconds = Histogram::new(3)?;
    // The first ones meet cold caches and a statement that is not known yet.
    let warm_up = i64::try_from(args.events / 100)?;
    let began = Instant::now();
    for n in 0..i64::try_from(args.events)? {
        if let Some(due) = (n.unsigned_abs() * 1_000_000_000).checked_div(args.rate) {
            wait_until(began + Duration::from_nanos(due));
        }
        let start = Instant::now();
        workload::record(recorder, &source, n);
        let took = start.elapsed();
        if n >= warm_up {
            nanoseconds.record(u64::try_from(took.as_nanos())?)?;
        }
    }
    Ok(nanoseconds)
}

/// Lets other threads run between two statements, as a program that waits for its database does.
fn wait_until(due: Instant) {
    while Instant::now() < due {
        std::thread::yield_now();
    }
}

/// Reads what is recorded and commits it, so that segments are used again; returns the bytes of all records.
fn read_away(root: &Path, done: &AtomicBool) -> Result<u64> {
    let producer: ProducerId = *Reader::producers(root)?.first().context("the recorder has no spool")?;
    let mut reader = Reader::open(root, producer)?.context("somebody else reads the spool")?;
    let (mut chunk, mut bytes) = (Chunk::default(), 0);
    loop {
        let finished = done.load(Ordering::Acquire);
        reader.read(&mut chunk, 10_000, 4 << 20)?;
        bytes += chunk.records().map(|record| record.payload.len() as u64).sum::<u64>();
        reader.commit(chunk.end())?;
        if chunk.is_empty() {
            if finished {
                return Ok(bytes);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The bare minimum in memory: a copy of as many bytes into a Vec. It survives nothing.
fn vec_push(events: u64, event_bytes: u64) -> Result<Histogram<u64>> {
    let event = vec![7_u8; usize::try_from(event_bytes)?];
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(usize::try_from(events)?);
    time(events, || kept.push(black_box(&event).clone()))
}

/// The bare minimum on disk: one write(2) an event. It survives a kill, as the spool does.
fn write_call(events: u64, event_bytes: u64) -> Result<Histogram<u64>> {
    let folder = tempfile::tempdir()?;
    let mut file = OpenOptions::new().create(true).append(true).open(folder.path().join("log"))?;
    let event = vec![7_u8; usize::try_from(event_bytes)?];
    let mut failed = None;
    let nanoseconds = time(events, || failed = file.write_all(black_box(&event)).err().or(failed.take()))?;
    failed.map_or(Ok(nanoseconds), |error| Err(error.into()))
}

fn clock_cost() -> Value {
    time(100_000, || {}).map_or(Value::Null, |nanoseconds| json!(nanoseconds.value_at_quantile(0.5)))
}

fn time(times: u64, mut what: impl FnMut()) -> Result<Histogram<u64>> {
    let mut nanoseconds = Histogram::new(3)?;
    for _ in 0..times {
        let start = Instant::now();
        what();
        nanoseconds.record(u64::try_from(start.elapsed().as_nanos())?)?;
    }
    Ok(nanoseconds)
}

fn ratio(a: u64, b: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds are far below 2^53")]
    let ratio = a as f64 / b.max(1) as f64;
    (ratio * 100.0).round() / 100.0
}

/// One JSON object for programs; for people a key and a value a line.
#[expect(clippy::print_stdout, reason = "the report is what a benchmark is for")]
pub(crate) fn print(json: bool, report: &Value) -> Result<()> {
    if json {
        println!("{report}");
        return Ok(());
    }
    for (key, value) in report.as_object().context("a report is an object")? {
        println!("{key:>24}  {value}");
    }
    Ok(())
}
