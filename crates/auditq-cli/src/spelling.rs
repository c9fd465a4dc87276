//! Laravel's spelling of commands, read as ours.
//!
//! A crontab or supervisor file then needs only its first word changed: `php artisan queue:work database --tries=3`
//! becomes `auditq queue:work database --tries=3`, or even `auditq artisan queue:work …`.

use std::ffi::OsString;

/// A command line in our spelling.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spelt {
    /// With the program's name first.
    pub(crate) args: Vec<OsString>,
    /// What was left out of it, for a person.
    pub(crate) notes: Vec<String>,
}

/// Laravel's options that nothing here answers to: harmless to leave out. True when a value follows.
const UNUSED: &[(&str, bool)] = &[
    ("--ansi", false),
    ("--daemon", false),
    ("--delay", true),
    ("--env", true),
    ("--name", true),
    ("--no-ansi", false),
    ("--no-interaction", false),
    ("--quiet", false),
    ("--verbose", false),
    ("-n", false),
    ("-q", false),
    ("-v", false),
    ("-vv", false),
    ("-vvv", false),
];

/// What stands behind a command of Laravel's.
struct Spelling {
    ours: &'static [&'static str],
    /// Its first positional argument is the name of a connection.
    takes_connection: bool,
    /// Its positional arguments are queues that may be spelt `connection:queue`.
    takes_queues: bool,
}

fn spelling_of(command: &str) -> Option<Spelling> {
    let (ours, takes_connection, takes_queues): (&'static [&'static str], bool, bool) = match command {
        "queue:work" | "queue:listen" => (&["work"], true, false),
        "queue:size" => (&["queue", "size"], false, true),
        "queue:failed" => (&["queue", "failed"], false, false),
        "queue:retry" => (&["queue", "retry"], false, false),
        "queue:forget" => (&["queue", "forget"], false, false),
        "queue:flush" | "queue:prune-failed" => (&["queue", "flush"], false, false),
        "queue:clear" => (&["queue", "clear"], true, false),
        "queue:restart" => (&["queue", "restart"], false, false),
        "queue:pause" => (&["queue", "pause"], false, true),
        "queue:resume" | "queue:continue" => (&["queue", "resume"], false, true),
        "queue:monitor" => (&["queue", "monitor"], false, true),
        "queue:table" | "queue:failed-table" | "make:queue-table" | "make:queue-failed-table" => {
            (&["migrate"], false, false)
        }
        "audit:work" => (&["work"], true, false),
        "audit:monitor" => (&["monitor"], false, false),
        "audit:migrate" => (&["migrate"], false, false),
        "audit:log" => (&["log"], false, false),
        "audit:backup" => (&["backup"], false, false),
        "audit:prune" => (&["prune"], false, false),
        "audit:init" => (&["init"], false, false),
        "audit:doctor" => (&["doctor"], false, false),
        "audit:demo" => (&["demo"], false, false),
        _ => return None,
    };
    Some(Spelling { ours, takes_connection, takes_queues })
}

/// Rewrites a command line from Laravel's spelling; one in ours comes back as it was.
pub(crate) fn rewrite(args: Vec<OsString>) -> Spelt {
    let Some((at, spelling)) = find_command(&args) else { return Spelt { args, notes: Vec::new() } };
    let mut spelt = Spelt { args: Vec::with_capacity(args.len() + 1), notes: Vec::new() };
    spelt.args.extend(args[..at].iter().filter(|arg| *arg != "artisan").cloned());
    spelt.args.extend(spelling.ours.iter().map(OsString::from));
    let mut rest = args[at + 1..].iter().peekable();
    let mut connection_taken = !spelling.takes_connection;
    let mut positional_only = false;
    while let Some(arg) = rest.next() {
        let Some(text) = arg.to_str() else {
            spelt.args.push(arg.clone());
            continue;
        };
        let is_option = text.starts_with('-') && !positional_only;
        positional_only |= text == "--";
        if is_option && let Some((name, takes_value)) = unused(text) {
            // `--delay 3`, but not `--delay=3`, has its value in the next argument.
            if takes_value && !text.contains('=') {
                rest.next();
            }
            spelt.notes.push(format!("{name} means nothing to auditq and is left out"));
        } else if is_option && text == "--force" && spelling.ours == ["work"] {
            spelt.notes.push("--force means nothing to auditq and is left out".to_owned());
        } else if is_option {
            spelt.args.push(arg.clone());
            if value_follows(text) && rest.peek().is_some() {
                spelt.args.extend(rest.next().cloned());
            }
        } else if !connection_taken {
            connection_taken = true;
            spelt.notes.push(format!(
                "the connection {text:?} is not looked at: queue.url or AUDITQ_QUEUE_URL says where the queue is"
            ));
        } else if spelling.takes_queues {
            spelt.args.push(without_connections(text).into());
        } else {
            spelt.args.push(arg.clone());
        }
    }
    spelt
}

