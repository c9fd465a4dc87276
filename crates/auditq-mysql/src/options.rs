use std::path::PathBuf;

use mysql_async::{Opts, OptsBuilder, SslOpts};

use crate::error::{Error, Kind, Result};

const OPEN: &str = "open a database";
/// How many statements a connection keeps prepared.
const PREPARED: usize = 128;
/// The parameters that are not the driver's.
const OURS: [&str; 3] = ["ssl-mode=", "ssl-ca=", "time-zone="];
/// Leaves a session in the server's zone.
const SERVER_ZONE: &str = "SET SESSION time_zone = @@GLOBAL.time_zone";

/// A URL as the driver's options, and as a name for people: without user, password and parameters.
///
/// `ssl-mode` (disabled, required, verify_ca, verify_identity) and `ssl-ca` (a file) mean what they mean to MySQL's own
/// client. `time-zone=server` leaves sessions in the server's zone, in which other applications read and write the columns
/// that have a time; without it they are in UTC. All other parameters are the driver's.
pub(crate) fn parse(url: &str) -> Result<(Opts, String)> {
    let refuse = |message: String| Error::plain(Kind::Misconfigured, OPEN, "mysql", message);
    let Some((_, rest)) = url.split_once("://") else {
        return Err(refuse("its URL is none, such as mysql://user:password@host/database".to_owned()));
    };
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (ours, theirs): (Vec<&str>, Vec<&str>) = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .partition(|pair| OURS.iter().any(|name| pair.starts_with(name)));
    let socket_wanted = theirs.iter().any(|pair| pair.starts_with("prefer_socket=") || pair.starts_with("socket="));
    // The driver's message repeats what was given, a password with an odd character among it.
    let opts = Opts::from_url(&format!("mysql://{address}?{}", theirs.join("&"))).map_err(|error| {
        use mysql_async::UrlError;
        refuse(match error {
            UrlError::UnknownParameter { param } => format!("its URL has an unknown parameter {param:?}"),
            UrlError::InvalidParamValue { param, .. } => {
                format!("its URL has a wrong value for the parameter {param:?}")
            }
            UrlError::FeatureRequired { param, .. } => format!("this build does not support the parameter {param:?}"),
            _ => "its URL cannot be read; write special characters of the password as %XX".to_owned(),
        })
    })?;
    if opts.db_name().is_none_or(str::is_empty) {
        return Err(refuse("its URL names no database; put one at its end, such as mysql://HOST/audit".to_owned()));
    }
    let place = match opts.socket() {
        Some(socket) => format!("mysql {socket}/{}", opts.db_name().unwrap_or_default()),
        None => format!("mysql {}:{}/{}", opts.ip_or_hostname(), opts.tcp_port(), opts.db_name().unwrap_or_default()),
    };
    let mut ssl = opts.ssl_opts().cloned();
    let mut setup = Vec::new();
    for pair in ours {
        match pair.split_once('=') {
            Some(("time-zone", "server")) => setup.push(SERVER_ZONE),
            Some(("time-zone", other)) => {
                return Err(refuse(format!("time-zone {other:?} is not `server`; leave it out for UTC")));
            }
            _ => ssl = tls(ssl, pair).map_err(refuse)?,
        }
    }
    let mut builder = OptsBuilder::from_opts(opts)
        // Rows that exist already must not count as changed.
        .client_found_rows(false)
        .stmt_cache_size(PREPARED)
        .tcp_nodelay(true)
        .setup(setup)
        .ssl_opts(ssl);
    if !socket_wanted {
        // Changing over to a socket may change who the server takes us for.
        builder = builder.prefer_socket(false);
    }
    Ok((builder.into(), place))
}

/// Applies one of the parameters that MySQL's own client has; they must come in the order mode, then file.
fn tls(known: Option<SslOpts>, pair: &str) -> std::result::Result<Option<SslOpts>, String> {
    let some = || known.clone().unwrap_or_default();
    match pair.split_once('=').unwrap_or((pair, "")) {
        ("ssl-mode", mode) => match mode.to_ascii_lowercase().as_str() {
            "disabled" => Ok(None),
            "required" => {
                Ok(Some(some().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true)))
            }
            "verify_ca" => Ok(Some(some().with_danger_skip_domain_validation(true))),
            "verify_identity" => Ok(Some(some())),
            other => Err(format!("ssl-mode {other:?} is not one of disabled, required, verify_ca and verify_identity")),
        },
        (_, file) => Ok(Some(some().with_root_certs(vec![PathBuf::from(file).into()]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_database_shows_no_password() {
        let (_, place) = parse("mysql://scott:ti%40ger@db.example:3307/audit").unwrap();
        assert_eq!(place, "mysql db.example:3307/audit");
        let (opts, place) = parse("mariadb://scott:tiger@db.example/audit?tcp_keepalive=60000").unwrap();
        assert_eq!((opts.pass(), place.as_str()), (Some("tiger"), "mysql db.example:3306/audit"));
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_showing_the_password() {
        for url in [
            "mysql://scott:tiger@db.example",
            "mysql://scott:tiger@db.example/",
            "mysql://scott:tiger@db.example:port/audit",
            "mysql://scott:tiger@db.example/audit?tiger=1",
            "mysql://scott:tiger@db.example/audit?ssl-mode=preferred",
            "mysql://scott:tiger@db.example/audit?time-zone=Berlin",
            "tiger",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), Kind::Misconfigured);
            assert!(!error.to_string().contains("scott"), "{error}");
        }
    }

    #[test]
    fn ssl_mode_means_what_it_means_to_the_servers_own_client() {
        let ssl = |query: &str| parse(&format!("mysql://h/d?{query}")).unwrap().0.ssl_opts().cloned();
        assert_eq!(ssl("ssl-mode=disabled"), None);
        assert!(ssl("ssl-mode=required").unwrap().accept_invalid_certs());
        let strict = ssl("ssl-mode=verify_identity&ssl-ca=/etc/ca.pem").unwrap();
        assert!(!strict.accept_invalid_certs() && !strict.skip_domain_validation());
        assert_eq!(strict.root_certs().len(), 1);
        assert!(ssl("ssl-mode=VERIFY_CA").unwrap().skip_domain_validation());
    }
}
