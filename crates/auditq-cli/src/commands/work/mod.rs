//! `auditq work`.

mod report;
mod signals;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use auditq::Rules;
use auditq_config::{Config, Scheme};
use auditq_queue::QueueName;
use auditq_worker::{LaravelJobs, Limits, Observer, Runner, Shutdown};

use self::report::Report;
use crate::exit::Exit;
use crate::session::Session;

/// What `work` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the spools of this host into the queue and stores what is in the queue, until it is stopped. Any number of them \
may run, here and on other machines. TERM, INT or QUIT: it finishes what it holds, gives the rest back, and exits \
with 0; a second one ends it at once, and still nothing is lost. While queue or store do not answer it waits and \
tries again.

Examples:
  auditq work
  auditq work --workers 4 --memory 256          under systemd: see `auditq init`
  auditq work --queue high-priority,audit-logs  empties the first queue first
  auditq work --stop-when-empty                 in a crontab
  auditq work --json | jq -c 'select(.level == \"error\")'

Exit codes: 0 stopped, 1 cannot go on, 2 wrong usage, 12 more memory in use than --memory.
Defaults are those of the section [worker] of auditq.toml, where there is one.")]
pub(crate) struct Args {
    /// Queues to take messages from, earlier ones first [default: queue.name, or audit-logs]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    queue: Vec<QueueName>,
    /// Workers in this process [default: 2; 4 for Laravel's jobs on a database server]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// How often an event that the store refuses is tried before it is kept as failed; 0 is for ever [default: 3]
    #[arg(long, value_name = "N")]
    tries: Option<u32>,
    /// How long storing a batch may take before the store counts as not answering [default: 30]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// How many refusals make an event failed, whatever --tries says; 0 is without limit [default: 3]
    #[arg(long, value_name = "N")]
    max_exceptions: Option<u32>,
    /// Wait before the second, third, … try; the last one goes on [default: 1,5,10]
    #[arg(long, value_name = "SECONDS,…", value_delimiter = ',')]
    backoff: Option<Vec<u64>>,
    /// The longest wait when there is nothing to do; a new message ends it [default: 3]
    #[arg(long, value_name = "SECONDS")]
    sleep: Option<f64>,
    /// Rest after each batch [default: 0]
    #[arg(long, value_name = "SECONDS")]
    rest: Option<f64>,
    /// Exit after so many messages; 0 is without limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_jobs: u64,
    /// Exit after so long; 0 is without limit
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    max_time: u64,
    /// Exit with code 12 when this process holds more memory; 0 is without limit
    #[arg(long, value_name = "MB", default_value_t = 0)]
    memory: u64,
    /// Take one message and exit; exit at once when there is none
    #[arg(long)]
    once: bool,
    /// Exit when spools and queue are empty
    #[arg(long)]
    stop_when_empty: bool,
    /// Print a JSON object for each thing done
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &Args, session: Session) -> Result<Exit> {
    let config = args.over(session.config);
    let meter = Meter::open(&config);
    let report = Arc::new(Report::new(args.json));
    let shutdown = Shutdown::new();
    signals::listen(shutdown.clone())?;
    let rules = Rules::open(&config)?;
    let jobs = LaravelJobs::new(&config, rules.redaction, rules.limits)?;
    let runner = Runner::new(config.clone())?.laravel(jobs);
    let runner = if args.queue.is_empty() { runner } else { runner.queues(args.queue.clone()) };
    let hearing = Arc::clone(&report);
    let runner =
        runner.limits(args.limits()).observer(Observer::new(move |event| hearing.tell(event))).shutdown(shutdown);
    report.begin(&config, &args.queue);
    let outcome = runner.run().await;
    meter.read();
    let reason = outcome?;
    report.end(reason);
    Ok(if reason.exit_code() == 12 { Exit::OutOfMemory } else { Exit::Ok })
}

impl Args {
    /// The configuration with what the flags say. The runner validates it again.
    fn over(&self, mut config: Config) -> Config {
        let worker = &mut config.worker;
        worker.workers = self.workers.unwrap_or(worker.workers);
        worker.tries = self.tries.unwrap_or(worker.tries);
        worker.timeout = self.timeout.unwrap_or(worker.timeout);
        worker.max_exceptions = self.max_exceptions.unwrap_or(worker.max_exceptions);
        worker.sleep = self.sleep.unwrap_or(worker.sleep);
        worker.rest = self.rest.unwrap_or(worker.rest);
        if let Some(backoff) = &self.backoff {
            worker.backoff.clone_from(backoff);
        }
        config
    }

    fn limits(&self) -> Limits {
        Limits {
            max_jobs: self.max_jobs,
            max_time: Duration::from_secs(self.max_time),
            memory_bytes: self.memory.saturating_mul(1 << 20),
            once: self.once,
            stop_when_empty: self.stop_when_empty,
        }
    }
}

/// Counts what the process asks of its databases, for the log at the level debug.
struct Meter(Vec<auditq_sqlite::Database>);

impl Meter {
    /// Shares the databases that the runner will open. One that cannot be opened is the runner's to report.
    fn open(config: &Config) -> Self {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return Self(Vec::new());
        }
        let mut databases: Vec<auditq_sqlite::Database> = Vec::new();
        for url in [&config.queue.url, &config.store.url] {
            if url.scheme() == Scheme::Sqlite
                && let Ok(database) = auditq_sqlite::Database::open(&url.file(), auditq_sqlite::Options::default())
                && !databases.iter().any(|other| other.is_same(&database))
            {
                databases.push(database);
            }
        }
        Self(databases)
    }

    fn read(&self) {
        for database in &self.0 {
            let (file, operations) = (database.path().display(), database.operations());
            tracing::debug!(target: "auditq", %file, operations, "database operations of this process");
        }
    }
}
