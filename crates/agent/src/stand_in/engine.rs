//! The engine that unit tests of the agent talk to, and the calls it answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::image::{Digest, ImageRef, Track};
use deployer_engine::{
    ContainerSummary, Engine, EngineError, EngineEvent, EngineInfo, Hand, HttpProbe, ImageHand, ImageSummary,
    PullError, PullProgress, ResolveError, Resolved,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use super::digest;

/// What the engine shows, and what was asked of it.
#[derive(Default)]
pub struct State {
    /// Raw inspections.
    pub containers: Vec<Value>,
    pub images: Vec<ImageSummary>,
    /// Containers that creations make, in this order.
    pub made: VecDeque<Value>,
    /// Digests that the registry has.
    pub published: BTreeSet<Digest>,
    /// Images that an inspection finds and the list does not show.
    pub unlisted: Vec<ImageSummary>,
    /// Images that a pull brings.
    pub arrives: Vec<ImageSummary>,
    /// Architectures of images, by ID.
    pub architectures: BTreeMap<String, &'static str>,
    /// What is in the images, by their IDs.
    pub image_configs: BTreeMap<&'static str, Value>,
    /// Calls that are refused, by their method's name.
    pub refused: BTreeMap<&'static str, EngineError>,
    /// Whether no port of any container answers.
    pub is_silent: bool,
    /// The addresses at which nothing answers.
    pub unreachable: BTreeSet<IpAddr>,
    /// What every path answers with; `None`: 200.
    pub http_status: Option<u16>,
    /// Beginnings of calls that make the caller panic, as a fault of our own would.
    pub panics: Vec<&'static str>,
    /// Method and object of every call that could change something, and `containers` of every listing.
    pub calls: Vec<String>,
}

pub struct StandIn {
    state: Mutex<State>,
    /// Rings when the registry is asked.
    pub asked: Notify,
    /// The registry answers once for each permit.
    pub answers: Semaphore,
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn absent(what: &str) -> EngineError {
    EngineError::NotFound { what: what.to_owned(), message: "no such thing".to_owned() }
}

impl StandIn {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), asked: Notify::new(), answers: Semaphore::new(Semaphore::MAX_PERMITS >> 1) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while holding it")
    }

    fn call(&self, method: &'static str, object: &str) -> Result<(), EngineError> {
        let mut state = self.state();
        let call = format!("{method} {object}").trim_end().to_owned();
        state.calls.push(call.clone());
        let (panics, refused) = (state.panics.iter().any(|start| call.starts_with(start)), state.refused.get(method));
        let outcome = refused.cloned().map_or(Ok(()), Err);
        drop(state);
        assert!(!panics, "a fault of our own");
        outcome
    }

    fn call_of(&self, method: &'static str, id: &str) -> Result<(), EngineError> {
        self.call(method, id)?;
        let is_there = self.state().containers.iter().any(|container| text(container, "/Id") == id);
        if is_there { Ok(()) } else { Err(absent(id)) }
    }
}

