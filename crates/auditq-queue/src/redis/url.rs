//! What a URL names: one server or several of which one takes writes, how to log in, and what the keys begin with.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion};

use crate::{Error, ErrorKind, Result};

use super::DRIVER;

const SCHEMES: [&str; 7] = ["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix", "valkey+unix"];

/// A server of those that a URL names.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) connection: ConnectionInfo,
    /// For errors: `redis host:6379/0`.
    pub(super) place: String,
}

impl Node {
    /// The node of the same cluster at `HOST:PORT`, which is logged in to like this one.
    ///
    /// # Errors
    /// `Unavailable` when that is no address, or this one is a socket.
    pub(super) fn at(&self, address: &str) -> Result<Self> {
        let named = || address.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
        let addr = match (self.connection.addr(), named()) {
            (ConnectionAddr::Tcp(..), Some((host, port))) => ConnectionAddr::Tcp(host, port),
            (ConnectionAddr::TcpTls { insecure, tls_params, .. }, Some((host, port))) => {
                let (insecure, tls_params) = (*insecure, tls_params.clone());
                ConnectionAddr::TcpTls { host, port, insecure, tls_params }
            }
            _ => {
                let message = format!("cannot follow {} to {address:?}, where it says that keys are", self.place);
                return Err(Error::new(ErrorKind::Unavailable, DRIVER, message));
            }
        };
        let place = format!("redis {addr}/{}", self.connection.redis_settings().db());
        Ok(Self { connection: self.connection.clone().set_addr(addr), place })
    }
}

/// A URL that was read.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) nodes: Vec<Node>,
    /// What all keys begin with.
    pub(super) prefix: String,
}

/// Reads `redis://user:password@host:6379,other:6380/0?prefix=laravel_database_`.
pub(super) fn read(url: &str) -> Result<Target> {
    let Some((scheme, rest)) = url.split_once(':') else { return Err(refused("it has no scheme")) };
    if !SCHEMES.contains(&scheme) {
        return Err(refused(&format!("{scheme:?} is none of {}", SCHEMES.join(", "))));
    }
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut prefix, mut kept) = (String::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("prefix", value)) => value.clone_into(&mut prefix),
            Some(("protocol", _)) => kept.push(pair),
            Some(("db" | "user" | "pass", _)) if scheme.ends_with("unix") => kept.push(pair),
            _ => {
                let name = pair.split('=').next().unwrap_or_default();
                return Err(refused(&format!("it has no parameter {name:?}, only `prefix` and `protocol`")));
            }
        }
    }
    if prefix.contains('%') {
        return Err(refused("the prefix of its keys is taken as it stands, without escapes"));
    }
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    let nodes = if scheme.ends_with("unix") {
        vec![node(&format!("{scheme}://{path}{query}"))?]
    } else {
        let (authority, database) = path.split_once('/').unwrap_or((path, ""));
        // The last `@`: a password may hold one.
        let (login, hosts) = authority.rsplit_once('@').map_or(("", authority), |(login, hosts)| (login, hosts));
        let login = if login.is_empty() { String::new() } else { format!("{login}@") };
        let one = |host: &str| node(&format!("{scheme}://{login}{host}/{database}{query}"));
        hosts.split(',').map(one).collect::<Result<_>>()?
    };
    Ok(Target { nodes, prefix })
}

fn node(url: &str) -> Result<Node> {
    // The client's own words may hold the URL.
    let info = url.into_connection_info().map_err(|_| {
        refused("each host is a name or an address with a port, and what follows is the number of a database")
    })?;
    let settings = info.redis_settings().clone();
    if settings.db() < 0 {
        return Err(refused("the number of its database is negative"));
    }
    let place = format!("redis {}/{}", info.addr(), settings.db());
    // The third version tells of a connection that was closed while nobody used it.
    let settings = if url.contains("protocol=") { settings } else { settings.set_protocol(ProtocolVersion::RESP3) };
    Ok(Node { connection: info.set_redis_settings(settings), place })
}

fn refused(why: &str) -> Error {
    let message = format!("cannot open the queue: its URL cannot be used, {why}; write redis://HOST:6379/0");
    Error::new(ErrorKind::Misconfigured, DRIVER, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_servers_database_and_prefix() {
        let target = read("redis://user:p%40ss@a:1,b/3?prefix=laravel_database_").unwrap();
        let places: Vec<_> = target.nodes.iter().map(|node| node.place.as_str()).collect();
        assert_eq!((places, target.prefix.as_str()), (vec!["redis a:1/3", "redis b:6379/3"], "laravel_database_"));
        for node in target.nodes {
            let settings = node.connection.redis_settings().clone();
            assert_eq!((settings.username(), settings.password()), (Some("user"), Some("p@ss")));
        }
        assert_eq!(read("valkey://h").unwrap().nodes[0].place, "redis h:6379/0");
        assert_eq!(read("redis://[::1]:7/0").unwrap().nodes.len(), 1);
        assert_eq!(read("redis://:a@b,c@h1,h2").unwrap().nodes.len(), 2, "a password may hold both");
        assert!(read("unix:///run/redis.sock?db=2").unwrap().nodes[0].place.ends_with("/run/redis.sock/2"));
        assert!(read("rediss://h/1").unwrap().nodes[0].place.ends_with("h:6379/1"));
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_its_password() {
        for url in
            ["redis://u:secret@h:port/0", "redis://u:secret@h/x", "redis://u:secret@h/0?prefx=a", "http://secret"]
        {
            let error = read(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            let text = format!("{error} {error:?}");
            assert!(!text.contains("secret") && text.contains("redis://HOST:6379/0"), "{text}");
        }
    }
}