/// Finds the first argument that is no option, and whether it is a command of Laravel's.
fn find_command(args: &[OsString]) -> Option<(usize, Spelling)> {
    let mut at = 1;
    while let Some(arg) = args.get(at)?.to_str() {
        match arg {
            "--config" => at += 2,
            "artisan" => at += 1,
            _ if arg.starts_with('-') => at += 1,
            _ => return Some((at, spelling_of(arg)?)),
        }
    }
    None
}

fn unused(arg: &str) -> Option<(&'static str, bool)> {
    let name = arg.split('=').next().unwrap_or(arg);
    UNUSED.iter().find(|(unused, _)| *unused == name).copied()
}

/// True for `--tries 3`: an option that takes its value from the next argument.
fn value_follows(option: &str) -> bool {
    const SWITCHES: &[&str] = &["--once", "--stop-when-empty", "--json", "--force", "--yes", "--fail", "--help", "--"];
    option.starts_with("--") && !option.contains('=') && !SWITCHES.contains(&option)
}

/// `redis:high,database:low` as `high,low`; `audit-logs:500` stays, for 500 is a limit and no name.
fn without_connections(queues: &str) -> String {
    let without = queues.split(',').map(|queue| match queue.split_once(':') {
        Some((_, name)) if name.starts_with(|c: char| !c.is_ascii_digit()) => name,
        _ => queue,
    });
    without.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> (String, usize) {
        let spelt = rewrite(line.split(' ').map(OsString::from).collect());
        let args: Vec<_> = spelt.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        (args.join(" "), spelt.notes.len())
    }

    #[test]
    fn laravels_commands_become_ours() {
        for (theirs, ours) in [
            ("auditq queue:work --tries=3", "auditq work --tries=3"),
            ("auditq artisan queue:work --queue high,low", "auditq work --queue high,low"),
            ("auditq queue:size audit-logs", "auditq queue size audit-logs"),
            ("auditq queue:failed --json", "auditq queue failed --json"),
            ("auditq queue:retry all", "auditq queue retry all"),
            ("auditq queue:forget a b", "auditq queue forget a b"),
            ("auditq queue:flush --hours=48", "auditq queue flush --hours=48"),
            ("auditq queue:continue audit-logs", "auditq queue resume audit-logs"),
            ("auditq queue:monitor redis:a,b:100 --max=5", "auditq queue monitor a,b:100 --max=5"),
            ("auditq queue:pause database:audit-logs", "auditq queue pause audit-logs"),
            ("auditq --config a.toml audit:monitor --stats", "auditq --config a.toml monitor --stats"),
        ] {
            assert_eq!(rewritten(theirs), (ours.to_owned(), 0), "{theirs}");
        }
    }

    #[test]
    fn a_connection_is_accepted_and_noted() {
        let line = "auditq queue:work database --queue=audit-logs";
        assert_eq!(rewritten(line), ("auditq work --queue=audit-logs".to_owned(), 1));
        let line = "auditq queue:work --queue audit-logs database";
        assert_eq!(rewritten(line), ("auditq work --queue audit-logs".to_owned(), 1));
        let line = "auditq queue:clear database --queue=low --force";
        assert_eq!(rewritten(line), ("auditq queue clear --queue=low --force".to_owned(), 1));
    }

    #[test]
    fn options_without_a_meaning_here_are_left_out_and_noted() {
        let line = "auditq queue:work -v --name=a --delay 3 --daemon --env production --force --once";
        assert_eq!(rewritten(line), ("auditq work --once".to_owned(), 6));
    }

    #[test]
    fn our_own_spelling_is_left_alone() {
        for line in
            ["auditq", "auditq work -v --name x", "auditq queue size", "auditq --config queue:work", "auditq x:y"]
        {
            assert_eq!(rewritten(line), (line.to_owned(), 0), "{line}");
        }
    }
}
