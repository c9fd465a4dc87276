//! What waits in the spools of this host, and whether a worker reads them.

use auditq_config::Config;

use super::Check;
use crate::output::{counted, grouped, seconds};
use crate::spool::{self, SpoolStatus};

/// After so long, what waits is a sign that nobody works.
pub(super) const OLD_SECONDS: f64 = 60.0;
pub(super) const VERY_OLD_SECONDS: f64 = 3_600.0;

pub(super) fn look(config: &Config) -> Vec<Check> {
    match spool::look(&config.spool.dir) {
        Ok(status) => judge(&status),
        Err(error) => vec![Check::failed("spools", &error)],
    }
}

fn judge(status: &SpoolStatus) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(trouble) = &status.trouble {
        let found = format!("{} cannot be read: {trouble}", counted(status.producers_unreadable, "spool"));
        checks.push(Check::fail("spools", found, "run workers as the user that the application runs as"));
    }
    checks.push(waiting(status));
    checks.push(forwarder(status));
    checks.extend(inbox(status));
    checks
}

fn waiting(status: &SpoolStatus) -> Check {
    const NAME: &str = "spools";
    let spools = counted(status.producers, "spool");
    let oldest = status.oldest_seconds.unwrap_or_default();
    if status.records_waiting == 0 {
        let found = if status.producers == 0 { "none".to_owned() } else { format!("{spools}; nothing waits unread") };
        return Check::ok(NAME, found);
    }
    let over = if status.more { "over " } else { "" };
    let orphaned = match status.producers_dead_waiting {
        0 => String::new(),
        dead => format!(", {} of them left by processes that ended", grouped(dead)),
    };
    let found = format!(
        "{over}{} waiting in {spools}{orphaned}, the oldest for {}",
        counted(status.records_waiting, "event"),
        seconds(oldest)
    );
    let advice = "start a worker on this host, as the same user: auditq work";
    match oldest {
        age if age >= VERY_OLD_SECONDS => Check::fail(NAME, found, advice),
        age if age >= OLD_SECONDS => Check::warn(NAME, found, advice),
        _ => Check::ok(NAME, found),
    }
}

/// Files that a Laravel application leaves; nothing is said where there are none.
fn inbox(status: &SpoolStatus) -> Option<Check> {
    const NAME: &str = "inbox";
    if status.inbox_rejected > 0 {
        let found =
            format!("{} put aside in inbox/rejected, because they are no messages", grouped(status.inbox_rejected));
        return Some(Check::warn(
            NAME,
            found,
            "look who writes there; the worker's log says why each was; then remove them",
        ));
    }
    let oldest = status.oldest_seconds.unwrap_or_default();
    let found = format!("{} waiting", counted(status.inbox_files, "request"));
    let advice = "start a worker on this host, as a user who may write in the inbox: auditq work";
    match status.inbox_files {
        0 => None,
        _ if oldest >= VERY_OLD_SECONDS => Some(Check::fail(NAME, found, advice)),
        _ if oldest >= OLD_SECONDS => Some(Check::warn(NAME, found, advice)),
        _ => Some(Check::ok(NAME, found)),
    }
}

/// A worker's process holds the lock of each spool that it reads.
fn forwarder(status: &SpoolStatus) -> Check {
    const NAME: &str = "worker here";
    match (status.producers_being_read, status.producers) {
        (_, 0) => Check::ok(NAME, "cannot be told: no application has a spool here at the moment"),
        (0, all) => Check::warn(
            NAME,
            format!("nobody reads the {} of this host", counted(all, "spool")),
            "start a worker on this host, as the same user: auditq work",
        ),
        (read, _) => Check::ok(NAME, format!("{} being read", counted(read, "spool"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;

    fn waiting_for(oldest: f64) -> Check {
        waiting(&SpoolStatus {
            producers: 1,
            records_waiting: 5,
            oldest_seconds: Some(oldest),
            ..SpoolStatus::default()
        })
    }

    #[test]
    fn what_has_just_come_is_no_backlog_and_what_is_old_is() {
        assert_eq!(waiting_for(1.0).status, Level::Ok);
        assert_eq!(waiting_for(61.0).status, Level::Warn);
        assert_eq!(waiting_for(3_601.0).status, Level::Fail);
        assert!(waiting_for(61.0).advice.unwrap().contains("auditq work"));
    }

    #[test]
    fn an_inbox_is_spoken_of_when_something_is_in_it() {
        let of = |inbox_files, inbox_rejected, oldest| {
            let oldest_seconds = Some(oldest);
            inbox(&SpoolStatus { inbox_files, inbox_rejected, oldest_seconds, ..SpoolStatus::default() })
        };
        assert!(of(0, 0, 0.0).is_none());
        assert_eq!(of(3, 0, 1.0).unwrap().status, Level::Ok);
        assert_eq!(of(3, 0, 61.0).unwrap().status, Level::Warn);
        assert_eq!(of(3, 0, 3_601.0).unwrap().status, Level::Fail);
        assert!(of(0, 1, 0.0).unwrap().found.contains("inbox/rejected"));
    }

    #[test]
    fn spools_that_nobody_reads_are_a_warning() {
        let status =
            |producers, producers_being_read| SpoolStatus { producers, producers_being_read, ..SpoolStatus::default() };
        assert_eq!(forwarder(&status(2, 0)).status, Level::Warn);
        assert_eq!(forwarder(&status(2, 1)).status, Level::Ok);
        assert_eq!(forwarder(&status(0, 0)).status, Level::Ok);
    }
}
