//! The connection, and how one question is asked over it: with a time limit, and again where that helps.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, Request, RequestErrorKind};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::DRIVER;
use super::errors::{Refusal, explain, explain_connect, unavailable};
use super::url::{Login, Target};
use crate::{Error, ErrorKind, Result};

const CONNECT_AT_MOST: Duration = Duration::from_secs(5);
/// For how long one answer is waited for; it takes milliseconds.
const ANSWER_AT_MOST: Duration = Duration::from_secs(4);
/// For how long a question is asked anew: a cluster that lost a server has elected another leader by then.
const ASK_AT_MOST: Duration = Duration::from_secs(10);
/// For how long a connection that was lost is waited for.
const RECONNECT_AT_MOST: Duration = Duration::from_secs(3);

/// How many questions are on their way at once.
pub(super) const IN_FLIGHT: usize = 256;

/// One connection for all callers; it finds its way back by itself.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) target: Target,
    client: tokio::sync::Mutex<Option<Client>>,
    heard: Arc<Heard>,
}

/// What the connection says of itself.
#[derive(Debug)]
struct Heard {
    /// Counts how often it was lost.
    losses: watch::Sender<u64>,
    /// What the server or the client complained of last, and when.
    complaint: Mutex<Option<(Instant, String)>>,
}

/// What came back, and whether the question may have been answered before, unheard.
pub(super) struct Answer {
    pub(super) message: Message,
    repeated: bool,
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// It is in its stream, at this place.
    At(u64),
    /// The subject has another last message than was expected. The flag: an earlier try may have put it there.
    Refused { perhaps_mine: bool },
}

#[derive(Deserialize)]
struct PubAck {
    error: Option<Refusal>,
    #[serde(default)]
    seq: u64,
}

impl Heard {
    fn hear(&self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed => self.losses.send_modify(|count| *count = count.wrapping_add(1)),
            Event::ServerError(error) => self.complain(&error.to_string()),
            Event::ClientError(error) => self.complain(&error.to_string()),
            _ => {}
        }
    }

    fn complain(&self, words: &str) {
        let mut complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        *complaint = Some((Instant::now(), words.to_owned()));
    }

    fn since(&self, began: Instant) -> Option<String> {
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        complaint.as_ref().filter(|(at, _)| *at >= began).map(|(_, words)| words.clone())
    }
}

impl Link {
    pub(super) fn new(target: Target) -> Self {
        let heard = Arc::new(Heard { losses: watch::Sender::new(0), complaint: Mutex::default() });
        Self { target, client: tokio::sync::Mutex::default(), heard }
    }

