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

/// Has the heap grow by small pages. The allocator asks for huge ones, and the kernel fills each of their 2 MiB with zeros when
/// the first byte is used: for a worker's few megabytes in many places that was two thirds of its time, and half its memory.
#[cfg(target_os = "linux")]
fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!("the kernel goes on with huge pages: {error}");
    }
}

fn main() -> ExitCode {
    let spelt = spelling::rewrite(std::env::args_os().collect());
    let cli = cli::parse(&spelt.args);
    spelt.notes.iter().for_each(|note| output::note(note));
    output::log_to_stderr();
    #[cfg(target_os = "linux")]
    use_small_pages();
    let code = match cli::run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error),
    };
    // A database that is not closed by then is as one after a crash, which whoever opens it next sees to.
    auditq_sqlite::wait_until_closed(CLOSING);
    code
}
