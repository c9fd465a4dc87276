//! Laravel's wire formats, seen from outside.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what is not readable is a failed test")]

mod events;
mod grammar;
mod hostile;
mod jobs;
mod php;
mod queries;
mod round_trip;
mod support;
mod writing;
