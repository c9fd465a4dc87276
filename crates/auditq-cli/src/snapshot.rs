//! How everything is doing at one moment: gathered once, shown as text or JSON.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use auditq_queue::QueueName;
use auditq_store::{Stats, StatsFilter};
use auditq_worker::Engines;
use serde::Serialize;

use crate::output::{counted, grouped, lines_of, micros, one_line, seconds, table};
use crate::session::Session;
use crate::spool::{self, SpoolStatus};
use crate::{output, time};

/// Queues, spools and log at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshot {
    /// When, RFC 3339.
    taken_at: String,
    /// The queue of audit events first, then every other that holds anything.
    pub(crate) queues: Vec<QueueStatus>,
    /// Where the spools of this host are.
    spool_dir: PathBuf,
    /// What waits in them.
    pub(crate) spool: SpoolStatus,
    /// Which engine holds the log.
    store_url: String,
    /// Rows in the log.
    pub(crate) rows: u64,
    /// Numbers over a span of time, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<SpanStats>,
}

/// One queue at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct QueueStatus {
    pub(crate) queue: String,
    pub(crate) paused: bool,
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) reserved: u64,
    pub(crate) failed: u64,
    /// For how long the oldest message has been ready.
    pub(crate) oldest_seconds: Option<f64>,
    /// True when the engine can only estimate these numbers.
    pub(crate) estimated: bool,
}

/// Numbers of the log over a span of time.
#[derive(Debug, Serialize)]
struct SpanStats {
    since: String,
    until: String,
    #[serde(skip)]
    since_micros: i64,
    rows: u64,
    executions: u64,
    success_rate: f64,
    error_rate: f64,
    errors: u64,
    cancelled: u64,
    lost: u64,
    duration_us_mean: f64,
    duration_us_max: u64,
    processing_us_mean: f64,
    processing_us_max: u64,
    rows_per_second: f64,
    users: Vec<UserNumbers>,
    statements: Vec<StatementNumbers>,
}

#[derive(Debug, Serialize)]
struct UserNumbers {
    user: String,
    rows: u64,
    errors: u64,
    writes: u64,
}

#[derive(Debug, Serialize)]
struct StatementNumbers {
    fingerprint: String,
    sql: String,
    rows: u64,
    errors: u64,
    duration_us_mean: f64,
    duration_us_max: u64,
}

impl Snapshot {
    /// Looks at queue, spools and log; with `span`, also counts what ran within that time before now.
    pub(crate) async fn take(session: &Session, engines: &Engines, span: Option<Duration>) -> Result<Self> {
        let config = &session.config;
        let stats = match span {
            Some(span) => Some(SpanStats::take(engines, span).await?),
            None => None,
        };
        Ok(Self {
            taken_at: time::now_rfc3339(),
            queues: queues(engines, session.queue()?).await?,
            spool_dir: config.spool.dir.clone(),
            spool: spool::look(&config.spool.dir)?,
            store_url: config.store.url.to_string(),
            rows: engines.reader.count().await?,
            stats,
        })
    }

    /// Writes it for people.
    pub(crate) fn write_text(&self, out: &mut impl Write) -> Result<()> {
        let mut queues =
            table(&["Queue", "Ready", "Delayed", "Reserved", "Failed", "Oldest"], &[1, 2, 3, 4, 5], Some(0));
        for queue in &self.queues {
            queues.add_row(queue.cells());
        }
        out.write_all(lines_of(&queues).as_bytes())?;
        writeln!(out)?;
        writeln!(out, "Spool  {}", self.spool_line())?;
        writeln!(out, "Log    {} in {}", counted(self.rows, "row"), self.store_url)?;
        self.stats.as_ref().map_or(Ok(()), |stats| stats.write_text(out))
    }

