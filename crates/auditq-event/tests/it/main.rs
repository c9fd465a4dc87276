//! What one audited statement is, seen from outside.

#![expect(clippy::expect_used, reason = "what is not readable is a failed test")]

mod fingerprints;
mod messages;
mod records;
mod redaction;
mod statements;
mod support;
