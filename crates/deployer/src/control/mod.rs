//! The API of the local daemon, on a Unix socket that root and the socket's group may use.
//!
//! The command line is its only client. Every change a person makes is a write to the store, so it holds for
//! the whole cluster and whichever node is asked.

mod actions;
mod asked;
mod cluster;
mod plan;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Json, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use deployer_agent::world::World;
use deployer_core::plain;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::status::status;

pub use actions::ActionError;
pub use asked::Peer;

use asked::Asked;

/// What a person asks to be done with an image, or a slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// The image with its tag, or `SCOPE/SLOT`.
    pub of: String,
}

/// What was done, in a sentence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Said {
    /// The sentence.
    pub text: String,
}

#[derive(Clone)]
struct Shared {
    world: Arc<World>,
    shutdown: CancellationToken,
}

/// The API as a router.
pub fn router(world: Arc<World>, shutdown: CancellationToken) -> Router {
    Router::new()
        .route("/v1/status", get(show_status))
        .route("/v1/plan", get(show_plan))
        .route("/v1/history", get(show_history))
        .route("/v1/events", get(follow))
        .route(
            "/v1/deploy",
            post(async |State(s): State<Shared>, Asked(ask)| act(actions::deploy(&s.world, ask).await)),
        )
        .route(
            "/v1/rollback",
            post(async |State(s): State<Shared>, Asked(ask)| act(actions::rollback(&s.world, ask).await)),
        )
        .route("/v1/retry", post(async |State(s): State<Shared>, Asked(ask)| act(actions::retry(&s.world, ask).await)))
        .route(
            "/v1/unlock",
            post(async |State(s): State<Shared>, Asked(ask)| act(actions::unlock(&s.world, ask).await)),
        )
        .route("/v1/pause", post(async |State(s): State<Shared>, Asked(ask)| act(cluster::pause(&s.world, ask).await)))
        .route(
            "/v1/resume",
            post(async |State(s): State<Shared>, Asked(ask)| act(cluster::resume(&s.world, ask).await)),
        )
        .route(
            "/v1/forget-node",
            post(async |State(s): State<Shared>, Asked(ask)| act(cluster::forget_node(&s.world, ask).await)),
        )
        .with_state(Shared { world, shutdown })
}

fn act(outcome: Result<String, ActionError>) -> Response {
    answer(outcome.map(|text| Said { text }))
}

async fn show_status(State(shared): State<Shared>) -> Response {
    answer(status(&shared.world).await.map_err(ActionError::from))
}

async fn show_plan(State(shared): State<Shared>) -> Response {
    answer(plan::plan(&shared.world).await.map_err(ActionError::from))
}

async fn show_history(State(shared): State<Shared>, Query(ask): Query<Ask>) -> Response {
    answer(actions::history(&shared.world, ask).await)
}

fn answer<T: Serialize>(outcome: Result<T, ActionError>) -> Response {
    match outcome {
        Ok(value) => plainly(&value),
        Err(error) => (error.status(), plainly(&Said { text: error.to_string() })).into_response(),
    }
}

/// An answer without control characters, whoever's words are in it.
fn plainly(value: &impl Serialize) -> Response {
    match serde_json::to_value(value) {
        Ok(mut value) => {
            plain::value(&mut value);
            Json(value).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Lines of JSON from now on. The stream ends with the daemon, so that it does not hold up the shutdown.
async fn follow(State(shared): State<Shared>) -> Response {
    let receiver = shared.world.account.follow();
    let lines = futures_util::stream::unfold((receiver, shared.shutdown), |(mut receiver, shutdown)| async move {
        loop {
            let heard = tokio::select! {
                () = shutdown.cancelled() => return None,
                heard = receiver.recv() => heard,
            };
            match heard {
                Ok(happening) => {
                    let mut line = serde_json::to_vec(&happening).unwrap_or_default();
                    line.push(b'\n');
                    return Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), (receiver, shutdown)));
                }
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "a follower reads too slowly"),
                Err(RecvError::Closed) => return None,
            }
        }
    });
    (StatusCode::OK, [("content-type", "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
