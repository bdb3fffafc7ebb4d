//! A blocking HTTP/1.1 client, one connection a request, over TCP or a Unix socket.
//!
//! Small on purpose: a test that looks at a server must not depend on the client code of the thing it tests, and must
//! tell a refused connection from an answer.

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Bodies larger than this are an error; the largest a test meets is an engine's list, some kilobytes.
const BODY_MAX: u64 = 64 << 20;
/// More header lines than this are an error.
const HEADERS_MAX: usize = 200;

/// Who tests say they are, so that a server's log tells their requests from the daemon's.
pub const USER_AGENT: &str = "deployer-testkit";

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Address {
    /// `host:port`.
    Tcp(String),
    /// The path of a socket.
    Unix(PathBuf),
}

impl From<&str> for Address {
    fn from(host_and_port: &str) -> Self {
        Self::Tcp(host_and_port.to_owned())
    }
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `GET`, `HEAD`, `POST`, …
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Headers beside those every request has.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; empty for none.
    pub body: &'a [u8],
    /// The longest wait for a connection, and for each piece of the answer.
    pub limit: Duration,
}

impl<'a> Request<'a> {
    /// A request without further headers or body, with a limit of ten seconds.
    pub fn new(method: &'a str, target: &'a str) -> Self {
        Self { method, target, headers: &[], body: &[], limit: Duration::from_secs(10) }
    }

    /// Sends it.
    ///
    /// # Errors
    ///
    /// When there is no connection, no answer within the limit, or an answer that is not HTTP/1.
    pub fn send(&self, address: &Address) -> io::Result<Response> {
        match address {
            Address::Tcp(host_and_port) => {
                let resolved = host_and_port.to_socket_addrs()?.next();
                let resolved = resolved.ok_or_else(|| Error::new(ErrorKind::NotFound, "the host has no address"))?;
                let stream = TcpStream::connect_timeout(&resolved, self.limit)?;
                stream.set_read_timeout(Some(self.limit))?;
                stream.set_write_timeout(Some(self.limit))?;
                self.exchange(stream, host_and_port)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(self.limit))?;
                stream.set_write_timeout(Some(self.limit))?;
                self.exchange(stream, "localhost")
            }
        }
    }

    fn exchange(&self, mut stream: impl Read + Write, host: &str) -> io::Result<Response> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", self.method, self.target);
        head.push_str(&format!("User-Agent: {USER_AGENT}\r\nContent-Length: {}\r\n", self.body.len()));
        for (name, value) in self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(self.body)?;
        stream.flush()?;
        Response::read(BufReader::new(stream), self.method == "HEAD")
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines in their order.
    pub headers: Vec<(String, String)>,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn read(mut stream: impl BufRead, bodiless: bool) -> io::Result<Self> {
        let status_line = read_line(&mut stream)?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| invalid(format!("not an HTTP status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(&mut stream)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(format!("not a header: {line:?}")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
            if headers.len() > HEADERS_MAX {
                return Err(invalid("too many headers".to_owned()));
            }
        }
        let mut response = Self { status, headers, body: Vec::new() };
        if !bodiless && status != 204 && status != 304 {
            response.body = response.read_body(stream)?;
        }
        Ok(response)
    }

    fn read_body(&self, mut stream: impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            loop {
                let line = read_line(&mut stream)?;
                let size = line.split(';').next().and_then(|size| u64::from_str_radix(size.trim(), 16).ok());
                let size = size.filter(|size| body.len() as u64 + size <= BODY_MAX);
                match size.ok_or_else(|| invalid(format!("a bad or too large chunk: {line:?}")))? {
                    0 => return Ok(body),
                    size => read_exactly(&mut stream, size, &mut body)?,
                }
                read_line(&mut stream)?;
            }
        }
        match self.header("Content-Length").map(str::parse::<u64>) {
            Some(Ok(size)) if size <= BODY_MAX => read_exactly(&mut stream, size, &mut body)?,
            Some(_) => return Err(invalid("a bad or too large Content-Length".to_owned())),
            None => drop(stream.take(BODY_MAX).read_to_end(&mut body)?),
        }
        Ok(body)
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.take(64 << 10).read_line(&mut line)? == 0 {
        return Err(Error::new(ErrorKind::UnexpectedEof, "the connection was closed before the answer was complete"));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn read_exactly(stream: &mut impl BufRead, size: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if stream.take(size).read_to_end(body)? as u64 != size {
        return Err(Error::new(ErrorKind::UnexpectedEof, "the body is shorter than announced"));
    }
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidData, message)
}
