//! What the stages ask of a container engine: who looks, who acts, the answers, and the errors.
//!
//! Docker (`docker`) and the simulated engine of the tests do both. Answers are small,
//! tolerant views; what is written back to an engine is its own raw JSON, so that a setting this code has never
//! heard of survives a replacement.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::image::{Digest, ImageRef, Track};
use deployer_core::successor::ChangedFile;
use futures_util::stream::BoxStream;
use serde_json::Value;
use thiserror::Error;

use crate::image::ImageSummary;

/// Why a call to the engine did not do what was asked, by what the caller can do about it.
#[derive(Clone, Debug, Error)]
pub enum EngineError {
    /// No such container, image, network or volume (HTTP 404).
    #[error("{what}: not found by the engine: {message}")]
    NotFound {
        /// The call and its object, such as `inspect container 4f…`.
        what: String,
        /// The engine's own words.
        message: String,
    },
    /// The name is taken, or the object is in a state that forbids the call (HTTP 409).
    #[error("{what}: conflict: {message}")]
    Conflict {
        /// The call and its object.
        what: String,
        /// The engine's own words.
        message: String,
    },
    /// The engine refused or failed (any other 4xx or 5xx, or an error inside a stream that began with 200).
    #[error("{what}: the engine answered {status}: {message}")]
    Refused {
        /// The call and its object.
        what: String,
        /// The HTTP status; 200 for an error inside a stream.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// The engine has no such call, or what stands before it lets none through: the answer is none of an engine's.
    #[error("{what}: the engine, or what filters its socket, answers {status} to every such call: {message}")]
    NotOffered {
        /// The call and its object.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The words of whoever answered.
        message: String,
    },
    /// No connection, or it broke. Whether the call took effect is not known.
    #[error("{what}: cannot reach the engine at {address}: {message}")]
    Unreachable {
        /// The call and its object.
        what: String,
        /// The engine's address as configured.
        address: String,
        /// The cause.
        message: String,
    },
    /// No answer within the call's limit. Whether the call took effect is not known: look again.
    #[error("{what}: no answer from the engine within {limit:?}")]
    Timeout {
        /// The call and its object.
        what: String,
        /// The limit that passed.
        limit: Duration,
    },
    /// The mirror does not hear the engine: what it shows may be so no longer.
    #[error("the engine is not heard: {why}")]
    NotHeard {
        /// The cause.
        why: String,
    },
    /// An answer longer than is read.
    #[error("{what}: the engine's answer is too long: {message}")]
    TooLong {
        /// The call and its object.
        what: String,
        /// How much is read.
        message: String,
    },
    /// An answer that is not what the API documents.
    #[error("{what}: the engine's answer makes no sense: {message}")]
    Nonsense {
        /// The call and its object.
        what: String,
        /// What was wrong with it.
        message: String,
    },
}

impl EngineError {
    /// A fixed word for metrics and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Refused { .. } => "refused",
            Self::NotOffered { .. } => "not_offered",
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::NotHeard { .. } => "not_heard",
            Self::TooLong { .. } => "too_long",
            Self::Nonsense { .. } => "nonsense",
        }
    }

    /// Whether the engine may have done what was asked although this error came back.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. })
    }
}

