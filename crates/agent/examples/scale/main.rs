//! What a node costs the store as nodes become more, for `make bench-scale`: prints it as JSON.
//!
//! The real stages, each node with a connection of its own to one real etcd, on simulated engines whose containers begin
//! and end at once. All of them run in this one process. What is asked of etcd is counted by etcd itself.
//!
//! Arguments: the number of nodes, and the seconds that a rollout may take; one that is not over by then is counted as far
//! as it came.

mod counted;
mod meter;
mod watcher;

// The machines of the simulated cluster; only their daemons are of use here.
#[path = "../../tests/simulated/mod.rs"]
mod simulated;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deployer_agent::intake::Intake;
use deployer_core::image::{Digest, Track};
use deployer_core::keys::Keys;
use deployer_core::record::{Pending, Record, Source};
use deployer_core::slot::Scope;
use deployer_core::store::Txn;
use deployer_simulated::engine::{SimulatedEngine, Spec};
use deployer_simulated::history::History;
use deployer_simulated::registry::{Behaviour, SimulatedRegistry};
use deployer_store::Store as _;
use deployer_store::etcd::{Etcd, EtcdSettings};
use deployer_testkit::{Etcd as Server, EtcdOptions};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use counted::{Counted, Counter, Counts};
use meter::Meter;
use simulated::node::{Node, folder};
use watcher::Watcher;

/// Tracks, of each of which every node runs one container.
const TRACKS: usize = 20;
/// How long nothing is done but looking how much is asked of etcd all the same.
const IDLE: Duration = Duration::from_secs(60);
/// The pause between the starts of two nodes.
const START_PAUSE: Duration = Duration::from_millis(20);
/// The longest that all nodes may take to come to rest after their start.
const START_LONGEST: Duration = Duration::from_secs(300);
/// For how long etcd's revision must stand still to count as rest.
const REST: Duration = Duration::from_secs(4);
/// For how long pulls are held until every node has begun its own.
const KNOWN_LONGEST: Duration = Duration::from_secs(20);
/// The pause between two looks at what is waited for.
const STEP: Duration = Duration::from_millis(500);
/// What the daemons' keys begin with; see the simulated daemon.
const PREFIX: &str = "/t";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let nodes = arguments.next().expect("the number of nodes") as usize;
    let longest = Duration::from_secs(arguments.next().expect("the seconds that a rollout may take"));
    let quota = ["--quota-backend-bytes=4294967296".to_owned()];
    let server = Server::start_with(&EtcdOptions { arguments: quota.into(), ..EtcdOptions::default() });
    let bench = Bench::start(nodes, server).await;
    let figures = bench.measure(longest).await;
    #[expect(clippy::print_stdout, reason = "this is what it is for")]
    {
        println!("{figures}");
    }
    // Nothing of a thousand daemons has to end in order.
    drop(bench);
}

struct Bench {
    // First, for the daemons go before the server does.
    nodes: Vec<Node>,
    tracks: Vec<Track>,
    registry: SimulatedRegistry,
    keys: Keys,
    counter: Counter,
    etcd: Etcd,
    server: Server,
}

impl Bench {
    /// So many nodes that run the first version of every track, and have come to rest.
    async fn start(count: usize, server: Server) -> Self {
        let history = History::default();
        let registry = SimulatedRegistry::new(&history);
        let tracks: Vec<Track> = (0..TRACKS).map(track).collect();
        let (keys, etcd) = (Keys::new(PREFIX), store(&server));
        for (number, track) in (1..).zip(&tracks) {
            let digest = registry.push(track, number, Behaviour::Serves);
            // As a cluster that has run for a while has it: else a thousand nodes ask the registry at once.
            let record = Record::adopt(Some(&digest), &digest, Source::Check, 0);
            etcd.txn(Txn::new().put(keys.record(track), &record)).await.expect("etcd is there");
        }
        let nodes = Vec::with_capacity(count);
        let counter = Counter::default();
        let mut bench = Self { nodes, tracks, registry, keys, counter, etcd, server };
        for number in 0..count {
            let name = format!("node-{number:04}");
            // As a node that has run before has it: one that has not looks through everybody's instances, once.
            let index = Txn::new().put(bench.keys.index(&name), &[""; 0]);
            bench.etcd.txn(index).await.expect("etcd is there");
            let engine = SimulatedEngine::new(&name, &bench.registry, &history, number as u64);
            bench.tracks.iter().for_each(|track| run(&engine, track));
            let store = Arc::new(Counted { etcd: store(&bench.server), counter: bench.counter.clone() });
            let seed = 1_000 + 100 * number as u64;
            bench.nodes.push(Node::start([&name; 2], Scope::Cluster, engine, &history, folder(), store, None, seed));
            // Nobody switches a thousand machines on at one moment.
            sleep(START_PAUSE).await;
        }
        bench.come_to_rest().await;
        bench
    }

