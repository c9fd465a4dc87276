//! Where workers are to run, written into the files that start them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use auditq_config::Config;

/// Seconds that a worker has to end in, over those that storing a batch may take: it gives back what it holds.
const STOP_SECONDS_MORE: u64 = 15;

/// A folder, the user that it belongs to, and the program.
#[derive(Debug)]
pub(super) struct Place {
    /// Whole, and without links.
    pub(super) dir: PathBuf,
    /// Its owner: a name, or a number where it has none.
    pub(super) user: String,
    program: PathBuf,
}

impl Place {
    /// Makes the folder where it is not there.
    pub(super) fn prepare(dir: &Path) -> Result<Self> {
        let cannot = || format!("cannot write to {}; name another folder with --dir", dir.display());
        std::fs::create_dir_all(dir).with_context(cannot)?;
        let dir = dir.canonicalize().with_context(cannot)?;
        let uid = dir.metadata().with_context(cannot)?.uid();
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = name_of(uid, &users).unwrap_or_else(|| uid.to_string());
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        for path in [&dir, &program] {
            if !path.to_str().is_some_and(|path| path.chars().all(|c| !c.is_control())) {
                bail!(
                    "{} cannot stand in a unit file: it is not UTF-8 or has control characters; rename it",
                    path.display()
                );
            }
        }
        Ok(Self { dir, user, program })
    }

    pub(super) fn systemd_unit(&self) -> String {
        let timeout = Config::default().worker.timeout;
        let in_home = |path: &Path| ["/home", "/root", "/run/user"].iter().any(|home| path.starts_with(home));
        let in_tmp = ["/tmp", "/var/tmp"].iter().any(|tmp| self.dir.starts_with(tmp) || self.program.starts_with(tmp));
        filled(
            include_str!("worker.service"),
            &[
                ("{user}", &self.user),
                ("{dir}", &self.dir.display().to_string().replace('%', "%%")),
                ("{exec}", &command_word(&self.program)),
                ("{config}", &command_word(&self.dir.join("auditq.toml"))),
                ("{rw}", &unit_word(&self.dir)),
                ("{timeout}", &timeout.to_string()),
                ("{stop}", &(timeout + STOP_SECONDS_MORE).to_string()),
                // What is hidden cannot be run or written.
                ("{home}", if in_home(&self.dir) || in_home(&self.program) { "read-only" } else { "yes" }),
                ("{tmp}", if in_tmp { "no" } else { "yes" }),
            ],
        )
    }

    pub(super) fn supervisor_program(&self) -> String {
        let timeout = Config::default().worker.timeout;
        let whole = |path: &Path| path.display().to_string().replace('%', "%%");
        filled(
            include_str!("supervisor.conf"),
            &[
                ("{user}", &self.user),
                ("{dir}", &whole(&self.dir)),
                ("{exec}", &unit_word(&self.program)),
                ("{config}", &unit_word(&self.dir.join("auditq.toml"))),
                ("{log}", &whole(&self.dir.join("auditq-worker.log"))),
                ("{timeout}", &timeout.to_string()),
                ("{stop}", &(timeout + STOP_SECONDS_MORE).to_string()),
            ],
        )
    }
}

fn filled(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// The name of a user, by the lines of /etc/passwd.
fn name_of(uid: u32, users: &str) -> Option<String> {
    let mut lines = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.get(2) == Some(&uid.to_string().as_str()))?.first().map(|name| (*name).to_owned())
}

/// A path as one word of a setting: quoted where it must be, and without specifiers.
fn unit_word(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    if !text.contains([' ', '"', '\'', '\\', ';', '#']) {
        return text;
    }
    let mut word = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            word.push('\\');
        }
        word.push(c);
    }
    word.push('"');
    word
}

/// As [`unit_word`], in a command line of systemd, which replaces variables.
fn command_word(path: &Path) -> String {
    unit_word(path).replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_odd_characters_stays_one_word() {
        assert_eq!(unit_word(Path::new("/srv/shop")), "/srv/shop");
        assert_eq!(unit_word(Path::new("/srv/my \"50%\" shop")), r#""/srv/my \"50%%\" shop""#);
        assert_eq!(command_word(Path::new("/srv/$HOME")), "/srv/$$HOME");
    }

    #[test]
    fn the_owner_is_named_where_it_has_a_name() {
        let users = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n";
        assert_eq!(name_of(33, users).as_deref(), Some("www-data"));
        assert_eq!(name_of(3, users), None);
    }

    #[test]
    fn what_is_hidden_from_other_services_is_left_visible_where_the_folder_is_in_it() {
        let place = |dir: &str| Place { dir: dir.into(), user: "shop".into(), program: "/usr/bin/auditq".into() };
        let unit = place("/srv/shop").systemd_unit();
        assert!(unit.contains("\nProtectHome=yes\n") && unit.contains("\nPrivateTmp=yes\n"), "{unit}");
        assert!(place("/home/shop/app").systemd_unit().contains("\nProtectHome=read-only\n"));
        assert!(place("/tmp/shop").systemd_unit().contains("\nPrivateTmp=no\n"));
    }

    #[test]
    fn a_worker_has_longer_to_end_than_a_batch_may_take() {
        let place = Place { dir: "/srv/shop".into(), user: "shop".into(), program: "/usr/bin/auditq".into() };
        let seconds = |text: &str, key: &str| -> u64 {
            text.lines().find_map(|line| line.strip_prefix(key)).unwrap().parse().unwrap()
        };
        let timeout = Config::default().worker.timeout;
        assert!(seconds(&place.systemd_unit(), "TimeoutStopSec=") > timeout);
        assert!(seconds(&place.supervisor_program(), "stopwaitsecs=") > timeout);
        for text in [place.systemd_unit(), place.supervisor_program()] {
            assert!(!text.contains('{'), "{text}");
        }
    }
}
