//! One file a command.

pub(crate) mod backup;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod laravel;
pub(crate) mod log;
pub(crate) mod migrate;
pub(crate) mod monitor;
pub(crate) mod prune;
pub(crate) mod queue;
pub(crate) mod work;
