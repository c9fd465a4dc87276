//! Everything is killed, again and again, and in the end the rows are held against what was acknowledged.

mod chaos;
mod count;
mod roles;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use auditq_config::{Config, EngineUrl};
use auditq_queue::QueueName;
use auditq_worker::Engines;
use serde_json::json;

use crate::hot_path;
use chaos::Chaos;
pub(crate) use roles::{ProduceArgs, WorkArgs, produce, work};

/// How long what is left may take once nothing is killed any more.
const DRAINING_MAX: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The queue, in a database (or with a prefix, or streams) of its own that holds nothing yet
    #[arg(long)]
    queue: EngineUrlArg,
    /// The store, likewise
    #[arg(long)]
    store: EngineUrlArg,
    /// For how long
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Processes that record
    #[arg(long, default_value_t = 4)]
    producers: usize,
    /// Processes that forward and store
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Statements that each producer records a second
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// A shell command that cuts every connection to the servers; run every few seconds
    #[arg(long, value_name = "COMMAND")]
    cut_connections: Option<String>,
    /// A shell command that stops the server; run at a third and at two thirds of the time
    #[arg(long, value_name = "COMMAND", requires = "start_server")]
    stop_server: Option<String>,
    /// A shell command that starts it again and returns when it answers
    #[arg(long, value_name = "COMMAND", requires = "stop_server")]
    start_server: Option<String>,
    /// Seconds between the two
    #[arg(long, default_value_t = 20)]
    down: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// An engine's URL on the command line, whose password is not shown.
#[derive(Clone, Debug)]
struct EngineUrlArg(EngineUrl);

impl std::str::FromStr for EngineUrlArg {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        EngineUrl::parse(url).map(Self)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let config = config(args, folder.path());
    let queue: QueueName = config.queue.name.parse()?;
    runtime.block_on(must_be_empty(&config, &queue))?;
    let chaos = Chaos::rage(args, folder.path())?;
    let began = Instant::now();
    runtime.block_on(drain(&config, &queue))?;
    let drained = began.elapsed();
    let counted = runtime.block_on(count::compare(&config, &queue, folder.path()))?;
    let report = json!({
        "queue": args.queue.0.to_string(),
        "store": args.store.0.to_string(),
        "minutes": args.minutes,
        "producers": args.producers,
        "workers": args.workers,
        "producers_killed": chaos.producers_killed,
        "workers_killed": chaos.workers_killed,
        "connections_cut": chaos.connections_cut,
        "server_stops": chaos.server_stops,
        "drained_in_seconds": drained.as_secs_f64().round(),
        "acknowledged": counted.acknowledged,
        "stored": counted.stored,
        "lost": counted.lost,
        "duplicated": counted.duplicated,
        "failed": counted.failed,
    });
    hot_path::print(args.json, &report)?;
    ensure!(
        (counted.lost, counted.duplicated, counted.failed) == (0, 0, 0),
        "lost {}, duplicated {}, failed {}",
        counted.lost,
        counted.duplicated,
        counted.failed
    );
    // A run in which nothing was done would prove nothing.
    ensure!(counted.acknowledged > 0 && chaos.workers_killed > 0, "nothing was recorded or nothing was killed");
    Ok(())
}

/// What every process goes by.
fn config(args: &Args, folder: &Path) -> Config {
    let mut config = Config::default();
    config.spool.dir = folder.join("spool");
    config.spool.max_bytes = 1 << 33;
    config.queue.url = args.queue.0.clone();
    config.store.url = args.store.0.clone();
    // Small messages, so that there are many of them to be caught in the middle of something.
    config.worker.message_events = 50;
    config
}

async fn must_be_empty(config: &Config, queue: &QueueName) -> Result<()> {
    let engines = Engines::open(config).await?;
    let (rows, sizes) = (engines.reader.count().await?, engines.admin.sizes(queue).await?);
    let messages = sizes.total() + sizes.failed;
    ensure!(rows == 0 && messages == 0, "{rows} rows and {messages} messages are there already; name an empty place");
    Ok(())
}

/// Lets workers that nobody kills store what is left.
async fn drain(config: &Config, queue: &QueueName) -> Result<()> {
    let began = Instant::now();
    loop {
        roles::store_what_is_there(config.clone()).await?;
        let left = Engines::open(config).await?.admin.sizes(queue).await?.total();
        if left == 0 {
            return Ok(());
        }
        ensure!(began.elapsed() < DRAINING_MAX, "{left} messages are still in the queue after ten minutes");
        // What the killed workers held comes back by itself.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The folder of the producers' own records.
fn acks(folder: &Path) -> Result<std::path::PathBuf> {
    let acks = folder.join("acks");
    std::fs::create_dir_all(&acks).with_context(|| format!("cannot make {}", acks.display()))?;
    Ok(acks)
}