#[async_trait]
impl Engine for StandIn {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let word = String::new;
        Ok(EngineInfo { product: word(), version: word(), api: (1, 41), os: word(), architecture: word() })
    }

    async fn api(&self) -> Result<(u32, u32), EngineError> {
        Ok((1, 41))
    }

    async fn containers(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        self.call("containers", "")?;
        let summary = |container: &Value| ContainerSummary {
            id: text(container, "/Id"),
            name: text(container, "/Name").trim_start_matches('/').to_owned(),
            image_id: text(container, "/Image"),
            labels: container
                .pointer("/Config/Labels")
                .and_then(|labels| serde_json::from_value(labels.clone()).ok())
                .unwrap_or_default(),
            state: text(container, "/State/Status"),
            status: String::new(),
        };
        Ok(self.state().containers.iter().map(summary).collect())
    }

    async fn container(&self, id: &str) -> Result<Value, EngineError> {
        let is_it = |c: &&Value| text(c, "/Id") == id || text(c, "/Name").trim_start_matches('/') == id;
        let state = self.state();
        match state.refused.get("container") {
            Some(error) => Err(error.clone()),
            None => state.containers.iter().find(is_it).cloned().ok_or_else(|| absent(id)),
        }
    }

    async fn images(&self) -> Result<Vec<ImageSummary>, EngineError> {
        Ok(self.state().images.clone())
    }

    async fn image(&self, reference: &str) -> Result<Value, EngineError> {
        let state = self.state();
        if let Some(error) = state.refused.get("image") {
            return Err(error.clone());
        }
        let found = state.images.iter().chain(&state.unlisted).find(|image| image.is_named(reference));
        let found = found.map(|image| {
            let (architecture, config) =
                (state.architectures.get(&image.id), state.image_configs.get(image.id.as_str()));
            json!({"Id": image.id, "Architecture": architecture, "Config": config})
        });
        found.ok_or_else(|| absent(reference))
    }

    async fn image_summary(&self, reference: &str) -> Result<ImageSummary, EngineError> {
        let found = self.state().images.iter().find(|image| image.is_named(reference)).cloned();
        found.ok_or_else(|| absent(reference))
    }

    async fn resolve(&self, _: &Track) -> Result<Resolved, ResolveError> {
        self.asked.notify_one();
        self.answers.acquire().await.expect("never closed").forget();
        Ok(Resolved { digest: digest('2'), platforms: Vec::new() })
    }

    async fn has(&self, image: &ImageRef) -> Result<bool, ResolveError> {
        self.call("has", &image.to_string())?;
        Ok(image.digest.as_ref().is_some_and(|digest| self.state().published.contains(digest)))
    }

    async fn log_tail(&self, _: &str, _: u32) -> Result<String, EngineError> {
        Ok(String::new())
    }

    async fn changes(&self, id: &str) -> Result<Vec<String>, EngineError> {
        self.call("changes", id).map(|()| vec!["/etc/changed".to_owned()])
    }

    async fn file(&self, _: &str, path: &str) -> Result<Option<deployer_core::successor::ChangedFile>, EngineError> {
        self.call("file", path).map(|()| None)
    }

    async fn network_exists(&self, _: &str) -> Result<bool, EngineError> {
        Ok(true)
    }

    async fn volume_exists(&self, _: &str) -> Result<bool, EngineError> {
        Ok(true)
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        Ok(futures_util::stream::pending().boxed())
    }

    async fn connects(&self, address: SocketAddr, _: Duration) -> bool {
        let state = self.state();
        !state.is_silent && !state.unreachable.contains(&address.ip())
    }

    async fn http_get(&self, address: SocketAddr, _: &str, _: Duration) -> HttpProbe {
        let state = self.state();
        match state.unreachable.contains(&address.ip()) {
            true => HttpProbe::NoAnswer("nobody there".to_owned()),
            false => HttpProbe::Status(state.http_status.unwrap_or(200)),
        }
    }
}

#[async_trait]
impl ImageHand for StandIn {
    async fn pull(&self, image: &ImageRef, _: &(dyn Fn(PullProgress) + Send + Sync)) -> Result<(), PullError> {
        self.call("pull", &image.to_string())?;
        let mut state = self.state();
        let arrived = std::mem::take(&mut state.arrives);
        state.images.extend(arrived);
        Ok(())
    }

    async fn tag(&self, image_id: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        self.call("tag", &format!("{image_id} {repository}:{tag}"))
    }

    async fn untag(&self, reference: &str) -> Result<(), EngineError> {
        self.call("untag", reference)
    }
}

#[async_trait]
impl Hand for StandIn {
    async fn create(&self, name: &str, _: &Value) -> Result<String, EngineError> {
        self.call("create", name)?;
        let mut state = self.state();
        let made = state.made.pop_front();
        state.containers.retain(|other| made.is_none() || text(other, "/Id") != "new");
        state.containers.extend(made);
        Ok("new".to_owned())
    }

    async fn connect(&self, network: &str, _: &str, _: &Value) -> Result<(), EngineError> {
        self.call("connect", network)
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        self.call_of("start", id)
    }

    async fn stop(&self, id: &str, _: Duration) -> Result<(), EngineError> {
        self.call("stop", id)
    }

    async fn rename(&self, id: &str, name: &str) -> Result<(), EngineError> {
        self.call_of("rename", id)?;
        let mut state = self.state();
        let found = state.containers.iter_mut().find(|container| text(container, "/Id") == id);
        found.ok_or_else(|| absent(id))?["Name"] = json!(format!("/{name}"));
        Ok(())
    }

    async fn set_restart_policy(&self, id: &str, _: &Value) -> Result<(), EngineError> {
        self.call_of("set_restart_policy", id)
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.call("remove", id)?;
        let mut state = self.state();
        state.containers.retain(|container| text(container, "/Id") != id);
        Ok(())
    }
}
