//! Every single call to the engine failed in turn, on the real stages with a paused clock: afterwards one container
//! of the name runs, old or new, and nothing is left behind.

mod simulated;

use std::sync::Arc;
use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_core::image::{Digest, Track};
use deployer_core::slot::Scope;
use deployer_simulated::engine::{Fault, SimulatedEngine};
use deployer_simulated::history::History;
use deployer_simulated::registry::{Behaviour, SimulatedRegistry, digest};
use deployer_store::embedded::Embedded;
use simulated::attendance;
use simulated::node::{self, Node};

/// Simulated time in which everything must have come to its end: gates, monitors, and the longest backoff.
const AN_HOUR: Duration = Duration::from_secs(3600);

/// One machine on the embedded store, and the registry that it deploys from.
struct Machine {
    node: Node,
    registry: SimulatedRegistry,
    history: History,
    track: Track,
}

impl Machine {
    fn start(names: &[&str], seed: u64) -> Self {
        let history = History::default();
        let registry = SimulatedRegistry::new(&history);
        let engine = SimulatedEngine::new("node", &registry, &history, seed);
        let track = Track::parse("registry.example.com/acme/web:1").expect("a track");
        registry.push(&track, 1, Behaviour::Serves);
        for name in names {
            engine.run(&track, name);
        }
        let folder = node::folder();
        let store = Arc::new(Embedded::open(&folder.path().join("store.redb")).expect("a store"));
        let node = Node::start(["node"; 2], Scope::Cluster, engine, &history, folder, store, None, seed);
        Self { node, registry, history, track }
    }

    /// Tells of a push, as a hook does.
    async fn notify(&self) {
        self.node.notify(&self.track).await.expect("the store");
    }

    /// Lets simulated time pass until nothing is under way, an hour at most.
    async fn settle(&mut self) {
        let settled = async {
            let (mut quiet, mut length) = (0, 0);
            while quiet < 20 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let world = &self.node.world;
                let pending = world.store.get(&world.keys.pending(&self.track)).await.expect("the store");
                let is_idle = self.node.is_quiet() && pending.is_none();
                quiet = if is_idle && self.history.length() == length { quiet + 1 } else { 0 };
                length = self.history.length();
            }
        };
        let is_settled = tokio::time::timeout(AN_HOUR, settled).await.is_ok();
        assert!(
            is_settled,
            "not settled: {:?} {:?}",
            self.node.world.memory().replacing,
            self.node.engine.containers()
        );
    }
}

/// One deployment with one call failed. Gives back how many calls there were.
async fn deploy_with(fault: Option<(u64, Fault)>, behaviour: Behaviour) -> u64 {
    let mut machine = Machine::start(&["web"], 7);
    machine.settle().await;
    let first = digest(1);
    let second = machine.registry.push(&machine.track, 2, behaviour);
    let before = machine.node.engine.calls();
    if let Some((call, fault)) = fault {
        machine.node.engine.fail(call, fault);
    }
    machine.notify().await;
    machine.settle().await;
    let calls = machine.node.engine.calls() - before;
    let case = format!("{fault:?} {behaviour:?}");
    match behaviour {
        Behaviour::Serves => machine.node.assert_whole(&["web"], &[&first, &second], &case),
        _ => machine.node.assert_whole(&["web"], &[&first], &case),
    }
    machine.node.kill().await;
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
        let mut machine = Machine::start(&names, seed);
        machine.settle().await;
        let random = Ambient::chosen(|| 0, seed);
        let mut good = vec![digest(1)];
        for number in 2..8 {
            let behaviour = BEHAVIOURS[(random.random() % 5) as usize];
            let digest = machine.registry.push(&machine.track, number, behaviour);
            if behaviour == Behaviour::Serves {
                good.push(digest);
            }
            for _ in 0..random.random() % 4 {
                let fault = [Fault::Refused, Fault::Down, Fault::Lost][(random.random() % 3) as usize];
                machine.node.engine.fail(1 + random.random() % 150, fault);
            }
            machine.notify().await;
            if random.random().is_multiple_of(2) {
                machine.settle().await;
            }
        }
        machine.settle().await;
        let allowed: Vec<&Digest> = good.iter().collect();
        machine.node.assert_whole(&names, &allowed, &format!("seed {seed}"));
        let fewest = attendance::fewest(&machine.history.entries(), Duration::from_secs(10));
        assert!(fewest.as_ref().is_some_and(|(fewest, _)| *fewest >= 2), "seed {seed}: only {fewest:?} served");
        machine.node.kill().await;
    }
}

/// The notification comes in while the registry is being asked, and the answer is older than it: it must be asked again.
#[tokio::test(start_paused = true)]
async fn a_hook_that_comes_in_while_the_registry_is_asked_is_not_lost() {
    let mut machine = Machine::start(&["web"], 7);
    machine.settle().await;
    let second = machine.registry.push(&machine.track, 2, Behaviour::Serves);
    machine.registry.slow_resolves(Duration::from_secs(5));
    machine.notify().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let third = machine.registry.push(&machine.track, 3, Behaviour::Serves);
    machine.notify().await;
    machine.settle().await;
    assert_ne!(second, third);
    machine.node.assert_whole(&["web"], &[&third], "the later push is deployed");
    machine.node.kill().await;
}
