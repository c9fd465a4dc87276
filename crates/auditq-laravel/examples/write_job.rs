//! Prints the payload of a job that a Laravel application's own worker runs: what goes into `jobs.payload`.
//!
//! `cargo run -p auditq-laravel --example write_job -- 'select * from orders where id = ?' 7`

use std::time::{SystemTime, UNIX_EPOCH};

use auditq_laravel::php::{Key, Object, Value};
use auditq_laravel::{JobLimits, NewJob};
use uuid::Builder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let sql = args.next().ok_or("name a statement, then its bindings")?;
    let bindings: Vec<_> = (0..).map(Key::Int).zip(args.map(Value::text)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let parts = [
        ("query_hash", Value::text(format!("{:032x}", now.as_nanos()))),
        ("username", Value::text("alice")),
        ("sql", Value::text(sql)),
        ("bindings", Value::Array(bindings)),
        ("time", Value::Float(0.25)),
        ("connection", Value::text("app")),
        ("executed_at", Value::text("2026-11-24 10:00:00")),
    ];
    let data = Value::Array(parts.into_iter().map(|(name, value)| (Key::text(name), value)).collect());
    let job = NewJob {
        uuid: Builder::from_random_bytes(now.as_nanos().to_le_bytes()).into_uuid(),
        command: Object::new("App\\Jobs\\ProcessAuditLog").with("queryData", data),
        created_at: i64::try_from(now.as_secs())?,
        limits: JobLimits { tries: Some(3), max_exceptions: Some(3), timeout: Some(30), ..JobLimits::default() },
        redis_id: None,
    };
    let mut out = std::io::stdout().lock();
    std::io::Write::write_all(&mut out, job.payload()?.as_bytes())?;
    Ok(())
}
