//! One request: method, size, secret, shape, durable, answered. In that order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request as HttpRequest;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use deployer_core::webhook::{Passed, Request, parse};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::json;

use super::Hook;
use super::intake::{Refused, Sink};
use crate::ambient::Ambient;

/// Longest body of one request: registries allow manifests of 4 MiB, and some senders embed them.
const BODY_BYTES_MAX: usize = 8 << 20;
/// All bodies being read at once. Beyond it a sender is told to come back.
const BODIES_BYTES_MAX: usize = 64 << 20;
/// What is still read, and thrown away, of a body that is too long: a sender that is cut off in the middle of it
/// never sees why.
const EXCESS_BYTES_MAX: usize = 16 << 20;
/// Seconds after which a refused sender should try again.
const RETRY_AFTER: &str = "5";

/// What every request shares.
struct Shared {
    sink: Sink,
    ambient: Arc<Ambient>,
    in_flight: AtomicUsize,
}

/// The routes of hooks, and `/healthz`.
pub fn router(hooks: Vec<Hook>, sink: Sink, ambient: Arc<Ambient>) -> Router {
    let shared = Arc::new(Shared { sink, ambient, in_flight: AtomicUsize::new(0) });
    let healthy = Arc::clone(&shared);
    let routes = Router::new().route("/healthz", get(async move || health(&healthy)));
    hooks.into_iter().fold(routes, |routes, hook| {
        let (path, shared) = (hook.path.clone(), Arc::clone(&shared));
        let hook = Arc::new(hook);
        routes.route(&path, post(async move |request: HttpRequest| receive(&hook, &shared, request).await))
    })
}

fn health(shared: &Shared) -> Response {
    match shared.sink.is_ready() {
        true => (StatusCode::OK, axum::Json(json!({"status": "ok"}))).into_response(),
        false => away("the engine or the store was not heard yet"),
    }
}

async fn receive(hook: &Hook, shared: &Shared, request: HttpRequest) -> Response {
    let (head, body) = request.into_parts();
    let body = match read(shared, &head.headers, body).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let headers: Vec<(&str, &[u8])> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request = Request { headers: &headers, body: &body };
    if hook.auth.verify(&request, shared.ambient.now()).is_err() {
        tracing::warn!(source = hook.source.word(), "a hook with a wrong or missing secret was refused");
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let parsed = match parse(hook.source, &request, hook.registry_host.as_ref()) {
        Ok(parsed) => parsed,
        Err(malformed) => {
            return (StatusCode::BAD_REQUEST, axum::Json(json!({"error": malformed.to_string()}))).into_response();
        }
    };
    let passed: Vec<&str> = parsed.passed.iter().copied().map(Passed::word).collect();
    match shared.sink.take(parsed.notices).await {
        Ok(accepted) => {
            let answer = json!({"accepted": accepted.ours, "not_ours": accepted.others, "ignored": passed});
            (StatusCode::ACCEPTED, axum::Json(answer)).into_response()
        }
        Err(Refused) => away("the store cannot take it now"),
    }
}

/// Reads a body within both limits. What it may come to is reserved before, so that many at once cannot add up.
async fn read(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Bytes, Response> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let reserved = announced.unwrap_or(BODY_BYTES_MAX);
    if reserved > BODY_BYTES_MAX {
        let mut rest = Limited::new(body, EXCESS_BYTES_MAX);
        while let Some(Ok(_)) = rest.frame().await {}
        return Err(StatusCode::PAYLOAD_TOO_LARGE.into_response());
    }
    let _reservation = Reservation::take(&shared.in_flight, reserved).ok_or_else(|| away("too many hooks at once"))?;
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(StatusCode::PAYLOAD_TOO_LARGE.into_response())
        }
        Err(_) => Err(StatusCode::BAD_REQUEST.into_response()),
    }
}

struct Reservation<'a> {
    in_flight: &'a AtomicUsize,
    bytes: usize,
}

impl<'a> Reservation<'a> {
    fn take(in_flight: &'a AtomicUsize, bytes: usize) -> Option<Self> {
        let before = in_flight.fetch_add(bytes, Ordering::Relaxed);
        let reservation = Self { in_flight, bytes };
        (before + bytes <= BODIES_BYTES_MAX).then_some(reservation)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn away(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], axum::Json(json!({"error": why})))
        .into_response()
}
