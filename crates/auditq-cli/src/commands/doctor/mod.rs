//! `auditq doctor`.

mod clock;
mod disk;
mod engines;
mod settings;
mod spools;

use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::exit::{self, Exit};
use crate::output;
use crate::session::Session;

/// What `doctor` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Looks, and makes and changes nothing. Each line is ok, warn (it works, and may not go on so) or fail (something is not \
recorded, not stored, or not safe), with what to do. Run it in the folder, with the environment and as the user of \
the workers: that is what it looks at.

Examples:
  auditq doctor
  auditq doctor --json | jq -r '.checks[] | select(.status != \"ok\") | .found'

Exit codes: 0 nothing failed, 1 something did.")]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    status: Level,
    /// What was found.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, status: Level::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Level::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Level::Fail, found: found.into(), advice: Some(advice.into()) }
    }

    /// From an error, whose message says what to do after a semicolon.
    fn failed(check: &'static str, error: &anyhow::Error) -> Self {
        let (found, advice) = exit::explain(error);
        Self { check, status: Level::Fail, found, advice }
    }
}

pub(crate) async fn run(args: &Args, session: Result<Session>) -> Result<Exit> {
    let checks = match session {
        Ok(session) => look(&session).await,
        Err(error) => vec![unusable(&error)],
    };
    let worst = checks.iter().map(|check| check.status).max().unwrap_or(Level::Ok);
    let mut out = output::stdout();
    if args.json {
        output::json_line(&mut out, &json!({ "status": worst, "checks": checks }))?;
    } else {
        write_text(&mut out, &checks, output::width().min(100))?;
    }
    out.flush()?;
    Ok(if worst == Level::Fail { Exit::Failed } else { Exit::Ok })
}

/// What is to be said of settings that cannot be used: nothing else can be looked at with them.
fn unusable(error: &anyhow::Error) -> Check {
    let mut check = Check::failed("settings", error);
    check.advice.get_or_insert_with(|| "correct it; `auditq init --dir FOLDER` writes every key there is".to_owned());
    check
}

async fn look(session: &Session) -> Vec<Check> {
    let config = &session.config;
    let mut checks = settings::look(config);
    checks.extend(disk::look(config));
    checks.extend(spools::look(config));
    let engines = engines::look(config).await;
    checks.extend(engines.checks);
    checks.push(clock::look(engines.newest_row_at));
    checks
}

fn write_text(out: &mut impl Write, checks: &[Check], columns: usize) -> Result<()> {
    const INDENT: usize = 24;
    for check in checks {
        let level = match check.status {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        let found = wrapped(&output::one_line(&check.found), columns.saturating_sub(INDENT));
        for (number, line) in found.iter().enumerate() {
            let (level, name) = if number == 0 { (level, check.check) } else { ("", "") };
            writeln!(out, "{level:<6}{name:<18}{line}")?;
        }
        let advice = check.advice.as_deref().map(|advice| output::one_line(&format!("do: {advice}")));
        for line in wrapped(&advice.unwrap_or_default(), columns.saturating_sub(INDENT)) {
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
    }
    let count = |level| checks.iter().filter(|check| check.status == level).count() as u64;
    let (warnings, failures) = (count(Level::Warn), count(Level::Fail));
    writeln!(out, "\n{} ok, {}, {failures} failed", count(Level::Ok), output::counted(warnings, "warning"))?;
    Ok(())
}

/// The text in lines of at most so many characters, unless one word is longer; none for no text.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_findings_are_wrapped_below_each_other_with_what_to_do() {
        let checks = [
            Check::ok("settings", "auditq.toml"),
            Check::warn("queue", "one two three four five six seven", "resume it now and then"),
        ];
        let mut text = Vec::new();
        write_text(&mut text, &checks, 44).unwrap();
        let expected = "\
ok    settings          auditq.toml
warn  queue             one two three four
                        five six seven
                        do: resume it now
                        and then

1 ok, 1 warning, 0 failed
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
