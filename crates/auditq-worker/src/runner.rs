//! Everything that turns spooled events into rows, run together: in an application, or by the binary.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use auditq_config::{Config, ConfigError};
use auditq_queue::QueueName;
use tokio::task::{JoinHandle, JoinSet};

use crate::engines::Engines;
use crate::forwarder::Forwarder;
use crate::laravel::LaravelJobs;
use crate::limits::{Budget, Limits};
use crate::observer::{Observer, StopReason, WorkEvent};
use crate::retry::{Decision, RetryPolicy};
use crate::settlement::SettleError;
use crate::shutdown::Shutdown;
use crate::signs::{Closed, Signs};
use crate::worker::{Worker, WorkerOptions};

/// How often a worker process looks whether a restart was asked for.
const CONTROL_INTERVAL: Duration = Duration::from_secs(3);

/// A forwarder and workers, as a configuration describes them.
///
/// ```no_run
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let running = auditq_worker::Runner::from_env()?.spawn();
/// // … serve …
/// running.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Runner {
    config: Config,
    queues: Vec<QueueName>,
    limits: Limits,
    shutdown: Shutdown,
    observer: Observer,
    laravel: Option<Arc<LaravelJobs>>,
    closed: Closed,
}

/// Why a runner could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A queue's name in it cannot be used.
    #[error(transparent)]
    QueueName(#[from] auditq_queue::InvalidQueueName),
    /// An engine cannot work as configured, or is damaged.
    #[error(transparent)]
    Engine(#[from] SettleError),
    /// A task of it ended before it should.
    #[error("a worker ended unexpectedly: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Runner {
    /// Takes the configuration from `auditq.toml` and the environment.
    ///
    /// # Errors
    /// A configuration that cannot be used. Engines are opened later, and waited for.
    pub fn from_env() -> Result<Self, RunError> {
        Self::new(Config::from_env()?)
    }

    /// Takes a configuration.
    ///
    /// # Errors
    /// A queue name that cannot be one, or a rule that the configuration breaks.
    pub fn new(config: Config) -> Result<Self, RunError> {
        config.validate()?;
        let queues = vec![QueueName::new(config.queue.name.as_str())?];
        let (limits, shutdown, observer, laravel, closed) = Default::default();
        Ok(Self { config, queues, limits, shutdown, observer, laravel, closed })
    }

    /// Takes messages from these queues, earlier ones first, instead of the configured one.
    #[must_use]
    pub fn queues(self, queues: Vec<QueueName>) -> Self {
        Self { queues, ..self }
    }

    /// Stores the jobs of a Laravel application too, and leaves those of other classes in the queue.
    #[must_use]
    pub fn laravel(self, jobs: LaravelJobs) -> Self {
        Self { laravel: Some(Arc::new(jobs)), ..self }
    }

    /// Ends by itself when one of these is reached.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Reports to `observer` instead of `tracing`.
    #[must_use]
    pub fn observer(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// Ends when `shutdown` is asked for.
    #[must_use]
    pub fn shutdown(self, shutdown: Shutdown) -> Self {
        Self { shutdown, ..self }
    }

    /// Runs as a task of the current tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn spawn(self) -> Running {
        let shutdown = self.shutdown.clone();
        let task = tokio::spawn(async move {
            let result = self.run().await;
            if let Err(error) = &result {
                tracing::error!(target: "auditq", %error, "the runner has ended; events stay in the spool");
            }
            result
        });
        Running { shutdown, task }
    }

    /// Runs until it is asked to end or a limit is reached. Engines that do not answer are waited for.
    ///
    /// # Errors
    /// An engine that cannot work as configured. What is spooled and queued stays where it is.
    pub async fn run(&self) -> Result<StopReason, RunError> {
        let Some(engines) = self.open_engines().await? else { return Ok(StopReason::Interrupted) };
        let mut signs = Signs::open(&self.config, &self.queues, self.closed.clone())?;
        if let Some(signs) = &mut signs {
            // Before anything is taken; what is asked from now on is news.
            signs.look().await;
        }
        let budget = Arc::new(Budget::new(self.limits));
        if budget.ends_when_empty() {
            self.drain(&engines, &budget).await
        } else {
            self.serve(&engines, &budget, signs).await
        }
    }

    /// Opens the engines, and says what in their settings may cost messages.
    async fn try_to_open(&self) -> Result<Engines, SettleError> {
        let engines = Engines::open(&self.config).await?;
        for warning in engines.admin.warnings().await? {
            tracing::warn!(target: "auditq", queue = %self.config.queue.url, "{warning}");
        }
        Ok(engines)
    }

    /// Opens the engines; `None` when it was asked to end before they answered.
    async fn open_engines(&self) -> Result<Option<Engines>, RunError> {
        let policy = self.policy();
        let began = Instant::now();
        for waits in 0.. {
            let error = match self.try_to_open().await {
                Ok(engines) => {
                    if waits > 0 {
                        self.observer.tell(&WorkEvent::Recovered { after: began.elapsed() });
                    }
                    return Ok(Some(engines));
                }
                Err(error) => error,
            };
            let Decision::Wait(delay) = policy.decide(waits, error.failure(0), fastrand::f64()) else {
                return Err(error.into());
            };
            self.observer.tell(&WorkEvent::Waiting { error: error.to_string(), delay });
            if !self.shutdown.sleep(delay).await {
                break;
            }
        }
        Ok(None)
    }

    /// Forwards and works at the same time until spool and queue have nothing to give.
    async fn drain(&self, engines: &Engines, budget: &Arc<Budget>) -> Result<StopReason, RunError> {
        let stop = Shutdown::new();
        let mut forwarder = self.forwarder(engines, stop.clone());
        loop {
            let taken = budget.taken();
            budget.set_fed(true);
            let forwarding = async {
                let forwarded = forwarder.drain().await;
                budget.set_fed(false);
                forwarded
            };
            let working = async {
                let reason = self.work(engines, budget).await;
                if self.limits.once || !matches!(reason, Ok(StopReason::Empty)) {
                    // Ends the forwarder too; what it has not pushed stays in the spool.
                    stop.request();
                }
                reason
            };
            let (forwarded, reason) = tokio::join!(forwarding, working);
            let (forwarded, reason) = (forwarded?, reason?);
            let idle = forwarded == 0 && budget.taken() == taken;
            if reason != StopReason::Empty || self.limits.once || idle {
                return Ok(reason);
            }
        }
    }

    async fn serve(
        &self,
        engines: &Engines,
        budget: &Arc<Budget>,
        signs: Option<Signs>,
    ) -> Result<StopReason, RunError> {
        let why = Arc::new(OnceLock::new());
        let mut forwarder = self.forwarder(engines, self.shutdown.clone());
        let forwarding = tokio::spawn(async move { forwarder.run().await });
        let watching = tokio::spawn(watch_restart(engines.clone(), signs, self.shutdown.clone(), Arc::clone(&why)));
        let worked = self.work(engines, budget).await;
        self.shutdown.request();
        let forwarded = forwarding.await?;
        watching.await?;
        let reason = worked?;
        forwarded?;
        Ok(why.get().copied().unwrap_or(reason))
    }

    /// Runs the workers; when one ends, the others are asked to.
    async fn work(&self, engines: &Engines, budget: &Arc<Budget>) -> Result<StopReason, RunError> {
        // Their own, so that workers which end because the queue is empty do not end the whole runner.
        let stop = Shutdown::new();
        let mut workers = JoinSet::new();
        for number in 0..self.config.worker.workers {
            let worker = self.worker(engines, number, Arc::clone(budget), stop.clone());
            workers.spawn(async move { worker.run().await });
        }
        let mut outcome = None;
        loop {
            tokio::select! {
                ended = workers.join_next() => match ended {
                    None => break,
                    Some(result) => {
                        stop.request();
                        let result = result.map_err(RunError::from).and_then(|result| result.map_err(RunError::from));
                        // The first to end says why; an error of a later one still counts.
                        if outcome.is_none() || result.is_err() {
                            outcome = Some(result);
                        }
                    }
                },
                () = self.shutdown.requested(), if !stop.is_requested() => stop.request(),
            }
        }
        outcome.unwrap_or(Ok(StopReason::Interrupted))
    }

    fn worker(&self, engines: &Engines, number: usize, budget: Arc<Budget>, shutdown: Shutdown) -> Worker {
        let settings = &self.config.worker;
        // All workers of a process together ask an idle queue as often as one would.
        let idle = Duration::from_secs_f64(settings.sleep).mul_f64(settings.workers as f64);
        Worker {
            options: WorkerOptions {
                number,
                queues: self.queues.clone(),
                batch: settings.batch,
                timeout: Duration::from_secs(settings.timeout),
                policy: self.policy(),
                idle,
                rest: Duration::from_secs_f64(settings.rest),
                laravel: self.laravel.clone(),
                closed: self.closed.clone(),
            },
            queue: Arc::clone(&engines.queue),
            store: Arc::clone(&engines.store),
            settlement: Arc::clone(&engines.settlement),
            budget,
            shutdown,
            observer: self.observer.clone(),
        }
    }

    fn forwarder(&self, engines: &Engines, shutdown: Shutdown) -> Forwarder {
        Forwarder::new(
            self.config.spool.dir.clone(),
            Arc::clone(&engines.queue),
            self.queues[0].clone(),
            self.config.worker.message_events,
            self.policy(),
            shutdown,
            self.observer.clone(),
        )
    }

    fn policy(&self) -> RetryPolicy {
        let settings = &self.config.worker;
        RetryPolicy {
            tries: settings.tries,
            max_exceptions: settings.max_exceptions,
            backoff: settings.backoff.iter().copied().map(Duration::from_secs).collect(),
        }
    }
}

/// Ends the process's workers when a restart is asked for, here or by the Laravel application that is served, and keeps
/// account of the queues that it asks to leave alone. A queue that does not answer is asked again later.
async fn watch_restart(engines: Engines, mut signs: Option<Signs>, shutdown: Shutdown, why: Arc<OnceLock<StopReason>>) {
    let mut first = None;
    loop {
        let ours = match engines.admin.control().await {
            Ok(control) => control.restart != *first.get_or_insert(control.restart),
            Err(_) => false,
        };
        let theirs = match &mut signs {
            Some(signs) => signs.look().await,
            None => false,
        };
        if ours || theirs {
            why.get_or_init(|| StopReason::Restart);
            shutdown.request();
        }
        if !shutdown.sleep(CONTROL_INTERVAL).await {
            return;
        }
    }
}

/// A runner at work in this process.
#[derive(Debug)]
pub struct Running {
    shutdown: Shutdown,
    task: JoinHandle<Result<StopReason, RunError>>,
}

impl Running {
    /// Asks it to finish what it holds, and waits until it has.
    ///
    /// # Errors
    /// The error that had ended it before.
    pub async fn stop(self) -> Result<StopReason, RunError> {
        self.shutdown.request();
        self.task.await?
    }

    /// True when it has ended, by a limit or an error.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}
