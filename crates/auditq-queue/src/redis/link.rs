//! Connections to the server that takes writes, found anew when it is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, PushKind, RedisResult, ScriptInvocation,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;

use super::errors::{CONNECT, code_of, explain, is_broken, is_refusal};
use super::url::Node;
use crate::{Error, ErrorKind, Result};

use super::DRIVER;

const CONNECT_AT_MOST: Duration = Duration::from_secs(5);

/// For how long an answer is waited for; scripts take milliseconds.
const ANSWER_AT_MOST: Duration = Duration::from_secs(15);

/// One connection for all callers, and the servers it may lead to.
#[derive(Debug)]
pub(super) struct Link {
    nodes: Vec<Node>,
    current: Mutex<Current>,
    cluster: Mutex<Cluster>,
}

/// What the nodes of a cluster have said of where keys are.
#[derive(Debug, Default)]
struct Cluster {
    /// The connections to the nodes that were named, by their addresses.
    nodes: HashMap<String, Live>,
    /// Where what is asked for was found last.
    places: HashMap<String, String>,
}

/// How often a question is sent on to another node; once, unless slots are moving.
const REDIRECTS_MAX: usize = 4;

/// How many places of keys are remembered; forgetting them costs a question each.
const PLACES_MAX: usize = 256;

/// What is to be run.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Script(&'a ScriptInvocation<'a>),
    Command(&'a Cmd),
}

impl Ask<'_> {
    /// What is asked for, as far as its place in a cluster goes: scripts are for the keys of one queue, as a rule.
    fn subject(&self) -> String {
        match self {
            Self::Script(_) => "scripts".to_owned(),
            Self::Command(command) => match command.args_iter().nth(1) {
                Some(redis::Arg::Simple(key)) => format!("key {}", String::from_utf8_lossy(key)),
                _ => "commands".to_owned(),
            },
        }
    }
}

#[derive(Debug, Default)]
struct Current {
    live: Option<Live>,
    /// Which of the servers took writes last, or is to be asked next.
    node: usize,
    generation: u64,
}

