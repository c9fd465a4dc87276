//! What the server or the client says, as what the caller may do about it.

use async_nats::{ConnectError, ConnectErrorKind};
use serde::Deserialize;

use super::DRIVER;
use crate::{Error, ErrorKind};

/// A stream of that name has other settings.
pub(super) const NAME_IN_USE: u64 = 10058;
pub(super) const NO_STREAM: u64 = 10059;
pub(super) const NO_CONSUMER: u64 = 10014;
const NO_MESSAGE: u64 = 10037;
const NO_SEQUENCE: u64 = 10043;
const WRONG_LAST: u64 = 10071;

/// What is to be done about a server that is full.
const FULL: &str = "; raise `max_file_store` on the server or the limits of the account: until then messages are neither taken \
    in nor handed out, and none is lost";

/// How JetStream refuses.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: u64,
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

impl Refusal {
    /// True when the subject has another last message than the publisher takes for it.
    pub(super) fn is_wrong_last(&self) -> bool {
        self.err_code == WRONG_LAST
    }

    /// True when there is no such message, and so nothing to remove.
    pub(super) fn is_no_message(&self) -> bool {
        let words = &self.description;
        matches!(self.err_code, NO_MESSAGE | NO_SEQUENCE)
            || words.contains("no message found")
            || words.contains("deleted message")
    }

    /// True when there is no such stream or consumer.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.err_code, NO_STREAM | NO_CONSUMER)
    }

    /// True when it may go better in a moment: the cluster elects a leader.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.err_code, 10008 | 10009) || self.code == 503 && !matches!(self.err_code, 10039 | 10076 | 10077)
    }
}

/// Says what was attempted, where, and what may be done.
pub(super) fn explain(operation: &str, place: &str, refusal: &Refusal) -> Error {
    use ErrorKind::{Misconfigured, Unavailable};
    let words = refusal.description.as_str();
    let (kind, hint) = match refusal.err_code {
        10039 | 10076 => (Misconfigured, "; start the server with `-js`, or enable JetStream for the account"),
        10074 => (Misconfigured, "; take `replicas` out of the URL, or name a server of a cluster"),
        10005 => (Misconfigured, "; lower `replicas` in the URL, or start more servers of the cluster"),
        // Of the server or the account, so that the ledger takes nothing either.
        10002 | 10023 | 10028 | 10047 => (Unavailable, FULL),
        10077 => (Unavailable, "; raise `max_bytes` of the stream, or let workers empty the queue"),
        10065 => (
            Misconfigured,
            "; another stream listens to the same subjects: choose another prefix in the URL, nats://HOST/PREFIX",
        ),
        NAME_IN_USE => (Misconfigured, "; choose another prefix in the URL, nats://HOST/PREFIX"),
        _ if words.contains("insufficient") => (Unavailable, FULL),
        _ => (Unavailable, ""),
    };
    let code = refusal.err_code;
    Error::new(kind, DRIVER, format!("cannot {operation} in {place}: {words} ({code}){hint}"))
}

/// Why there is no connection.
pub(super) fn explain_connect(place: &str, tls: bool, error: &ConnectError) -> Error {
    use ErrorKind::{Misconfigured, Unavailable};
    // Everything that the error is caused by; none of it holds what was logged in with.
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if !words.contains(&cause.to_string()) {
            words = format!("{words}: {cause}");
        }
        source = cause.source();
    }
    let (kind, hint) = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            (Misconfigured, "; check the user and the password, the token, or the file of `creds` in the URL")
        }
        _ if words.contains("authorization violation") || words.contains("credentials") => {
            (Misconfigured, "; check the user and the password, the token, or the file of `creds` in the URL")
        }
        // What a server without TLS says is no TLS.
        _ if tls && (words.contains("corrupt message") || error.kind() == ConnectErrorKind::Tls) => (
            Misconfigured,
            "; the server must offer TLS, with a certificate that is valid for the host in the URL and signed by a \
             known authority, or by the one in `ca`; write nats:// for a server without TLS",
        ),
        _ if error.kind() == ConnectErrorKind::Tls || words.contains("certificate") => (
            Misconfigured,
            "; the server demands TLS: its certificate must be valid for the host in the URL and signed by a known \
             authority, or by the one in `ca`, and it may want one of the client, `cert` and `key`",
        ),
        ConnectErrorKind::ServerParse => (Misconfigured, "; check the hosts in the URL"),
        _ => (Unavailable, "; start the server, or check the host and the port in the URL"),
    };
    Error::new(kind, DRIVER, format!("cannot connect to {place}: {words}{hint}"))
}

/// A failure that waiting may mend.
pub(super) fn unavailable(operation: &str, place: &str, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, DRIVER, format!("cannot {operation} in {place}: {why}"))
}

/// Something the engine holds that is not what was put there.
pub(super) fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, DRIVER, format!("cannot read {what}: it is not what auditq wrote"))
}
