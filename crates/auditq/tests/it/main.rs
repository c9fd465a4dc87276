//! The recorder as an application and its adapters meet it, read back from the spool.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and its numbers are small"
)]

mod contexts;
mod crash;
mod dispatch;
mod duplicates;
mod full;
mod layers;
mod opening;
mod recording;
mod support;
mod traces;
mod transactions;
