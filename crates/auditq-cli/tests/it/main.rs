//! The binary, as people and scripts run it.

mod demo;
mod killed;
