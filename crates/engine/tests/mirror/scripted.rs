//! An engine that has what a test says, tells what a test says, and counts what it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::image::{ImageRef, Track};
use deployer_core::successor::ChangedFile;
use deployer_engine::{
    Api, ContainerSummary, Engine, EngineError, EngineEvent, EngineInfo, HttpProbe, ImageSummary, ResolveError,
    Resolved,
};
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

/// What the engine has, and how it behaves.
#[derive(Default)]
pub struct State {
    /// Inspections, by ID.
    pub containers: BTreeMap<String, Value>,
    pub images: Vec<ImageSummary>,
    /// Inspections of images, by ID.
    pub defaults: BTreeMap<String, Value>,
    /// Calls that fail, by their beginnings.
    pub failing: BTreeMap<String, EngineError>,
    /// Calls whose answer is kept back, by their beginnings.
    pub held: BTreeSet<String>,
    pub calls: Vec<String>,
    listeners: Vec<mpsc::UnboundedSender<EngineEvent>>,
    told: i64,
}

/// The engine.
#[derive(Clone)]
pub struct Scripted {
    state: Arc<Mutex<State>>,
    news: Arc<watch::Sender<()>>,
}

pub fn unreachable_engine() -> EngineError {
    EngineError::Unreachable { what: "ask".into(), address: "scripted".into(), message: "nobody there".into() }
}

pub fn refused() -> EngineError {
    EngineError::Refused { what: "ask".into(), status: 500, message: "no".into() }
}

/// A running container's inspection.
pub fn container(id: &str, name: &str) -> Value {
    json!({
        "Id": id, "Name": format!("/{name}"), "Image": "sha256:1",
        "State": {"Status": "running", "ExitCode": 0, "StartedAt": "1970-01-01T00:00:01Z"},
        "Config": {"Image": "registry.test/web:1", "Labels": {"deployer.enable": "true"}}, "HostConfig": {},
    })
}

impl Scripted {
    pub fn with(containers: &[(&str, &str)]) -> Self {
        let engine = Self { state: Arc::default(), news: Arc::new(watch::Sender::new(())) };
        let containers = containers.iter().map(|(id, name)| ((*id).to_owned(), container(id, name)));
        engine.state().containers = containers.collect();
        engine.state().defaults.insert("sha256:1".to_owned(), json!({"Config": {}}));
        engine.state().images = vec![ImageSummary::named("sha256:1", ["registry.test/web:1"])];
        engine
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while holding it")
    }

    /// Tells of a container.
    pub fn tell(&self, action: &str, detail: &str, id: &str) {
        self.tell_of("container", action, detail, id);
    }

    pub fn tell_of(&self, kind: &str, action: &str, detail: &str, id: &str) {
        let mut state = self.state();
        state.told += 1;
        let (kind, action, detail, id) = (kind.to_owned(), action.to_owned(), detail.to_owned(), id.to_owned());
        let time_nano = 1_000_000_000 + state.told;
        let event = EngineEvent { kind, action, detail, id, attributes: BTreeMap::new(), time_nano };
        state.listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }

    /// Repeats the last event of that kind under its old time.
    pub fn repeat(&self, action: &str, id: &str) {
        self.state().told -= 1;
        self.tell(action, "", id);
    }

    /// Ends every stream of events, as a connection that breaks does.
    pub fn break_off(&self) {
        self.state().listeners.clear();
    }

    /// Answers nothing any more.
    pub fn die(&self) {
        self.state().failing.insert(String::new(), unreachable_engine());
        self.break_off();
    }

    /// Answers again.
    pub fn come_back(&self) {
        self.state().failing.clear();
    }

    pub fn hold(&self, call: &str) {
        self.state().held.insert(call.to_owned());
    }

    pub fn let_go(&self) {
        self.state().held.clear();
        self.news.send_replace(());
    }

