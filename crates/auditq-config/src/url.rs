use std::fmt;
use std::path::PathBuf;

/// The URL of a queue or store; its password is never shown.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct EngineUrl {
    scheme: Scheme,
    url: String,
}

/// Which engine a URL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A SQLite file: `sqlite:auditq.db`, `sqlite:///var/lib/auditq/auditq.db`.
    Sqlite,
    /// PostgreSQL: `postgres://user:password@host:5432/database?sslmode=require`.
    Postgres,
    /// MySQL and MariaDB: `mysql://user:password@host:3306/database`.
    Mysql,
    /// Redis and Valkey: `redis://user:password@host:6379/0`, `rediss://` with TLS, `unix:` for a socket.
    Redis,
    /// NATS JetStream: `nats://user:password@host:4222,other:4222`, `tls://` with TLS.
    Nats,
    /// Within this process, for tests: `memory:`.
    Memory,
}

impl EngineUrl {
    /// Checks a URL.
    ///
    /// # Errors
    /// When its scheme is not one of a known engine, or a SQLite URL names no file; the message has no password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let scheme = match url.split_once(':').map(|(scheme, rest)| (scheme, rest.trim_start_matches('/'))) {
            Some(("sqlite", file)) if !file.is_empty() && !url.contains('?') => Scheme::Sqlite,
            Some(("sqlite", _)) => {
                return Err("a sqlite URL names a file and nothing else, such as sqlite:auditq.db".to_owned());
            }
            Some(("postgres" | "postgresql", host)) if !host.is_empty() => Scheme::Postgres,
            Some(("mysql" | "mariadb", host)) if !host.is_empty() => Scheme::Mysql,
            Some(("redis" | "rediss" | "valkey" | "valkeys" | "unix" | "redis+unix", host)) if !host.is_empty() => {
                Scheme::Redis
            }
            Some(("nats" | "tls", host)) if !host.is_empty() => Scheme::Nats,
            Some(("memory", "")) => Scheme::Memory,
            Some((other, _)) => {
                return Err(format!(
                    "{other:?} is not an engine that auditq drives, or its host is missing: sqlite:FILE, \
                     postgres://HOST/DB, mysql://HOST/DB, redis://HOST and nats://HOST are"
                ));
            }
            None => return Err("it is not a URL, such as sqlite:auditq.db".to_owned()),
        };
        Ok(Self { scheme, url: url.to_owned() })
    }

    /// Which engine it names.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The URL as it was given, with the password in it: for the driver's client, never for people.
    #[must_use]
    pub fn with_password(&self) -> &str {
        &self.url
    }

    /// The file that a SQLite URL names: `sqlite:a.db` and `sqlite://a.db` are relative, `sqlite:///a.db` absolute.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        let rest = self.url.split_once(':').map_or("", |(_, rest)| rest);
        PathBuf::from(rest.strip_prefix("//").unwrap_or(rest))
    }

    /// The URL of what is kept within this process.
    #[must_use]
    pub fn memory() -> Self {
        Self { scheme: Scheme::Memory, url: "memory:".to_owned() }
    }

    /// The URL of a SQLite file.
    #[must_use]
    pub fn sqlite(file: &std::path::Path) -> Self {
        Self { scheme: Scheme::Sqlite, url: format!("sqlite:{}", file.display()) }
    }
}

impl Default for EngineUrl {
    fn default() -> Self {
        Self { scheme: Scheme::Sqlite, url: "sqlite:auditq.db".to_owned() }
    }
}

impl TryFrom<String> for EngineUrl {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        Self::parse(&url)
    }
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.url))
    }
}

impl fmt::Debug for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// `scheme://user:secret@host` as `scheme://user:…@host`, and `unix:///socket?pass=secret` as `unix:///socket?pass=…`.
fn without_password(url: &str) -> String {
    let Some((path, query)) = url.split_once('?').filter(|(_, query)| query.contains("pass")) else {
        return without_login(url);
    };
    let shown = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.starts_with("pass") => format!("{name}=…"),
        _ => pair.to_owned(),
    };
    format!("{}?{}", without_login(path), query.split('&').map(shown).collect::<Vec<_>>().join("&"))
}

fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    // The last `@`: a password may hold one.
    let Some(at) = rest[..authority_end].rfind('@') else { return url.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:…{}", &rest[at..]),
        // Alone it is a token where NATS is meant, and nothing to show elsewhere.
        None if matches!(scheme, "nats" | "tls") => format!("{scheme}://…{}", &rest[at..]),
        None => format!("{scheme}://{}:…{}", &rest[..at], &rest[at..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_spellings_of_a_sqlite_url_name_the_file() {
        for (url, file) in [
            ("sqlite:a/b.db", "a/b.db"),
            ("sqlite://a/b.db", "a/b.db"),
            ("sqlite:///a/b.db", "/a/b.db"),
            ("sqlite:/a/b.db", "/a/b.db"),
        ] {
            assert_eq!(EngineUrl::parse(url).unwrap().file(), PathBuf::from(file), "{url}");
        }
    }

    #[test]
    fn an_unknown_engine_is_refused_without_showing_the_password() {
        let error = EngineUrl::parse("oracle://scott:tiger@host/db").unwrap_err();
        assert!(error.contains("oracle") && !error.contains("tiger"), "{error}");
    }

    #[test]
    fn each_scheme_names_its_engine() {
        for (url, scheme) in [
            ("postgres://h/d", Scheme::Postgres),
            ("postgresql://u@h/d", Scheme::Postgres),
            ("mysql://h/d", Scheme::Mysql),
            ("mariadb://h/d", Scheme::Mysql),
            ("redis://h", Scheme::Redis),
            ("rediss://h/1", Scheme::Redis),
            ("unix:///run/redis.sock", Scheme::Redis),
            ("nats://a,b:4223", Scheme::Nats),
            ("memory:", Scheme::Memory),
        ] {
            assert_eq!(EngineUrl::parse(url).unwrap().scheme(), scheme, "{url}");
        }
        assert!(EngineUrl::parse("postgres://").is_err());
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(without_password("redis://u:p@ss@host:6379/0"), "redis://u:…@host:6379/0");
        assert_eq!(without_password("redis://host:6379/0"), "redis://host:6379/0");
        assert_eq!(without_password("redis://h/@x"), "redis://h/@x");
        assert_eq!(without_password("nats://token@h,i/x?replicas=3"), "nats://…@h,i/x?replicas=3");
        assert_eq!(without_password("tls://u:p@h"), "tls://u:…@h");
        assert_eq!(without_password("unix:///run/r.sock?db=1&pass=p?&user=u"), "unix:///run/r.sock?db=1&pass=…&user=u");
    }

    #[test]
    fn a_sqlite_url_without_a_file_or_with_parameters_is_refused() {
        for url in ["sqlite:", "sqlite://", "sqlite:a.db?mode=ro", "auditq.db"] {
            assert!(EngineUrl::parse(url).is_err(), "{url}");
        }
    }
}
