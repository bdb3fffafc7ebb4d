//! The engine as the stages see it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::image::{ImageRef, Track};
use deployer_core::successor::ChangedFile;
use deployer_engine::{
    ContainerSummary, Engine, EngineError, EngineEvent, EngineInfo, HttpProbe, ImageSummary, PullError, PullProgress,
    ResolveError, Resolved,
};
use futures_util::stream::BoxStream;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::super::pause;
use super::super::registry::Obstruction;
use super::SimulatedEngine;
use super::containers::{Container, State, address_of, not_found};

#[async_trait]
impl Engine for SimulatedEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let info = EngineInfo {
            product: "docker".into(),
            version: "simulated".into(),
            api: (1, 41),
            os: "linux".into(),
            architecture: "amd64".into(),
        };
        self.call("info", |_| Ok(info)).await
    }

    async fn api(&self) -> Result<(u32, u32), EngineError> {
        self.call("api", |_| Ok((1, 41))).await
    }

    async fn containers(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        let summary = |(id, container): (&String, &Container)| ContainerSummary {
            id: id.clone(),
            name: container.name.clone(),
            image_id: container.image.clone(),
            labels: serde_json::from_value(container.body["Labels"].clone()).unwrap_or_default(),
            state: container.word().into(),
            status: String::new(),
        };
        self.call("list containers", |state| Ok(state.containers.iter().map(summary).collect())).await
    }

    async fn container(&self, id: &str) -> Result<Value, EngineError> {
        self.call("inspect container", |state| state.inspect(id)).await
    }

    async fn images(&self) -> Result<Vec<ImageSummary>, EngineError> {
        self.call("list images", |state| {
            let ids: BTreeSet<&String> = state.names.values().collect();
            Ok(ids.into_iter().map(|id| state.image_summary(id)).collect())
        })
        .await
    }

    async fn image_summary(&self, reference: &str) -> Result<ImageSummary, EngineError> {
        self.call("inspect image", |state| {
            let by_id = state.names.values().find(|id| *id == reference);
            let id = state.names.get(reference).or(by_id).ok_or_else(|| not_found(&format!("image {reference}")))?;
            Ok(state.image_summary(id))
        })
        .await
    }

    async fn image(&self, reference: &str) -> Result<Value, EngineError> {
        self.call("inspect image", |state| {
            let by_id = state.names.values().find(|id| *id == reference);
            let id = state.names.get(reference).or(by_id).ok_or_else(|| not_found(&format!("image {reference}")))?;
            Ok(json!({"Id": id, "Os": "linux", "Architecture": "amd64", "Config": {"ExposedPorts": {"80/tcp": {}}}}))
        })
        .await
    }

    async fn resolve(&self, track: &Track) -> Result<Resolved, ResolveError> {
        let ask = |state: &mut State| (state.registry.resolve(track, &state.node), state.registry.resolve_time());
        let (answer, time) = self.call("resolve", |state| Ok(ask(state))).await?;
        pause(time).await;
        let (image, message) = (track.to_string(), "simulated".to_owned());
        match answer {
            Ok(Some(digest)) => Ok(Resolved { digest, platforms: Vec::new() }),
            Ok(None) => Err(ResolveError::Absent { image, message }),
            Err(Obstruction::Denied) => Err(ResolveError::Denied { image, message }),
            Err(Obstruction::Unreachable) => Err(ResolveError::Unavailable { image, message }),
        }
    }

    async fn pull(&self, image: &ImageRef, _: &(dyn Fn(PullProgress) + Send + Sync)) -> Result<(), PullError> {
        let digest = image.digest.clone().expect("pulled by digest");
        let name = format!("{}@{digest}", image.name.familiar());
        let pulled = self.call("pull", |state| {
            let found = state.registry.image_id(&digest);
            let is_here = found.is_some();
            if let (false, Some(id)) = (state.is_full, found) {
                state.names.insert(name.clone(), id);
                state.events.tell("image", "pull", &name);
            }
            Ok((is_here, state.is_full))
        });
        let (image, message) = (image.to_string(), "simulated".to_owned());
        match pulled.await? {
            (_, true) => Err(PullError::Full { image, message }),
            (false, _) => Err(PullError::Absent { image, message }),
            (true, _) => Ok(()),
        }
    }

    async fn tag(&self, image_id: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        self.call("tag", |state| {
            if !state.names.values().any(|id| id == image_id) {
                return Err(not_found(&format!("image {image_id}")));
            }
            state.names.insert(format!("{repository}:{tag}"), image_id.to_owned());
            state.events.tell("image", "tag", image_id);
            Ok(())
        })
        .await
    }

    async fn untag(&self, reference: &str) -> Result<(), EngineError> {
        self.call("untag", |state| {
            if let Some(id) = state.names.remove(reference) {
                state.events.tell("image", "untag", &id);
            }
            Ok(())
        })
        .await
    }

    async fn create(&self, name: &str, body: &Value) -> Result<String, EngineError> {
        self.call("create", |state| state.create(name, body)).await
    }

    async fn connect(&self, _: &str, _: &str, _: &Value) -> Result<(), EngineError> {
        self.call("connect", |_| Ok(())).await
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        self.call("start", |state| state.start(id)).await
    }

    async fn stop(&self, id: &str, _: Duration) -> Result<(), EngineError> {
        let gone = self.call("stop", |state| state.stop(id)).await?;
        if Instant::now() < gone {
            sleep_until(gone).await;
        }
        Ok(())
    }

    async fn rename(&self, id: &str, name: &str) -> Result<(), EngineError> {
        self.call("rename", |state| {
            state.refuse_taken("rename", name)?;
            state.found(id)?.name = name.to_owned();
            state.events.tell("container", "rename", id);
            Ok(())
        })
        .await
    }

    async fn set_restart_policy(&self, id: &str, policy: &Value) -> Result<(), EngineError> {
        self.call("update", |state| {
            state.found(id)?.policy = policy.clone();
            Ok(())
        })
        .await
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.call("remove", |state| {
            let Ok(id) = state.find(id) else { return Ok(()) };
            if state.containers[&id].is_running() {
                return Err(EngineError::Conflict { what: "remove".into(), message: "it runs".into() });
            }
            state.containers.remove(&id);
            state.events.tell("container", "destroy", &id);
            Ok(())
        })
        .await
    }

    async fn log_tail(&self, _: &str, _: u32) -> Result<String, EngineError> {
        self.call("log", |_| Ok(String::new())).await
    }

    async fn changes(&self, _: &str) -> Result<Vec<String>, EngineError> {
        self.call("changes", |_| Ok(Vec::new())).await
    }

    async fn file(&self, _: &str, _: &str) -> Result<Option<ChangedFile>, EngineError> {
        self.call("file", |_| Ok(None)).await
    }

    async fn network_exists(&self, _: &str) -> Result<bool, EngineError> {
        self.call("network", |state| Ok(!state.has_no_networks)).await
    }

    async fn volume_exists(&self, _: &str) -> Result<bool, EngineError> {
        self.call("volume", |_| Ok(true)).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        self.call("events", |state| Ok(state.events.listen())).await
    }

    async fn connects(&self, address: SocketAddr, _: Duration) -> bool {
        let state = self.lock();
        state.containers.iter().any(|(id, c)| IpAddr::V4(address_of(id)) == address.ip() && c.serves())
    }

    async fn http_get(&self, _: SocketAddr, _: &str, _: Duration) -> HttpProbe {
        HttpProbe::NoAnswer("simulated".into())
    }
}