    /// The calls since this was last asked.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().calls)
    }

    /// One call. What it answers is so when it is asked, however long the answer is on its way.
    async fn call<T>(&self, call: String, answer: impl FnOnce(&mut State) -> Option<T>) -> Result<T, EngineError> {
        let (answer, mut news) = {
            let mut state = self.state();
            state.calls.push(call.clone());
            let failing =
                state.failing.iter().find(|(start, _)| call.starts_with(*start)).map(|(_, error)| error.clone());
            let not_found = || EngineError::NotFound { what: call.clone(), message: "no such thing".into() };
            let answer = failing.map_or_else(|| answer(&mut state).ok_or_else(not_found), Err);
            (answer, self.news.subscribe())
        };
        while self.state().held.iter().any(|start| call.starts_with(start)) {
            news.changed().await.expect("the engine lives");
        }
        answer
    }
}

fn line(raw: &Value) -> ContainerSummary {
    let text = |pointer: &str| raw.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let health = text("/State/Health/Status");
    ContainerSummary {
        id: text("/Id"),
        name: text("/Name").trim_start_matches('/').to_owned(),
        image_id: text("/Image"),
        labels: BTreeMap::new(),
        state: text("/State/Status"),
        status: if health.is_empty() { "Up 1 second".to_owned() } else { format!("Up 1 second ({health})") },
    }
}

#[async_trait]
impl Engine for Scripted {
    async fn containers(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        self.call("containers".into(), |state| Some(state.containers.values().map(line).collect())).await
    }

    async fn container(&self, id: &str) -> Result<Value, EngineError> {
        self.call(format!("container {id}"), |state| state.containers.get(id).cloned()).await
    }

    async fn images(&self) -> Result<Vec<ImageSummary>, EngineError> {
        self.call("images".into(), |state| Some(state.images.clone())).await
    }

    async fn image_summary(&self, reference: &str) -> Result<ImageSummary, EngineError> {
        let find = |state: &mut State| state.images.iter().find(|image| image.is_named(reference)).cloned();
        self.call(format!("image {reference}"), find).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        let receiver = self.call("events".into(), |state| {
            let (sender, receiver) = mpsc::unbounded_channel();
            state.listeners.push(sender);
            Some(receiver)
        });
        let events = stream::unfold(Some(receiver.await?), |receiver| async {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(event) => Some((Ok(event), Some(receiver))),
                None => Some((Err(unreachable_engine()), None)),
            }
        });
        Ok(events.boxed())
    }

    async fn info(&self) -> Result<EngineInfo, EngineError> {
        unreachable!("a mirror looks at containers and images alone")
    }

    async fn api(&self) -> Result<Api, EngineError> {
        unreachable!("a mirror looks at containers and images alone")
    }

    async fn image(&self, id: &str) -> Result<Value, EngineError> {
        self.call(format!("defaults {id}"), |state| state.defaults.get(id).cloned()).await
    }

    async fn resolve(&self, _: &Track) -> Result<Resolved, ResolveError> {
        unreachable!("a mirror asks no registry")
    }

    async fn has(&self, _: &ImageRef) -> Result<bool, ResolveError> {
        unreachable!("a mirror asks no registry")
    }

    async fn log_tail(&self, _: &str, _: u32) -> Result<String, EngineError> {
        unreachable!("a mirror reads no log")
    }

    async fn changes(&self, _: &str) -> Result<Vec<String>, EngineError> {
        unreachable!("a mirror looks at no file")
    }

    async fn file(&self, _: &str, _: &str) -> Result<Option<ChangedFile>, EngineError> {
        unreachable!("a mirror looks at no file")
    }

    async fn network_exists(&self, _: &str) -> Result<bool, EngineError> {
        unreachable!("a mirror looks at containers and images alone")
    }

    async fn volume_exists(&self, _: &str) -> Result<bool, EngineError> {
        unreachable!("a mirror looks at containers and images alone")
    }

    async fn connects(&self, _: SocketAddr, _: Duration) -> bool {
        unreachable!("a mirror probes nothing")
    }

    async fn http_get(&self, _: SocketAddr, _: &str, _: Duration) -> HttpProbe {
        unreachable!("a mirror probes nothing")
    }
}
