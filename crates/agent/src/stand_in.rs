//! An engine for unit tests: a list of containers and images, a registry of one digest, and refusals on demand.
//!
//! It keeps just enough state for one act or one look to be tested alone; it is no simulation of an engine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::ambient::Ambient;
use deployer_core::availability::{Instance, Limit};
use deployer_core::image::{Digest, ImageRef, Track};
use deployer_core::keys::Keys;
use deployer_core::node::Identity;
use deployer_core::policy::{GateSettings, Manage};
use deployer_core::replacement::{Facts, Replacement};
use deployer_core::slot::{Grounds, Scope};
use deployer_core::store::Txn;
use deployer_engine::{
    ContainerSummary, Engine, EngineError, EngineEvent, EngineInfo, Hand, HttpProbe, ImageHand, ImageSummary,
    PullError, PullProgress, ResolveError, Resolved,
};
use deployer_store::embedded::Embedded;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use crate::journal::Journals;
use crate::presence;
use crate::site::Site;
use crate::world::{Settings, World};

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

pub struct Fixture {
    pub world: Arc<World>,
    pub engine: Arc<StandIn>,
    pub folder: tempfile::TempDir,
}

pub fn digest(letter: char) -> Digest {
    Digest::parse(&format!("sha256:{}", letter.to_string().repeat(64))).expect("a digest")
}

pub fn track() -> Track {
    Track::parse("registry.test/web:1").expect("a track")
}

/// A world around a stand-in, with a store and journals of its own.
pub async fn fixture() -> Fixture {
    let fixture = unheard().await;
    fixture.world.engine_mirror.refresh().await.expect("the stand-in answers");
    fixture.engine.state().calls.clear();
    fixture
}

/// The same, whose engine is not heard yet.
pub async fn unheard() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Arc::new(StandIn {
        state: Mutex::default(),
        asked: Notify::new(),
        answers: Semaphore::new(Semaphore::MAX_PERMITS >> 1),
    });
    let store = Embedded::open(&folder.path().join("store.redb")).expect("a store");
    let settings = Settings {
        node: "a".into(),
        boot: "1".into(),
        identity: Identity { boot: "machine".into(), state: "folder".into() },
        scope: Scope::Cluster,
        manage: Manage::All,
        own_container: None,
        registry_check: None,
        state_dir: folder.path().to_owned(),
        root: folder.path().to_owned(),
        prefix: "/deployer".to_owned(),
    };
    let journals = Journals::open(folder.path()).expect("journals");
    let shared: Arc<dyn Engine> = Arc::clone(&engine) as Arc<dyn Engine>;
    let world = World::new(shared, Arc::new(store), settings, Arc::new(Ambient::chosen(|| 0, 7)), journals);
    presence::register(&world).await.expect("the store").expect("nobody else bears the name");
    // Registering has rung the bell, which a test may want to hear for another reason.
    world.bell.notified().await;
    // The instance that `replacement` replaces, as a look around would have registered it.
    let instance = Instance { node: "a".into(), image: track(), container: "web".into(), off: false };
    let txn = Txn::new().put(world.keys.instance("web", "a", "web"), &instance);
    world.store.txn(txn).await.expect("stored");
    Fixture { world: Arc::new(world), engine, folder }
}

impl Fixture {
    /// The hand that a stage is given.
    pub fn hand(&self) -> Arc<StandIn> {
        Arc::clone(&self.engine)
    }

    /// What the restart stage works with.
    pub fn site(&self) -> Site<'_> {
        Site::new(&self.world, self.engine.as_ref())
    }
}

/// An inspection of a container of the track.
pub fn container(id: &str, name: &str, state: &str) -> Value {
    let is_running = state == "running";
    json!({
        "Id": id, "Name": format!("/{name}"), "Image": "sha256:old",
        "State": {"Status": state, "Running": is_running},
        "Config": {"Image": "registry.test/web:1"}, "HostConfig": {},
    })
}

/// Every place where a value may lie that makes no sense.
pub fn places_of_nonsense(keys: &Keys) -> Vec<String> {
    vec![
        format!("{}x", keys.all_instances()),
        keys.instance("web", "gone", "web"),
        keys.instance("web", "a", "web"),
        format!("{}x", keys.all_reports()),
        keys.report("web", "gone", "web"),
        keys.node("gone"),
        keys.ticket("cluster", "0000000000000000-0-0-0000000000000000-0000000000000000", "gone", "web"),
        keys.deferral("cluster", &track()),
        keys.claim("cluster", 0),
        keys.verdict(&track().to_string(), &digest('3')),
        keys.fetched_by(&track(), "gone"),
        keys.record(&track()),
        keys.pending(&track()),
        keys.halt(&track()),
        keys.resolver(&track()),
    ]
}

/// A replacement of the container `web`, with ID `old`, that has not begun.
pub fn replacement() -> Replacement {
    let facts = Facts {
        track: track(),
        service: "web".into(),
        digest: digest('2'),
        seq: 2,
        container: "web".into(),
        predecessor: "old".into(),
        predecessor_ran: true,
        predecessor_was_down: false,
        new_image: "sha256:new".into(),
        tag_before: Some("sha256:old".into()),
        restart_policy: json!({"Name": "always"}),
        body: json!({}),
        connect: Vec::new(),
        grace_ms: 0,
        gate: GateSettings { timeout_ms: 0, stable_ms: 0, monitor_ms: 0, waits_for_health: false, restarts_max: 0 },
        ports: Vec::new(),
        http: None,
        is_first: true,
        scope: "cluster".into(),
        limit: Limit::default(),
        runs: 1,
        settings: String::new(),
        grounds: Grounds { record: 0, service: "web".into(), verdict: 0, halt: 0, retry: 0 },
    };
    Replacement::new("00c0ffee".into(), facts)
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn absent(what: &str) -> EngineError {
    EngineError::NotFound { what: what.to_owned(), message: "no such thing".to_owned() }
}

impl StandIn {
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
