//! The signals that a worker process answers to.

use anyhow::{Context as _, Result};
use auditq_worker::Shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output;

/// Asks `shutdown` at the first TERM, INT or QUIT, and ends the process at the second.
///
/// USR2 and CONT pause and resume Laravel's workers. Here that is a command, and the signals are explained instead of
/// ending the process, which is what USR2 does to one that is not prepared.
pub(crate) fn listen(shutdown: Shutdown) -> Result<()> {
    let hear = |kind| signal(kind).context("cannot listen to signals");
    let mut terminate = hear(SignalKind::terminate())?;
    let mut interrupt = hear(SignalKind::interrupt())?;
    let mut quit = hear(SignalKind::quit())?;
    let mut user = hear(SignalKind::user_defined2())?;
    tokio::spawn(async move {
        loop {
            let number = tokio::select! {
                number = heard(&mut terminate, SignalKind::terminate()) => number,
                number = heard(&mut interrupt, SignalKind::interrupt()) => number,
                number = heard(&mut quit, SignalKind::quit()) => number,
                _ = user.recv() => {
                    output::note("USR2 pauses nothing here: use `auditq queue pause` and `auditq queue resume`");
                    continue;
                }
            };
            if shutdown.is_requested() {
                // What it holds comes back to other workers when its reservation lapses.
                std::process::exit(128 + number);
            }
            output::note("finishing what is held; a second signal ends at once");
            shutdown.request();
        }
    });
    Ok(())
}

async fn heard(signal: &mut Signal, kind: SignalKind) -> i32 {
    signal.recv().await;
    kind.as_raw_value()
}
