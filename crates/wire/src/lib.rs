//! HTTP/1.1 over a Unix socket or TCP, one connection a request.
//!
//! The Docker edge, the callback and the command line speak through this. It knows none of them, nor anything else of
//! deployer, so that edges which need it need not know each other. A request's connection is driven by whoever reads its
//! answer, so nothing is spawned, and dropping the answer closes the connection.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{Either, select};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longest answer that is read whole. A longer one is an error rather than memory.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Longest line of a stream of JSON lines.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`, unencrypted.
    Tcp(String),
}

impl Endpoint {
    /// Reads `unix:///path` or `tcp://host:port`.
    ///
    /// # Errors
    /// A sentence that says which forms are understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let understood = "write unix:///path/to/socket or tcp://host:port";
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp" | "http", address)) if address.trim_end_matches('/').contains(':') => {
                Ok(Self::Tcp(address.trim_end_matches('/').to_owned()))
            }
            _ => Err(format!("'{text}' is not an address; {understood}")),
        }
    }

    /// Whom a request is for (RFC 9112, 3.2). A socket has no name; servers there take any.
    fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Tcp(address) => address,
        }
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// Why there is no whole answer.
#[derive(Debug, Error)]
pub enum WireError {
    /// No connection.
    #[error("no connection: {0}")]
    Connect(#[source] std::io::Error),
    /// The connection broke, or what came over it is not HTTP.
    #[error("the connection broke: {0}")]
    Broken(#[source] hyper::Error),
    /// The connection closed in the middle.
    #[error("the connection closed before the answer ended")]
    Closed,
    /// The answer is longer than is read.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Something that HTTP can be spoken over.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

type Driver = Pin<Box<http1::Connection<TokioIo<Box<dyn Connection>>, Full<Bytes>>>>;

/// An answer whose body is still to be read.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: hyper::HeaderMap,
    body: Incoming,
    driver: Option<Driver>,
}

/// One request: method, path with query, further headers, body.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded.
    pub path: &'a str,
    /// Further headers. May hold secrets: never logged.
    pub headers: Vec<(&'static str, String)>,
    /// The body, sent as JSON if there is one.
    pub body: Option<Bytes>,
}

/// Sends a request and waits at most `limit` for the answer's head.
///
/// # Errors
/// [`WireError`]; after anything but [`WireError::Connect`] the server may have done what was asked.
pub async fn send(endpoint: &Endpoint, call: Call<'_>, limit: Duration) -> Result<Answer, WireError> {
    let exchange = async {
        let io = endpoint.connect().await.map_err(WireError::Connect)?;
        send_over(io, endpoint.host(), call).await
    };
    tokio::time::timeout(limit, exchange).await.unwrap_or(Err(WireError::Timeout(limit)))
}

/// Sends a request to `host` over a connection that somebody made, and waits for the answer's head.
///
/// # Errors
/// [`WireError`]; the server may have done what was asked.
pub async fn send_over(io: Box<dyn Connection>, host: &str, call: Call<'_>) -> Result<Answer, WireError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(WireError::Broken)?;
    let mut request = Request::builder().method(call.method).uri(call.path).header("host", host);
    if call.body.is_some() {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in call.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(call.body.unwrap_or_default()))
        .map_err(|error| WireError::Connect(std::io::Error::other(error)))?;
    let mut driver: Driver = Box::pin(connection);
    let (response, driver) = match select(Box::pin(sender.send_request(request)), &mut driver).await {
        Either::Left((response, _)) => (response.map_err(WireError::Broken)?, Some(driver)),
        // The server closed the connection with its answer: what was read of it is still to be had.
        Either::Right((closed, response)) => {
            closed.map_err(WireError::Broken)?;
            (response.await.map_err(WireError::Broken)?, None)
        }
    };
    let (head, body) = response.into_parts();
    Ok(Answer { status: head.status, headers: head.headers, body, driver })
}

impl Answer {
    /// The whole body.
    ///
    /// # Errors
    /// [`WireError::TooLong`] beyond [`ANSWER_BYTES_MAX`], [`WireError::Timeout`] after `limit`.
    pub async fn bytes(mut self, limit: Duration) -> Result<Bytes, WireError> {
        let read = async {
            let mut whole = Vec::new();
            while let Some(chunk) = self.chunk().await? {
                whole.extend_from_slice(&chunk);
                if whole.len() > ANSWER_BYTES_MAX {
                    return Err(WireError::TooLong(ANSWER_BYTES_MAX));
                }
            }
            Ok(Bytes::from(whole))
        };
        tokio::time::timeout(limit, read).await.unwrap_or(Err(WireError::Timeout(limit)))
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`WireError::Broken`] when the connection breaks before the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, WireError> {
        loop {
            match self.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(WireError::Broken(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The body as lines, each without its end; empty lines are left out.
    pub fn lines(self) -> impl Stream<Item = Result<Bytes, WireError>> + Send {
        futures_util::stream::unfold((self, Vec::new(), false), |(mut answer, mut buffer, ended)| async move {
            if ended {
                return None;
            }
            loop {
                if let Some(line) = take_line(&mut buffer) {
                    return Some((Ok(line), (answer, buffer, false)));
                }
                match answer.chunk().await {
                    Ok(Some(chunk)) if buffer.len() + chunk.len() > LINE_BYTES_MAX => {
                        return Some((Err(WireError::TooLong(LINE_BYTES_MAX)), (answer, buffer, true)));
                    }
                    Ok(Some(chunk)) => buffer.extend_from_slice(&chunk),
                    Ok(None) if buffer.iter().all(u8::is_ascii_whitespace) => return None,
                    Ok(None) => {
                        let rest = Bytes::from(std::mem::take(&mut buffer));
                        return Some((Ok(rest), (answer, buffer, true)));
                    }
                    Err(error) => return Some((Err(error), (answer, buffer, true))),
                }
            }
        })
    }

    /// One frame of the body, with the connection driven along.
    async fn frame(&mut self) -> Option<Result<hyper::body::Frame<Bytes>, hyper::Error>> {
        std::future::poll_fn(|context: &mut Context<'_>| {
            if let Some(driver) = &mut self.driver
                && driver.as_mut().poll(context).is_ready()
            {
                self.driver = None;
            }
            Pin::new(&mut self.body).poll_frame(context)
        })
        .await
    }
}

/// Takes the next non-empty line off the front of a buffer.
fn take_line(buffer: &mut Vec<u8>) -> Option<Bytes> {
    loop {
        let end = buffer.iter().position(|byte| *byte == b'\n')?;
        let rest = buffer.split_off(end + 1);
        let mut line = std::mem::replace(buffer, rest);
        line.truncate(line.trim_ascii_end().len());
        if !line.is_empty() {
            return Some(Bytes::from(line));
        }
    }
}

/// Percent-encodes one segment of a path, or a value of a query.
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_unix_sockets_or_addresses() {
        assert_eq!(Endpoint::parse("unix:///run/a.sock"), Ok(Endpoint::Unix("/run/a.sock".into())));
        assert_eq!(Endpoint::parse("tcp://127.0.0.1:2375"), Ok(Endpoint::Tcp("127.0.0.1:2375".into())));
        assert!(Endpoint::parse("/run/a.sock").is_err() && Endpoint::parse("ssh://host").is_err());
    }

    #[test]
    fn lines_are_taken_one_by_one_and_empty_ones_left_out() {
        let mut buffer = b"{\"a\":1}\r\n\n{\"b\":2}\n{\"c".to_vec();
        let lines: Vec<_> = std::iter::from_fn(|| take_line(&mut buffer)).collect();
        assert_eq!(lines, [&b"{\"a\":1}"[..], b"{\"b\":2}"]);
        assert_eq!(buffer, b"{\"c");
    }

    #[test]
    fn no_character_of_a_name_leaves_its_segment() {
        assert_eq!(encode("a/b c?d=é"), "a%2Fb%20c%3Fd%3D%C3%A9");
    }
}
