use redis::RedisError;

use super::DRIVER;
use crate::{Error, ErrorKind};

/// The operation of opening a connection.
pub(super) const CONNECT: &str = "connect to";

/// Codes that a script's error may carry within its text, as servers before 7 write it.
const WITHIN: [&str; 6] = ["OOM", "READONLY", "WRONGTYPE", "MISCONF", "NOPERM", "CROSSSLOT"];

/// Says what was attempted, where, why it failed, and what may be done. Has no password in it.
pub(super) fn explain(operation: &str, place: &str, error: &RedisError) -> Error {
    let code = code_of(error);
    let (kind, hint) = advice(operation, code, error);
    Error::new(kind, DRIVER, format!("cannot {operation} {}{place}: {}{hint}", preposition(operation), words(error)))
}

fn preposition(operation: &str) -> &'static str {
    if operation == CONNECT { "" } else { "in " }
}

/// The server's word for an error; empty when it is the client's.
pub(super) fn code_of(error: &RedisError) -> &str {
    let code = error.code().unwrap_or("");
    let detail = error.detail().unwrap_or("");
    WITHIN.into_iter().find(|within| code == "ERR" && detail.contains(&format!("-{within} "))).unwrap_or(code)
}

/// True when the connection cannot be used any more, or leads to a server that cannot serve.
pub(super) fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(code_of(error), "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH")
}

/// True when the server has refused at once, so that nothing can have happened.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    matches!(code_of(error), "READONLY" | "LOADING" | "MASTERDOWN")
}

/// The reason alone, without where in a script it came up.
fn words(error: &RedisError) -> String {
    if error.is_timeout() {
        return "it does not answer in time".to_owned();
    }
    let (code, detail) = (error.code().unwrap_or(""), error.detail().unwrap_or(""));
    let detail = detail.split(" script: ").next().unwrap_or("").trim_end_matches(['.', ' ', ',']);
    match (code, detail) {
        ("", "") => error.to_string(),
        ("", detail) => format!("{}: {detail}", error.category()),
        (code, "") => format!("{} ({code})", error.category()),
        (code, detail) => format!("{detail} ({code})"),
    }
}

fn advice(operation: &str, code: &str, error: &RedisError) -> (ErrorKind, &'static str) {
    use ErrorKind::{Misconfigured, Unavailable};
    let text = error.to_string();
    match code {
        "NOAUTH" | "WRONGPASS" => (Misconfigured, "; check the user and the password in the URL"),
        "NOPERM" => (
            Misconfigured,
            "; the user needs the commands of lists, sets, hashes, sorted sets and scripts, on all keys with the prefix",
        ),
        "READONLY" => {
            (Unavailable, "; it is a replica: name the server that takes writes, or all of them as HOST,HOST")
        }
        "OOM" => (Unavailable, "; raise `maxmemory` on the server or let workers empty the queue, nothing was added"),
        "MISCONF" => (Unavailable, "; the server cannot write to its disk: free some space, it goes on by itself"),
        "LOADING" => (Unavailable, "; it reads its data after a start, and answers by itself when it is done"),
        "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "ASK" | "NOREPLICAS" | "BUSY" => (Unavailable, ""),
        "CROSSSLOT" => (
            Misconfigured,
            "; in a cluster the keys of a queue must share a slot: put its name in braces, such as {audit-logs}",
        ),
        // Followed already, as often as may help.
        "MOVED" => (Unavailable, "; the nodes of the cluster do not agree on which has the queue's keys"),
        "WRONGTYPE" => (
            Misconfigured,
            "; something else has a key of the queue's name: use another queue, or a `prefix` in the URL",
        ),
        _ if text.contains("switch database") || text.contains("DB index is out of range") => {
            (Misconfigured, "; name a lower number at the end of the URL, or raise `databases` on the server")
        }
        _ if text.contains("password") || text.contains("Password") || text.contains("authentication failed") => {
            (Misconfigured, "; check the user and the password in the URL")
        }
        _ if text.contains("unknown command") || text.contains("resp3 is not supported") => {
            (Misconfigured, "; Redis 6.2 or Valkey is needed")
        }
        _ if text.contains("certificate") => (
            Misconfigured,
            "; the server's certificate must be valid for the host in the URL and signed by a known authority",
        ),
        _ if operation == CONNECT && code.is_empty() => {
            (Unavailable, "; start the server, or check the host and the port in the URL")
        }
        _ => (Unavailable, ""),
    }
}
