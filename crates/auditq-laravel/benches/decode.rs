//! What reading one job costs: `cargo bench -p auditq-laravel [-- FILE]`.
//!
//! FILE holds a JSON array of payloads, as they stand in a queue; without one, the payloads of `tests/fixtures` are read.
//! Prints microseconds a job, the best of ten rounds, because a machine's other work only adds.

#![expect(clippy::print_stdout, reason = "its purpose is to print")]

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use auditq_event::Redaction;
use auditq_laravel::{Decoder, Envelope, Mapping};

/// How many jobs one round reads at the least.
const JOBS_MIN: usize = 5_000;

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let payloads = match file {
        Some(file) => serde_json::from_slice(&std::fs::read(file)?)?,
        None => fixtures()?,
    };
    let decoder = Decoder::new(Mapping::new(Redaction::new([7; 32])));
    let times = JOBS_MIN.div_ceil(payloads.len());
    let best = (0..10).map(|_| round(&decoder, &payloads, times)).fold(f64::INFINITY, f64::min);
    println!("{best:.2} us a job, of {} different ones", payloads.len());
    Ok(())
}

fn round(decoder: &Decoder, payloads: &[String], times: usize) -> f64 {
    let began = Instant::now();
    for payload in std::iter::repeat_n(payloads, times).flatten() {
        let envelope = Envelope::read(payload.as_bytes(), &decoder.limits);
        // Some of the fixtures need a key; that they are refused is part of the round.
        drop(black_box(envelope.map(|envelope| decoder.event_of(&envelope))));
    }
    began.elapsed().as_secs_f64() * 1e6 / (payloads.len() * times) as f64
}

fn fixtures() -> std::io::Result<Vec<String>> {
    let mut payloads = Vec::new();
    for version in ["v8", "v10", "v12", "v13"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version);
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "payload") {
                payloads.push(std::fs::read_to_string(path)?);
            }
        }
    }
    Ok(payloads)
}
