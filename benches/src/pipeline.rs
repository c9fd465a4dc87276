//! How fast spooled events become rows, as a ratio to a bulk load.

mod mysql;
mod nats;
mod postgres;
mod redis;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use auditq::Recorder;
use auditq_config::{Config, Duplicates, EngineUrl};
use auditq_worker::{Limits, Observer, Runner, StopReason};
use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::json;

use crate::{hot_path, workload};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Engine of queue and store
    #[arg(long, default_value = "sqlite")]
    engine: Engine,
    /// The server, for engines that have one, such as mysql://root@127.0.0.1:3306; a database of its own is made and
    /// dropped
    #[arg(long)]
    url: Option<String>,
    /// Events that go the whole way
    #[arg(long, default_value_t = 300_000)]
    events: u64,
    /// Workers in the process [default: as shipped]
    #[arg(long)]
    workers: Option<usize>,
    /// Messages that a worker takes at once [default: as shipped]
    #[arg(long)]
    batch: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Engine {
    Sqlite,
    Mysql,
    Nats,
    Postgres,
    Redis,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ProduceArgs {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    events: u64,
}

/// Fills the spool in `dir` and exits, as an application that has ended.
pub(crate) fn produce(args: &ProduceArgs) -> Result<()> {
    let mut config = Config::default();
    config.spool.dir.clone_from(&args.dir);
    config.spool.max_bytes = 1 << 40;
    config.capture.duplicates = Duplicates::Off;
    let recorder = Recorder::open(&config)?;
    let source = workload::source();
    let events = i64::try_from(args.events)?;
    for user in 0..events.div_euclid(1_000) + 1 {
        let _inside = workload::context(user.unsigned_abs()).enter();
        for n in user * 1_000..(user * 1_000 + 1_000).min(events) {
            workload::record(&recorder, &source, n);
        }
    }
    ensure!(recorder.stats().recorded == args.events, "the spool did not take every event: {:?}", recorder.stats());
    Ok(())
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match args.engine {
        Engine::Sqlite => run_sqlite(args),
        Engine::Mysql => mysql::run(args),
        Engine::Nats => nats::run(args),
        Engine::Postgres => postgres::run(args),
        Engine::Redis => redis::run(args),
    }
}

fn run_sqlite(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = config(args, folder.path(), EngineUrl::sqlite(&folder.path().join("audit.db")));
    measure_into_sqlite(args, folder.path(), &config, "sqlite")
}

/// Measures any queue with the store in a SQLite file, and that file's own limits.
fn measure_into_sqlite(args: &Args, folder: &Path, config: &Config, engine: &str) -> Result<()> {
    let report = measure(args, config)?;
    let stored = count(&config.store.url.file())?;
    ensure!(stored == args.events, "{stored} rows of {} events", args.events);
    let limit = ["WAL", "DELETE", "OFF"]
        .into_iter()
        .map(|journal| Ok((journal, bulk_load(&config.store.url.file(), folder, journal)?)))
        .collect::<Result<Vec<_>>>()?;
    print(args, engine, &report, ("limit_by_journal_mode", &limit), json!({}))
}

fn config(args: &Args, folder: &Path, url: EngineUrl) -> Config {
    let mut config = Config::default();
    config.spool.dir = folder.join("spool");
    config.queue.url = url.clone();
    config.store.url = url;
    config.worker.workers = args.workers.unwrap_or(config.worker.workers);
    config.worker.batch = args.batch.unwrap_or(config.worker.batch);
    config
}

/// What a run of the pipeline took.
struct Measured {
    rows_per_second: f64,
    peak_rss_mb: u64,
    resident_before: u64,
}

/// Fills a spool in another process, and measures how fast it is emptied.
fn measure(args: &Args, config: &Config) -> Result<Measured> {
    let status = Command::new(std::env::current_exe()?)
        .args(["produce", "--events", &args.events.to_string(), "--dir"])
        .arg(&config.spool.dir)
        .status()?;
    ensure!(status.success(), "the producer failed");
    let resident_before = auditq_worker::resident_bytes().unwrap_or_default();
    let began = Instant::now();
    work(config.clone())?;
    let rows_per_second = per_second(args.events, began);
    Ok(Measured { rows_per_second, peak_rss_mb: peak_resident_mb()?, resident_before })
}

/// `spent` is what the engine has counted.
fn print(
    args: &Args,
    engine: &str,
    measured: &Measured,
    (name, limit): (&str, &[(&str, f64)]),
    spent: serde_json::Value,
) -> Result<()> {
    let fastest = limit.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let limits = limit.iter().map(|(way, rate)| ((*way).to_owned(), json!(rate.round())));
    let mut report = json!({
        "engine": engine,
        "events": args.events,
        "rows_per_second": measured.rows_per_second.round(),
        "limit_rows_per_second": fastest.round(),
        "ratio": (measured.rows_per_second / fastest * 1000.0).round() / 1000.0,
        "peak_rss_mb": measured.peak_rss_mb,
        "resident_before_mb": measured.resident_before >> 20,
    });
    report[name] = limits.collect::<serde_json::Map<_, _>>().into();
    if let serde_json::Value::Object(spent) = spent {
        for (name, value) in spent {
            report[name] = value;
        }
    }
    hot_path::print(args.json, &report)
}

/// Forwards and works in this process until spool and queue are empty.
fn work(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let limits = Limits { stop_when_empty: true, ..Limits::default() };
    let runner = Runner::new(config)?.limits(limits).observer(Observer::new(|_| {}));
    let reason = runtime.block_on(runner.run())?;
    ensure!(reason == StopReason::Empty, "the runner ended: {reason}");
    Ok(())
}

fn count(file: &Path) -> Result<u64> {
    let connection = Connection::open(file)?;
    let rows: i64 = connection.query_row("select count(*) from audit_sql_logs", [], |row| row.get(0))?;
    Ok(u64::try_from(rows)?)
}

/// The fastest load of the same rows into the same table with the same indexes: one transaction, one prepared
/// statement, values ready to bind, no queue. Without a journal it is not even crash-safe, but on the disk at the end.
fn bulk_load(source: &Path, folder: &Path, journal: &str) -> Result<f64> {
    let path = folder.join(format!("limit-{journal}.db"));
    let source = Connection::open(source)?;
    let target = Connection::open(&path)?;
    target.execute_batch(&format!(
        "PRAGMA journal_mode = {journal}; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536; PRAGMA locking_mode = EXCLUSIVE;"
    ))?;
    for definition in definitions(&source)? {
        target.execute_batch(&definition)?;
    }
    let mut select = source.prepare("SELECT * FROM audit_sql_logs ORDER BY id")?;
    let columns = select.column_count();
    let mut insert =
        target.prepare(&format!("INSERT INTO audit_sql_logs VALUES ({})", vec!["?"; columns].join(",")))?;
    let mut found = select.query([])?;
    let (mut rows, mut spent) = (0_u64, std::time::Duration::ZERO);
    target.execute_batch("BEGIN IMMEDIATE")?;
    loop {
        let chunk = next_rows(&mut found, columns)?;
        if chunk.is_empty() {
            break;
        }
        // Reading the source is not part of the load.
        let began = Instant::now();
        for row in &chunk {
            insert.execute(rusqlite::params_from_iter(row))?;
        }
        spent += began.elapsed();
        rows += chunk.len() as u64;
    }
    let began = Instant::now();
    target.execute_batch("COMMIT")?;
    std::fs::File::open(&path)?.sync_all()?;
    spent += began.elapsed();
    drop(insert);
    target.close().map_err(|(_, error)| error)?;
    std::fs::remove_file(&path)?;
    #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
    let rate = rows as f64 / spent.as_secs_f64();
    Ok(rate)
}

/// How the audit table and its indexes are defined.
fn definitions(source: &Connection) -> Result<Vec<String>> {
    let sql = "select sql from sqlite_master where tbl_name = 'audit_sql_logs' and sql is not null order by type desc";
    let mut statement = source.prepare(sql)?;
    let definitions = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    ensure!(!definitions.is_empty(), "the audit table is not there");
    Ok(definitions)
}

fn next_rows(found: &mut rusqlite::Rows<'_>, columns: usize) -> Result<Vec<Vec<Value>>> {
    let mut chunk = Vec::with_capacity(4_000);
    while chunk.len() < 4_000
        && let Some(row) = found.next()?
    {
        chunk.push((0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?);
    }
    Ok(chunk)
}

/// The most memory that this process has held, in MiB.
fn peak_resident_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel does not tell VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib.div_ceil(1024))
}

fn per_second(events: u64, began: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "event counts are far below 2^53")]
    let rate = events as f64 / began.elapsed().as_secs_f64();
    rate
}
