//! The smallest HTTP/1.1 client that keeps its connection: requests without a body, answers with a length.

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// The longest answer that is taken: a ledger is a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The most header lines that are taken.
const HEADERS_MAX: usize = 100;

/// One connection to the application.
#[derive(Debug)]
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects on the loopback interface.
    pub(super) async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.context("cannot connect to the application")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request, and returns the answer's status and body.
    pub(super) async fn send(
        &mut self,
        method: &str,
        path: &str,
        request_id: &str,
        token: Option<&str>,
    ) -> Result<(u16, Vec<u8>)> {
        let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: auditq-demo\r\n\
             x-request-id: {request_id}\r\n{authorization}content-length: 0\r\n\r\n"
        );
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let status = self.line().await?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.context("the application's answer has no status")?;
        let length = self.content_length().await?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok((status, body))
    }

    async fn content_length(&mut self) -> Result<usize> {
        let mut length = 0;
        for _ in 0..HEADERS_MAX {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(length);
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().context("the application's answer has no usable length")?;
                ensure!(length <= ANSWER_BYTES_MAX, "the application's answer is too long: {length} bytes");
            }
        }
        bail!("the application's answer has too many headers")
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = (&mut self.stream).take(ANSWER_BYTES_MAX as u64).read_line(&mut line).await?;
        ensure!(read > 0, "the application closed the connection");
        Ok(line.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every request on one connection with these bytes, and returns the requests.
    async fn served(answer: &'static str, times: usize) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let mut requests = String::new();
            for _ in 0..times {
                while stream.read_line(&mut requests).await.unwrap() > 2 {}
                stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
            }
            requests
        });
        (port, serving)
    }

    #[tokio::test]
    async fn several_requests_share_one_connection() {
        let (port, serving) = served("HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}", 2).await;
        let mut client = Client::connect(port).await.unwrap();
        assert_eq!(client.send("GET", "/a", "r-1", None).await.unwrap(), (409, b"{}".to_vec()));
        assert_eq!(client.send("PUT", "/b", "r-2", Some("t")).await.unwrap(), (409, b"{}".to_vec()));
        let requests = serving.await.unwrap();
        assert!(requests.starts_with("GET /a HTTP/1.1\r\n") && requests.contains("x-request-id: r-2\r\n"));
        assert_eq!(requests.matches("authorization: Bearer t\r\n").count(), 1);
    }

    #[tokio::test]
    async fn a_broken_answer_is_an_error() {
        for answer in ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n", ""] {
            let (port, _serving) = served(answer, 1).await;
            let mut client = Client::connect(port).await.unwrap();
            assert!(client.send("GET", "/", "r-1", None).await.is_err(), "{answer:?}");
        }
    }
}
