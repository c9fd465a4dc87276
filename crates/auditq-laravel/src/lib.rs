//! Laravel's wire formats: job payloads, PHP's `serialize()`, encrypted jobs. Pure decode and encode.
//!
//! Everything here reads what others wrote: every length is checked before memory is taken for it, every recursion has
//! a limit, and an error says at which byte and on which way.

mod crypt;
mod data;
mod date;
mod encode;
mod envelope;
mod event;
mod extra;
mod job;
mod mapping;
pub mod php;
mod queries;
mod row;
mod statements;
mod time;

pub use crypt::{AppKey, CryptError, KeyError, decrypt};
pub use date::Zone;
pub use encode::{Cipher, EncodeError, NewJob};
pub use envelope::{CALL_QUEUED_HANDLER, Envelope, EnvelopeError, JobLimits};
pub use event::EventError;
pub use job::{Decoder, Duty, Job, JobError, JobEvent};
pub use mapping::{Field, Mapping};
pub use queries::{ItemError, Postmark, Queries, QueriesError, QueriesReader};
pub use row::{event_of_row, row_producer};
