//! What a rollout over three real hosts costs, for `make bench`: prints it as JSON.
//!
//! Everything is seen from outside: an observer of etcd sees each slot taken and given back, and a follower of each
//! daemon sees when it begins to act on a version. No window of the gate is open, so that nothing waits on purpose.
//!
//! Argument: the `deployer` binary.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use deployer_agent::happening::Happening;
use deployer_core::image::Track;
use deployer_core::keys::Keys;
use deployer_core::store::{Change, Revision};
use deployer_engine::Engine as _;
use deployer_engine::docker::Docker;
use deployer_store::Store as _;
use deployer_store::etcd::{Etcd, EtcdSettings};
use deployer_testkit::{Behaviour, Cluster, ClusterOptions, Container, wait_until};
use deployer_wire::{self as wire, Call, Endpoint};
use futures_util::StreamExt as _;
use hyper::Method;
use tokio::runtime::Runtime;

const NODES: usize = 3;
/// Rollouts that are measured. A median of fewer moves with the disk.
const ROLLOUTS: usize = 12;
/// For one rollout, most of which is the engines' own time.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(60);
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Something that was seen from outside.
enum Seen {
    SlotTaken,
    SlotFree,
    /// A node begins to act on a version, whose digest's first digits are these.
    Acts {
        node: usize,
        digest: String,
    },
}

/// What was seen of one rollout, in seconds.
#[derive(Default)]
struct Rollout {
    hand_overs: Vec<f64>,
    known_everywhere: f64,
    mixed_ratio: f64,
}

fn main() -> anyhow::Result<()> {
    let binary = std::env::args_os().nth(1).context("argument: the deployer binary")?;
    let runtime = Runtime::new()?;
    let mut cluster = Cluster::start(&binary, ClusterOptions { hosts: NODES, etcd_members: 3 }, |builder| builder);
    cluster.notify(&[]);
    let bench = Bench::new(&cluster, &runtime)?;
    let before = bench.revision()?;
    let rollouts = (1..=ROLLOUTS).map(|number| bench.roll_out(number)).collect::<anyhow::Result<Vec<_>>>()?;
    let writes = (bench.revision()? - before) as f64 / (ROLLOUTS * NODES) as f64;
    let hand_over = median(rollouts.iter().flat_map(|rollout| rollout.hand_overs.clone()).collect());
    let known = median(rollouts.iter().map(|rollout| rollout.known_everywhere).collect());
    let mixed = median(rollouts.iter().map(|rollout| rollout.mixed_ratio).collect());
    #[expect(clippy::print_stdout, reason = "this is what it is for")]
    {
        println!(
            "{{\"rollouts\":{ROLLOUTS},\"hand_over_ms\":{:.2},\"known_ms\":{:.2},\"mixed_ratio\":{mixed:.4},\"writes\":{writes:.2}}}",
            hand_over * 1e3,
            known * 1e3
        );
    }
    Ok(())
}

struct Bench<'a> {
    cluster: &'a Cluster,
    runtime: &'a Runtime,
    containers: Vec<deployer_testkit::RunningContainer>,
    etcd: Etcd,
    seen: Receiver<(Instant, Seen)>,
}

impl<'a> Bench<'a> {
    /// Runs v0 everywhere, and begins to look.
    fn new(cluster: &'a Cluster, runtime: &'a Runtime) -> anyhow::Result<Self> {
        cluster.push("v0", Behaviour::Serves);
        let containers = cluster.run("web", without_windows);
        for node in &cluster.nodes {
            wait_until(ROLLOUT_LIMIT, "v0 to be known", || {
                let status = node.daemon.status();
                let own = status["tracks"][0]["containers"].as_array().into_iter().flatten();
                let is_current = own.filter(|c| c["node"] == node.name).any(|c| c["state"] == "current");
                if is_current { Ok(()) } else { Err(status.to_string()) }
            });
        }
        let members = cluster.etcd.as_ref().context("the cluster has an etcd")?.urls();
        let etcd = || Etcd::new(EtcdSettings { endpoints: members.clone(), tls: None, user: None });
        let keys = Keys::new(&format!("/{}", cluster.scene.id()));
        let (tell, seen) = mpsc::channel();
        let bench = Self { cluster, runtime, containers, etcd: etcd(), seen };
        runtime.spawn(observe_slots(etcd(), keys, bench.revision()?, tell.clone()));
        for (index, node) in cluster.nodes.iter().enumerate() {
            runtime.spawn(follow(node.daemon.socket(), index, tell.clone()));
        }
        Ok(bench)
    }

