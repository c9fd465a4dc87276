use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Kind, Result};
use crate::tls::{self, Verify};

const OPEN: &str = "open a database";

/// What the driver itself reads of a URL.
const DRIVERS: [&str; 16] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
];

/// Where to connect to, and how.
pub(crate) struct Target {
    /// As it was given, with the password: what tells one target from another.
    pub(crate) url: String,
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
    /// For people: without user, password and parameters.
    pub(crate) place: Arc<str>,
    /// Whether a connection may be kept to listen on.
    pub(crate) listen: bool,
}

impl Target {
    /// `sslmode` (disable, prefer, require, verify-ca, verify-full) and `sslrootcert` (a file) mean what they mean to
    /// libpq, `listen=off` is ours, and all other parameters are the driver's.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let refuse = |message: String| Error::plain(Kind::Misconfigured, OPEN, "postgres", message);
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let mut theirs = Vec::new();
        let (mut mode, mut roots, mut listen) = ("prefer", None, true);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("sslmode", value) => mode = value,
                ("sslrootcert", file) => roots = Some(file),
                ("listen", "on") => listen = true,
                ("listen", "off") => listen = false,
                ("listen", other) => return Err(refuse(format!("its URL says listen={other}, which is on or off"))),
                (name, _) if DRIVERS.contains(&name) => theirs.push(pair),
                (name, _) => return Err(refuse(format!("its URL has an unknown parameter {name:?}"))),
            }
        }
        // The driver's message may repeat what was given, a password with an odd character among it.
        let mut config: Config = format!("{address}?{}", theirs.join("&")).parse().map_err(|_| {
            let names: Vec<_> = theirs.iter().filter_map(|pair| pair.split('=').next()).collect();
            let unreadable = "its URL cannot be read; write special characters of the password as %XX";
            refuse(if names.is_empty() {
                unreadable.to_owned()
            } else {
                format!("{unreadable}, and check the values of {}", names.join(", "))
            })
        })?;
        let Some(database) = config.get_dbname().filter(|name| !name.is_empty()).map(str::to_owned) else {
            return Err(refuse("its URL names no database; put one at its end, such as postgres://HOST/audit".into()));
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(refuse("its URL names no host, such as postgres://HOST/audit".into()));
        }
        let (ssl_mode, verify) = tls::mode(mode).map_err(refuse)?;
        config.ssl_mode(ssl_mode);
        if config.get_application_name().is_none() {
            config.application_name("auditq");
        }
        if config.get_hosts().len() > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            // Of a primary and its standbys, the one that takes writes.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if config.get_tcp_user_timeout().is_none() {
            // A server that vanished without a word is noticed within half a minute.
            config.tcp_user_timeout(Duration::from_secs(30)).keepalives_idle(Duration::from_secs(15));
        }
        let verify = if ssl_mode == SslMode::Disable { Verify::Nothing } else { verify };
        let tls = tls::connector(verify, roots).map_err(refuse)?;
        let place = format!("postgres {}/{database}", hosts(&config)).into();
        Ok(Self { url: url.to_owned(), config, tls, place, listen })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("place", &self.place).finish_non_exhaustive()
    }
}

fn hosts(config: &Config) -> String {
    let ports = config.get_ports();
    let host = |(place, host): (usize, &Host)| match host {
        Host::Tcp(name) => {
            let port = ports.get(place).or(ports.first()).copied().unwrap_or(5432);
            format!("{name}:{port}")
        }
        Host::Unix(folder) => folder.display().to_string(),
    };
    let named: Vec<_> = config.get_hosts().iter().enumerate().map(host).collect();
    if named.is_empty() {
        return config.get_hostaddrs().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    }
    named.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_database_shows_no_password() {
        for (url, place) in [
            ("postgres://scott:ti%40ger@db.example:5433/audit", "postgres db.example:5433/audit"),
            ("postgresql://scott:tiger@db.example/audit?connect_timeout=3", "postgres db.example:5432/audit"),
            ("postgres://scott:tiger@a,b:5433/audit", "postgres a:5432,b:5433/audit"),
            ("postgres://scott@%2Frun%2Fpostgresql/audit", "postgres /run/postgresql/audit"),
        ] {
            assert_eq!(&*Target::parse(url).unwrap().place, place);
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_showing_the_password() {
        for url in [
            "postgres://scott:tiger@db.example",
            "postgres://scott:tiger@db.example/",
            "postgres://scott:tiger@db.example:port/audit",
            "postgres://scott:tiger@db.example/audit?tiger=1",
            "postgres://scott:tiger@db.example/audit?sslmode=preferred",
            "postgres://scott:tiger@db.example/audit?listen=tiger2",
            "postgres://scott:tiger@db.example/audit?keepalives=tiger",
            "postgres://scott:tiger@db.example/audit?sslmode=verify-full&sslrootcert=/nonexistent",
            "tiger",
        ] {
            let error = Target::parse(url).unwrap_err();
            assert_eq!(error.kind(), Kind::Misconfigured);
            assert!(!error.to_string().contains("scott"), "{error}");
        }
    }

    #[test]
    fn of_several_hosts_the_one_that_takes_writes_is_wanted() {
        let wanted = |url: &str| Target::parse(url).unwrap().config.get_target_session_attrs();
        assert_eq!(wanted("postgres://a,b/audit"), TargetSessionAttrs::ReadWrite);
        assert_eq!(wanted("postgres://a/audit"), TargetSessionAttrs::Any);
    }
}
