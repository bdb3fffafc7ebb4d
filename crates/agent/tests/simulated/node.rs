//! One machine with a daemon, on an engine and a store: to be killed, frozen, stopped, started again, and rebooted.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use deployer_agent::world::World;
use deployer_core::image::{Digest, Track};
use deployer_core::record::Pending;
use deployer_core::replacement::{Phase, Replacement};
use deployer_core::slot::Scope;
use deployer_core::store::Txn;
use deployer_simulated::engine::SimulatedEngine;
use deployer_simulated::history::{Befalling, History};
use deployer_store::{Store, StoreError};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::daemon::{Hooks, Machine, Service};
use super::freezer::Freezer;

/// How long a registry waits for the answer to its hook.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a registry's hook is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooked {
    Taken,
    /// No node runs it; the registry is answered that all is well.
    NotOurs,
    Refused,
}

/// One machine: its engine, its state directory, and its daemon if that runs.
pub struct Node {
    /// What it is told apart by here; its daemon knows nothing of it.
    pub host: String,
    /// The name that its daemon bears in the cluster.
    pub name: String,
    pub engine: SimulatedEngine,
    /// What the stages of the daemon that was started last share.
    pub world: Arc<World>,
    pub freezer: Freezer,
    machine: Machine,
    seed: u64,
    daemon: JoinSet<()>,
    terminate: CancellationToken,
    goes_down: Arc<AtomicBool>,
    hooks: Hooks,
}

impl Node {
    /// A machine on which a daemon was started.
    #[expect(clippy::too_many_arguments, reason = "each is one independent thing that a machine has")]
    pub fn start(
        [host, name]: [&str; 2],
        scope: Scope,
        engine: SimulatedEngine,
        history: &History,
        folder: TempDir,
        store: Arc<dyn Store>,
        registry_check: Option<Duration>,
        seed: u64,
    ) -> Self {
        let (host, name, history, folder) = (host.to_owned(), name.to_owned(), history.clone(), Arc::new(folder));
        let machine = Machine { host, name, engine, scope, history, folder, store, boots: 0, registry_check };
        let mut node = Self {
            host: machine.host.clone(),
            name: machine.name.clone(),
            engine: machine.engine.clone(),
            world: Arc::new(machine.world(seed)),
            freezer: Freezer::default(),
            machine,
            seed,
            daemon: JoinSet::new(),
            terminate: CancellationToken::new(),
            goes_down: Arc::default(),
            hooks: Hooks::default(),
        };
        node.start_again();
        node
    }

    fn befell(&self, what: Befalling) {
        self.machine.history.befell(&self.host, what);
    }

