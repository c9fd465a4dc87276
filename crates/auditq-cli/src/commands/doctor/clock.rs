//! The machine's clock: reservations, delays and the order of the log follow it.

use jiff::{SignedDuration, Timestamp};

use super::Check;
use crate::time;

/// Microseconds that clocks of several machines may be apart.
const APART_US: i64 = 5 * 60 * 1_000_000;
/// The release of this program: no clock that is right is before it.
const EARLIEST: Timestamp = Timestamp::constant(1_767_225_600, 0);

pub(super) fn look(newest_row_at: Option<i64>) -> Check {
    judge(Timestamp::now(), newest_row_at)
}

fn judge(now: Timestamp, newest_row_at: Option<i64>) -> Check {
    const NAME: &str = "clock";
    const ADVICE: &str = "set it, and keep it set: timedatectl set-ntp true";
    let shown = time::local_exactly(now.as_microsecond());
    if now < EARLIEST || now > EARLIEST + SignedDuration::from_hours(24 * 365 * 50) {
        return Check::fail(NAME, format!("it says {shown}"), ADVICE);
    }
    match newest_row_at {
        Some(newest) if newest > now.as_microsecond() + APART_US => {
            let found =
                format!("it says {shown}, and the log has a row that was stored at {}", time::local_exactly(newest));
            Check::warn(NAME, found, ADVICE)
        }
        _ => Check::ok(NAME, shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;

    #[test]
    fn a_clock_before_this_release_or_behind_the_log_is_told() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let micros = now.as_microsecond();
        assert_eq!(judge(now, None).status, Level::Ok);
        assert_eq!(judge(now, Some(micros + 1_000_000)).status, Level::Ok);
        assert_eq!(judge(now, Some(micros + 3_600_000_000)).status, Level::Warn);
        assert_eq!(judge(Timestamp::UNIX_EPOCH, None).status, Level::Fail);
    }
}