    fn spool_line(&self) -> String {
        let (spool, dir) = (&self.spool, self.spool_dir.display());
        let inbox = self.inbox_part();
        if spool.producers == 0 {
            return if inbox.is_empty() {
                format!("nothing waits in {dir}")
            } else {
                format!("no spool in {dir}{inbox}")
            };
        }
        let waiting = match (spool.records_waiting, spool.more) {
            (records, true) => format!("over {}", counted(records, "event")),
            (0, false) => "no event".to_owned(),
            (records, false) => counted(records, "event"),
        };
        let mut line = format!("{waiting} waiting in {dir}; spools: {}", grouped(spool.producers));
        if spool.producers_being_read > 0 {
            line.push_str(&format!(", being forwarded: {}", grouped(spool.producers_being_read)));
        }
        if spool.producers_dead_waiting > 0 {
            line.push_str(&format!(", left by processes that ended: {}", grouped(spool.producers_dead_waiting)));
        }
        line.push_str(&inbox);
        if let Some(oldest) = spool.oldest_seconds {
            line.push_str(&format!(", waiting for {}", seconds(oldest)));
        }
        if let Some(trouble) = &spool.trouble {
            line.push_str(&format!(", not readable: {} ({})", grouped(spool.producers_unreadable), one_line(trouble)));
        }
        line
    }

    /// What is said of the inbox, where anything is in it.
    fn inbox_part(&self) -> String {
        let mut part = String::new();
        if self.spool.inbox_files > 0 {
            part.push_str(&format!(", in its inbox: {}", counted(self.spool.inbox_files, "request")));
        }
        if self.spool.inbox_rejected > 0 {
            part.push_str(&format!(", put aside in inbox/rejected: {}", grouped(self.spool.inbox_rejected)));
        }
        part
    }
}

/// The status of `first`, and of every other queue that holds anything.
async fn queues(engines: &Engines, first: QueueName) -> Result<Vec<QueueStatus>> {
    let mut names = vec![first.clone()];
    names.extend(engines.admin.queues().await?.into_iter().filter(|name| *name != first));
    let paused = engines.admin.control().await?.paused;
    let mut queues = Vec::with_capacity(names.len());
    for name in names {
        queues.push(QueueStatus::take(engines, &name, paused.contains(&name)).await?);
    }
    Ok(queues)
}

impl QueueStatus {
    pub(crate) async fn take(engines: &Engines, name: &QueueName, paused: bool) -> Result<Self> {
        let sizes = engines.admin.sizes(name).await?;
        Ok(Self {
            queue: name.to_string(),
            paused,
            ready: sizes.ready,
            delayed: sizes.delayed,
            reserved: sizes.reserved,
            failed: sizes.failed,
            oldest_seconds: sizes.oldest.map(|age| age.as_secs_f64()),
            estimated: sizes.estimated,
        })
    }

    /// Everything that is still to be done.
    pub(crate) fn size(&self) -> u64 {
        self.ready + self.delayed + self.reserved
    }

    fn cells(&self) -> [String; 6] {
        let about = |number| format!("{}{}", if self.estimated { "~" } else { "" }, grouped(number));
        [
            format!("{}{}", output::clean(&self.queue), if self.paused { " (paused)" } else { "" }),
            about(self.ready),
            about(self.delayed),
            about(self.reserved),
            about(self.failed),
            self.oldest_seconds.map_or_else(|| "-".to_owned(), seconds),
        ]
    }
}

impl SpanStats {
    async fn take(engines: &Engines, span: Duration) -> Result<Self> {
        let (since, until) = (time::micros_ago(span), time::micros_ago(Duration::ZERO));
        let stats = engines.reader.stats(&StatsFilter { since, until, top: 10 }).await?;
        Ok(Self::of(stats, since, until))
    }

