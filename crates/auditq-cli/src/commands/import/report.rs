//! What an import tells of itself: progress, rejected rows, and the sum at the end.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use auditq_store::Inserted;
use indicatif::ProgressBar;
use serde_json::json;

use super::Args;
use super::source::Source;
use crate::exit::Exit;
use crate::output;

/// How often it is said how far the import is, where there is no terminal for a bar.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// As much of a reason as is kept.
const REASON_CHARS: usize = 1_000;

/// How far an import is.
pub(super) struct Report {
    bar: ProgressBar,
    total: u64,
    began: Instant,
    said: Instant,
    read: u64,
    resumed: u64,
    inserted: Inserted,
}

impl Report {
    pub(super) fn begin(left: u64, resumed: u64) -> Result<Self> {
        if resumed > 0 {
            output::note(&format!("going on after {} that an earlier import read", output::counted(resumed, "row")));
        }
        let bar =
            output::progress(Some(left), "importing {bar:30} {human_pos}/{human_len} rows, {per_sec}, {eta} left")?;
        let now = Instant::now();
        Ok(Self { bar, total: left, began: now, said: now, read: 0, resumed, inserted: Inserted::default() })
    }

    pub(super) fn more(&mut self, read: u64, inserted: Inserted, rejected: u64) {
        self.read += read;
        self.inserted += inserted;
        self.bar.inc(read);
        if !std::io::stderr().is_terminal() && self.said.elapsed() >= SAID_EVERY {
            self.said = Instant::now();
            output::note(&format!(
                "{} of {} read, {} rejected, {} rows a second",
                output::grouped(self.read),
                output::counted(self.total, "row"),
                output::grouped(rejected),
                output::grouped(self.rate())
            ));
        }
    }

    /// Rows a second so far.
    fn rate(&self) -> u64 {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.read.saturating_mul(1_000) / millis
    }

    pub(super) fn finish(self, args: &Args, source: &Source, rejects: &Rejects) -> Result<Exit> {
        self.bar.finish_and_clear();
        let (rejected, rate) = (rejects.count(), self.rate());
        let Inserted { stored, duplicates, .. } = self.inserted;
        let mut out = output::stdout();
        if args.json {
            let seconds = self.began.elapsed().as_secs_f64();
            let sum = json!({
                "source": source.name(), "read": self.read, "stored": stored, "there_already": duplicates,
                "rejected": rejected, "resumed_after": self.resumed, "seconds": seconds, "rows_per_second": rate,
            });
            output::json_line(&mut out, &sum)?;
        } else {
            writeln!(
                out,
                "Read {}: {} stored, {} there already, {} rejected; {} rows a second.",
                output::counted(self.read, "row"),
                output::grouped(stored),
                output::grouped(duplicates),
                output::grouped(rejected),
                output::grouped(rate)
            )?;
        }
        out.flush()?;
        if rejected == 0 {
            return Ok(Exit::Ok);
        }
        output::note(&format!("what was rejected, and why, is in {}", rejects.path.display()));
        Ok(Exit::Rejected)
    }
}

/// The file of rejected rows: their keys and the reasons, not what is in them, since that may be secret.
pub(super) struct Rejects {
    path: PathBuf,
    source: String,
    file: Option<BufWriter<File>>,
    count: u64,
}

impl Rejects {
    pub(super) fn new(path: &Path, source: &str) -> Self {
        Self { path: path.to_owned(), source: source.to_owned(), file: None, count: 0 }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Adds a row; the file is made when the first one comes.
    pub(super) fn add(&mut self, key: &str, reason: &str) -> Result<()> {
        let cannot = || format!("cannot write rejected rows to {}", self.path.display());
        let file = match &mut self.file {
            Some(file) => file,
            empty => {
                let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
                empty.insert(BufWriter::new(opened.with_context(cannot)?))
            }
        };
        let reason: String = reason.chars().take(REASON_CHARS).collect();
        output::json_line(file, &json!({"source": self.source, "key": key, "reason": reason})).with_context(cannot)?;
        self.count += 1;
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        match &mut self.file {
            Some(file) => {
                file.flush().with_context(|| format!("cannot write rejected rows to {}", self.path.display()))
            }
            None => Ok(()),
        }
    }
}
