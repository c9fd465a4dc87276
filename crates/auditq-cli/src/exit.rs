//! How the process ends: its exit codes, and what it says when something went wrong.

use std::io::{self, Write as _};
use std::process::ExitCode;

use auditq_worker::{RunError, SettleError};

/// The exit codes that `auditq --help` lists. Wrong usage is 2, and clap's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok,
    /// Not done, or not all of it; stderr says what.
    Failed,
    /// `queue monitor --fail` found a queue at or over its limit.
    OverLimit,
    /// `import` went through, and some rows were rejected.
    Rejected,
    /// A worker held more memory than `--memory`, as in Laravel.
    OutOfMemory,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::OverLimit => 3,
            Exit::Rejected => 4,
            Exit::OutOfMemory => 12,
        })
    }
}

/// Prints an error and what to do about it to stderr.
///
/// A reader that has closed the pipe, such as `head`, has what it wanted: that is no error.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return Exit::Ok.into();
    }
    let (what, hint) = explain(error);
    let mut text = format!("error: {what}\n");
    if let Some(hint) = hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // With stderr gone there is nobody left to tell.
    drop(io::stderr().write_all(text.as_bytes()));
    Exit::Failed.into()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Splits an error into what went wrong and what to do: by convention, messages say the second after a semicolon.
pub(crate) fn explain(error: &anyhow::Error) -> (String, Option<String>) {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Some messages quote their cause already.
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    let setting = setting(error).filter(|_| text.contains("URL") || text.contains("connect"));
    let named = |hint: &str| setting.map_or_else(|| hint.to_owned(), |setting| format!("{hint} ({setting})"));
    match text.split_once("; ") {
        Some((what, hint)) => (what.to_owned(), Some(named(hint))),
        None => (text, setting.map(|setting| format!("look at {setting}"))),
    }
}

/// Where the URL of the engine is set that an error is about.
fn setting(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        // What is transparent is not in the chain itself.
        let settle = cause.downcast_ref::<SettleError>().or_else(|| match cause.downcast_ref::<RunError>() {
            Some(RunError::Engine(error)) => Some(error),
            _ => None,
        });
        if cause.is::<auditq_queue::Error>() || matches!(settle, Some(SettleError::Queue(_))) {
            Some("`queue.url` in auditq.toml, AUDITQ_QUEUE_URL, or the application's .env with --laravel")
        } else if cause.is::<auditq_store::Error>() || matches!(settle, Some(SettleError::Store(_))) {
            Some("`store.url` in auditq.toml, AUDITQ_STORE_URL, or the application's .env with --laravel")
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_semicolon_is_the_hint() {
        let error = anyhow::anyhow!("cannot open a.db: not a database; move it away");
        let (what, hint) = explain(&error);
        assert_eq!((what.as_str(), hint.as_deref()), ("cannot open a.db: not a database", Some("move it away")));
    }

    #[test]
    fn a_cause_that_is_quoted_already_is_not_said_twice() {
        let error = anyhow::anyhow!("disk full").context("sqlite store: disk full").context("cannot prune");
        assert_eq!(explain(&error).0, "cannot prune: sqlite store: disk full");
    }

    #[test]
    fn a_closed_pipe_anywhere_in_the_chain_is_seen() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("cannot print");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
