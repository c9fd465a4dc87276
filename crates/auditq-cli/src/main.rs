//! The binary `auditq`: the worker, and everything people do with queue and log.

mod cli;
mod commands;
mod demo;
mod exit;
mod output;
mod session;
mod snapshot;
mod spelling;
mod spool;
mod time;

use std::process::ExitCode;
use std::time::Duration;

/// Workers allocate and free on several threads at once, which it is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the end of the process waits for its databases to be closed.
const CLOSING: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let spelt = spelling::rewrite(std::env::args_os().collect());
    let cli = cli::parse(&spelt.args);
    spelt.notes.iter().for_each(|note| output::note(note));
    output::log_to_stderr();
    let code = match cli::run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error),
    };
    // A database that is not closed by then is as one after a crash, which whoever opens it next sees to.
    auditq_sqlite::wait_until_closed(CLOSING);
    code
}
