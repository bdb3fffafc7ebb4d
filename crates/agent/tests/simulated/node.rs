//! The real stages of one daemon, on an engine and a store, to be killed, frozen and started again.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use deployer_agent::journal::Journals;
use deployer_agent::presence;
use deployer_agent::pull::Pull;
use deployer_agent::restart::{Restart, recover_with_engine};
use deployer_agent::triggers::{self, EngineEvents, StoreWatch};
use deployer_agent::update::Update;
use deployer_agent::world::{Settings, World};
use deployer_core::ambient::Ambient;
use deployer_core::image::{Digest, Track};
use deployer_core::node::Identity;
use deployer_core::policy::Manage;
use deployer_core::record::Pending;
use deployer_core::replacement::Phase;
use deployer_core::slot::Scope;
use deployer_core::store::Txn;
use deployer_store::{Store, StoreError};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::engine::SimulatedEngine;
use super::freezer::Freezer;

/// The period of the timer.
const INTERVAL: Duration = Duration::from_secs(3600);

/// One machine: its engine, its state directory, and its daemon if that runs.
pub struct Node {
    pub name: String,
    pub engine: SimulatedEngine,
    /// What the running daemon's stages share, or those of the one before.
    pub world: Arc<World>,
    pub freezer: Freezer,
    store: Arc<dyn Store>,
    seed: u64,
    /// By what its daemons are told from those of other machines.
    machine: String,
    daemon: JoinSet<()>,
    folder: TempDir,
}

impl Node {
    /// A machine whose daemon was started.
    pub fn start(name: &str, engine: SimulatedEngine, folder: TempDir, store: Arc<dyn Store>, seed: u64) -> Self {
        Self::start_on(name, name, engine, folder, store, seed)
    }

    /// The same, on a machine that has another name than its daemon bears.
    pub fn start_on(
        machine: &str,
        name: &str,
        engine: SimulatedEngine,
        folder: TempDir,
        store: Arc<dyn Store>,
        seed: u64,
    ) -> Self {
        let world = world(machine, name, &engine, &folder, &store, seed);
        let (freezer, daemon) = (Freezer::default(), JoinSet::new());
        let (name, machine) = (name.to_owned(), machine.to_owned());
        let mut node = Self { name, engine, world, freezer, store, seed, machine, daemon, folder };
        node.run();
        node
    }

    /// Kills the daemon wherever it is.
    pub async fn kill(&mut self) {
        self.daemon.shutdown().await;
        self.freezer.thaw();
    }

    /// Starts the daemon again. One that runs is let be.
    pub fn start_again(&mut self) {
        if self.daemon.is_empty() {
            self.seed += 1;
            self.world = world(&self.machine, &self.name, &self.engine, &self.folder, &self.store, self.seed);
            self.run();
        }
    }

    fn run(&mut self) {
        self.daemon.spawn(self.freezer.hold(daemon(Arc::clone(&self.world), self.freezer.clone())));
    }

    /// Holds the next replacement that reaches a phase, until it is let go.
    pub fn hold_at(&self, phase: Phase) {
        std::fs::write(self.folder.path().join("hold-at"), phase.word()).expect("a folder");
    }

    /// Whether a replacement is held.
    pub fn is_held(&self) -> bool {
        self.folder.path().join("held").exists()
    }

    /// Lets go what is held.
    pub fn let_go(&self) {
        for name in ["hold-at", "held"] {
            std::fs::remove_file(self.folder.path().join(name)).expect("something is held");
        }
    }

    /// Tells of a push, as a hook does.
    pub async fn notify(&self, track: &Track) -> Result<(), StoreError> {
        self.notify_of(track, None).await
    }

    /// The same, by a hook that names the digest.
    pub async fn notify_of(&self, track: &Track, digest: Option<&Digest>) -> Result<(), StoreError> {
        let pending = Pending { digest: digest.cloned(), at: 0 };
        self.store.txn(Txn::new().put(self.world.keys.pending(track), &pending)).await.map(drop)
    }

