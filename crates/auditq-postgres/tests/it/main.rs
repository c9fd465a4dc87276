//! Connecting to PostgreSQL, and what errors say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod connecting;
mod running;
mod server;
