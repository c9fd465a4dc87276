//! An audited pool as an application uses it: real SQLite files, read back from the spool.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod bindings;
mod endings;
mod macros;
mod readme;
mod statements;
mod support;
mod transactions;
