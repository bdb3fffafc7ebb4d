//! One machine with a daemon, on an engine and a store: to be killed, frozen, stopped, started again, and rebooted.

use std::fs;
use std::sync::{Arc, Mutex};

use deployer::store::{Store, StoreError};
use deployer::world::World;
use deployer_core::image::{Digest, Track};
use deployer_core::record::Pending;
use deployer_core::replacement::Replacement;
use deployer_core::slot::Scope;
use deployer_core::store::Txn;
use tempfile::TempDir;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::daemon::{Service, world};
use super::engine::SimulatedEngine;
use super::freezer::Freezer;
use super::history::{Befalling, History};

/// What a machine is, whoever runs on it.
#[derive(Clone)]
pub struct Machine {
    /// What it is told apart by here; its daemon knows nothing of it.
    pub host: String,
    /// The name that its daemon has in the cluster.
    pub name: String,
    pub engine: SimulatedEngine,
    pub scope: Scope,
    pub history: History,
    pub seed: u64,
}

/// One machine: its engine, its state directory, and its daemon if that runs.
pub struct Node {
    pub machine: Machine,
    pub freezer: Freezer,
    folder: Arc<TempDir>,
    store: Arc<dyn Store>,
    /// What the running daemon's stages share, or those of the one before.
    world: Arc<Mutex<Arc<World>>>,
    boots: u64,
    daemon: JoinSet<()>,
    terminate: CancellationToken,
}

impl Node {
    /// A machine whose daemon was started.
    pub fn start(machine: Machine, folder: TempDir, store: Arc<dyn Store>) -> Self {
        let folder = Arc::new(folder);
        let first = Arc::new(world(&machine, &folder, Arc::clone(&store), 0, machine.seed));
        let mut node = Self {
            machine,
            freezer: Freezer::default(),
            folder,
            store,
            world: Arc::new(Mutex::new(first)),
            boots: 0,
            daemon: JoinSet::new(),
            terminate: CancellationToken::new(),
        };
        node.start_again();
        node
    }

    /// The engine.
    pub fn engine(&self) -> &SimulatedEngine {
        &self.machine.engine
    }

    /// What the running daemon's stages share, or those of the one before.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.world.lock().expect("no test panics with the lock"))
    }

    fn befell(&self, what: Befalling) {
        self.machine.history.befell(&self.machine.host, what);
    }

    /// Kills the daemon wherever it is.
    pub async fn kill(&mut self) {
        self.daemon.shutdown().await;
        self.freezer.thaw();
        self.befell(Befalling::DaemonKilled);
    }

    /// Stops the process where it is, or lets it go on.
    pub fn freeze(&self, is_frozen: bool) {
        if is_frozen {
            self.freezer.freeze();
            self.befell(Befalling::DaemonFrozen);
        } else {
            self.freezer.thaw();
            self.befell(Befalling::DaemonThawed);
        }
    }

    /// Asks the daemon to end, as `systemctl stop` does; it takes its time.
    pub fn terminate(&self) {
        self.terminate.cancel();
        self.befell(Befalling::DaemonAsked);
    }

    /// Whether a daemon runs.
    pub fn runs(&mut self) -> bool {
        if let Some(Err(error)) = self.daemon.try_join_next() {
            resume(error);
        }
        !self.daemon.is_empty()
    }

    /// The machine boots: what told it from its former self is another.
    pub fn boot(&mut self) {
        self.boots += 1;
    }

    /// Starts the daemon again. One that runs is let be.
    pub fn start_again(&mut self) {
        if self.runs() {
            return;
        }
        self.befell(Befalling::DaemonStarted);
        self.terminate = CancellationToken::new();
        let service = Service {
            machine: self.machine.clone(),
            folder: Arc::clone(&self.folder),
            store: Arc::clone(&self.store),
            world: Arc::clone(&self.world),
            boots: self.boots,
            freezer: self.freezer.clone(),
            terminate: self.terminate.clone(),
        };
        self.machine.seed += 1;
        self.daemon.spawn(self.freezer.hold(service.keep_up()));
    }

    /// Tells of a push, as a hook does that names the digest.
    pub async fn notify(&self, track: &Track, digest: Option<&Digest>) -> Result<(), StoreError> {
        let pending = Pending { digest: digest.cloned(), at: 0 };
        self.store.txn(Txn::new().put(self.world().keys.pending(track), &pending)).await.map(drop)
    }

    /// The journals of replacements under way.
    pub fn journals(&self) -> Vec<Replacement> {
        self.world().journals.all().expect("readable")
    }

    /// Leaves no room in the state directory, or room again.
    pub fn fill_disk(&self, is_full: bool) {
        let mark = self.folder.path().join("full");
        let done = if is_full { fs::write(mark, "") } else { fs::remove_file(mark) };
        done.expect("a folder of the test's own");
        self.befell(if is_full { Befalling::DiskFull } else { Befalling::DiskFree });
    }

    /// Asserts that the containers run one of the digests, each under its name, and that nothing is left behind.
    #[track_caller]
    pub fn assert_whole(&self, names: &[&str], allowed: &[&Digest], case: &str) {
        let containers = self.engine().containers();
        let case = format!("{case}, {}: {containers:?}", self.machine.host);
        assert_eq!(containers.len(), names.len(), "{case}");
        for (name, digest, is_running) in &containers {
            assert!(names.contains(&name.as_str()) && *is_running, "{case}");
            assert!(digest.as_ref().is_some_and(|digest| allowed.contains(&digest)), "{case}");
        }
        assert!(self.journals().is_empty(), "{case}: a journal is open");
    }
}

/// A folder for a state directory. What is synced to memory is synced at once; that syncs happen is another test's
/// matter.
pub fn folder() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder")
}

/// A panic of a task is the test's own.
fn resume(error: JoinError) {
    if let Ok(panic) = error.try_into_panic() {
        std::panic::resume_unwind(panic);
    }
}
