//! One request: method, size, secret, shape, durable, answered. In that order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request as HttpRequest;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use deployer_core::ambient::Ambient;
use deployer_core::webhook::{Callback, Malformed, NotCalled, Parsed, Passed, Request, parse};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Hook;
use super::body::{Bodies, Unread};
use super::sink::{Refused, Sink};
use super::strangers::Strangers;

/// Seconds after which a refused sender should try again.
const RETRY_AFTER: &str = "5";
/// Who answers at `/healthz`.
pub const SERVER: &str = "deployer";
/// How long the store may take over a hook. The write may still happen after that, which does no harm.
const STORE_LIMIT: Duration = Duration::from_secs(5);

/// What every request shares.
struct Shared {
    sink: Sink,
    callbacks: mpsc::Sender<Callback>,
    ambient: Arc<Ambient>,
    bodies: Bodies,
}

/// The routes of hooks, and `/healthz`. The paths must be such as the configuration lets through.
pub fn router(hooks: Vec<Hook>, sink: Sink, callbacks: mpsc::Sender<Callback>, ambient: Arc<Ambient>) -> Router {
    let shared = Arc::new(Shared { sink, callbacks, ambient, bodies: Bodies::default() });
    let healthy = Arc::clone(&shared);
    let routes = Router::new().route("/healthz", get(async move || health(&healthy)));
    hooks.into_iter().fold(routes, |routes, hook| {
        let (patterns, shared) = (hook.patterns(), Arc::clone(&shared));
        let route = Arc::new((hook, Strangers::new()));
        let receive = async move |request| receive(&route.0, &route.1, &shared, request).await;
        patterns.iter().fold(routes, |routes, pattern| routes.route(pattern, post(receive.clone())))
    })
}

/// The name in the head tells `doctor` that it is not another program which answers here.
fn health(shared: &Shared) -> Response {
    let answer = match shared.sink.trouble() {
        None => (StatusCode::OK, axum::Json(json!({"status": "ok"}))).into_response(),
        // Not 200: whoever spreads hooks over several nodes asks here which of them takes any.
        Some(trouble) => unavailable(&json!({"status": "degraded", "error": trouble})),
    };
    ([(header::SERVER, SERVER)], answer).into_response()
}

async fn receive(hook: &Hook, strangers: &Strangers, shared: &Shared, request: HttpRequest) -> Response {
    let answered = accept(hook, strangers, shared, request).await;
    answered.map_or_else(Refusal::answer, |answer| (StatusCode::ACCEPTED, axum::Json(answer)).into_response())
}

/// Why a request is not accepted.
enum Refusal {
    Unread(Unread),
    Stranger,
    Malformed(Malformed),
    Away,
}

impl Refusal {
    fn answer(self) -> Response {
        match self {
            Self::Unread(Unread::TooMany) => away("too many hooks at once"),
            Self::Unread(unread) => unread.status().into_response(),
            Self::Stranger => StatusCode::UNAUTHORIZED.into_response(),
            Self::Malformed(malformed) => {
                (StatusCode::BAD_REQUEST, axum::Json(json!({"error": malformed.to_string()}))).into_response()
            }
            Self::Away => away("the store cannot take it now"),
        }
    }
}

async fn accept(hook: &Hook, strangers: &Strangers, shared: &Shared, request: HttpRequest) -> Result<Value, Refusal> {
    let (head, body) = request.into_parts();
    let held = shared.bodies.read(&head.headers, body).await.map_err(Refusal::Unread)?;
    let headers: Vec<(&str, &[u8])> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request = Request { rest: hook.rest(head.uri.path()), headers: &headers, body: &held.bytes };
    let parsed = understand(hook, strangers, shared.ambient.now(), &request)?;
    // The store may take its time; the body need not be held meanwhile.
    drop(held);
    let ignored = ignored(&parsed.passed);
    match tokio::time::timeout(STORE_LIMIT, shared.sink.take(parsed.notices)).await {
        Ok(Ok(accepted)) => {
            if hook.callback {
                call_back(&shared.callbacks, parsed.callback);
            }
            Ok(json!({"accepted": accepted.ours, "not_ours": accepted.others, "ignored": ignored}))
        }
        Ok(Err(Refused)) | Err(_) => Err(Refusal::Away),
    }
}

/// Checks the secret, then reads what the body says.
fn understand(hook: &Hook, strangers: &Strangers, now: i64, request: &Request<'_>) -> Result<Parsed, Refusal> {
    if hook.auth.verify(request, now).is_err() {
        if let Some(count) = strangers.meet(now) {
            tracing::warn!(source = hook.source.word(), count, "hooks with a wrong or missing secret were refused");
        }
        return Err(Refusal::Stranger);
    }
    parse(hook.source, request, hook.registry_host.as_ref()).map_err(Refusal::Malformed)
}

/// Hands on where the sender waits. The answer to the hook neither waits for this nor depends on it.
fn call_back(callbacks: &mpsc::Sender<Callback>, asked: Option<Result<Callback, NotCalled>>) {
    match asked.transpose() {
        Ok(None) => {}
        Ok(Some(callback)) => {
            if let Err(TrySendError::Full(_)) = callbacks.try_send(callback) {
                tracing::warn!("too many senders wait to be called back; this one is not");
            }
        }
        Err(refused) => tracing::warn!(error = %refused, "a hook's sender asked to be called elsewhere"),
    }
}

/// Each reason once, with how often it came: an envelope may hold a hundred thousand events.
fn ignored(passed: &[Passed]) -> Vec<Value> {
    let mut counts: BTreeMap<Passed, usize> = BTreeMap::new();
    for reason in passed {
        *counts.entry(*reason).or_default() += 1;
    }
    counts.into_iter().map(|(reason, count)| json!({"reason": reason.word(), "count": count})).collect()
}

fn away(why: &str) -> Response {
    unavailable(&json!({"error": why}))
}

fn unavailable(body: &Value) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], axum::Json(body)).into_response()
}
