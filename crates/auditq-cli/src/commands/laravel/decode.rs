//! `auditq laravel decode`.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use auditq::Rules;
use auditq_config::Secret;
use auditq_event::{Binding, Event};
use auditq_laravel::{Job, Queries, QueriesReader};
use auditq_store::Amendment;
use auditq_worker::{laravel_decoder, stored_of_queries};
use serde_json::{Value, json};

use crate::commands::log::event_json;
use crate::exit::Exit;
use crate::output;
use crate::session::Session;

/// What `laravel decode` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads either of the two payloads that a Laravel application sends: a job that holds one query, such as ProcessAuditLog; or \
a message of the package auditq/laravel, which holds the queries of one request (its job is auditq@queries).

Prints one JSON object. Of a job: envelope (the payload without its command), \
encrypted, query_data (what the job holds), and event (what would be stored, under the settings of [laravel] in \
auditq.toml); served is false, and why says so, of a job that a worker leaves in the queue because it is chained, batched \
or unique. Of a message: envelope (the payload without data.batch), encrypted (always false), and events (a list: each as \
it would be stored); outcomes, where it tells what became of a transaction whose events came in an earlier message; and \
given_up, where items of it cannot be read: why, of each. Nothing is stored, and no queue is looked at.

The payload is the column payload of the table jobs or failed_jobs, an element of the list queues:NAME in Redis, or a \
file of the inbox beside the spools. In query_data a string that is not UTF-8 is {\"$base64\": …}, an enum's case \
{\"$enum\": …}, an object {\"$class\": …}, and a value inside itself {\"$ref\": …}; dates are ISO 8601.

Examples:
  auditq laravel decode payload.json
  auditq laravel decode - < payload.json
  APP_KEY=base64:… auditq laravel decode encrypted.json
  auditq laravel decode message.json | jq -r '.events[].sql'")]
pub(crate) struct Args {
    /// File with the payload of a job or of a message; - for standard input
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
    let decoder = laravel_decoder(&session.config, rules.redaction.clone(), rules.limits)?;
    let payload = read(args, decoder.limits.bytes)?;
    let payload = payload.trim_ascii_end();
    let (shown, holds_hashes) = match QueriesReader::new(rules.redaction, rules.limits).read(payload)? {
        Some(queries) => message_json(&queries)?,
        None => job_json(&decoder.decode(payload)?)?,
    };
    if !has_key && holds_hashes {
        output::note(
            "there is no redaction key here yet, so that the hashes of secrets that are taken out here will be others than \
             these",
        );
    }
    let mut out = output::stdout();
    output::json_line(&mut out, &shown)?;
    out.flush()?;
    Ok(Exit::Ok)
}

/// What is shown of a job, and whether there are hashes in it.
fn job_json(job: &Job) -> Result<(Value, bool)> {
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
    Ok((shown, hides_bindings(&job.event) || job.event.actor.session_hash.is_some()))
}

/// What is shown of a message, and whether there are hashes in it that may be made here: the application hashes sessions
/// itself.
fn message_json(queries: &Queries) -> Result<(Value, bool)> {
    let (batch, given_up) = stored_of_queries(queries);
    let mut shown = json!({
        "envelope": queries.envelope(),
        "encrypted": false,
        "events": batch.events.iter().map(event_json).collect::<Result<Vec<_>>>()?,
    });
    if !batch.amendments.is_empty() {
        shown["outcomes"] = batch.amendments.iter().map(outcome_json).collect();
    }
    if !given_up.is_empty() {
        shown["given_up"] = given_up.into();
    }
    Ok((shown, batch.events.iter().any(hides_bindings)))
}

fn outcome_json(amendment: &Amendment) -> Value {
    let outcome = amendment.transaction_outcome.unwrap_or_default();
    json!({"event_id": amendment.event_id.to_string(), "transaction_outcome": outcome.as_str()})
}

fn hides_bindings(event: &Event) -> bool {
    event.bindings.iter().any(|binding| matches!(binding, Binding::Redacted { .. }))
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