    /// Has its daemon do what a person asks for on the command line.
    pub async fn command(&self, what: &str, of: &str) -> String {
        let api = deployer::control::router(Arc::clone(&self.world), CancellationToken::new());
        let body = serde_json::json!({"of": of}).to_string();
        let request = Request::post(format!("/v1/{what}")).header("content-type", "application/json");
        let answer = api.oneshot(request.body(Body::from(body)).expect("a request")).await.expect("an answer");
        let (is_done, body) = (answer.status().is_success(), to_bytes(answer.into_body(), usize::MAX).await);
        let text = String::from_utf8_lossy(&body.expect("short")).into_owned();
        assert!(is_done, "{what} {of}: {text}");
        text
    }

    /// Whether nothing is being replaced.
    #[track_caller]
    pub fn is_quiet(&mut self) -> bool {
        assert!(self.daemon.try_join_next().is_none(), "a stage of {} ended", self.name);
        self.world.memory().replacing.is_empty()
    }

    /// Asserts that the containers run one of the digests, each under its name, and that nothing is left behind.
    #[track_caller]
    pub fn assert_whole(&self, names: &[&str], allowed: &[&Digest], case: &str) {
        let containers = self.engine.containers();
        let case = format!("{case}, {}: {containers:?}", self.name);
        assert_eq!(containers.len(), names.len(), "{case}");
        for (name, digest, is_running) in &containers {
            assert!(names.contains(&name.as_str()) && *is_running, "{case}");
            assert!(digest.as_ref().is_some_and(|digest| allowed.contains(&digest)), "{case}");
        }
        assert!(self.world.journals.all().expect("readable").is_empty(), "{case}: a journal is open");
    }
}

/// A folder for a state directory. What is synced to memory is synced at once; that syncs happen is another test's
/// matter.
pub fn folder() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder")
}

fn world(
    machine: &str,
    name: &str,
    engine: &SimulatedEngine,
    folder: &TempDir,
    store: &Arc<dyn Store>,
    seed: u64,
) -> Arc<World> {
    let ambient = Arc::new(Ambient::chosen(|| 0, seed));
    let settings = Settings {
        node: name.to_owned(),
        boot: ambient.hex(16),
        identity: Identity { boot: format!("{machine}'s boot"), state: format!("{machine}'s folder") },
        scope: Scope::Cluster,
        manage: Manage::Labeled("true".into()),
        own_container: None,
        registry_check: None,
        state_dir: folder.path().to_owned(),
        prefix: "/t".to_owned(),
    };
    let journals = Journals::open(folder.path()).expect("a folder");
    Arc::new(World::new(Arc::new(engine.clone()), Arc::clone(store), settings, ambient, journals))
}

/// What `deployer run` does, without the listeners. A stage that ends ends this with a panic.
async fn daemon(world: Arc<World>, freezer: Freezer) {
    let left = recover_with_engine(&world).await.expect("readable journals");
    let (wake, wakes) = mpsc::channel(64);
    let (pulls, tracks) = mpsc::channel(64);
    let (replacements, containers) = mpsc::channel(64);
    let shutdown = CancellationToken::new();
    let mut stages = JoinSet::new();
    let update = Update { world: Arc::clone(&world), wakes, pulls, replacements };
    stages.spawn(freezer.hold(update.run(shutdown.clone())));
    stages.spawn(freezer.hold(Pull { world: Arc::clone(&world), tracks }.run(shutdown.clone())));
    stages.spawn(freezer.hold(Restart { world: Arc::clone(&world), containers, left }.run(shutdown.clone())));
    let here = Arc::clone(&world);
    stages.spawn(freezer.hold(async move { presence::run(&here, shutdown).await }));
    let here = Arc::clone(&world);
    stages.spawn(freezer.hold(async move { here.mirror.run(&here.ambient).await }));
    stages.spawn(freezer.hold(EngineEvents { world: Arc::clone(&world), wakes: wake.clone() }.run()));
    stages.spawn(freezer.hold(StoreWatch { world, wakes: wake.clone() }.run()));
    stages.spawn(freezer.hold(triggers::timer(INTERVAL, wake)));
    let ended = stages.join_next().await;
    panic!("a stage ended: {ended:?}");
}
