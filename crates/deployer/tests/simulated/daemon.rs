//! The daemon of a simulated machine as its service manager sees it: what `deployer run` does, with the real stages and
//! without the listeners.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use deployer::ambient::Ambient;
use deployer::engine::Engine as _;
use deployer::journal::Journals;
use deployer::presence;
use deployer::pull::Pull;
use deployer::restart::{Restart, recover_with_engine};
use deployer::store::Store;
use deployer::store::unopened::Unopened;
use deployer::triggers::{self, EngineEvents, StoreWatch};
use deployer::update::Update;
use deployer::world::{Settings, World};
use deployer_core::backoff::Backoff;
use deployer_core::node::Identity;
use deployer_core::policy::Manage;
use deployer_core::replacement::Replacement;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::freezer::Freezer;
use super::history::Befalling;
use super::node::Machine;

/// The period of the timer.
const INTERVAL: Duration = Duration::from_secs(3600);
/// The pause of the service manager before it starts a daemon that has died.
const RESTART: Duration = Duration::from_secs(2);

/// The service manager's view of the daemon.
pub struct Service {
    pub machine: Machine,
    pub folder: Arc<TempDir>,
    pub store: Arc<dyn Store>,
    pub world: Arc<Mutex<Arc<World>>>,
    pub boots: u64,
    pub freezer: Freezer,
    pub terminate: CancellationToken,
}

impl Service {
    /// Runs the daemon until it was asked to end; one that dies is started again.
    pub async fn keep_up(mut self) {
        while let Err(reason) = self.run().await {
            self.machine.history.befell(&self.machine.host, Befalling::DaemonDied(reason));
            tokio::time::sleep(RESTART).await;
        }
        self.machine.history.befell(&self.machine.host, Befalling::DaemonLeft);
    }

    /// What `deployer run` does, without the listeners.
    async fn run(&mut self) -> Result<(), String> {
        self.machine.seed += 50;
        let (boots, seed) = (self.boots, self.machine.seed);
        let open = |store| world(&self.machine, &self.folder, store, boots, seed);
        let beginning = async {
            self.wait_for_engine().await;
            let before_the_store = open(Arc::new(Unopened));
            recover_with_engine(&before_the_store).await.map_err(|error| error.to_string())
        };
        let left = tokio::select! {
            left = beginning => left?,
            // No signal is looked for yet, so it ends the process.
            () = self.terminate.cancelled() => return Ok(()),
        };
        let world = Arc::new(open(Arc::clone(&self.store)));
        *self.world.lock().expect("no test panics with the lock") = Arc::clone(&world);
        Stages::begin(&world, &self.freezer, left).wait(&self.terminate).await?;
        presence::leave(&world).await;
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
    fn begin(world: &Arc<World>, freezer: &Freezer, left: Vec<Replacement>) -> Self {
        let (wake, wakes) = mpsc::channel(64);
        let (pulls, tracks) = mpsc::channel(64);
        let (replacements, containers) = mpsc::channel(64);
        let shutdown = CancellationToken::new();
        let (mut running, mut last) = (JoinSet::new(), JoinSet::new());
        let own = || Arc::clone(world);
        let update = Update { world: own(), wakes, pulls, replacements };
        running.spawn(freezer.hold(update.run(shutdown.clone())));
        running.spawn(freezer.hold(Pull { world: own(), tracks }.run(shutdown.clone())));
        last.spawn(freezer.hold(Restart { world: own(), containers, left }.run(shutdown.clone())));
        let (here, ending) = (own(), shutdown.clone());
        running.spawn(freezer.hold(async move { presence::run(&here, ending).await }));
        running.spawn(freezer.hold(EngineEvents { world: own(), wakes: wake.clone() }.run()));
        running.spawn(freezer.hold(StoreWatch { world: own(), wakes: wake.clone() }.run()));
        running.spawn(freezer.hold(triggers::timer(INTERVAL, wake)));
        Self { running, last, shutdown }
    }

    /// Waits until the daemon is asked to end, and then for what must come to its own end.
    async fn wait(mut self, terminate: &CancellationToken) -> Result<(), String> {
        tokio::select! {
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

/// What the stages of a machine's daemon share.
pub fn world(machine: &Machine, folder: &TempDir, store: Arc<dyn Store>, boots: u64, seed: u64) -> World {
    let ambient = Arc::new(Ambient::chosen(|| 0, seed));
    let host = &machine.host;
    let settings = Settings {
        node: machine.name.clone(),
        boot: ambient.hex(16),
        identity: Identity { boot: format!("boot {boots} of {host}"), state: format!("folder of {host}") },
        scope: machine.scope,
        manage: Manage::Labeled("true".into()),
        own_container: None,
        registry_check: None,
        state_dir: folder.path().to_owned(),
        root: folder.path().to_owned(),
        prefix: "/t".to_owned(),
    };
    let journals = Journals::open(folder.path()).expect("a folder");
    World::new(Arc::new(machine.engine.clone()), store, settings, ambient, journals)
}
