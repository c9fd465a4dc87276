//! What a worker process says of its work: lines for people, or a JSON object a line.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use auditq_config::Config;
use auditq_queue::QueueName;
use auditq_worker::{StopReason, WorkEvent};
use serde_json::{Value, json};

use crate::output::{counted, grouped, head, micros, one_line, seconds, width};
use crate::time;

/// Columns of a line where stdout is no terminal, and at most where it is.
const LINE_COLUMNS: usize = 100;
/// Characters of an engine's words on a person's line.
const REASON_CHARS: usize = 300;

/// Hears of everything that is done, and prints it to stdout.
///
/// A worker whose stdout is gone goes on working: what it cannot print is not worth a lost event.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    columns: usize,
    outage: Mutex<Outage>,
}

/// An engine that does not answer, of which every worker and the forwarder tell.
#[derive(Debug, Default)]
struct Outage {
    began: Option<Instant>,
    /// Until when the line that was printed last holds good.
    told_until: Option<Instant>,
}

impl Outage {
    /// True when this is to be told: nothing was told since the last try began.
    fn continues(&mut self, delay: Duration) -> bool {
        let now = Instant::now();
        self.began.get_or_insert(now);
        if self.told_until.is_some_and(|until| now < until) {
            return false;
        }
        self.told_until = Some(now + delay);
        true
    }

    /// How long it lasted, when there was one.
    fn end(&mut self) -> Option<Duration> {
        self.told_until = None;
        self.began.take().map(|began| began.elapsed())
    }
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        let columns = if io::stdout().is_terminal() { width().min(LINE_COLUMNS) } else { LINE_COLUMNS };
        Self { json, columns, outage: Mutex::default() }
    }

    /// Says what is about to be done.
    pub(crate) fn begin(&self, config: &Config, queues: &[QueueName]) {
        if self.json {
            return;
        }
        let names: Vec<String> = queues.iter().map(ToString::to_string).collect();
        let names = if names.is_empty() { config.queue.name.clone() } else { names.join(", ") };
        let (queue, store) = (&config.queue.url, &config.store.url);
        let engines = if queue == store {
            format!("queue and log in {queue}")
        } else {
            format!("queue in {queue}, log in {store}")
        };
        let workers = counted(config.worker.workers as u64, "worker");
        print(&format!("INFO  {workers} on {names}; {engines}; spools in {}", config.spool.dir.display()));
    }

    /// Says why it ended.
    pub(crate) fn end(&self, reason: StopReason) {
        if !self.json {
            print(&format!("INFO  stopped: {}", meaning(reason)));
        }
    }

    /// Prints what was done. Called from the workers' own tasks.
    pub(crate) fn tell(&self, event: &WorkEvent) {
        if let WorkEvent::Waiting { delay, .. } = event {
            if self.outage().continues(*delay) {
                self.print_event(event);
            }
            return;
        }
        let answers =
            matches!(event, WorkEvent::Stored { .. } | WorkEvent::Forwarded { .. } | WorkEvent::Recovered { .. });
        let lasted = if answers { self.outage().end() } else { None };
        if let Some(after) = lasted {
            self.print_event(&WorkEvent::Recovered { after });
        }
        // The other workers tell of the same recovery.
        if !matches!(event, WorkEvent::Recovered { .. }) {
            self.print_event(event);
        }
    }

    fn outage(&self) -> std::sync::MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print_event(&self, event: &WorkEvent) {
        if self.json {
            if let Some(value) = as_json(event) {
                print(&value.to_string());
            }
        } else if let Some(line) = Line::of(event) {
            print(&line.drawn(self.columns));
        }
    }
}

/// Writes a line at once, so that whoever follows it sees it.
fn print(line: &str) {
    let mut out = io::stdout().lock();
    // See the promise of `Report`.
    drop(out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()));
}

fn meaning(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Interrupted => "it was asked to",
        StopReason::MaxJobs => "--max-jobs is reached",
        StopReason::MaxTime => "--max-time is reached",
        StopReason::Memory => "it holds more memory than --memory",
        StopReason::Empty => "there is nothing more to do",
        StopReason::Restart => "a restart was asked for",
    }
}

/// A line for people: what was done, on the left; how long it took and how it ended, on the right.
struct Line {
    what: String,
    took: Option<Duration>,
    end: &'static str,
}

