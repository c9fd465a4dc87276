//! `auditq demo`: an application with signed-in users, audited through the whole path and through a crash.
//!
//! An axum server over a shop's database, clients that use it, worker processes that store what is recorded; one of
//! them is killed half-way. In the end the application's own count is held against the audit table.

mod analytics;
mod app;
mod drain;
mod ground;
mod http;
mod ledger;
mod load;
mod meter;
mod reconcile;
mod refresh;
mod routes;
mod secrets;
mod sessions;
mod summary;
mod table;
mod tpch;
mod workers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use auditq::Recorder;
use auditq_sqlite::rusqlite::Connection;
use indicatif::ProgressBar;
use tokio::signal::unix::{SignalKind, signal};

use self::app::Server;
use self::ground::Ground;
use self::ledger::Count;
use self::load::Plan;
use self::meter::{Meter, Percentiles};
use self::reconcile::{Reconciliation, Recorded};
use self::secrets::Secrets;
use self::sessions::{Sessions, User};
pub(crate) use self::summary::Summary;
use self::table::Table;
use self::workers::Workers;
use crate::output;

/// How long one worker less is at work after the kill.
const ALONE: Duration = Duration::from_secs(1);
/// Between two looks at how far the clients are.
const INTERVAL: Duration = Duration::from_millis(5);

/// What a run is like.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Statements that the application executes.
    pub(crate) queries: u64,
    /// Users, each with a client of its own.
    pub(crate) users: u32,
    /// Worker processes.
    pub(crate) workers: usize,
    /// A folder that stays.
    pub(crate) keep: Option<PathBuf>,
}

/// Runs the demo. What it made is removed, unless it was to be kept or something went wrong.
pub(crate) async fn run(options: &Options) -> Result<Summary> {
    let mut ground = Ground::prepare(options.keep.as_deref())?;
    let outcome = tokio::select! {
        outcome = stages(options, &ground) => outcome,
        interrupted = interruption() => bail!("the demo was {}; nothing of it is left", interrupted?),
    };
    if !outcome.as_ref().is_ok_and(|summary| summary.differences().is_empty()) {
        ground.keep();
    }
    if ground.is_kept() {
        output::note(&format!(
            "everything is in {}; look at it with `auditq --config {} log`",
            ground.folder().display(),
            ground.config_file().display()
        ));
    }
    outcome
}

async fn interruption() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.map(|()| "interrupted").context("cannot wait for Ctrl-C"),
        _ = terminate.recv() => Ok("terminated"),
    }
}

async fn stages(options: &Options, ground: &Ground) -> Result<Summary> {
    let users = User::make(options.users);
    fill(ground, &users).await?;
    let mut workers = Workers::start(ground, options.workers)?;
    let recorder = Recorder::open(&ground.config)?;
    let (secrets, meter) =
        (Arc::new(Secrets::default()), Meter::open(&ground.config, &ground.meter_spool(), options.queries)?);
    for user in &users {
        secrets.add(&user.session_token);
        secrets.add(&user.password);
    }
    let meter = Arc::new(meter);
    let sessions = Sessions::of(&users, &recorder);
    let server =
        Server::start(&ground.shop_file(), &recorder, sessions, Arc::clone(&meter), Arc::clone(&secrets)).await?;
    workers.forwarding(ground).await?;
    let count = use_and_kill(options, ground, server.port, &users, &mut workers).await?;
    server.stop().await?;
    let caller = meter.percentiles();
    // While the spools are still there.
    let mut spilt = secrets.found_in(&ground.written_by_auditq()?)?;
    let mut recorded = what_was_recorded(&recorder);
    drop(recorder);
    recorded.buried = drain(ground, &mut workers, count.tracked() - count.repeats).await?;
    workers.stop().await?;
    spilt.extend(secrets.found_in(&ground.written_by_auditq()?)?);
    reconcile(ground, &count, recorded, caller, &spilt)
}

/// Fills the shop with TPC-H's data, and gives every user an account.
async fn fill(ground: &Ground, users: &[User]) -> Result<()> {
    let bar = phase(tpch::TABLES_FILLED, "fill      ", "tables")?;
    let (file, users, progress) = (ground.shop_file(), users.to_vec(), bar.clone());
    tokio::task::spawn_blocking(move || -> Result<()> {
        tpch::fill(&file, || progress.inc(1))?;
        let connection = Connection::open(&file)?;
        for User { id, username, session_token, password } in &users {
            connection
                .execute("INSERT INTO account VALUES (?1, ?2, ?3, ?4)", (id, username, session_token, password))?;
        }
        Ok(())
    })
    .await??;
    bar.finish();
    Ok(())
}

/// Lets all clients work; when half of the statements have run, kills a worker, and starts another a second later.
async fn use_and_kill(
    options: &Options,
    ground: &Ground,
    port: u16,
    users: &[User],
    workers: &mut Workers,
) -> Result<Count> {
    let plan = Arc::new(Plan::of(options.queries));
    let bar = phase(options.queries, "run       ", "statements")?;
    let kill = async {
        while plan.done() < options.queries / 2 {
            bar.set_position(plan.done());
            tokio::time::sleep(INTERVAL).await;
        }
        bar.set_message("one worker was killed");
        workers.kill_one(ground).await?;
        tokio::time::sleep(ALONE).await;
        bar.set_message("another one has taken its place");
        workers.start_one(ground)
    };
    let show = async {
        while plan.done() < options.queries {
            bar.set_position(plan.done());
            tokio::time::sleep(INTERVAL * 10).await;
        }
        Ok(())
    };
    let (count, (), ()) = tokio::try_join!(load::drive(port, users, &plan), kill, show)?;
    bar.set_position(count.queries);
    bar.finish();
    Ok(count)
}

fn what_was_recorded(recorder: &Recorder) -> Recorded {
    Recorded {
        appended: recorder.spool_stats().map_or(0, |spool| spool.appended),
        skipped_anonymous: recorder.stats().skipped_anonymous,
        buried: 0,
    }
}

async fn drain(ground: &Ground, workers: &mut Workers, rows: u64) -> Result<u64> {
    let bar = phase(rows, "store     ", "rows")?;
    let buried = drain::wait(ground, workers, &bar).await?;
    bar.finish();
    Ok(buried)
}

fn reconcile(
    ground: &Ground,
    count: &Count,
    recorded: Recorded,
    caller: Percentiles,
    spilt: &[PathBuf],
) -> Result<Summary> {
    let table = Table::read(&ground.audit_file())?;
    let mut found = Reconciliation::of(count, &table, &recorded);
    for file in spilt {
        found.add(format!("a secret of the application stands in {}", file.display()));
    }
    Ok(Summary::of(count, &table, caller, found))
}

/// A line with a progress bar, where stderr is a terminal.
fn phase(total: u64, name: &str, unit: &str) -> Result<ProgressBar> {
    output::progress(Some(total), &format!("{name} {{bar:24}} {{human_pos}}/{{human_len}} {unit}  {{wide_msg}}"))
}
