//! What the processes do that are killed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use auditq::{Actor, ActorExt as _, Context, Observed, Recorder, Source, System};
use auditq_config::{Config, Duplicates, EngineUrl};
use auditq_worker::{Limits, Observer, Runner, StopReason};

/// Between two looks at how many statements are due.
const TICK: Duration = Duration::from_millis(2);

#[derive(Debug, clap::Args)]
pub(crate) struct ProduceArgs {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    acks: PathBuf,
    /// Of this process, so that no two record the same
    #[arg(long)]
    number: u32,
    #[arg(long)]
    rate: u32,
}

/// Records numbered statements until it is killed, and notes each number once `record` has returned.
pub(crate) fn produce(args: &ProduceArgs) -> Result<()> {
    let mut config = Config::default();
    config.spool.dir.clone_from(&args.dir);
    config.spool.max_bytes = 1 << 33;
    config.capture.duplicates = Duplicates::Off;
    let recorder = Recorder::open(&config)?;
    let source = Source::new(System::Sqlite, "default", "shop.db");
    let mut acks = OpenOptions::new().create(true).append(true).open(&args.acks)?;
    let _inside = Context::of(Actor::user(u64::from(args.number), "alice")).enter();
    let began = Instant::now();
    let mut recorded = 0_u64;
    loop {
        let due = began.elapsed().as_millis() * u128::from(args.rate) / 1_000;
        while u128::from(recorded) < due {
            let number = u64::from(args.number) << 32 | recorded;
            recorder.record(&Observed::new(&source, &format!("SELECT {number}")));
            ensure!(recorder.stats().recorded == recorded + 1, "not recorded: {:?}", recorder.stats());
            acks.write_all(&number.to_le_bytes())?;
            recorded += 1;
        }
        std::thread::sleep(TICK);
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct WorkArgs {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    message_events: usize,
}

/// Forwards and stores until it is killed. The URLs come by the environment, where no list of processes shows them.
pub(crate) fn work(args: &WorkArgs) -> Result<()> {
    let mut config = Config::default();
    config.spool.dir.clone_from(&args.dir);
    config.queue.url = url_of("AUDITQ_QUEUE_URL")?;
    config.store.url = url_of("AUDITQ_STORE_URL")?;
    config.worker.message_events = args.message_events;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(Runner::new(config)?.run())?;
    Ok(())
}

fn url_of(name: &str) -> Result<EngineUrl> {
    EngineUrl::parse(&std::env::var(name)?).map_err(anyhow::Error::msg)
}

/// Forwards and stores until spools and queue have nothing to give.
pub(super) async fn store_what_is_there(config: Config) -> Result<()> {
    let limits = Limits { stop_when_empty: true, ..Limits::default() };
    let reason = Runner::new(config)?.limits(limits).observer(Observer::new(|_| {})).run().await?;
    ensure!(reason == StopReason::Empty, "the runner ended: {reason}");
    Ok(())
}