    fn of(stats: Stats, since: i64, until: i64) -> Self {
        let good = stats.rows.saturating_sub(stats.errors).saturating_sub(stats.cancelled);
        Self {
            since: time::rfc3339(since),
            until: time::rfc3339(until),
            since_micros: since,
            rows: stats.rows,
            executions: stats.executions,
            success_rate: share(good, stats.rows),
            error_rate: share(stats.errors, stats.rows),
            errors: stats.errors,
            cancelled: stats.cancelled,
            lost: stats.lost,
            duration_us_mean: stats.duration_us_mean,
            duration_us_max: stats.duration_us_max,
            processing_us_mean: stats.processing_us_mean,
            processing_us_max: stats.processing_us_max,
            rows_per_second: stats.rows_per_second,
            users: stats.users.into_iter().map(UserNumbers::from).collect(),
            statements: stats.statements.into_iter().map(StatementNumbers::from).collect(),
        }
    }

    fn write_text(&self, out: &mut impl Write) -> Result<()> {
        let percent = |rate: f64| format!("{:.2} %", rate * 100.0);
        let mean_and_max = |mean: f64, max: u64| format!("{} on average, {} at most", micros(mean), micros(max as f64));
        writeln!(out, "\nStatements since {}", time::local(self.since_micros))?;
        writeln!(out, "  executed         {} in {}", times(self.executions), counted(self.rows, "row"))?;
        writeln!(out, "  succeeded        {}", percent(self.success_rate))?;
        writeln!(out, "  failed           {} ({})", percent(self.error_rate), grouped(self.errors))?;
        writeln!(out, "  cancelled        {}", grouped(self.cancelled))?;
        writeln!(out, "  lost             {}", grouped(self.lost))?;
        writeln!(out, "  statement time   {}", mean_and_max(self.duration_us_mean, self.duration_us_max))?;
        writeln!(out, "  processing time  {}", mean_and_max(self.processing_us_mean, self.processing_us_max))?;
        writeln!(out, "  stored           {:.1} rows a second", self.rows_per_second)?;
        self.write_users(out)?;
        self.write_statements(out)
    }

    fn write_users(&self, out: &mut impl Write) -> Result<()> {
        if self.users.is_empty() {
            return Ok(());
        }
        let mut users = table(&["User", "Rows", "Errors", "Writes"], &[1, 2, 3], Some(0));
        for user in &self.users {
            let name = if user.user.is_empty() { "(anonymous)".to_owned() } else { one_line(&user.user) };
            users.add_row([name, grouped(user.rows), grouped(user.errors), grouped(user.writes)]);
        }
        write!(out, "\nBusiest users\n{}", lines_of(&users))?;
        Ok(())
    }

    fn write_statements(&self, out: &mut impl Write) -> Result<()> {
        if self.statements.is_empty() {
            return Ok(());
        }
        let heading = ["Rows", "Errors", "Mean", "Longest", "Statement"];
        let numbers = |statement: &StatementNumbers| {
            vec![
                grouped(statement.rows),
                grouped(statement.errors),
                micros(statement.duration_us_mean),
                micros(statement.duration_us_max as f64),
            ]
        };
        let cells: Vec<Vec<String>> = self.statements.iter().map(numbers).collect();
        let room = output::room_beside(&heading[..4], cells.iter().map(Vec::as_slice)).min(400);
        let mut statements = table(&heading, &[0, 1, 2, 3], Some(4));
        for (mut cells, statement) in cells.into_iter().zip(&self.statements) {
            cells.push(output::head(&one_line(&statement.sql), room).into_owned());
            statements.add_row(cells);
        }
        write!(out, "\nMost frequent statements\n{}", lines_of(&statements))?;
        Ok(())
    }
}

impl From<auditq_store::UserStats> for UserNumbers {
    fn from(stats: auditq_store::UserStats) -> Self {
        Self { user: stats.user, rows: stats.rows, errors: stats.errors, writes: stats.writes }
    }
}

impl From<auditq_store::StatementStats> for StatementNumbers {
    fn from(stats: auditq_store::StatementStats) -> Self {
        Self {
            fingerprint: format!("{:016x}", stats.fingerprint),
            sql: stats.sql,
            rows: stats.rows,
            errors: stats.errors,
            duration_us_mean: stats.duration_us_mean,
            duration_us_max: stats.duration_us_max,
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{} times", grouped(count)) }
}