    /// Kills the daemon wherever it is.
    pub async fn kill(&mut self) {
        self.daemon.shutdown().await;
        self.hooks.lock().expect("no test panics with the lock").take();
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

    /// The machine begins to go down, in good order: first its daemon is asked to end.
    pub fn go_down(&self) {
        self.befell(Befalling::Reboots);
        self.goes_down.store(true, Ordering::Relaxed);
        self.terminate();
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
        self.machine.boots += 1;
        self.goes_down.store(false, Ordering::Relaxed);
    }

    /// Its state directory is gone, with every journal in it.
    pub fn lose_state(&mut self) {
        self.machine.folder = Arc::new(folder());
    }

    /// Starts the daemon again. One that runs is let be.
    pub fn start_again(&mut self) {
        if self.runs() {
            return;
        }
        self.befell(Befalling::DaemonStarted);
        self.seed += 1;
        self.world = Arc::new(self.machine.world(self.seed));
        self.terminate = CancellationToken::new();
        let service = Service {
            machine: self.machine.clone(),
            world: Arc::clone(&self.world),
            seed: self.seed,
            freezer: self.freezer.clone(),
            terminate: self.terminate.clone(),
            goes_down: Arc::clone(&self.goes_down),
            hooks: Arc::clone(&self.hooks),
        };
        self.daemon.spawn(self.freezer.hold(service.keep_up()));
    }

    /// Holds the next replacement that reaches a phase, until it is let go.
    pub fn hold_at(&self, phase: Phase) {
        fs::write(self.machine.folder.path().join("hold-at"), phase.word()).expect("a folder");
    }

    /// Whether a replacement is held.
    pub fn is_held(&self) -> bool {
        self.machine.folder.path().join("held").exists()
    }

    /// Lets go what is held.
    pub fn let_go(&self) {
        for name in ["hold-at", "held"] {
            fs::remove_file(self.machine.folder.path().join(name)).expect("something is held");
        }
    }

    /// What a registry's hook is answered. The registry comes again if nobody answers in time.
    pub async fn hook(&self, track: &Track, digest: Option<&Digest>) -> Hooked {
        let way = self.hooks.lock().expect("no test panics with the lock").clone();
        let is_heard = self.world.registered.borrow().is_some();
        let Some(way) = way.filter(|_| is_heard) else { return Hooked::Refused };
        let pending = Pending { digest: digest.cloned(), at: 0 };
        let (answer, answered) = oneshot::channel();
        let told = async {
            way.send((vec![(track.clone(), pending)], answer)).await.ok()?;
            answered.await.ok()
        };
        match timeout(PATIENCE, told).await {
            Ok(Some(ours)) if ours.contains(track) => Hooked::Taken,
            Ok(Some(_)) => Hooked::NotOurs,
            Ok(None) | Err(_) => Hooked::Refused,
        }
    }

    /// Writes of a push into the store, as a hook does that was taken.
    pub async fn notify(&self, track: &Track) -> Result<(), StoreError> {
        self.notify_of(track, None).await
    }

    /// The same, by a hook that names the digest.
    pub async fn notify_of(&self, track: &Track, digest: Option<&Digest>) -> Result<(), StoreError> {
        let pending = Pending { digest: digest.cloned(), at: 0 };
        self.machine.store.txn(Txn::new().put(self.world.keys.pending(track), &pending)).await.map(drop)
    }

    /// Has its daemon do what a person asks for on the command line.
    pub async fn command(&self, what: &str, of: &str) -> Value {
        let request = Request::post(format!("/v1/{what}")).header("content-type", "application/json");
        self.ask(request.body(Body::from(json!({"of": of}).to_string())).expect("a request")).await
    }

    /// What `deployer status` shows.
    pub async fn status(&self) -> Value {
        self.ask(Request::get("/v1/status").body(Body::empty()).expect("a request")).await
    }

    async fn ask(&self, request: Request<Body>) -> Value {
        let api = deployer::control::router(Arc::clone(&self.world), CancellationToken::new());
        let answer = api.oneshot(request).await.expect("an answer");
        let is_done = answer.status().is_success();
        let body = to_bytes(answer.into_body(), usize::MAX).await.expect("short");
        assert!(is_done, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }

    /// The journals of replacements under way.
    pub fn journals(&self) -> Vec<Replacement> {
        self.world.journals.all().expect("readable")
    }

    /// Whether nothing is being replaced.
    pub fn is_quiet(&mut self) -> bool {
        self.runs();
        self.journals().is_empty()
    }

    /// Leaves no room in the state directory, or room again.
    pub fn fill_disk(&self, is_full: bool) {
        let mark = self.machine.folder.path().join("full");
        let done = if is_full { fs::write(mark, "") } else { fs::remove_file(mark) };
        done.expect("a folder of the test's own");
        self.befell(if is_full { Befalling::DiskFull } else { Befalling::DiskFree });
    }

    /// Asserts that the containers run one of the digests, each under its name, and that nothing is left behind.
    #[track_caller]
    pub fn assert_whole(&self, names: &[&str], allowed: &[&Digest], case: &str) {
        let containers = self.engine.containers();
        let case = format!("{case}, {}: {containers:?}", self.host);
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
