//! The audit table: the promises of each driver, and what it does under trouble.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test may panic and may speak")]

mod child;
mod disk;
mod mysql_database;
mod orders;
mod plans;
mod postgres_database;
mod processes;
mod support;
mod tables;
mod texts;
mod upkeep;

use crate::support::InFile;

auditq_store::store_conformance!(sqlite, InFile::new());
auditq_store::store_conformance!(mysql, mysql_database::InDatabase::new());
auditq_store::store_conformance!(postgres, postgres_database::InDatabase::new());
auditq_store::store_conformance!(postgres_partitioned, postgres_database::InDatabase::partitioned());
