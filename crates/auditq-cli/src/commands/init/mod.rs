//! `auditq init`.

mod files;
mod place;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;

use self::files::File;
use self::place::Place;
use crate::exit::Exit;
use crate::output;

/// What `init` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes three files: auditq.toml, with every setting at its default and what it means; auditq-worker@.service, for \
systemd; auditq-supervisor.conf, for supervisor. When one of them is there already, nothing is written.

Examples:
  auditq init
  auditq init --dir /srv/shop")]
pub(crate) struct Args {
    /// The folder to write to, and to run in; made when it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
    /// Print a JSON object with the paths of the files
    #[arg(long)]
    json: bool,
}

/// The configuration as it is written: every key at its default.
const SETTINGS: &str = include_str!("auditq.toml");

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let place = Place::prepare(&args.dir)?;
    let wanted = [
        File { name: "auditq.toml", text: SETTINGS.to_owned(), mode: 0o640 },
        File { name: "auditq-worker@.service", text: place.systemd_unit(), mode: 0o644 },
        File { name: "auditq-supervisor.conf", text: place.supervisor_program(), mode: 0o644 },
    ];
    files::write_all(&place.dir, &wanted, args.force)?;
    let mut out = output::stdout();
    if args.json {
        let paths: Vec<_> = wanted.iter().map(|file| place.dir.join(file.name)).collect();
        output::json_line(&mut out, &json!({ "dir": place.dir, "files": paths }))?;
    } else {
        write!(out, "{}", next_steps(&place))?;
    }
    out.flush().context("cannot print what was written")?;
    Ok(Exit::Ok)
}

const ROOT_OWNS_IT: &str = "
The folder is root's. Workers run as the application does: give it the folder, or write its user into both files.
";

fn next_steps(place: &Place) -> String {
    let (dir, user) = (place.dir.display(), &place.user);
    let as_root = if user == "root" { ROOT_OWNS_IT } else { "" };
    format!(
        "\
Wrote to {dir}:
  auditq.toml              every setting, at its default
  auditq-worker@.service   workers under systemd, as the user {user}
  auditq-supervisor.conf   workers under supervisor, as the user {user}
{as_root}
Next:
  1. Start the application in {dir}, or tell it where its settings are:
       export AUDITQ_CONFIG={dir}/auditq.toml
     With that, spool.dir, queue.url and store.url in auditq.toml must be whole paths.
  2. Start workers in one of these ways:
       cd {dir} && auditq work
       cp auditq-worker@.service /etc/systemd/system/ && systemctl daemon-reload &&
         systemctl enable --now auditq-worker@1 auditq-worker@2
       cp auditq-supervisor.conf /etc/supervisor/conf.d/ && supervisorctl update
  3. See that all is well:
       auditq doctor
"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use auditq_config::Config;

    use super::*;

    const NOTHING: [(&str, &str); 0] = [];

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auditq.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), NOTHING).map_err(|error| error.to_string())
    }

    /// The keys that a section has, as the configuration itself names them; `None` when it is no section.
    fn keys_of(section: &str) -> Option<Vec<String>> {
        let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        let message = load(&format!("{header}no_such_key = 1\n")).unwrap_err();
        let (_, expected) = message.split_once("unknown key `no_such_key`, expected ")?;
        Some(expected.split('`').skip(1).step_by(2).map(str::to_owned).collect())
    }

    /// The lines that set something, also those that are commented out, each with its section.
    fn settings(text: &str) -> Vec<(String, String)> {
        let mut section = String::new();
        let mut found = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ")
                && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            {
                found.push((section.clone(), key.to_owned()));
            }
        }
        found
    }

    #[test]
    fn what_is_written_says_what_holds_without_it() {
        let written = Config { file: None, ..load(SETTINGS).unwrap() };
        assert_eq!(written, Config::default());
    }

    #[test]
    fn every_setting_there_is_has_a_line_of_its_own() {
        let written = settings(SETTINGS);
        let mut sections = vec![String::new()];
        let mut count = 0;
        while let Some(section) = sections.pop() {
            for key in keys_of(&section).unwrap() {
                let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
                if keys_of(&path).is_some() {
                    sections.push(path);
                } else {
                    let entry = (section.clone(), key);
                    assert_eq!(written.iter().filter(|other| **other == entry).count(), 1, "{path}");
                    count += 1;
                }
            }
        }
        assert_eq!(written.len(), count, "no line is about a key that there is not");
    }

    #[test]
    fn the_lines_that_are_commented_out_can_be_used_as_they_are() {
        let is_setting = |line: &&str| settings(line).len() == 1;
        let all = SETTINGS.lines().map(|line| if is_setting(&line) { line.trim_start_matches("# ") } else { line });
        // Two of them need what is not everywhere: an application, and a table of its own.
        let application = tempfile::tempdir().unwrap();
        std::fs::write(application.path().join("artisan"), "").unwrap();
        let all =
            all.collect::<Vec<_>>().join("\n").replace("/var/www/shop", &application.path().display().to_string());
        let config = load(&all.replace("layout = \"auditq\"", "layout = \"laravel\"")).unwrap();
        assert_eq!(config.store.columns["who"], "username");
        assert_eq!(config.capture.app.as_deref(), Some("shop"));
        assert_eq!(config.queue.retry_after, Some(90));
        assert_eq!(config.capture.redact.key_file.as_deref(), Some(Path::new("/etc/auditq/redaction.key")));
    }
}
