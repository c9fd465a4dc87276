//! The promises, for every driver.

#![expect(clippy::unwrap_used, reason = "an operation that fails where it must not is a failed test")]

mod crash;
mod laravel;
mod model;
mod mysql_database;
mod nats_server;
mod nats_support;
mod parted;
mod parted_crash;
mod pgbouncer;
mod postgres_database;
mod redis_cluster;
mod redis_keys;
mod redis_server;
mod redis_support;
mod retry_until;
mod sqlite_file;
mod subjects;

auditq_queue::queue_conformance!(memory, crate::subjects::memory);
auditq_queue::queue_conformance!(sqlite, crate::subjects::sqlite);
auditq_queue::queue_conformance!(mysql, crate::subjects::mysql);
auditq_queue::queue_conformance!(nats, crate::subjects::nats);
auditq_queue::queue_conformance!(postgres, crate::subjects::postgres);
auditq_queue::queue_conformance!(redis, crate::subjects::redis);
auditq_queue::queue_conformance!(sqlite_on_tables_of_laravel, crate::laravel::subject);
auditq_queue::queue_conformance!(mysql_on_tables_of_laravel, crate::mysql_database::on_tables_of_laravel);
auditq_queue::queue_conformance!(postgres_on_tables_of_laravel, crate::postgres_database::on_tables_of_laravel);
auditq_queue::queue_conformance!(postgres_behind_pgbouncer, crate::pgbouncer::subject);
auditq_queue::queue_conformance!(redis_and_failed_jobs_in_sqlite, crate::parted::with_sqlite);
auditq_queue::queue_conformance!(redis_and_failed_jobs_in_mysql, crate::parted::with_mysql);
auditq_queue::queue_conformance!(redis_and_failed_jobs_in_postgres, crate::parted::with_postgres);
