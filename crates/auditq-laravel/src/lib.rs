//! Laravel's wire formats: job payloads, PHP's `serialize()`, encrypted jobs, `.env`. Pure decode and encode.

mod date;
pub mod php;
