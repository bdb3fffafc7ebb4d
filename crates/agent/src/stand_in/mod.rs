//! An engine for unit tests: a list of containers and images, a registry of one digest, and refusals on demand.
//!
//! It keeps just enough state for one act or one look to be tested alone; it is no simulation of an engine.

mod engine;

use std::sync::Arc;

use deployer_core::ambient::Ambient;
use deployer_core::availability::{Instance, Limit};
use deployer_core::image::{Digest, Track};
use deployer_core::keys::Keys;
use deployer_core::node::Identity;
use deployer_core::policy::{GateSettings, Manage};
use deployer_core::replacement::{Facts, Replacement};
use deployer_core::slot::{Grounds, Scope};
use deployer_core::store::Txn;
use deployer_engine::Engine;
use deployer_store::embedded::Embedded;
use serde_json::{Value, json};

pub use self::engine::{StandIn, State};
use crate::journal::Journals;
use crate::presence;
use crate::site::Site;
use crate::world::{Settings, World};

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
    let engine = Arc::new(StandIn::new());
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
