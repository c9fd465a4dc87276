//! What a URL names: servers of one cluster, how to log in, and what the streams begin with.

use std::fmt;
use std::path::PathBuf;

use crate::{Error, ErrorKind, Result};

use super::DRIVER;

/// How the driver says who it is. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    None,
    User(String, String),
    Token(String),
    Credentials(PathBuf),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::User(..) => "a user and a password",
            Self::Token(_) => "a token",
            Self::Credentials(_) => "a file",
        })
    }
}

/// A URL that was read.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// `nats://HOST:PORT`, of one cluster.
    pub(super) servers: Vec<String>,
    pub(super) tls: bool,
    pub(super) login: Login,
    /// Certificates that are trusted beside the system's.
    pub(super) ca: Option<PathBuf>,
    /// The client's own certificate and its key.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    /// What the names of streams and subjects begin with.
    pub(super) prefix: String,
    pub(super) replicas: u8,
    /// For errors: `nats HOST:PORT,HOST:PORT`.
    pub(super) place: String,
}

/// Reads `nats://user:password@host:4222,other:4222/prefix?replicas=3`.
pub(super) fn read(url: &str) -> Result<Target> {
    let Some((scheme, rest)) = url.split_once("://") else { return Err(refused("it has no scheme")) };
    let tls = match scheme {
        "nats" => false,
        "tls" => true,
        _ => return Err(refused(&format!("{scheme:?} is neither nats nor tls"))),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // The last `@`: a password may hold one, and a slash.
    let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts: Vec<&str> = hosts.split(',').collect();
    let is_host = |host: &&str| {
        let port = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map(|(_, port)| port);
        !host.is_empty() && !host.starts_with(':') && port.is_none_or(|port| port.parse::<u16>().is_ok())
    };
    if !hosts.iter().all(is_host) {
        return Err(refused("each host is a name or an address, and may have a port"));
    }
    let mut target = Target {
        servers: hosts.iter().map(|host| format!("nats://{host}")).collect(),
        tls,
        login: login.map_or(Ok(Login::None), read_login)?,
        ca: None,
        certificate: None,
        prefix: if prefix.is_empty() { "auditq".to_owned() } else { prefix.to_owned() },
        replicas: 1,
        place: format!("nats {}", hosts.join(",")),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if target.prefix.len() > 60 || !target.prefix.chars().all(fits) {
        return Err(refused(
            "what follows the hosts is what the names of streams begin with: up to 60 letters, digits, - and _",
        ));
    }
    read_parameters(query, &mut target)?;
    Ok(target)
}

fn read_login(login: &str) -> Result<Login> {
    let decode = |text| decode(text).ok_or_else(|| refused("a % in its user or password is written %25"));
    Ok(match login.split_once(':') {
        Some((user, password)) => Login::User(decode(user)?, decode(password)?),
        None => Login::Token(decode(login)?),
    })
}

fn read_parameters(query: &str, target: &mut Target) -> Result<()> {
    let (mut certificate, mut key) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("replicas", number)) => {
                let number = number.parse().ok().filter(|number| matches!(number, 1 | 3 | 5));
                target.replicas = number.ok_or_else(|| refused("`replicas` is 1, 3 or 5"))?;
            }
            Some(("creds", file)) => target.login = Login::Credentials(file.into()),
            Some(("ca", file)) => target.ca = Some(file.into()),
            Some(("cert", file)) => certificate = Some(PathBuf::from(file)),
            Some(("key", file)) => key = Some(PathBuf::from(file)),
            _ => {
                let name = pair.split('=').next().unwrap_or_default();
                return Err(refused(&format!(
                    "it has no parameter {name:?}, only `replicas`, `creds`, `ca`, `cert` and `key`"
                )));
            }
        }
    }
    target.certificate = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err(refused("`cert` and `key` go together")),
    };
    Ok(())
}

/// `%41` as `A`; `None` where something else follows a `%`.
fn decode(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        if *first == b'%' {
            let code = std::str::from_utf8(more.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(code, 16).ok()?);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8(bytes).ok()
}

fn refused(why: &str) -> Error {
    let message = format!("cannot open the queue: its URL cannot be used, {why}; write nats://USER:PASSWORD@HOST:4222");
    Error::new(ErrorKind::Misconfigured, DRIVER, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_servers_login_prefix_and_replicas() {
        let target = read("nats://user:p%40s%2Fs@a:1,b,[::1]:7/staging?replicas=3&ca=/etc/ca.pem").unwrap();
        assert_eq!(target.servers, ["nats://a:1", "nats://b", "nats://[::1]:7"]);
        assert_eq!(target.login, Login::User("user".to_owned(), "p@s/s".to_owned()));
        assert_eq!((target.prefix.as_str(), target.replicas, target.tls), ("staging", 3, false));
        assert_eq!(target.ca, Some("/etc/ca.pem".into()));
        let plain = read("nats://h").unwrap();
        assert_eq!((plain.prefix.as_str(), plain.replicas, &plain.login), ("auditq", 1, &Login::None));
        assert_eq!(read("tls://token@h").unwrap().login, Login::Token("token".to_owned()));
        assert!(read("tls://h").unwrap().tls);
        assert_eq!(read("nats://h?creds=/a.creds").unwrap().login, Login::Credentials("/a.creds".into()));
        assert_eq!(read("nats://:a@b,c@h1,h2").unwrap().servers.len(), 2, "a password may hold both");
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_its_password() {
        for url in [
            "nats://u:secret@h:port",
            "nats://u:secret@",
            "nats://u:secret@h/a.b",
            "nats://u:secret@h?replica=3",
            "nats://u:secret@h?replicas=2",
            "nats://u:secret@h?cert=a",
            "nats://u:secret%@h",
            "http://secret",
        ] {
            let error = read(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            let text = format!("{error} {error:?}");
            assert!(!text.contains("secret") && text.contains("nats://USER:PASSWORD@HOST:4222"), "{url}: {text}");
        }
        assert!(!format!("{:?}", read("nats://u:secret@h").unwrap()).contains("secret"));
    }
}
