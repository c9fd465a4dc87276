//! `auditq laravel decode`.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use auditq::Rules;
use auditq_config::Secret;
use auditq_event::Binding;
use auditq_worker::laravel_decoder;
use serde_json::json;

use crate::commands::log::event_json;
use crate::exit::Exit;
use crate::output;
use crate::session::Session;

/// What `laravel decode` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints one JSON object: envelope (the payload without its command), encrypted, query_data (what the job holds), and \
event (what would be stored, under the settings of [laravel] in auditq.toml); served is false, and why says so, of a job \
that a worker leaves in the queue because it is chained, batched or unique. Nothing is stored, and no queue is \
looked at.

The payload is the column payload of the table jobs or failed_jobs, or an element of the list queues:NAME in Redis. In \
query_data a string that is not UTF-8 is {\"$base64\": …}, an enum's case {\"$enum\": …}, an object {\"$class\": …}, and \
a value inside itself {\"$ref\": …}; dates are ISO 8601.

Examples:
  auditq laravel decode payload.json
  auditq laravel decode - < payload.json
  APP_KEY=base64:… auditq laravel decode encrypted.json")]
pub(crate) struct Args {
    /// File with the payload; - for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// The application's APP_KEY, for encrypted jobs; better in the environment, where other users do not see it
    #[arg(long, value_name = "KEY")]
    app_key: Option<String>,
}

pub(super) fn run(args: &Args, mut session: Session) -> Result<Exit> {
    if let Some(key) = &args.app_key {
        session.config.laravel.keys.insert(0, Secret::new(key.as_str()));
    }
    let rules = Rules::look(&session.config)?;
    let has_key = rules.is_some();
    let rules = rules.unwrap_or_else(|| Rules::without_key(&session.config));
    let decoder = laravel_decoder(&session.config, rules.redaction, rules.limits)?;
    let payload = read(args, decoder.limits.bytes)?;
    let job = decoder.decode(payload.trim_ascii_end())?;
    let holds_hashes = job.event.bindings.iter().any(|binding| matches!(binding, Binding::Redacted { .. }));
    if !has_key && (holds_hashes || job.event.actor.session_hash.is_some()) {
        output::note("there is no redaction key here yet, so that the hashes of secrets will be others than these");
    }
    let mut shown = json!({
        "envelope": job.envelope,
        "encrypted": job.encrypted,
        "query_data": job.query_data,
        "event": event_json(&job.event)?,
    });
    if let Some(duty) = job.duty {
        shown["served"] = false.into();
        shown["why"] = format!("it is {}: it stays in the queue for Laravel's own worker", duty.adjective()).into();
    }
    let mut out = output::stdout();
    output::json_line(&mut out, &shown)?;
    out.flush()?;
    Ok(Exit::Ok)
}

/// Reads the payload; of one that is too long only so much as shows that it is.
fn read(args: &Args, bytes_max: usize) -> Result<Vec<u8>> {
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut payload = Vec::new();
    if args.file.as_os_str() == "-" {
        io::stdin().lock().take(most).read_to_end(&mut payload).context("cannot read standard input")?;
    } else {
        let cannot = || format!("cannot read {}", args.file.display());
        File::open(&args.file).with_context(cannot)?.take(most).read_to_end(&mut payload).with_context(cannot)?;
    }
    Ok(payload)
}