/// Absence as an answer.
///
/// # Errors
/// Every other error as it was.
pub fn if_found<T>(outcome: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match outcome {
        Err(EngineError::NotFound { .. }) => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Why a registry's answer, asked through the engine, is not a digest.
#[derive(Clone, Debug, Error)]
pub enum ResolveError {
    /// The registry has no such repository or tag, or says so to strangers (404).
    #[error("{image} is not in the registry: {message}")]
    Absent {
        /// The reference that was asked for.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The credentials are missing or wrong (401, 403).
    #[error("the registry refuses to show {image} to this node: {message}; check `docker login` on this machine")]
    Denied {
        /// The reference that was asked for.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// Too many requests (429).
    #[error("the registry limits requests for {image}: {message}")]
    Throttled {
        /// The reference that was asked for.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The registry cannot be reached, failed, or answered nonsense.
    #[error("the registry gave no answer for {image}: {message}")]
    Unavailable {
        /// The reference that was asked for.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The engine itself failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The engine as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// `docker`, or `podman` where the engine says so.
    pub product: String,
    /// The engine's version, for people.
    pub version: String,
    /// The API version in use: the highest that both sides know, as `(1, 41)`.
    pub api: (u32, u32),
    /// Operating system in Go's words, such as `linux`.
    pub os: String,
    /// Architecture in Go's words, such as `amd64`.
    pub architecture: String,
}

/// How an engine is spoken to, and what its answers leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// The API version in use, as in [`EngineInfo`].
    pub version: (u32, u32),
    /// Whether an inspection shows all that a container was made with. Podman's Docker-like one leaves out addresses, kernel
    /// settings and rules of devices.
    pub shows_all_settings: bool,
}

/// A line of the container list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSummary {
    /// Full ID, 64 hexadecimal digits.
    pub id: String,
    /// Name without the leading slash; empty while the engine is removing it.
    pub name: String,
    /// ID of the image it was created from.
    pub image_id: String,
    /// Labels, image's and user's merged.
    pub labels: BTreeMap<String, String>,
    /// The state's word as the engine gives it: `running`, `exited`, `created`, …; unknown words are kept.
    pub state: String,
    /// The status line for people, such as `Up 3 minutes (healthy)`.
    pub status: String,
}

/// What a registry says a track points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Digest of the index or manifest (`Docker-Content-Digest`).
    pub digest: Digest,
    /// `os/architecture[/variant]` of each image behind it; empty if the registry does not say.
    pub platforms: Vec<String>,
}

/// How far a pull has come, over all layers whose size is known.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PullProgress {
    /// The engine's last status line.
    pub status: String,
    /// Bytes downloaded so far.
    pub bytes: u64,
    /// Bytes to download, as far as known.
    pub bytes_total: u64,
}

/// An event of the engine, cut down to what makes somebody look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineEvent {
    /// `container` or `image`.
    pub kind: String,
    /// The action's first word, such as `die`, `tag`, `health_status`.
    pub action: String,
    /// What the action says after that, such as `unhealthy`; mostly empty.
    pub detail: String,
    /// ID of the container, or name or ID of the image.
    pub id: String,
    /// The engine's attributes: for containers their labels, `image` and `name`.
    pub attributes: BTreeMap<String, String>,
    /// Nanoseconds since 1970 by the engine's clock; with `id` and `action` it tells a repeated event.
    pub time_nano: i64,
}

/// The outcome of an HTTP probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpProbe {
    /// An answer with this status.
    Status(u16),
    /// No answer, with the cause.
    NoAnswer(String),
}

/// A container engine as it is looked at. Calls address containers by full ID; all are bounded in time.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Introduces the engine.
    async fn info(&self) -> Result<EngineInfo, EngineError>;
    /// How it is spoken to; mostly without asking.
    async fn api(&self) -> Result<Api, EngineError>;
    /// Every container, running or not.
    async fn containers(&self) -> Result<Vec<ContainerSummary>, EngineError>;
    /// The raw inspection of one container, by ID or name.
    async fn container(&self, id: &str) -> Result<Value, EngineError>;
    /// Every image with a name or a digest.
    async fn images(&self) -> Result<Vec<ImageSummary>, EngineError>;
    /// The raw inspection of one image, by ID, `name:tag` or `name@digest`.
    async fn image(&self, reference: &str) -> Result<Value, EngineError>;
    /// The line that the list has for one image, by ID, `name:tag` or `name@digest`.
    async fn image_summary(&self, reference: &str) -> Result<ImageSummary, EngineError>;
    /// Asks the registry, through the engine, what a track points to now.
    async fn resolve(&self, track: &Track) -> Result<Resolved, ResolveError>;
    /// Asks the registry, through the engine, whether it has the digest that `image` names.
    async fn has(&self, image: &ImageRef) -> Result<bool, ResolveError>;
    /// The last `lines` lines that a container wrote, both streams, at most 16 KiB.
    async fn log_tail(&self, id: &str, lines: u32) -> Result<String, EngineError>;
    /// Paths that were added or changed inside a container's own file system.
    async fn changes(&self, id: &str) -> Result<Vec<String>, EngineError>;
    /// What a file inside a container is and when it was written; `None` if it is gone by now.
    async fn file(&self, id: &str, path: &str) -> Result<Option<ChangedFile>, EngineError>;
    /// Whether a network of this name or ID exists.
    async fn network_exists(&self, network: &str) -> Result<bool, EngineError>;
    /// Whether a volume of this name exists.
    async fn volume_exists(&self, volume: &str) -> Result<bool, EngineError>;
    /// Events of containers and images from now on. The stream ends with an error when the connection breaks or
    /// falls silent; the caller opens a new one and lists again, since events in between may be lost.
    async fn events(&self) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError>;
    /// Whether something accepts a TCP connection at a container's own address within `limit`.
    async fn connects(&self, address: SocketAddr, limit: Duration) -> bool;
    /// Asks `GET path` of a container's own address, without following redirects.
    async fn http_get(&self, address: SocketAddr, path: &str, limit: Duration) -> HttpProbe;
}

