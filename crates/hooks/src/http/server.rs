//! Connections within limits: how many, how long a head may take, how long a silence, how long a life.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

/// Connections served at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// How long the head of a request may take; it counts from the answer before, so a silent connection ends with it.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes. Beyond it: 431.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Age at which a connection's next answer is its last.
const CONNECTION_AGE: Duration = Duration::from_secs(60);
/// How much longer that last answer may take. A client that asks and never reads the answers is then cut off: it
/// would hold its place for ever.
const LAST_ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long open connections may hold up the shutdown; what is left then is cut off.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// The pause after the system refused to accept, such as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until shutdown. Connections are tasks of the tracker, which the daemon owns.
pub async fn serve(listener: TcpListener, router: Router, connections: TaskTracker, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection(stream, router, shutdown).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Who comes now is better told at once than left to wait for an answer.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// A place first: a connection that cannot be served yet is better left with the system.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    // The semaphore is never closed, so there always is a permit in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    shutdown: CancellationToken,
) {
    let old = Instant::now() + CONNECTION_AGE;
    let service = tower::service_fn(move |request: axum::http::Request<Incoming>| {
        let mut router = router.clone();
        async move {
            if !names_its_host(&request) {
                return Ok::<_, std::convert::Infallible>(StatusCode::BAD_REQUEST.into_response());
            }
            let mut answer = router.call(request).await?;
            if Instant::now() >= old {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // Without a timer hyper's own limits do nothing.
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(HEAD_BYTES_MAX).keep_alive(true);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut serving = std::pin::pin!(serving);
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = tokio::time::sleep_until(old + LAST_ANSWER_LIMIT) => return,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN_LIMIT, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(error = %error, "a connection ended early");
    }
}

/// Whether a request says once for whom it is, as RFC 9112, 3.2 wants it from HTTP/1.1 on: what is in front of us and we
/// could else take it for different hosts.
fn names_its_host(request: &axum::http::Request<Incoming>) -> bool {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    hosts == 1 || (hosts == 0 && request.version() < Version::HTTP_11)
}

/// On a paused clock, and over a pipe in memory.
#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::task::JoinSet;

    use super::*;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

    /// A connection of which the pipe holds `bytes` unread, and the other end of it.
    fn connect(bytes: usize, shutdown: &CancellationToken) -> (DuplexStream, JoinSet<()>) {
        let (here, there) = tokio::io::duplex(bytes);
        let slow = async || {
            tokio::time::sleep(DRAIN_LIMIT * 2).await;
            "late"
        };
        let router = Router::new().route("/", get(async || "ok")).route("/slow", get(slow));
        let mut tasks = JoinSet::new();
        tasks.spawn(connection(there, router, shutdown.clone()));
        (here, tasks)
    }

    /// Everything up to the end of the connection.
    async fn rest(stream: &mut DuplexStream) -> String {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.expect("a pipe");
        String::from_utf8(text).expect("text")
    }

    async fn answer(stream: &mut DuplexStream) -> String {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\nok") {
            text.push(char::from(stream.read_u8().await.expect("an answer")));
        }
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_is_not_waited_for() {
        for sent in ["", "GET / HTTP/1.1\r\nhost: "] {
            let (mut client, _tasks) = connect(1 << 10, &CancellationToken::new());
            let began = Instant::now();
            client.write_all(sent.as_bytes()).await.expect("a pipe");
            assert!(!rest(&mut client).await.contains("200 OK"));
            assert_eq!(began.elapsed().as_secs(), HEAD_LIMIT.as_secs(), "after {sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn security_17_a_request_names_its_host_once() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n", "HTTP/1.1 200 "),
            ("GET / HTTP/1.1\r\nconnection: close\r\n\r\n", "HTTP/1.1 400 "),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n", "HTTP/1.1 400 "),
            ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "),
        ] {
            let (mut client, _tasks) = connect(1 << 10, &CancellationToken::new());
            client.write_all(head.as_bytes()).await.expect("a pipe");
            let said = rest(&mut client).await;
            assert!(said.starts_with(expected), "{head:?}: {said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends() {
        let (mut client, _tasks) = connect(1 << 10, &CancellationToken::new());
        client.write_all(ASK).await.expect("a pipe");
        answer(&mut client).await;
        let began = Instant::now();
        rest(&mut client).await;
        assert_eq!(began.elapsed().as_secs(), HEAD_LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_too_long_is_refused() {
        let (mut client, _tasks) = connect(1 << 20, &CancellationToken::new());
        let head = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX * 2));
        client.write_all(head.as_bytes()).await.expect("a pipe");
        let said = rest(&mut client).await;
        assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_connection_gets_a_last_answer() {
        let (mut client, _tasks) = connect(1 << 10, &CancellationToken::new());
        let born = Instant::now();
        let mut last = String::new();
        while !last.contains("connection: close") {
            assert!(born.elapsed() < CONNECTION_AGE + HEAD_LIMIT, "its age was not noticed");
            client.write_all(ASK).await.expect("a pipe");
            last = answer(&mut client).await;
            tokio::time::advance(HEAD_LIMIT / 2).await;
        }
        assert!(born.elapsed() > CONNECTION_AGE);
        assert_eq!(rest(&mut client).await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_reads_the_answers_is_cut_off() {
        let (mut client, mut tasks) = connect(64, &CancellationToken::new());
        let born = Instant::now();
        let mut asking = JoinSet::new();
        asking.spawn(async move { while client.write_all(ASK).await.is_ok() {} });
        tasks.join_next().await.expect("it ends").expect("no panic");
        assert_eq!(born.elapsed().as_secs(), (CONNECTION_AGE + LAST_ANSWER_LIMIT).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn the_shutdown_waits_for_an_answer_but_not_for_long() {
        let shutdown = CancellationToken::new();
        let (mut client, mut tasks) = connect(1 << 10, &shutdown);
        let (mut silent, mut silent_tasks) = connect(1 << 10, &shutdown);
        client.write_all(b"GET /slow HTTP/1.1\r\nhost: here\r\n\r\n").await.expect("a pipe");
        silent.write_all(ASK).await.expect("a pipe");
        answer(&mut silent).await;
        let began = Instant::now();
        shutdown.cancel();
        silent_tasks.join_next().await.expect("it ends").expect("no panic");
        assert_eq!(began.elapsed().as_millis(), 0, "nothing keeps a silent one");
        tasks.join_next().await.expect("it ends").expect("no panic");
        assert_eq!(began.elapsed().as_secs(), DRAIN_LIMIT.as_secs());
        assert_eq!(rest(&mut client).await, "");
    }
}
