//! What unit tests of the stages stand on: a world around a simulated engine, with a store and journals of its own.
//!
//! The image of each version that is pushed here exposes no port, so that a container of it has settled once it runs.

use std::sync::Arc;
use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_core::availability::{Instance, Limit};
use deployer_core::image::Track;
use deployer_core::keys::Keys;
use deployer_core::node::Identity;
use deployer_core::policy::{GateSettings, Manage};
use deployer_core::replacement::{Facts, Replacement};
use deployer_core::slot::{Grounds, Scope};
use deployer_core::store::Txn;
use deployer_simulated::engine::{SimulatedEngine, Spec, id_of};
use deployer_simulated::history::History;
use deployer_simulated::registry::{Behaviour, SimulatedRegistry};
pub use deployer_simulated::registry::{digest, image};
use deployer_store::embedded::Embedded;
use serde_json::json;

use crate::journal::Journals;
use crate::presence;
use crate::site::Site;
use crate::world::{Settings, World};

/// Longer than a HEALTHCHECK takes to pass.
pub const A_CHECK: Duration = Duration::from_secs(3);

pub struct Fixture {
    pub world: Arc<World>,
    pub engine: Arc<SimulatedEngine>,
    /// Has version 1 of the track from the beginning.
    pub registry: SimulatedRegistry,
    pub folder: tempfile::TempDir,
}

pub fn track() -> Track {
    Track::parse("registry.test/web:1").expect("a track")
}

/// The ID of the container that the engine of a fixture made as its first, second, and so on.
pub fn id(number: u32) -> String {
    id_of("a", number)
}

/// A world around an engine without containers.
pub async fn fixture() -> Fixture {
    let fixture = unheard().await;
    fixture.world.engine_mirror.refresh().await.expect("the engine answers");
    fixture
}

/// The same, whose engine is not heard yet.
pub async fn unheard() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    let history = History::default();
    let registry = SimulatedRegistry::new(&history);
    let engine = SimulatedEngine::new("a", &registry, &history, 7);
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
    let ambient = Arc::new(Ambient::chosen(|| 0, 7));
    let world = World::new(Arc::new(engine.clone()), Arc::new(store), settings, ambient, journals);
    presence::register(&world).await.expect("the store").expect("nobody else bears the name");
    // Registering has rung the bell, which a test may want to hear for another reason.
    world.bell.notified().await;
    // The instance that `replacement` replaces, as a look around would have registered it.
    let instance = Instance { node: "a".into(), image: track(), container: "web".into(), off: false };
    let txn = Txn::new().put(world.keys.instance("web", "a", "web"), &instance);
    world.store.txn(txn).await.expect("stored");
    let fixture = Fixture { world: Arc::new(world), engine: Arc::new(engine), registry, folder };
    fixture.push(1);
    fixture
}

impl Fixture {
    /// The hand that a stage is given.
    pub fn hand(&self) -> Arc<SimulatedEngine> {
        Arc::clone(&self.engine)
    }

    /// What the restart stage works with.
    pub fn site(&self) -> Site<'_> {
        Site::new(&self.world, self.engine.as_ref())
    }

    /// Pushes a version of the track.
    pub fn push(&self, number: u32) {
        let digest = self.registry.push(&track(), number, Behaviour::Serves);
        self.registry.expose(&digest, &[]);
    }

    /// Brings a version that was pushed to the machine, where no tag names it.
    pub fn bring(&self, number: u32) {
        self.engine.pull_by_hand(&track(), Some(&digest(number)));
    }

    /// Runs a container of what was pushed last.
    pub fn run(&self, name: &str) {
        self.engine.run(&track(), name);
    }

    /// The same, and somebody stops it.
    pub fn run_and_stop(&self, name: &str) {
        self.run(name);
        self.engine.stop_by_hand(name);
    }

    /// The same, and it ends by itself, with nobody to start it again.
    pub fn run_and_end(&self, name: &str) {
        self.engine.run_as(&Spec { policy: "no", ..Spec::new(name, &track()) });
        assert!(self.engine.dies(name), "it runs");
    }

    /// Lets a container end, and again each time that the engine starts it.
    pub fn crash_loop(&self, name: &str) {
        let (_, digest, _) = self.engine.container_of(name).expect("a container of this name");
        self.registry.mend(&digest.expect("it was pushed"), Behaviour::ExitsAtOnce);
        assert!(self.engine.dies(name), "it runs");
    }
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
        keys.verdict(&track().to_string(), &digest(3)),
        keys.fetched_by(&track(), "gone"),
        keys.record(&track()),
        keys.pending(&track()),
        keys.halt(&track()),
        keys.resolver(&track()),
    ]
}

/// A replacement of the container `web`, the engine's first, by version 2, that has not begun.
pub fn replacement() -> Replacement {
    let facts = Facts {
        track: track(),
        service: "web".into(),
        digest: digest(2),
        seq: 2,
        container: "web".into(),
        predecessor: id(1),
        predecessor_ran: true,
        predecessor_was_owed: false,
        new_image: image(2),
        tag_before: Some(image(1)),
        restart_policy: json!({"Name": "always"}),
        body: json!({"Image": track().familiar(), "HostConfig": {}}),
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
