//! What a person asks for, and who that is: whoever is in the socket's group may stop every deployment.

use axum::extract::connect_info::Connected;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, FromRequest, Json, Request};
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

use super::Ask;

/// The process at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its user, as the kernel says; `None` where it does not.
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|peer| peer.uid()) }
    }
}

/// A wish to change something, which is in the log with whose it is once this is read.
pub struct Asked(pub Ask);

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = JsonRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, JsonRejection> {
        let uid = request.extensions().get::<ConnectInfo<Peer>>().and_then(|peer| peer.0.uid);
        let verb = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let Json(ask): Json<Ask> = Json::from_request(request, state).await?;
        tracing::info!(uid, verb, of = ask.of, "a person asks");
        Ok(Self(ask))
    }
}
