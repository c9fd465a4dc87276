//! Laravel's wire formats, seen from outside.

mod grammar;
mod hostile;
mod round_trip;
mod support;
