//! Docker's Engine API, the part that deployer needs: the project's own thin client (`docs/adr/0001`).
//!
//! It reads with small tolerant structs and writes raw JSON. Nothing here decides anything; no other module of
//! the program speaks to an engine.

mod about;
mod changes;
mod client;
mod containers;
mod endpoints;
mod events;
mod images;
mod probe;

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::image::{ImageRef, Track};
use deployer_core::successor::ChangedFile;
use deployer_wire::Endpoint;
use futures_util::stream::BoxStream;
use serde_json::Value;

use crate::engine::{
    Api, ContainerSummary, Engine, EngineError, EngineEvent, EngineInfo, Hand, HttpProbe, ImageHand, PullError,
    PullProgress, ResolveError, Resolved,
};
use crate::image::ImageSummary;
pub use crate::registry::credentials::{CredentialsError, Logins, logins};
pub use about::About;
use client::Client;

/// An engine that speaks Docker's API.
pub struct Docker {
    client: Client,
}

impl Docker {
    /// An engine at an address. Nothing is sent until the first call.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { client: Client::new(endpoint) }
    }

    /// The same, which asks these hosts of registries in the clear where the engine does not ask for us.
    #[must_use]
    pub fn with_plain_http(mut self, hosts: Vec<String>) -> Self {
        self.client.plain_http = hosts;
        self
    }

    /// What the engine says of itself.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    pub async fn about(&self) -> Result<About, EngineError> {
        about::about(&self.client).await
    }
}

#[async_trait]
impl Engine for Docker {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.client.info().await
    }

    async fn api(&self) -> Result<Api, EngineError> {
        self.client.api().await
    }

    async fn containers(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        containers::list(&self.client).await
    }

    async fn container(&self, id: &str) -> Result<Value, EngineError> {
        containers::inspect(&self.client, id).await
    }

    async fn images(&self) -> Result<Vec<ImageSummary>, EngineError> {
        images::list(&self.client).await
    }

    async fn image(&self, reference: &str) -> Result<Value, EngineError> {
        images::inspect(&self.client, reference).await
    }

    async fn image_summary(&self, reference: &str) -> Result<ImageSummary, EngineError> {
        images::summary(&self.client, reference).await
    }

    async fn resolve(&self, track: &Track) -> Result<Resolved, ResolveError> {
        images::resolve(&self.client, track).await
    }

    async fn has(&self, image: &ImageRef) -> Result<bool, ResolveError> {
        images::has(&self.client, image).await
    }

    async fn log_tail(&self, id: &str, lines: u32) -> Result<String, EngineError> {
        containers::log_tail(&self.client, id, lines).await
    }

    async fn changes(&self, id: &str) -> Result<Vec<String>, EngineError> {
        changes::list(&self.client, id).await
    }

    async fn file(&self, id: &str, path: &str) -> Result<Option<ChangedFile>, EngineError> {
        containers::file(&self.client, id, path).await
    }

    async fn network_exists(&self, network: &str) -> Result<bool, EngineError> {
        self.client.exists("network", &endpoints::NETWORK, network).await
    }

    async fn volume_exists(&self, volume: &str) -> Result<bool, EngineError> {
        self.client.exists("volume", &endpoints::VOLUME, volume).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        events::stream(&self.client).await
    }

    async fn connects(&self, address: SocketAddr, limit: Duration) -> bool {
        probe::connects(address, limit).await
    }

    async fn http_get(&self, address: SocketAddr, path: &str, limit: Duration) -> HttpProbe {
        probe::http_get(address, path, limit).await
    }
}

#[async_trait]
impl ImageHand for Docker {
    async fn pull(&self, image: &ImageRef, progress: &(dyn Fn(PullProgress) + Send + Sync)) -> Result<(), PullError> {
        images::pull(&self.client, image, progress).await
    }

    async fn tag(&self, image_id: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        images::tag(&self.client, image_id, repository, tag).await
    }

    async fn untag(&self, reference: &str) -> Result<(), EngineError> {
        images::untag(&self.client, reference).await
    }
}

#[async_trait]
impl Hand for Docker {
    async fn create(&self, name: &str, body: &Value) -> Result<String, EngineError> {
        containers::create(&self.client, name, body).await
    }

    async fn connect(&self, network: &str, container: &str, endpoint: &Value) -> Result<(), EngineError> {
        containers::connect(&self.client, network, container, endpoint).await
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        containers::start(&self.client, id).await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        containers::stop(&self.client, id, grace).await
    }

    async fn rename(&self, id: &str, name: &str) -> Result<(), EngineError> {
        containers::rename(&self.client, id, name).await
    }

    async fn set_restart_policy(&self, id: &str, policy: &Value) -> Result<(), EngineError> {
        containers::set_restart_policy(&self.client, id, policy).await
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        containers::remove(&self.client, id).await
    }
}
