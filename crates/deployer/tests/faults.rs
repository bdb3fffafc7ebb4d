//! Every single call to the engine failed in turn, on the real stages with a paused clock: afterwards one container
//! of the name runs, old or new, and nothing is left behind.

mod simulated;

use std::sync::Arc;
use std::time::Duration;

use deployer::ambient::Ambient;
use deployer::journal::Journals;
use deployer::presence;
use deployer::pull::Pull;
use deployer::restart::Restart;
use deployer::store::Store;
use deployer::store::embedded::Embedded;
use deployer::triggers::StoreWatch;
use deployer::update::Update;
use deployer::world::{Settings, World};
use deployer_core::image::{Digest, Track};
use deployer_core::keys::Keys;
use deployer_core::node::Identity;
use deployer_core::policy::Manage;
use deployer_core::record::Pending;
use deployer_core::slot::Scope;
use deployer_core::store::Txn;
use simulated::engine::{Behaviour, Fault, Simulated};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Simulated time in which everything must have come to its end: gates, monitors, and the longest backoff.
const AN_HOUR: Duration = Duration::from_secs(3600);

/// The stages of one daemon over a simulated engine.
struct Node {
    world: Arc<World>,
    engine: Simulated,
    track: Track,
    tasks: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Node {
    fn start(names: &[&str], seed: u64) -> Self {
        // What is synced to memory is synced at once; that syncs happen is another test's matter.
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a folder");
        let engine = Simulated::default();
        let track = Track::parse("registry.example.com/acme/web:1").expect("a track");
        engine.push(&track, 1, Behaviour::Serves);
        for name in names {
            engine.run(&track, name);
        }
        let settings = Settings {
            node: "node".into(),
            boot: "boot".into(),
            identity: Identity { boot: "machine".into(), state: "folder".into() },
            scope: Scope::Cluster,
            manage: Manage::Labeled("true".into()),
            own_container: None,
            registry_check: None,
            state_dir: folder.path().to_owned(),
        };
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&folder.path().join("store.redb")).expect("a store"));
        let journals = Journals::open(folder.path()).expect("a folder");
        let ambient = Arc::new(Ambient::chosen(|| 0, seed));
        let world = Arc::new(World::new(Arc::new(engine.clone()), store, Keys::new("/t"), settings, ambient, journals));
        let (wake, wakes) = mpsc::channel(64);
        let (pulls, tracks) = mpsc::channel(64);
        let (replacements, containers) = mpsc::channel(64);
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (here, ending) = (Arc::clone(&world), shutdown.clone());
        tasks.spawn(async move { presence::run(&here, ending).await });
        tasks.spawn(Update { world: Arc::clone(&world), wakes, pulls, replacements }.run(shutdown.clone()));
        tasks.spawn(Pull { world: Arc::clone(&world), tracks }.run(shutdown.clone()));
        tasks.spawn(Restart { world: Arc::clone(&world), containers, left: Vec::new() }.run(shutdown));
        tasks.spawn(StoreWatch { world: Arc::clone(&world), wakes: wake }.run());
        Self { world, engine, track, tasks, _folder: folder }
    }

    /// Tells of a push, as a hook does.
    async fn notify(&self) {
        let txn = Txn::new().put(self.world.keys.pending(&self.track), &Pending { digest: None, at: 0 });
        self.world.store.txn(txn).await.expect("the store");
    }

    /// Lets simulated time pass until nothing is under way, an hour at most.
    async fn settle(&self) {
        let settled = async {
            let mut quiet = 0;
            while quiet < 20 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let is_quiet = self.world.memory().replacing.is_empty()
                    && self.world.store.get(&self.world.keys.pending(&self.track)).await.expect("the store").is_none();
                quiet = if is_quiet { quiet + 1 } else { 0 };
            }
        };
        let state = || format!("{:?} {:?}", self.world.memory().replacing, self.engine.containers());
        tokio::time::timeout(AN_HOUR, settled).await.unwrap_or_else(|_| panic!("not settled: {}", state()));
    }

    fn assert_whole(&self, names: &[&str], allowed: &[&Digest], case: &str) {
        let containers = self.engine.containers();
        assert_eq!(containers.len(), names.len(), "{case}: {containers:?}");
        for (name, digest, is_running) in &containers {
            assert!(names.contains(&name.as_str()) && *is_running, "{case}: {containers:?}");
            assert!(digest.as_ref().is_some_and(|digest| allowed.contains(&digest)), "{case}: {containers:?}");
        }
        assert!(self.world.journals.all().expect("readable").is_empty(), "{case}: a journal is open");
    }
}

