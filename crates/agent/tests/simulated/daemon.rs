//! The daemon of a simulated machine as its service manager sees it: what `deployer run` does, with the real stages and
//! without the listeners.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deployer_agent::intake::{Intake, Waiting};
use deployer_agent::journal::Journals;
use deployer_agent::presence::{self, Farewell};
use deployer_agent::pull::Pull;
use deployer_agent::restart::{Left, Restart, recover_with_engine};
use deployer_agent::triggers::{self, EngineEvents, StoreWatch};
use deployer_agent::update::Update;
use deployer_agent::world::{Settings, World};
use deployer_core::backoff::Backoff;
use deployer_core::node::Identity;
use deployer_core::policy::Manage;
use deployer_core::replacement::Replacement;
use deployer_core::slot::Scope;
use deployer_engine::Engine as _;
use deployer_simulated::ambient::chances;
use deployer_simulated::engine::SimulatedEngine;
use deployer_simulated::history::{Befalling, History};
use deployer_store::Store;
use deployer_store::unopened::Unopened;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::freezer::Freezer;

/// The period of the timer.
const INTERVAL: Duration = Duration::from_secs(3600);
/// The pause of the service manager before it starts a daemon that has died.
const RESTART: Duration = Duration::from_secs(2);

/// What a machine is, whoever runs on it.
#[derive(Clone)]
pub struct Machine {
    pub host: String,
    pub name: String,
    pub engine: SimulatedEngine,
    pub scope: Scope,
    pub history: History,
    pub folder: Arc<TempDir>,
    pub store: Arc<dyn Store>,
    /// How often it was booted.
    pub boots: u64,
    /// How often its daemon asks the registry of its own accord.
    pub registry_check: Option<Duration>,
}

impl Machine {
    /// What the stages of a daemon here share.
    pub fn world(&self, seed: u64) -> World {
        self.world_on(Arc::clone(&self.store), seed)
    }

    fn world_on(&self, store: Arc<dyn Store>, seed: u64) -> World {
        let ambient = Arc::new(chances(seed));
        let Self { host, boots, .. } = self;
        let settings = Settings {
            node: self.name.clone(),
            boot: ambient.hex(16),
            identity: Identity { boot: format!("boot {boots} of {host}"), state: format!("folder of {host}") },
            scope: self.scope,
            manage: Manage::Labeled("true".into()),
            own_container: None,
            registry_check: self.registry_check,
            state_dir: self.folder.path().to_owned(),
            root: self.folder.path().to_owned(),
            prefix: "/t".to_owned(),
        };
        let journals = Journals::open(self.folder.path()).expect("a folder");
        World::new(Arc::new(self.engine.clone()), store, settings, ambient, journals)
    }
}

/// A daemon as its service manager sees it.
pub struct Service {
    pub machine: Machine,
    /// What its stages share, before it dies and is started again.
    pub world: Arc<World>,
    pub seed: u64,
    pub freezer: Freezer,
    pub terminate: CancellationToken,
    /// Whether the whole machine is going down, as its init system says.
    pub goes_down: Arc<AtomicBool>,
    /// Where hooks are taken in, while they are.
    pub hooks: Hooks,
}

/// The way to a daemon's intake; `None` while it does not listen.
pub type Hooks = Arc<Mutex<Option<mpsc::Sender<Waiting>>>>;

impl Service {
    /// Runs the daemon until it was asked to end; one that dies is started again.
    pub async fn keep_up(mut self) {
        while let Err(reason) = self.run().await {
            self.machine.history.befell(&self.machine.host, Befalling::DaemonDied(reason));
            tokio::time::sleep(RESTART).await;
            self.seed += 50;
            self.world = Arc::new(self.machine.world(self.seed));
        }
        self.machine.history.befell(&self.machine.host, Befalling::DaemonLeft);
    }

