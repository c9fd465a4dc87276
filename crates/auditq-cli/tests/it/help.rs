//! The help of each command, held against a file of `tests/golden`. `UPDATE_GOLDEN=1 cargo test` writes them anew.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::World;

const COMMANDS: &[&str] = &[
    "",
    "backup",
    "demo",
    "doctor",
    "import",
    "init",
    "laravel",
    "laravel decode",
    "log",
    "log show",
    "migrate",
    "monitor",
    "prune",
    "queue",
    "queue clear",
    "queue failed",
    "queue flush",
    "queue forget",
    "queue monitor",
    "queue pause",
    "queue restart",
    "queue resume",
    "queue retry",
    "queue size",
    "work",
];

/// The commands that a help text lists.
fn listed(help: &str) -> BTreeSet<String> {
    let Some((_, after)) = help.split_once("\nCommands:\n") else { return BTreeSet::new() };
    let lines = after.lines().take_while(|line| !line.is_empty());
    let first = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    first.map(str::to_owned).collect()
}

#[test]
fn the_help_of_every_command_is_as_it_was() {
    let world = World::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut different = Vec::new();
    for command in COMMANDS {
        let help = world.run(&format!("{command} --help")).ok();
        assert_eq!(help.stderr, "");
        let name = if command.is_empty() { "auditq".to_owned() } else { command.replace(' ', "-") };
        let file = golden.join(format!("{name}.txt"));
        if update {
            std::fs::write(&file, &help.stdout).unwrap();
        } else if std::fs::read_to_string(&file).unwrap_or_default() != help.stdout {
            different.push(file);
        }
    }
    assert!(different.is_empty(), "run with UPDATE_GOLDEN=1 and look at what changes: {different:?}");
}

#[test]
fn every_command_there_is_has_its_help_looked_at() {
    let world = World::new();
    let mut found = BTreeSet::from([String::new()]);
    for parent in ["", "laravel", "log", "queue"] {
        for name in listed(&world.run(&format!("{parent} --help")).ok().stdout) {
            found.insert(format!("{parent} {name}").trim().to_owned());
        }
    }
    assert_eq!(found, COMMANDS.iter().map(|command| (*command).to_owned()).collect());
}

#[test]
fn help_fits_a_terminal_and_shows_how_the_command_is_used() {
    let world = World::new();
    for command in COMMANDS {
        let help = world.run(&format!("{command} --help")).ok().stdout;
        for line in help.lines() {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
        // What is set in columns must not be broken on a narrow terminal either.
        let (_, after) = help.rsplit_once("Print help").unwrap();
        for line in after.lines().filter(|line| line.starts_with("  ")) {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
        let group = ["", "queue"].contains(command);
        assert!(group || help.contains("Example"), "{command} has no example");
    }
}

#[test]
fn without_a_command_the_help_is_shown_and_the_exit_code_says_wrong_usage() {
    let done = World::new().run("");
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert!(done.stderr.contains("Commands:") && done.stderr.contains("doctor"), "{}", done.stderr);
    let done = World::new().run("wrok");
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("'work'"), "{}", done.stderr);
}