impl Line {
    fn of(event: &WorkEvent) -> Option<Self> {
        let line = |what: String, took: Option<Duration>, end| Some(Self { what, took, end });
        match event {
            WorkEvent::Stored { messages, rows, duplicates, took, .. } => {
                let again =
                    if *duplicates > 0 { format!(", {} known already", grouped(*duplicates)) } else { String::new() };
                let messages = counted(*messages as u64, "message");
                line(format!("stored {} of {messages}{again}", counted(*rows, "row")), Some(*took), "DONE")
            }
            WorkEvent::Released { events, attempts, delay, reason, .. } => line(
                format!(
                    "gave back {} after try {attempts}, again in {}: {}",
                    counted(*events as u64, "event"),
                    seconds(delay.as_secs_f64()),
                    said(reason)
                ),
                None,
                "RETRY",
            ),
            WorkEvent::Buried { events, attempts, reason, .. } => {
                let what = if *events == 0 { "a message".to_owned() } else { counted(*events as u64, "event") };
                line(format!("gave up {what} after try {attempts}: {}", said(reason)), None, "FAIL")
            }
            WorkEvent::Declined { class, duty } => {
                let kind = duty.map(|duty| format!("{} ", duty.adjective())).unwrap_or_default();
                let why = match duty {
                    None => "laravel.jobs does not name it",
                    Some(_) => "what is to be done after them only Laravel's own worker does",
                };
                line(format!("leaving {kind}jobs of {} in the queue ({why})", said(class)), None, "SKIP")
            }
            WorkEvent::Waiting { error, delay } => {
                line(format!("{}; trying again in {:.1} s", said(error), delay.as_secs_f64()), None, "WAIT")
            }
            WorkEvent::Recovered { after } => {
                line(format!("queue and store answer again, after {}", seconds(after.as_secs_f64())), None, "DONE")
            }
            WorkEvent::Forwarded { messages, records } => {
                let messages = counted(*messages as u64, "message");
                line(format!("forwarded {} in {messages}", counted(*records as u64, "event")), None, "DONE")
            }
            WorkEvent::Adopted { producer } => {
                line(format!("took over the spool of {}, which has ended", one_line(producer)), None, "DONE")
            }
            WorkEvent::GapFound { producer, records, what } => line(
                format!("{} of {} lost: {}", counted(*records, "event"), one_line(producer), said(what)),
                None,
                "FAIL",
            ),
            // That workers begin and end is said once for the process.
            _ => None,
        }
    }

    /// With dots up to `columns`; a long line has as many as it needs.
    fn drawn(&self, columns: usize) -> String {
        let took = self.took.map(|took| format!(" {}", micros(took.as_secs_f64() * 1e6))).unwrap_or_default();
        let left = format!("{} {} ", time::now_local(), self.what);
        let right = format!("{took} {}", self.end);
        let dots = columns.saturating_sub(left.chars().count() + right.chars().count()).max(2);
        format!("{left}{}{right}", ".".repeat(dots))
    }
}

/// An engine's words on one line.
fn said(text: &str) -> String {
    head(&one_line(text), REASON_CHARS).into_owned()
}

fn as_json(event: &WorkEvent) -> Option<Value> {
    let (level, name, mut value) = match event {
        WorkEvent::Started { worker } => ("info", "started", json!({ "worker": worker })),
        WorkEvent::Stored { worker, messages, rows, duplicates, took } => (
            "info",
            "stored",
            json!({
                "worker": worker, "messages": messages, "rows": rows, "duplicates": duplicates,
                "duration_ms": took.as_secs_f64() * 1e3,
            }),
        ),
        WorkEvent::Released { worker, events, attempts, delay, reason } => (
            "warning",
            "released",
            json!({
                "worker": worker, "events": events, "attempts": attempts, "delay_seconds": delay.as_secs_f64(),
                "reason": reason,
            }),
        ),
        WorkEvent::Buried { worker, events, attempts, reason } => {
            ("error", "failed", json!({ "worker": worker, "events": events, "attempts": attempts, "reason": reason }))
        }
        WorkEvent::Declined { class, duty: None } => ("info", "declined", json!({ "class": class })),
        WorkEvent::Declined { class, duty: Some(duty) } => {
            ("warning", "declined", json!({ "class": class, "kind": duty.adjective() }))
        }
        WorkEvent::Waiting { error, delay } => {
            ("warning", "waiting", json!({ "error": error, "delay_seconds": delay.as_secs_f64() }))
        }
        WorkEvent::Recovered { after } => ("info", "recovered", json!({ "after_seconds": after.as_secs_f64() })),
        WorkEvent::Forwarded { messages, records } => {
            ("info", "forwarded", json!({ "messages": messages, "records": records }))
        }
        WorkEvent::Adopted { producer } => ("info", "adopted", json!({ "producer": producer })),
        WorkEvent::GapFound { producer, records, what } => {
            ("error", "gap", json!({ "producer": producer, "records": records, "what": what }))
        }
        WorkEvent::Stopped { worker, reason } => {
            ("info", "stopped", json!({ "worker": worker, "reason": reason.as_str() }))
        }
        _ => return None,
    };
    value["level"] = level.into();
    value["event"] = name.into();
    value["timestamp"] = time::now_rfc3339().into();
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_that_several_tell_of_is_told_once_a_backoff() {
        let mut outage = Outage::default();
        assert!(outage.continues(Duration::from_secs(60)));
        assert!(!outage.continues(Duration::from_secs(60)));
        outage.told_until = Some(Instant::now());
        assert!(outage.continues(Duration::from_secs(60)));
        assert!(outage.end().is_some() && outage.end().is_none());
    }

    #[test]
    fn a_line_fills_its_columns_and_ends_in_how_it_went() {
        let took = Duration::from_micros(12_340);
        let event = WorkEvent::Stored { worker: 0, messages: 3, rows: 1_500, duplicates: 0, took };
        let line = Line::of(&event).unwrap().drawn(80);
        assert_eq!(line.chars().count(), 80);
        assert!(line.contains(" stored 1,500 rows of 3 messages ....") && line.ends_with(".. 12.34 ms DONE"), "{line}");
    }

    #[test]
    fn what_an_engine_says_cannot_drive_the_terminal() {
        let reason = "bad\u{1b}[2J\nrow".to_owned();
        let line = Line::of(&WorkEvent::Buried { worker: 0, events: 1, attempts: 3, reason }).unwrap().drawn(80);
        assert!(line.contains("gave up 1 event after try 3: bad\\u{1b}[2J row") && line.ends_with(" FAIL"), "{line}");
    }
}
