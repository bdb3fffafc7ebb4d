//! The engine as the stages see it.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::image::{ImageRef, Track};
use deployer_core::successor::ChangedFile;
use deployer_engine::{
    Api, ContainerSummary, Engine, EngineError, EngineEvent, EngineInfo, Hand, HttpProbe, ImageHand, ImageSummary,
    PullError, PullProgress, ResolveError, Resolved,
};
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::container::Container;
use super::containers::not_found;
use super::images::PullRefusal;
use super::power::Power;
use super::{CALL_LIMIT, SimulatedEngine, timed_out, unreachable};
use crate::ambient::pause;
use crate::history::By;
use crate::registry::Obstruction;

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

    async fn api(&self) -> Result<Api, EngineError> {
        self.call("api", |state| Ok(Api { version: (1, 41), shows_all_settings: !state.hides_settings })).await
    }

    async fn containers(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        self.call("list containers", |state| Ok(state.containers.iter().map(summary).collect())).await
    }

    async fn container(&self, id: &str) -> Result<Value, EngineError> {
        let id = id.to_owned();
        self.call("inspect container", move |state| state.inspect(&id)).await
    }

    async fn images(&self) -> Result<Vec<ImageSummary>, EngineError> {
        self.call("list images", |state| Ok(state.list_images())).await
    }

    async fn image(&self, reference: &str) -> Result<Value, EngineError> {
        let reference = reference.to_owned();
        self.call("inspect image", move |state| {
            let id = state.image_of(&reference).ok_or_else(|| not_found(&format!("image {reference}")))?;
            Ok(state.inspect_image(&id))
        })
        .await
    }

    async fn image_summary(&self, reference: &str) -> Result<ImageSummary, EngineError> {
        let reference = reference.to_owned();
        self.call("inspect image", move |state| {
            let id = state.image_of(&reference).ok_or_else(|| not_found(&format!("image {reference}")))?;
            Ok(state.summary(&id))
        })
        .await
    }

    async fn resolve(&self, track: &Track) -> Result<Resolved, ResolveError> {
        let asked = track.clone();
        let answer = self.call("resolve", move |state| {
            Ok((state.registry.resolve(&asked, &state.host), state.registry.resolve_time()))
        });
        let (found, time) = answer.await?;
        pause(time).await;
        let (image, message) = (track.to_string(), "simulated".to_owned());
        match found {
            Ok(Some(digest)) => Ok(Resolved { digest, platforms: Vec::new() }),
            Ok(None) => Err(ResolveError::Absent { image, message }),
            Err(Obstruction::Denied) => Err(ResolveError::Denied { image, message }),
            Err(Obstruction::Unreachable) => Err(ResolveError::Unavailable { image, message }),
        }
    }

    async fn has(&self, image: &ImageRef) -> Result<bool, ResolveError> {
        let digest = image.digest.clone().expect("asked by digest");
        let digest = digest.clone();
        Ok(self.call("has", move |state| Ok(state.registry.image_id(&digest).is_some())).await?)
    }

    async fn log_tail(&self, _: &str, _: u32) -> Result<String, EngineError> {
        self.call("log", |_| Ok(String::new())).await
    }

    async fn changes(&self, id: &str) -> Result<Vec<String>, EngineError> {
        let id = id.to_owned();
        self.call("changes", move |state| Ok(state.changes(&id))).await
    }

    async fn file(&self, _: &str, _: &str) -> Result<Option<ChangedFile>, EngineError> {
        self.call("file", |_| Ok(None)).await
    }

    async fn network_exists(&self, network: &str) -> Result<bool, EngineError> {
        let is_built_in = ["default", "bridge", "host", "none"].contains(&network);
        self.call("network", move |state| Ok(is_built_in || !state.has_no_networks)).await
    }

    async fn volume_exists(&self, _: &str) -> Result<bool, EngineError> {
        self.call("volume", |_| Ok(true)).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        self.call("events", |state| Ok(state.streams.listen())).await
    }

    async fn connects(&self, address: SocketAddr, _: Duration) -> bool {
        self.shared.with(|state| state.answers(address.ip()))
    }

    async fn http_get(&self, address: SocketAddr, _: &str, _: Duration) -> HttpProbe {
        let status = self.shared.with(|state| state.http_status.filter(|_| state.answers(address.ip())));
        status.map_or_else(|| HttpProbe::NoAnswer("simulated".into()), HttpProbe::Status)
    }
}

