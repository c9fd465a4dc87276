//! The forwarder and the worker against the real embedded engines, with faults put between them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod crashes;
mod faults;
mod forwarding;
mod mysql;
mod support;
mod working;
