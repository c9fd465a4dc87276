//! The spool as its users meet it: on a real disk, with real threads and real processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, its numbers are small, and children talk to it by stderr"
)]

mod child;
mod crash;
mod damage;
mod faults;
mod full;
mod model;
mod power;
mod sharing;
mod support;
