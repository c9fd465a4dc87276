//! The binary, as people and scripts run it.

#![expect(clippy::unwrap_used, reason = "what fails where it must not is a failed test")]

mod architecture;
mod demo;
mod doctor;
mod doctor_servers;
mod full_disk;
mod help;
mod idle;
mod import;
mod init;
mod killed;
mod laravel;
mod laravel_app;
mod laravel_decode;
mod laravel_import;
mod laravel_package;
mod limits;
mod log;
mod mistakes;
mod queue;
mod signals;
mod support;
mod takeover;
mod upkeep;