    /// Grows with each loss of the connection.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        self.heard.losses.subscribe()
    }

    /// The connection that works, or a new one.
    pub(super) async fn client(&self) -> Result<Client> {
        let mut current = self.client.lock().await;
        if let Some(client) = &*current {
            return Ok(client.clone());
        }
        let client = self.connect().await?;
        *current = Some(client.clone());
        Ok(client)
    }

    async fn connect(&self) -> Result<Client> {
        let (target, heard) = (&self.target, Arc::clone(&self.heard));
        let mut options = ConnectOptions::new()
            .name("auditq")
            .connection_timeout(CONNECT_AT_MOST)
            .request_timeout(Some(ANSWER_AT_MOST))
            .ping_interval(Duration::from_secs(10))
            .subscription_capacity(1 << 20)
            .reconnect_delay_callback(rest_before)
            .event_callback(move |event| {
                heard.hear(&event);
                std::future::ready(())
            });
        if target.tls {
            options = options.require_tls(true);
        }
        if let Some(ca) = &target.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &target.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        options = match &target.login {
            Login::None => options,
            Login::User(user, password) => options.user_and_password(user.clone(), password.clone()),
            Login::Token(token) => options.token(token.clone()),
            Login::Credentials(file) => options.credentials_file(file).await.map_err(|error| {
                let message = format!("cannot read the file of `creds` in the URL, {}: {error}", file.display());
                Error::new(ErrorKind::Misconfigured, DRIVER, message)
            })?,
        };
        let connected = options.connect(target.servers.as_slice()).await;
        let client = connected.map_err(|error| explain_connect(&target.place, target.tls, &error))?;
        if !client.is_server_compatible(2, 9, 0) {
            let version = client.server_info().version;
            let message =
                format!("cannot use {}: it is version {version}, and 2.9 is the oldest that will do", target.place);
            return Err(Error::new(ErrorKind::Misconfigured, DRIVER, message));
        }
        Ok(client)
    }

    /// Sends without asking for an answer: for what comes to nothing worse than a repetition when it is lost.
    pub(super) async fn say(&self, subject: &str, payload: &'static str) -> Result<()> {
        let client = self.client().await?;
        // It waits for room while there is no connection.
        let sent = client.publish(subject.to_owned(), Bytes::from_static(payload.as_bytes()));
        match tokio::time::timeout(ANSWER_AT_MOST, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unavailable("send", &self.target.place, &error.to_string())),
            Err(_) => Err(unavailable("send", &self.target.place, "the connection was lost")),
        }
    }

    /// Asks, and asks again while it may help; ends within seconds.
    pub(super) async fn ask(
        &self,
        operation: &str,
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &Bytes,
    ) -> Result<Answer> {
        let (began, place) = (Instant::now(), &self.target.place);
        let (mut repeated, mut rest) = (false, Duration::from_millis(50));
        loop {
            let client = self.client().await?;
            self.wait_until_connected(operation, &client).await?;
            let mut request = Request::new().payload(payload.clone());
            if let Some(headers) = headers {
                request = request.headers(headers.clone());
            }
            // The client's own limit begins when there is room to send.
            let sent = client.send_request(subject.to_owned(), request);
            let error = match tokio::time::timeout(ANSWER_AT_MOST * 2, sent).await {
                Ok(Ok(message)) => return Ok(Answer { message, repeated }),
                Ok(Err(error)) => error,
                Err(_) => return Err(unavailable(operation, place, "the connection was lost")),
            };
            let complaint = self.heard.since(began).unwrap_or_default();
            let why = match error.kind() {
                RequestErrorKind::MaxPayloadExceeded => {
                    let message = format!("cannot {operation} in {place}: {error}; raise `max_payload` on the server");
                    return Err(Error::new(ErrorKind::Rejected, DRIVER, message));
                }
                RequestErrorKind::TimedOut if complaint.to_lowercase().contains("permissions violation") => {
                    let message = format!(
                        "cannot {operation} in {place}: {complaint}; the user needs `$JS.API.>`, `$JS.ACK.>`, `_INBOX.>` \
                         and all subjects under the prefix"
                    );
                    return Err(Error::new(ErrorKind::Misconfigured, DRIVER, message));
                }
                RequestErrorKind::NoResponders => {
                    "no stream answers: JetStream is off, or has no leader now".to_owned()
                }
                RequestErrorKind::TimedOut => "it does not answer in time".to_owned(),
                _ => error.to_string(),
            };
            // Nothing has happened where nobody listened.
            repeated |= error.kind() != RequestErrorKind::NoResponders;
            if began.elapsed() + rest + ANSWER_AT_MOST / 2 > ASK_AT_MOST {
                return Err(unavailable(operation, place, &why));
            }
            tokio::time::sleep(rest).await;
            rest *= 2;
        }
    }

    async fn wait_until_connected(&self, operation: &str, client: &Client) -> Result<()> {
        let until = Instant::now() + RECONNECT_AT_MOST;
        while client.connection_state() != State::Connected {
            if Instant::now() > until {
                let complaint = self.heard.since(until - RECONNECT_AT_MOST).unwrap_or_default();
                let hint = if complaint.is_empty() { String::new() } else { format!(" ({complaint})") };
                let why = format!("the connection was lost{hint}; start the server, or check that it can be reached");
                return Err(unavailable(operation, &self.target.place, &why));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Asks JetStream; a refusal comes back as such.
    pub(super) async fn try_api<T: DeserializeOwned>(
        &self,
        operation: &str,
        what: &str,
        body: &Value,
    ) -> Result<std::result::Result<T, Refusal>> {
        let (subject, body) =
            (format!("$JS.API.{what}"), if body.is_null() { Bytes::new() } else { body.to_string().into() });
        let began = Instant::now();
        loop {
            let answer = self.ask(operation, &subject, None, &body).await?;
            let refusal = refusal_in(&answer.message.payload);
            match refusal {
                Some(refusal) if refusal.is_passing() && began.elapsed() < ASK_AT_MOST / 2 => {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                // The first try of a removal may have done it.
                Some(refusal) => return Ok(Err(refusal)),
                None => {
                    let read = serde_json::from_slice(&answer.message.payload);
                    return read.map(Ok).map_err(|error| {
                        let message =
                            format!("cannot {operation} in {}: its answer is odd: {error}", self.target.place);
                        Error::new(ErrorKind::Misconfigured, DRIVER, message)
                    });
                }
            }
        }
    }

    /// Asks JetStream.
    pub(super) async fn api<T: DeserializeOwned>(&self, operation: &str, what: &str, body: &Value) -> Result<T> {
        let answer = self.try_api(operation, what, body).await?;
        answer.map_err(|refusal| explain(operation, &self.target.place, &refusal))
    }

    /// Publishes into a stream, which says where it is now.
    pub(super) async fn publish(
        &self,
        operation: &str,
        subject: &str,
        headers: &HeaderMap,
        payload: &Bytes,
    ) -> Result<Published> {
        let (began, mut perhaps_mine) = (Instant::now(), false);
        loop {
            let answer = self.ask(operation, subject, Some(headers), payload).await?;
            perhaps_mine |= answer.repeated;
            let ack: PubAck = serde_json::from_slice(&answer.message.payload).map_err(|error| {
                let message = format!("cannot {operation} in {}: its answer is odd: {error}", self.target.place);
                Error::new(ErrorKind::Misconfigured, DRIVER, message)
            })?;
            match ack.error {
                None => return Ok(Published::At(ack.seq)),
                Some(refusal) if refusal.is_wrong_last() => return Ok(Published::Refused { perhaps_mine }),
                Some(refusal) if refusal.is_passing() && began.elapsed() < ASK_AT_MOST / 2 => {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                Some(refusal) => return Err(explain(operation, &self.target.place, &refusal)),
            }
        }
    }

    /// How many bytes of payload go into one publish beside its headers.
    pub(super) async fn payload_bytes_max(&self) -> Result<usize> {
        let most = self.client().await?.max_payload();
        Ok(most - (most / 2).min(96 << 10))
    }
}

/// How long the client rests before it connects: not before the first try, which is also the one at the start.
fn rest_before(tries: usize) -> Duration {
    Duration::from_millis(50 * u64::try_from(tries.saturating_sub(1)).unwrap_or(20).min(20))
}

/// Expects the subject's last message to be at this place; at 0 there is none.
pub(super) fn expect_last(headers: &mut HeaderMap, seq: u64) {
    headers.insert("Nats-Expected-Last-Subject-Sequence", seq.to_string());
}

fn refusal_in(payload: &[u8]) -> Option<Refusal> {
    #[derive(Deserialize)]
    struct Refused {
        error: Option<Refusal>,
    }
    serde_json::from_slice::<Refused>(payload).ok()?.error
}