#[async_trait]
impl ImageHand for SimulatedEngine {
    async fn pull(&self, image: &ImageRef, progress: &(dyn Fn(PullProgress) + Send + Sync)) -> Result<(), PullError> {
        let layers = self.shared.lock().disk.as_ref().map(|(_, layers)| *layers);
        if let Some(bytes_total) = layers {
            progress(PullProgress { status: "Downloading".to_owned(), bytes: 0, bytes_total });
            tokio::task::yield_now().await;
        }
        let wanted = image.clone();
        let pulled = self.call("pull", move |state| Ok(state.pull(&wanted))).await?;
        let (image, message) = (image.to_string(), "simulated".to_owned());
        pulled.map_err(|refusal| match refusal {
            PullRefusal::Unreachable => PullError::Failed { image, message },
            PullRefusal::Absent => PullError::Absent { image, message },
            PullRefusal::Full => PullError::Full { image, message },
        })
    }

    async fn tag(&self, image_id: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        let (image, name) = (image_id.to_owned(), format!("{repository}:{tag}"));
        self.call("tag", move |state| state.tag(&image, &name)).await
    }

    async fn untag(&self, reference: &str) -> Result<(), EngineError> {
        let reference = reference.to_owned();
        self.call("untag", move |state| state.untag(&reference)).await
    }
}

#[async_trait]
impl Hand for SimulatedEngine {
    async fn create(&self, name: &str, body: &Value) -> Result<String, EngineError> {
        let (name, body) = (name.to_owned(), body.clone());
        self.call("create", move |state| state.create(By::Us, &name, &body)).await
    }

    async fn connect(&self, _: &str, _: &str, _: &Value) -> Result<(), EngineError> {
        self.call("connect", |_| Ok(())).await
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        let id = id.to_owned();
        self.call("start", move |state| state.start(By::Us, &id)).await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let id = id.to_owned();
        let asked = self.call("stop", move |state| state.stop(By::Us, &id)).await;
        let (id, life) = match asked {
            Ok(Some(asked)) => asked,
            Ok(None) | Err(EngineError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let ended = timeout_at(Instant::now() + grace + CALL_LIMIT / 2, async {
            loop {
                let told = self.shared.news.told();
                let power = self.shared.lock().power;
                match power {
                    Power::Gone => return Err(unreachable("stop")),
                    Power::Runs if self.shared.lock().has_ended(&id, life) => return Ok(()),
                    Power::Runs | Power::Hung => {}
                }
                self.shared.news.beyond(told).await;
            }
        });
        ended.await.unwrap_or_else(|_| Err(timed_out("stop")))
    }

    async fn rename(&self, id: &str, name: &str) -> Result<(), EngineError> {
        let (id, name) = (id.to_owned(), name.to_owned());
        self.call("rename", move |state| state.rename(By::Us, &id, &name)).await
    }

    async fn set_restart_policy(&self, id: &str, policy: &Value) -> Result<(), EngineError> {
        let (id, policy) = (id.to_owned(), policy.clone());
        self.call("update", move |state| state.set_policy(&id, &policy)).await
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let id = id.to_owned();
        self.call("remove", move |state| state.remove(By::Us, &id, false)).await
    }
}

fn summary((id, container): (&String, &Container)) -> ContainerSummary {
    let health = container.health.filter(|_| container.lives());
    let words = |health| if health == "starting" { "health: starting" } else { health };
    ContainerSummary {
        id: id.clone(),
        name: container.name.clone(),
        image_id: container.image.clone(),
        labels: serde_json::from_value(container.body["Labels"].clone()).unwrap_or_default(),
        state: container.word().to_owned(),
        status: health.map(|health| format!("Up 2 seconds ({})", words(health))).unwrap_or_default(),
    }
}
