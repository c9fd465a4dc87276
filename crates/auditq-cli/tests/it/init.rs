//! The files that a newcomer starts from.

use std::process::Command;

use crate::support::{World, tree};

const FILES: [&str; 3] = ["auditq-supervisor.conf", "auditq-worker@.service", "auditq.toml"];

/// A folder without settings.
fn empty() -> World {
    let world = World::new();
    std::fs::remove_file(world.path("auditq.toml")).unwrap();
    world
}

fn names(world: &World) -> Vec<String> {
    let root = world.dir.path().canonicalize().unwrap();
    let paths = tree(&root).into_keys();
    paths.map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn three_files_are_written_and_the_next_step_is_said() {
    let world = empty();
    let done = world.run("init").ok();
    assert_eq!(names(&world), FILES);
    for part in ["auditq work", "auditq doctor", "systemctl enable --now", "supervisorctl", "AUDITQ_CONFIG="] {
        assert!(done.stdout.contains(part), "{part:?}: {}", done.stdout);
    }
    // What it wrote is what a worker can start with.
    world.run("work --stop-when-empty").ok();
    assert!(!world.path("auditq.db-wal").exists() && !world.path("auditq.db-shm").exists(), "it is closed");
    world.run("doctor").ok();
}

#[test]
fn nothing_is_overwritten_without_force_and_nothing_is_written_by_halves() {
    let world = empty();
    world.write("auditq.toml", "# mine\n");
    let done = world.run("init").failed(&["has auditq.toml already, and nothing was written", "hint: add --force"]);
    assert_eq!((done.stdout.as_str(), names(&world)), ("", vec!["auditq.toml".to_owned()]));
    let object = &world.run("init --force --json").ok().json()[0];
    assert_eq!(object["files"].as_array().unwrap().len(), 3);
    assert_eq!(names(&world), FILES);
    assert_ne!(std::fs::read_to_string(world.path("auditq.toml")).unwrap(), "# mine\n");
    world.run("init --dir auditq.toml/below").failed(&["cannot write to auditq.toml/below", "--dir"]);
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let world = empty();
    world.run("init --dir srv/my-50%-shop").ok();
    let unit = world.path("srv/my-50%-shop/auditq-worker@.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    for line in ["NoNewPrivileges=yes", "ProtectSystem=strict", "Restart=always", "KillSignal=SIGTERM"] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
    // Where there is systemd, it has the last word.
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&unit).output() else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("auditq"), "{said}");
}

#[test]
fn the_supervisor_file_starts_two_processes_and_lets_each_finish() {
    let world = empty();
    world.run("init").ok();
    let text = std::fs::read_to_string(world.path("auditq-supervisor.conf")).unwrap();
    for line in ["numprocs=2", "stopsignal=TERM", "stopwaitsecs=45", "autorestart=true"] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
}