    /// What `deployer run` does, without the listeners.
    async fn run(&self) -> Result<(), String> {
        let beginning = async {
            self.wait_for_engine().await;
            let before_the_store = self.machine.world_on(Arc::new(Unopened), self.seed);
            recover_with_engine(&before_the_store, &self.machine.engine).await.map_err(|error| error.to_string())
        };
        let left = tokio::select! {
            biased;
            left = beginning => left?,
            // No signal is looked for yet, so it ends the process.
            () = self.terminate.cancelled() => return Ok(()),
        };
        let stages = Stages::begin(&self.world, &self.machine.engine, &self.freezer, left, &self.hooks);
        let ended = stages.wait(&self.terminate).await;
        self.hooks.lock().expect("no test panics with the lock").take();
        ended?;
        let goes_down = self.goes_down.load(Ordering::Relaxed);
        presence::leave(&self.world, if goes_down { Farewell::Machine } else { Farewell::Daemon }).await;
        Ok(())
    }

    async fn wait_for_engine(&self) {
        let mut failures = 0;
        while self.machine.engine.info().await.is_err() {
            failures += 1;
            tokio::time::sleep(Backoff::CONNECTION.wait(failures, failures.into())).await;
        }
    }
}

/// The tasks of a daemon.
struct Stages {
    running: JoinSet<()>,
    /// What must come to its own end: a replacement past its fence.
    last: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Stages {
    fn begin(world: &Arc<World>, engine: &SimulatedEngine, freezer: &Freezer, left: Vec<Left>, hooks: &Hooks) -> Self {
        let (wake, wakes) = mpsc::channel(64);
        let (pulls, tracks) = mpsc::channel(64);
        let (replacements, containers) = mpsc::channel(64);
        let shutdown = CancellationToken::new();
        let (mut running, mut last) = (JoinSet::new(), JoinSet::new());
        let own = || Arc::clone(world);
        let hand = Arc::new(engine.clone());
        running.spawn(freezer.hold(Arc::clone(&world.engine_mirror).run(Arc::clone(&world.ambient))));
        let update = Update { world: own(), wakes, pulls, replacements };
        running.spawn(freezer.hold(update.run(shutdown.clone())));
        running.spawn(freezer.hold(Pull { world: own(), hand: hand.clone(), tracks }.run(shutdown.clone())));
        last.spawn(freezer.hold(Restart { world: own(), hand, containers, left }.run(shutdown.clone())));
        let here = own();
        running.spawn(freezer.hold(async move { presence::run(&here).await }));
        running.spawn(freezer.hold(EngineEvents { world: own(), wakes: wake.clone() }.run()));
        running.spawn(freezer.hold(triggers::settling::run(own())));
        let mirror = Arc::clone(&world.mirror);
        running.spawn(freezer.hold(async move { mirror.keep().await }));
        running.spawn(freezer.hold(StoreWatch { world: own(), wakes: wake.clone() }.run()));
        running.spawn(freezer.hold(triggers::timer(INTERVAL, wake)));
        let (way, intake) = Intake::new(own());
        running.spawn(freezer.hold(intake.run(shutdown.clone())));
        hooks.lock().expect("no test panics with the lock").replace(way);
        Self { running, last, shutdown }
    }

    /// Waits until the daemon is asked to end, and then for what must come to its own end.
    async fn wait(mut self, terminate: &CancellationToken) -> Result<(), String> {
        tokio::select! {
            biased;
            () = terminate.cancelled() => {}
            Some(ended) = self.running.join_next() => return died(ended),
            Some(ended) = self.last.join_next() => return died(ended),
        }
        self.shutdown.cancel();
        while let Some(ended) = self.last.join_next().await {
            if ended.is_err() {
                return died(ended);
            }
        }
        self.running.shutdown().await;
        Ok(())
    }
}

fn died(ended: Result<(), JoinError>) -> Result<(), String> {
    Err(match ended {
        Ok(()) => "a stage ended".to_owned(),
        Err(error) => error.to_string(),
    })
}
