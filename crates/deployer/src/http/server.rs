//! Connections within limits: how many, how long a head may take, how long a silence.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

/// Connections served at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// How long the head of a request may take.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a whole request, body included, may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long open connections may hold up the shutdown.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// The pause after the system refused to accept, such as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until shutdown. Connections are tasks of the tracker, which the daemon owns.
pub async fn serve(listener: TcpListener, router: Router, connections: TaskTracker, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
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
    connections.close();
    let _ = tokio::time::timeout(DRAIN_LIMIT, connections.wait()).await;
}

async fn connection(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    let service = tower::service_fn(move |request| {
        let mut router = router.clone();
        async move {
            let answer = tokio::time::timeout(REQUEST_LIMIT, router.call(request)).await;
            answer.unwrap_or_else(|_| {
                Ok(axum::response::IntoResponse::into_response(axum::http::StatusCode::REQUEST_TIMEOUT))
            })
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // Without a timer hyper's own limits do nothing.
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(HEAD_BYTES_MAX).keep_alive(true);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut serving = std::pin::pin!(serving);
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(error = %error, "a connection ended early");
    }
}
