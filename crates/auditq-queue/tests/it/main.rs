//! The promises, for every driver that needs no server.

#![expect(clippy::unwrap_used, reason = "an operation that fails where it must not is a failed test")]

mod crash;
mod laravel;
mod model;
mod sqlite_file;
mod subjects;

auditq_queue::queue_conformance!(memory, crate::subjects::memory);
auditq_queue::queue_conformance!(sqlite, crate::subjects::sqlite);
auditq_queue::queue_conformance!(sqlite_on_tables_of_laravel, crate::laravel::subject);