    /// Waits until every instance is reported, and nothing is written any more.
    async fn come_to_rest(&self) {
        let limit = Instant::now() + START_LONGEST;
        let (mut revision, mut since) = (0, Instant::now());
        loop {
            assert!(Instant::now() < limit, "the nodes do not come to rest");
            sleep(STEP).await;
            // It may be too busy with all of them to answer in time.
            let Ok((_, now)) = self.etcd.list("/nothing/").await else { continue };
            if now != revision {
                (revision, since) = (now, Instant::now());
            }
            if since.elapsed() >= REST {
                let reports = self.etcd.list(&self.keys.all_reports()).await;
                if reports.is_ok_and(|(reports, _)| reports.len() == self.nodes.len() * TRACKS) {
                    return;
                }
                since = Instant::now();
            }
        }
    }

    async fn measure(&self, longest: Duration) -> serde_json::Value {
        let meter = Meter::of(&self.server);
        let idle_before = meter.read();
        sleep(IDLE).await;
        let idle = meter.read().since(&idle_before);
        let memory = meter.memory();

        let nodes = self.nodes.len() as f64;
        let watcher = Watcher::begin(&self.nodes, store(&self.server), &self.keys, &self.tracks[0]).await;
        let (before, counted_before) = (meter.read(), self.counter.counts());
        let digest = self.push();
        // What a thousand machines do upon the news is no part of its way, though here it is done on the same few cores.
        self.nodes.iter().for_each(|node| node.engine.hold("pull"));
        let begun = Instant::now();
        self.notify(digest).await;
        while begun.elapsed() < KNOWN_LONGEST && watcher.acting() < self.nodes.len() {
            sleep(Duration::from_millis(2)).await;
        }
        self.nodes.iter().for_each(|node| node.engine.let_go("pull"));
        while begun.elapsed() < longest && watcher.releases() < self.nodes.len() {
            sleep(Duration::from_millis(20)).await;
        }
        let time = begun.elapsed();
        // What follows upon the last replacement belongs to it.
        sleep(Duration::from_secs(2)).await;
        let took = begun.elapsed().as_secs_f64();
        let cost = meter.read().since(&before);
        let seen = watcher.end(begun);
        let counted = since(&self.counter.counts(), &counted_before, nodes);
        // What would have been asked in this time without a rollout is no cost of it.
        let idle_share = took / IDLE.as_secs_f64();
        let per_node = |of: f64, idle: f64| (of - idle * idle_share) / nodes;
        json!({
            "nodes": self.nodes.len(),
            "replaced": seen.releases,
            "rollout_seconds": time.as_secs_f64(),
            "requests": per_node(cost.requests, idle.requests),
            "bytes": per_node(cost.bytes, idle.bytes),
            "revisions": per_node(cost.revisions, idle.revisions),
            "puts": per_node(cost.puts, idle.puts),
            "hand_over_ms": seen.hand_over * 1e3,
            "replacement_ms": seen.replacement * 1e3,
            "known_ms": seen.known.map(|known| known * 1e3),
            "acting_ms": seen.acting.map(|acting| acting * 1e3),
            "idle_requests": idle.requests / IDLE.as_secs_f64() / nodes,
            "memory_mb": memory / 1e6,
            "requests_by_call": cost.by_call(nodes),
            "idle_by_call": idle.by_call(nodes),
            "by_kind": counted,
        })
    }

    /// Tells the first node, as its listener does with a hook.
    async fn notify(&self, digest: Digest) {
        let (hooks, intake) = Intake::new(Arc::clone(&self.nodes[0].world));
        let (answer, answered) = oneshot::channel();
        let notice = (self.tracks[0].clone(), Pending { digest: Some(digest), at: 0 });
        hooks.send((vec![notice], answer)).await.expect("it listens");
        tokio::select! {
            taken = answered => assert_eq!(taken.expect("an answer").len(), 1, "the track runs here"),
            () = intake.run(CancellationToken::new()) => {}
        }
    }

    fn push(&self) -> Digest {
        self.registry.push(&self.tracks[0], 1_000, Behaviour::Serves)
    }
}

/// What was counted in between for each node: how many, and of how many bytes.
fn since(counts: &Counts, before: &Counts, nodes: f64) -> BTreeMap<String, [f64; 2]> {
    let new = counts.iter().map(|(kind, (count, bytes))| {
        let (old_count, old_bytes) = before.get(kind).copied().unwrap_or_default();
        (kind.clone(), [(count - old_count) as f64 / nodes, (bytes - old_bytes) as f64 / nodes])
    });
    new.filter(|(_, [count, _])| *count > 0.0).collect()
}

fn track(number: usize) -> Track {
    Track::parse(&format!("registry.example.com/acme/service-{number:02}:1")).expect("a track")
}

/// Runs a container of a track, with no window of the gate open: nothing waits on purpose.
fn run(engine: &SimulatedEngine, track: &Track) {
    let name = track.name().repository().rsplit('/').next().unwrap_or_default();
    engine.run_with(&Spec::new(name, track), |body| {
        body["Labels"] = json!({
            "deployer.enable": "true", "deployer.health.stable": "0", "deployer.health.timeout": "30s",
            "deployer.monitor": "0",
        });
    });
}

/// A connection of its own.
fn store(server: &Server) -> Etcd {
    Etcd::new(EtcdSettings { endpoints: vec![server.url()], tls: None, user: None })
}
