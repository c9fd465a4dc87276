//! Waiting for a server that does not answer, as workers do.

use std::future::Future;
use std::time::Instant;

use anyhow::Result;
use auditq_store::ErrorKind;
use auditq_worker::{Decision, Failure, RetryPolicy, SettleError};

use crate::output;

/// Does something until the engine answers, however long that takes; says so when it begins to wait and when it goes on.
pub(super) async fn patiently<T, F>(place: &str, attempt: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let policy = RetryPolicy { tries: 0, max_exceptions: 0, backoff: Vec::new() };
    let (mut waits, began) = (0, Instant::now());
    loop {
        let error = match attempt().await {
            Ok(value) => {
                if waits > 0 {
                    output::note(&format!(
                        "{place} answers again after {}",
                        output::seconds(began.elapsed().as_secs_f64())
                    ));
                }
                return Ok(value);
            }
            Err(error) => error,
        };
        let Decision::Wait(delay) = policy.decide(waits, Failure::Unavailable, jitter(waits)) else {
            return Err(error);
        };
        if !is_unavailable(&error) {
            return Err(error);
        }
        if waits == 0 {
            output::note(&format!("waiting for {place}, which does not answer: {error:#}"));
        }
        waits += 1;
        tokio::time::sleep(delay).await;
    }
}

/// True when waiting may help.
fn is_unavailable(error: &anyhow::Error) -> bool {
    kind_of(error) == Some(ErrorKind::Unavailable)
        || error
            .downcast_ref::<auditq_sqlite::Error>()
            .is_some_and(|error| error.kind() == auditq_sqlite::Kind::Unavailable)
}

/// What may be done about a store's error.
pub(super) fn kind_of(error: &anyhow::Error) -> Option<ErrorKind> {
    if let Some(error) = error.downcast_ref::<auditq_store::Error>() {
        return Some(error.kind());
    }
    match error.downcast_ref::<SettleError>()? {
        SettleError::Store(error) => Some(error.kind()),
        _ => None,
    }
}

/// From 0 to 1, another one for each process and wait.
fn jitter(waits: u32) -> f64 {
    f64::from(std::process::id().wrapping_mul(2_654_435_761).wrapping_add(waits.wrapping_mul(40_503)) >> 16) / 65_536.0
}
