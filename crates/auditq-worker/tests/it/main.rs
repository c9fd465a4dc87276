//! The forwarder and the worker against the real embedded engines, with faults put between them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test may panic and may speak")]

mod at_once;
mod crashes;
mod faults;
mod forwarding;
mod inbox;
mod kills;
mod laravel;
mod mysql;
mod outages;
mod postgres;
mod queries;
mod support;
mod working;