/// One deployment with one call failed. Gives back how many calls there were.
async fn deploy_with(fault: Option<(u64, Fault)>, behaviour: Behaviour) -> u64 {
    let mut node = Node::start(&["web"], 7);
    node.settle().await;
    let first = Digest::parse(&format!("sha256:{:064x}", 1)).expect("a digest");
    let second = node.engine.push(&node.track, 2, behaviour);
    let before = node.engine.calls();
    if let Some((call, fault)) = fault {
        node.engine.fail(call, fault);
    }
    node.notify().await;
    node.settle().await;
    let calls = node.engine.calls() - before;
    let case = format!("{fault:?} {behaviour:?}");
    match behaviour {
        Behaviour::Serves => node.assert_whole(&["web"], &[&first, &second], &case),
        _ => node.assert_whole(&["web"], &[&first], &case),
    }
    node.tasks.shutdown().await;
    calls
}

async fn fail_every_call(behaviour: Behaviour) {
    let calls = deploy_with(None, behaviour).await;
    assert!(calls > 20, "the deployment asks the engine: {calls}");
    for call in 1..=calls {
        for fault in [Fault::Refused, Fault::Down, Fault::Lost] {
            deploy_with(Some((call, fault)), behaviour).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_push_survives_the_failure_of_any_call() {
    fail_every_call(Behaviour::Serves).await;
}

#[tokio::test(start_paused = true)]
async fn a_push_that_exits_survives_the_failure_of_any_call() {
    fail_every_call(Behaviour::ExitsAtOnce).await;
}

#[tokio::test(start_paused = true)]
async fn a_push_that_never_listens_survives_the_failure_of_any_call() {
    fail_every_call(Behaviour::NeverListens).await;
}

/// Many pushes, good and bad, with faults strewn in: never two of three down, and always whole in the end.
#[tokio::test(start_paused = true)]
async fn random_pushes_and_faults_never_take_two_down() {
    const BEHAVIOURS: [Behaviour; 5] = [
        Behaviour::Serves,
        Behaviour::Serves,
        Behaviour::ExitsAtOnce,
        Behaviour::NeverListens,
        Behaviour::StartRefused,
    ];
    let names = ["one", "two", "three"];
    for seed in 1..=30u64 {
        let mut node = Node::start(&names, seed);
        node.settle().await;
        let random = Ambient::chosen(|| 0, seed);
        let mut good = vec![Digest::parse(&format!("sha256:{:064x}", 1)).expect("a digest")];
        for number in 2..8 {
            let behaviour = BEHAVIOURS[(random.random() % 5) as usize];
            let digest = node.engine.push(&node.track, number, behaviour);
            if behaviour == Behaviour::Serves {
                good.push(digest);
            }
            for _ in 0..random.random() % 4 {
                let fault = [Fault::Refused, Fault::Down, Fault::Lost][(random.random() % 3) as usize];
                node.engine.fail(1 + random.random() % 150, fault);
            }
            node.notify().await;
            if random.random().is_multiple_of(2) {
                node.settle().await;
            }
        }
        node.settle().await;
        let allowed: Vec<&Digest> = good.iter().collect();
        node.assert_whole(&names, &allowed, &format!("seed {seed}"));
        let fewest = node.engine.fewest_running();
        assert!(fewest.is_some_and(|fewest| fewest >= 2), "seed {seed}: only {fewest:?} of three ran");
        node.tasks.shutdown().await;
    }
}

/// The notification comes in while the registry is being asked, and the answer is older than it: it must be asked again.
#[tokio::test(start_paused = true)]
async fn a_hook_that_comes_in_while_the_registry_is_asked_is_not_lost() {
    let mut node = Node::start(&["web"], 7);
    node.settle().await;
    let second = node.engine.push(&node.track, 2, Behaviour::Serves);
    node.engine.slow_resolves(Duration::from_secs(5));
    node.notify().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let third = node.engine.push(&node.track, 3, Behaviour::Serves);
    node.notify().await;
    node.settle().await;
    assert_ne!(second, third);
    node.assert_whole(&["web"], &[&third], "the later push is deployed");
    node.tasks.shutdown().await;
}
