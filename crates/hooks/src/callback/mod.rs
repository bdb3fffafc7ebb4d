//! Tells Docker Hub that a notification was taken, where that is switched on: its chains of hooks wait for it.
//!
//! One call at a time, each within its limit, none of them tried again: nothing here depends on whether it was heard.
//! Which path is called was decided in core; the host is a constant, and where its name points to is checked before
//! anything is sent (`docs/adr/0009`).

mod outside;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use deployer_core::webhook::{CALLBACK_HOST, Callback, is_public};
use deployer_wire::{self as wire, Call, Connection, WireError};
use hyper::{Method, StatusCode};
use thiserror::Error;
use tokio::sync::mpsc;

pub use outside::Outside;

/// How long a call may take, the name's resolution included. The next one waits for it.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// What is read of an answer before the connection is closed; nothing of it is of interest.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// All that is said. It is true of every hook that was answered 202, and the deployment is nobody's business there.
const SAID: &[u8] = br#"{"state":"success","description":"the notification was taken"}"#;
/// Where the host is called.
const PORT: u16 = 443;

/// The one that calls.
pub struct Caller {
    queue: mpsc::Receiver<Callback>,
    outside: Outside,
}

/// Why Docker Hub was not told.
#[derive(Debug, Error)]
enum CallError {
    #[error("its name cannot be resolved: {0}")]
    Unresolved(#[source] io::Error),
    #[error("its name has no address")]
    Nowhere,
    #[error("its name points to {0}, which is no public address")]
    NotPublic(IpAddr),
    #[error("no connection: {0}")]
    Unreachable(#[source] io::Error),
    #[error("no encrypted connection: {0}")]
    Untrusted(#[source] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("it answered {0}")]
    Refused(StatusCode),
}

impl Caller {
    /// Calls for whatever comes out of the queue.
    pub fn new(queue: mpsc::Receiver<Callback>, outside: Outside) -> Self {
        Self { queue, outside }
    }

    /// Works until nobody can put anything into the queue any more.
    pub async fn run(mut self) {
        while let Some(callback) = self.queue.recv().await {
            let calling = tokio::time::timeout(CALL_LIMIT, self.call(&callback));
            match calling.await.unwrap_or(Err(WireError::Timeout(CALL_LIMIT).into())) {
                Ok(()) => tracing::debug!("Docker Hub was told that its notification was taken"),
                Err(error) => tracing::warn!(error = %error, "Docker Hub was not told that its notification was taken"),
            }
        }
    }

    async fn call(&self, callback: &Callback) -> Result<(), CallError> {
        let connection = self.connect(&self.addresses().await?).await?;
        let body = Some(Bytes::from_static(SAID));
        let call = Call { method: Method::POST, path: callback.path(), headers: Vec::new(), body };
        let mut answer = wire::send_over(connection, CALLBACK_HOST, call).await?;
        let status = answer.status;
        let mut bytes = 0;
        // What is wrong with the rest of an answer does not matter once its status is known.
        while let Ok(Some(piece)) = answer.chunk().await {
            bytes += piece.len();
            if bytes >= ANSWER_BYTES_MAX {
                break;
            }
        }
        // A redirect is one answer among others: it is not followed.
        if status.is_success() { Ok(()) } else { Err(CallError::Refused(status)) }
    }

    /// Where the host is. All its addresses must be public: a name with one that is not has been tampered with.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, CallError> {
        let addresses = self.outside.resolve(CALLBACK_HOST).await.map_err(CallError::Unresolved)?;
        match addresses.iter().find(|address| !is_public(**address)) {
            Some(address) => Err(CallError::NotPublic(*address)),
            None => Ok(addresses.into_iter().map(|address| SocketAddr::new(address, PORT)).collect()),
        }
    }

    /// Connects to the addresses as they were checked, one after the other; the name is not resolved again.
    async fn connect(&self, addresses: &[SocketAddr]) -> Result<Box<dyn Connection>, CallError> {
        let mut failed = CallError::Nowhere;
        for address in addresses {
            match self.outside.connect(*address).await {
                Ok(stream) => return self.outside.encrypt(CALLBACK_HOST, stream).await.map_err(CallError::Untrusted),
                Err(error) => failed = CallError::Unreachable(error),
            }
        }
        Err(failed)
    }
}
