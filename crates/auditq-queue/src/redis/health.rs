//! What the server is set to do with what it was given.

use std::collections::HashMap;

use super::link::Link;
use crate::Result;

/// What a server promises of messages it has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durability {
    /// What a crash of the server can cost, as a sentence for people.
    pub statement: String,
    /// Whether the append-only file is on; `None` when the server does not tell.
    pub appendonly: Option<bool>,
    /// When that file is written through: `always`, `everysec` or `no`; `None` when the server does not tell.
    pub appendfsync: Option<String>,
    /// Which keys go when memory is short; only `noeviction` and the `volatile` ones leave messages alone.
    pub maxmemory_policy: Option<String>,
    /// Bytes of memory the server may use; 0 is no limit.
    pub maxmemory: u64,
}

impl Durability {
    /// Whether a crash costs more than a second of messages.
    #[must_use]
    pub fn loses_much(&self) -> bool {
        self.appendonly == Some(false) || self.appendfsync.as_deref() == Some("no")
    }

    /// Why messages may vanish from a server that runs, if they may.
    #[must_use]
    pub fn eviction(&self) -> Option<String> {
        let policy = self.maxmemory_policy.as_deref().filter(|policy| policy.starts_with("allkeys"))?;
        Some(format!(
            "the server's `maxmemory-policy` is {policy}, which drops messages when memory is short; set it to noeviction"
        ))
    }
}

pub(super) async fn durability(link: &Link) -> Result<Durability> {
    const OPERATION: &str = "read how durable messages are";
    let info: String = link.command(OPERATION, &redis::cmd("INFO")).await?;
    let info: HashMap<&str, &str> = info.lines().filter_map(|line| line.split_once(':')).collect();
    // Many who rent a server may not ask this; INFO does not tell.
    let asked: Result<HashMap<String, String>> =
        link.command(OPERATION, redis::cmd("CONFIG").arg("GET").arg("appendfsync")).await;
    let appendfsync = asked.ok().and_then(|mut found| found.remove("appendfsync"));
    let appendonly = info.get("aof_enabled").map(|enabled| *enabled == "1");
    Ok(Durability {
        statement: statement(appendonly, appendfsync.as_deref()),
        appendonly,
        appendfsync,
        maxmemory_policy: info.get("maxmemory_policy").map(|policy| (*policy).to_owned()),
        maxmemory: info.get("maxmemory").and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
    })
}

fn statement(appendonly: Option<bool>, appendfsync: Option<&str>) -> String {
    match (appendonly, appendfsync) {
        (Some(true), Some("always")) => "each push is on the server's disk before it is answered",
        (Some(true), Some("no")) => {
            "a power cut at the server costs up to half a minute of messages: `appendfsync` is no, set it to everysec \
             or always"
        }
        (Some(true), Some(_)) => {
            "a power cut at the server costs up to a second of messages: `appendfsync` is everysec"
        }
        (Some(true), None) => "the server appends each push to a file; it does not tell when that is written through",
        (Some(false), _) => {
            "a restart of the server can lose all messages since its last snapshot: `appendonly` is off, set it to yes"
        }
        (None, _) => "the server does not tell whether messages outlive a restart of it",
    }
    .to_owned()
}