#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    place: Arc<str>,
    generation: u64,
    closed: Arc<AtomicBool>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("place", &self.place).field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(nodes: Vec<Node>) -> Self {
        Self { nodes, current: Mutex::default(), cluster: Mutex::default() }
    }

    /// The servers, for people.
    pub(super) fn places(&self) -> String {
        self.nodes.iter().map(|node| node.place.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Runs a script that, run twice, does nothing more: again at once when the connection was lost over it.
    pub(super) async fn repeatable<T: FromRedisValue>(
        &self,
        operation: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T> {
        self.run(operation, Ask::Script(script), true).await
    }

    /// Runs a script.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        operation: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T> {
        self.run(operation, Ask::Script(script), false).await
    }

    /// Runs a command, again at once when the connection was lost over it.
    pub(super) async fn command<T: FromRedisValue>(&self, operation: &'static str, command: &Cmd) -> Result<T> {
        self.run(operation, Ask::Command(command), true).await
    }

    async fn run<T: FromRedisValue>(&self, operation: &'static str, ask: Ask<'_>, repeatable: bool) -> Result<T> {
        let (mut may_ask_again, mut redirects) = (true, 0);
        loop {
            let mut live = self.live_for(ask).await?;
            let answer = match ask {
                Ask::Script(script) => script.invoke_async(&mut live.connection).await,
                Ask::Command(command) => command.query_async(&mut live.connection).await,
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if let Some(address) = moved_to(&error)
                && redirects < REDIRECTS_MAX
            {
                redirects += 1;
                self.remember(ask, address).await;
                continue;
            }
            if is_broken(&error) {
                self.forget(&live).await;
            }
            // Another server may take writes by now.
            let helps = is_refusal(&error) && self.nodes.len() > 1 || repeatable && error.is_connection_dropped();
            if helps && std::mem::take(&mut may_ask_again) {
                continue;
            }
            return Err(explain(operation, &live.place, &error));
        }
    }

    /// The connection to the node of a cluster that has what is asked for, as far as is known; that of [`Self::live`]
    /// otherwise.
    async fn live_for(&self, ask: Ask<'_>) -> Result<Live> {
        let mut cluster = self.cluster.lock().await;
        if cluster.places.is_empty() {
            drop(cluster);
            return self.live().await;
        }
        let Some(address) = cluster.places.get(&ask.subject()).cloned() else {
            drop(cluster);
            return self.live().await;
        };
        if let Some(live) = cluster.nodes.get(&address).filter(|live| !live.closed.load(Ordering::Acquire)) {
            return Ok(live.clone());
        }
        match self.connect_to(&address).await {
            Ok(live) => {
                cluster.nodes.insert(address, live.clone());
                Ok(live)
            }
            // Another node has taken its place, or will: those in the URL know.
            Err(error) => {
                cluster.leave(&address);
                Err(error)
            }
        }
    }

    async fn connect_to(&self, address: &str) -> Result<Live> {
        let node = self.nodes[0].at(address)?;
        let (connection, closed) = connect(&node, ANSWER_AT_MOST).await?;
        Ok(Live { connection, place: node.place.as_str().into(), generation: 0, closed })
    }

    async fn remember(&self, ask: Ask<'_>, address: String) {
        let mut cluster = self.cluster.lock().await;
        if cluster.places.len() >= PLACES_MAX {
            cluster.places.clear();
        }
        cluster.places.insert(ask.subject(), address);
    }

    /// The connection that works, or a new one.
    async fn live(&self) -> Result<Live> {
        let mut current = self.current.lock().await;
        if let Some(live) = current.live.as_ref().filter(|live| !live.closed.load(Ordering::Acquire)) {
            return Ok(live.clone());
        }
        current.live = None;
        let mut first = None;
        for _ in 0..self.nodes.len() {
            let node = &self.nodes[current.node];
            match connect(node, ANSWER_AT_MOST).await {
                Ok((connection, closed)) => {
                    current.generation += 1;
                    let (place, generation) = (node.place.as_str().into(), current.generation);
                    let live = Live { connection, place, generation, closed };
                    current.live = Some(live.clone());
                    return Ok(live);
                }
                Err(error) => {
                    current.node = (current.node + 1) % self.nodes.len();
                    // What will not mend itself is what people have to hear of.
                    match &first {
                        Some(known) if Error::kind(known) == ErrorKind::Misconfigured => {}
                        Some(_) if error.kind() != ErrorKind::Misconfigured => {}
                        _ => first = Some(error),
                    }
                }
            }
        }
        Err(first.unwrap_or_else(|| Error::new(ErrorKind::Misconfigured, DRIVER, "the URL names no server")))
    }

    async fn forget(&self, live: &Live) {
        if live.generation == 0 {
            let mut cluster = self.cluster.lock().await;
            let address = cluster.nodes.iter().find(|(_, node)| node.place == live.place);
            if let Some(address) = address.map(|(address, _)| address.clone()) {
                cluster.leave(&address);
            }
            return;
        }
        let mut current = self.current.lock().await;
        if current.live.as_ref().is_some_and(|current| current.generation == live.generation) {
            current.live = None;
            if self.nodes.len() > 1 {
                current.node = (current.node + 1) % self.nodes.len();
            }
        }
    }

    /// A connection of the caller's own to the server that takes writes, to block on; answers take up to `at_most`.
    pub(super) async fn apart(&self, at_most: Duration) -> Result<MultiplexedConnection> {
        let place = self.live().await?.place;
        let node = self.nodes.iter().find(|node| *node.place == *place).unwrap_or(&self.nodes[0]);
        Ok(connect(node, at_most).await?.0)
    }

    /// As [`Self::apart`], to the node of a cluster that another has named.
    pub(super) async fn apart_at(&self, address: &str, at_most: Duration) -> Result<MultiplexedConnection> {
        Ok(connect(&self.nodes[0].at(address)?, at_most).await?.0)
    }
}

impl Cluster {
    /// Forgets a node that does not answer, and what was found there.
    fn leave(&mut self, address: &str) {
        self.nodes.remove(address);
        self.places.retain(|_, place| place != address);
    }
}

/// The address that a node of a cluster names for what another has.
pub(super) fn moved_to(error: &redis::RedisError) -> Option<String> {
    let (address, _) = error.redirect_node().filter(|_| code_of(error) == "MOVED")?;
    // It names none where it does not know itself by one.
    (!address.starts_with(':')).then(|| address.to_owned())
}

/// Connects, logs in, and sees to it that the server is no replica.
async fn connect(node: &Node, answer_at_most: Duration) -> Result<(MultiplexedConnection, Arc<AtomicBool>)> {
    let connected = match log_in(node, answer_at_most).await {
        // Cut off in the middle, by a proxy or a person.
        Err(error) if error.is_connection_dropped() && !error.is_connection_refusal() => {
            log_in(node, answer_at_most).await
        }
        first => first,
    };
    let (connection, closed, is_replica) = match connected {
        Ok(connected) => connected,
        Err(error) if error.is_timeout() && speaks_without_tls(node).await => {
            let message = format!(
                "cannot connect to {}: the server offers no TLS on that port; name its port for TLS, or write redis:// for \
                 a connection without",
                node.place
            );
            return Err(Error::new(ErrorKind::Misconfigured, DRIVER, message));
        }
        Err(error) => return Err(explain(CONNECT, &node.place, &error)),
    };
    if is_replica {
        let message = format!(
            "cannot write to {}: it is a replica; name the server that takes writes, or all of them as HOST,HOST",
            node.place
        );
        return Err(Error::new(ErrorKind::Unavailable, DRIVER, message));
    }
    Ok((connection, closed))
}

/// Whether a server that was asked for TLS answers without it: it waits for the end of what it takes for a command.
async fn speaks_without_tls(node: &Node) -> bool {
    let ConnectionAddr::TcpTls { host, port, .. } = node.connection.addr() else { return false };
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect((host.as_str(), *port)).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(matches!(answer[0], b'+' | b'-'))
    };
    matches!(tokio::time::timeout(CONNECT_AT_MOST, ask).await, Ok(Ok(true)))
}

/// A connection, whether it was closed since, and whether it leads to a replica.
async fn log_in(node: &Node, answer_at_most: Duration) -> RedisResult<(MultiplexedConnection, Arc<AtomicBool>, bool)> {
    let client = Client::open(node.connection.clone())?;
    let closed = Arc::new(AtomicBool::new(false));
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_AT_MOST))
        .set_response_timeout(Some(answer_at_most));
    if node.connection.redis_settings().protocol() != redis::ProtocolVersion::RESP2 {
        let closed = Arc::clone(&closed);
        config = config.set_push_sender(move |push: redis::PushInfo| {
            if push.kind == PushKind::Disconnection {
                closed.store(true, Ordering::Release);
            }
            Ok::<(), redis::aio::SendError>(())
        });
    }
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    match redis::cmd("ROLE").query_async::<Vec<redis::Value>>(&mut connection).await {
        Ok(role) => Ok((connection, closed, role.first().is_some_and(is_replica))),
        // A user who may not ask finds out when writing.
        Err(error) if code_of(&error) == "NOPERM" => Ok((connection, closed, false)),
        Err(error) => Err(error),
    }
}

fn is_replica(role: &redis::Value) -> bool {
    matches!(role, redis::Value::BulkString(name) if name == b"slave" || name == b"replica")
}