    fn revision(&self) -> anyhow::Result<Revision> {
        Ok(self.runtime.block_on(self.etcd.list("/nothing/"))?.1)
    }

    /// Pushes, tells one node, and looks until all nodes run it.
    fn roll_out(&self, number: usize) -> anyhow::Result<Rollout> {
        let digest = self.cluster.push(&format!("v{number}"), Behaviour::Serves);
        let node = number % NODES;
        let answer = self.registrys_answer(node)?;
        let begun = Instant::now();
        let status = self.cluster.call_hook(node, &digest)?;
        anyhow::ensure!(status == 202, "the hook was answered {status}");
        let (mut slots, mut acting) = (Vec::new(), BTreeMap::new());
        while slots.len() < 2 * NODES || acting.len() < NODES {
            let left = ROLLOUT_LIMIT.saturating_sub(begun.elapsed());
            match self.seen.recv_timeout(left).context("the rollout does not end")? {
                (at, Seen::Acts { node, digest: of }) if digest.contains(&of) => drop(acting.entry(node).or_insert(at)),
                (_, Seen::Acts { .. }) => {}
                (at, Seen::SlotTaken | Seen::SlotFree) => slots.push(at),
            }
        }
        for container in &self.containers {
            anyhow::ensure!(container.digest().as_deref() == Ok(digest.as_str()), "{} runs it", container.name());
        }
        let last = acting.into_values().max().context("a node acted")?;
        let known = last.duration_since(begun).saturating_sub(answer).as_secs_f64();
        Ok(Rollout { known_everywhere: known, ..of_slots(&slots) })
    }

    /// How long the engine takes to ask the registry, which no deployer can undercut.
    fn registrys_answer(&self, node: usize) -> anyhow::Result<Duration> {
        let address = self.cluster.nodes[node].host.engine().address().to_owned();
        let engine = Docker::new(Endpoint::parse(&address).map_err(anyhow::Error::msg)?);
        let track = Track::parse(&self.cluster.image())?;
        self.runtime.block_on(engine.api())?;
        let begun = Instant::now();
        self.runtime.block_on(engine.resolve(&track))?;
        Ok(begun.elapsed())
    }
}

fn without_windows(container: Container) -> Container {
    let windows = [("deployer.health.stable", "0"), ("deployer.health.timeout", "30s"), ("deployer.monitor", "0")];
    windows
        .into_iter()
        .fold(container.option("--stop-timeout=1"), |container, (name, value)| container.label(name, value))
}

/// One slot is taken and given back in turn.
fn of_slots(slots: &[Instant]) -> Rollout {
    let since = |pair: &[Instant]| pair[1].duration_since(pair[0]).as_secs_f64();
    let held: f64 = slots.chunks(2).map(since).sum();
    let whole = slots[slots.len() - 1].duration_since(slots[0]).as_secs_f64();
    let hand_overs = slots[1..slots.len() - 1].chunks(2).map(since).collect();
    Rollout { hand_overs, mixed_ratio: whole / held, ..Rollout::default() }
}

async fn observe_slots(etcd: Etcd, keys: Keys, after: Revision, tell: Sender<(Instant, Seen)>) -> anyhow::Result<()> {
    let mut taken = BTreeSet::new();
    let mut changes = etcd.watch(&keys.locks(), after).await?;
    while let Some(change) = changes.next().await {
        let at = Instant::now();
        match change? {
            // A claim is written again when its fence is passed.
            Change::Put(entry) if keys.slot_of(&entry.key).is_some() && taken.insert(entry.key.clone()) => {
                tell.send((at, Seen::SlotTaken))?;
            }
            Change::Delete(key, _) if taken.remove(&key) => tell.send((at, Seen::SlotFree))?,
            _ => {}
        }
    }
    bail!("etcd went away")
}

async fn follow(socket: std::path::PathBuf, node: usize, tell: Sender<(Instant, Seen)>) -> anyhow::Result<()> {
    let call = Call { method: Method::GET, path: "/v1/events", headers: Vec::new(), body: None };
    let mut lines = std::pin::pin!(wire::send(&Endpoint::Unix(socket), call, CALL_LIMIT).await?.lines());
    while let Some(line) = lines.next().await {
        let happening: Happening = serde_json::from_slice(&line?)?;
        if let Some(digest) = happening.text.strip_prefix("pulling ") {
            tell.send((Instant::now(), Seen::Acts { node, digest: digest.to_owned() }))?;
        }
    }
    bail!("node {node} went away")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