/// The hand that brings images and takes them away. Whoever is not given it cannot.
#[async_trait]
pub trait ImageHand: Send + Sync {
    /// Pulls exactly the digest that `image` names, telling of progress as it goes.
    async fn pull(&self, image: &ImageRef, progress: &(dyn Fn(PullProgress) + Send + Sync)) -> Result<(), PullError>;
    /// Points `repository:tag` at an image. The name is Docker's familiar form or the full one.
    async fn tag(&self, image_id: &str, repository: &str, tag: &str) -> Result<(), EngineError>;
    /// Takes a name off an image; the engine removes the image with its last name. Absent is success.
    async fn untag(&self, reference: &str) -> Result<(), EngineError>;
}

/// The hand that makes, stops and removes containers. Whoever is not given it cannot.
#[async_trait]
pub trait Hand: ImageHand {
    /// Creates a container from a raw body and gives back its ID.
    async fn create(&self, name: &str, body: &Value) -> Result<String, EngineError>;
    /// Connects a container to a further network with a raw endpoint configuration.
    async fn connect(&self, network: &str, container: &str, endpoint: &Value) -> Result<(), EngineError>;
    /// Starts a container; already running is success.
    async fn start(&self, id: &str) -> Result<(), EngineError>;
    /// Stops a container with its own signal and grace period; already stopped or gone is success.
    /// The call's limit is the grace period and a margin; the engine goes on stopping if it passes.
    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError>;
    /// Renames a container.
    async fn rename(&self, id: &str, name: &str) -> Result<(), EngineError>;
    /// Sets the restart policy from its raw form.
    async fn set_restart_policy(&self, id: &str, policy: &Value) -> Result<(), EngineError>;
    /// Removes a stopped container and never its volumes; already gone or going is success.
    async fn remove(&self, id: &str) -> Result<(), EngineError>;
}

/// Why an image could not be brought here.
#[derive(Clone, Debug, Error)]
pub enum PullError {
    /// The registry no longer has this digest.
    #[error("{image} is not in the registry any more: {message}")]
    Absent {
        /// The reference that was pulled.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The credentials are missing or wrong.
    #[error("the registry refuses {image} to this node: {message}; check `docker login` on this machine")]
    Denied {
        /// The reference that was pulled.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// There is no image for this machine's platform behind the digest.
    #[error("{image} has no image for this platform: {message}")]
    Platform {
        /// The reference that was pulled.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The engine has no room for it.
    #[error("no room for {image} on the engine's disk: {message}; `docker system df` shows what takes it")]
    Full {
        /// The reference that was pulled.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The engine says that it has pulled it, and does not have it.
    #[error("{image} was pulled, and the engine does not show it")]
    WithoutEffect {
        /// The reference that was pulled.
        image: String,
    },
    /// Anything else: the network, the registry. Worth another try.
    #[error("failed to pull {image}: {message}")]
    Failed {
        /// The reference that was pulled.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The engine itself failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl PullError {
    /// Whether another try will likely end the same, until somebody does something about this machine or the image.
    pub fn is_hopeless(&self) -> bool {
        matches!(self, Self::Platform { .. } | Self::Full { .. })
    }
}
