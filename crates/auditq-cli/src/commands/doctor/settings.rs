//! The configuration: where it is from, whether anything is recorded, the key of redaction.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use auditq_config::{Cache, Config};

use super::Check;

pub(super) fn look(config: &Config) -> Vec<Check> {
    let mut checks = vec![source(config)];
    checks.extend(application(config));
    checks.extend([recording(config), key(config)]);
    checks.extend(config.file.as_deref().and_then(others_can_write));
    checks
}

/// What was read, which is valid, or there would be no configuration.
fn source(config: &Config) -> Check {
    let file = match &config.file {
        Some(file) => whole(file).display().to_string(),
        None => "no auditq.toml in this folder; defaults".to_owned(),
    };
    let ours = |name: &str| {
        name.starts_with("AUDITQ_")
            || name.starts_with("AUDIT_LOG_")
            || name == "QUEUE_NAME"
            || name == "QUEUE_CONNECTION"
    };
    let mut names: Vec<String> = std::env::vars_os()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| ours(name))
        .collect();
    names.sort();
    let environment =
        if names.is_empty() { String::new() } else { format!(", and {} from the environment", names.join(", ")) };
    Check::ok("settings", format!("{file}{environment}"))
}

/// What was taken from the application's settings, and what they do not say.
fn application(config: &Config) -> Vec<Check> {
    const NAME: &str = "laravel";
    let Some(application) = &config.application else { return Vec::new() };
    let dir = whole(&application.dir);
    let mut checks = vec![Check::ok(NAME, format!("{}; {}", dir.display(), application.found.join("; ")))];
    checks.push(Check::ok(
        "jobs",
        format!(
            "stores those of {}; of other classes, and chained, batched or unique ones, are left in the queue for \
             Laravel's own worker, which has to run for them",
            config.laravel.jobs.join(", ")
        ),
    ));
    if let Cache::Unseen(store) = &application.cache {
        checks.push(Check::warn(
            NAME,
            format!("its cache is {store:?}, so that `php artisan queue:restart` and queue:pause do not reach auditq"),
            "restart and pause with `auditq queue restart` and `auditq queue pause`",
        ));
    }
    checks
}

fn others_can_write(file: &Path) -> Option<Check> {
    let mode = file.metadata().ok()?.permissions().mode();
    (mode & 0o002 != 0).then(|| {
        let file = file.display();
        Check::fail(
            "settings",
            format!("everybody may write {file}, and send the log elsewhere"),
            format!("chmod o-w {file}"),
        )
    })
}

fn recording(config: &Config) -> Check {
    if !config.capture.enabled {
        return Check::warn(
            "recording",
            "switched off: nothing that runs is recorded",
            "set capture.enabled = true, or AUDIT_LOG_ENABLED=true, for the application",
        );
    }
    let anonymous = if config.capture.track_anonymous { "recorded too" } else { "skipped and counted" };
    Check::ok("recording", format!("on; statements for which nobody is signed in are {anonymous}"))
}

/// The key is looked at and never shown.
fn key(config: &Config) -> Check {
    const NAME: &str = "redaction key";
    let redact = &config.capture.redact;
    if redact.key.is_some() {
        return Check::ok(NAME, "in AUDITQ_REDACTION_KEY");
    }
    let path = redact.key_file.clone().unwrap_or_else(|| config.spool.dir.join("redaction.key"));
    let path = whole(&path);
    let shown = path.display();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Check::ok(NAME, format!("none yet; the first application that starts makes {shown}"));
        }
        Err(error) => {
            let advice = "let the user that the application runs as read it";
            return Check::fail(NAME, format!("cannot read {shown}: {error}"), advice);
        }
    };
    let digits = text.trim();
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Check::fail(
            NAME,
            format!("{shown} does not hold 64 hexadecimal digits, and no application can start with it"),
            "put the old key back, or remove the file for a new one: the same secret then has another hash than before",
        );
    }
    let mode = path.metadata().map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        let found = format!("others than its owner may read {shown} (mode {:03o})", mode & 0o777);
        return Check::warn(NAME, found, format!("chmod 600 {shown}"));
    }
    Check::ok(NAME, format!("in {shown}"))
}

/// A path from the root on, for one that begins in this folder.
pub(super) fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
