//! What a node costs the store: counted where the nodes are few and where they are many.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use deployer_core::image::Track;
use deployer_core::slot::Scope;
use deployer_simulated::engine::{SimulatedEngine, Spec};
use deployer_simulated::registry::{Behaviour, SimulatedRegistry};
use deployer_simulated::store::Traffic;
use tokio::time::{Instant, sleep};

use crate::simulated::cluster::{Cluster, LIMIT, Shape};

/// Few nodes, and many.
const SIZES: [usize; 2] = [3, 12];
const AN_HOUR: Duration = Duration::from_secs(3600);
/// Services of one machine that are replaced one after the other.
const SERVICES: u32 = 12;
/// How much longer one of them may take than if it were alone.
const A_MOMENT: Duration = Duration::from_secs(1);

type Costs = BTreeMap<String, Traffic>;

/// What each kind of key cost each node since it was counted before, as reads and as bytes, the most first.
fn sorted_since(cluster: &Cluster, before: &[Costs]) -> BTreeMap<String, [Vec<u64>; 2]> {
    let mut costs: BTreeMap<String, [Vec<u64>; 2]> = BTreeMap::new();
    for (member, before) in cluster.members.iter().zip(before) {
        for (word, traffic) in member.line.traffic() {
            let old = before.get(&word).copied().unwrap_or_default();
            let [reads, bytes] = costs.entry(word).or_default();
            reads.push(traffic.reads - old.reads);
            bytes.push(traffic.bytes - old.bytes);
        }
    }
    costs.values_mut().flatten().for_each(|of_nodes| of_nodes.sort_by(|a, b| b.cmp(a)));
    costs
}

/// What each kind of key cost the node that it cost most.
fn since(cluster: &Cluster, before: &[Costs]) -> Costs {
    beside(cluster, before, 0)
}

/// The same where so many nodes may cost more.
fn beside(cluster: &Cluster, before: &[Costs], exceptions: usize) -> Costs {
    let of = |costs: &[u64]| costs.get(exceptions).copied().unwrap_or_default();
    let costs = sorted_since(cluster, before).into_iter();
    costs.map(|(word, [reads, bytes])| (word, Traffic { reads: of(&reads), bytes: of(&bytes) })).collect()
}

fn counted(cluster: &Cluster) -> Vec<Costs> {
    cluster.members.iter().map(|member| member.line.traffic()).collect()
}

/// An hour in which nothing happens, and a rollout.
async fn costs(machines: usize) -> [Costs; 2] {
    let mut cluster = Cluster::start(machines, &["web"], 1).await;
    let before = counted(&cluster);
    sleep(AN_HOUR).await;
    let idle = since(&cluster, &before);
    let digest = cluster.push(Behaviour::Serves);
    let before = counted(&cluster);
    cluster.notify(0).await;
    cluster.settle("the rollout").await;
    cluster.assert_converged(&digest, "the rollout");
    // Whoever begins it reads who has the image, and so may one or two that came before it and lost their place to it.
    let rollout = beside(&cluster, &before, 1 + machines / 6);
    [idle, rollout]
}

#[tokio::test(start_paused = true)]
async fn what_a_node_reads_does_not_grow_with_the_number_of_nodes() {
    let [few, many] = [costs(SIZES[0]).await, costs(SIZES[1]).await];
    for (when, (few, many)) in ["an hour", "a rollout"].into_iter().zip(few.iter().zip(&many)) {
        for (word, many) in many {
            let few = few.get(word).copied().unwrap_or_default();
            // A race that is lost costs a read; there are more of them among many.
            let is_flat = many.reads <= few.reads + 4 && many.bytes <= few.bytes + few.bytes / 2 + 2048;
            assert!(is_flat, "{when}, {word}: {few:?} of few nodes, {many:?} of many");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_starts_again_asks_for_nothing_of_the_others() {
    let mut cluster = Cluster::start(3, &["web"], 1).await;
    let before = counted(&cluster);
    cluster.members[0].node.kill().await;
    cluster.members[0].node.start_again();
    cluster.settle("the start").await;
    let cost = since(&cluster, &before);
    assert!(cost["index"].reads == 1 && cost["images"].reads <= 2, "{cost:?}");
    for word in ["instances", "reports", "runs", "fetched"] {
        assert_eq!(cost.get(word).map_or(0, |traffic| traffic.reads), 0, "{word}");
    }
}

/// A node that runs nothing of a track hears nothing of its rollout.
#[tokio::test(start_paused = true)]
async fn what_does_not_run_here_wakes_nobody_here() {
    let machines = Cell::new(0);
    let elsewhere = |engine: &SimulatedEngine, _: &SimulatedRegistry, track: &Track| {
        if machines.replace(machines.get() + 1) < 2 {
            engine.run(track, "web");
        }
    };
    let mut cluster = Cluster::of(3, 1, elsewhere).await;
    let before = (counted(&cluster), cluster.members[2].node.engine.calls());
    let digest = cluster.push(Behaviour::Serves);
    cluster.notify(2).await;
    cluster.settle("the rollout").await;
    assert!((0..2).all(|machine| cluster.runs(machine, "web", &digest)), "the others have it");
    assert_eq!(cluster.members[2].node.engine.calls(), before.1, "it did not look");
    let mut cost = since(&cluster, &before.0);
    let of_it = cluster.members[2].line.traffic();
    cost.retain(|word, _| of_it.get(word) != before.0[2].get(word));
    assert_eq!(cost, Costs::new(), "it heard nothing");
}

#[tokio::test(start_paused = true)]
async fn a_look_around_asks_neither_the_store_nor_the_engine() {
    let cluster = Cluster::start(3, &["web", "web-too"], 1).await;
    let member = &cluster.members[0];
    let (world, engine) = (&member.node.world, &member.node.engine);
    let before = (member.line.traffic(), member.line.writes());
    let calls = engine.calls();
    for _ in 0..5 {
        world.ring_for(cluster.track.clone());
        sleep(Duration::from_secs(1)).await;
        assert!(!world.memory().looks.is_rung(), "it looked");
    }
    assert_eq!(engine.calls(), calls);
    let mut after = (member.line.traffic(), member.line.writes());
    // The sign of life looks for dead claims meanwhile.
    after.0.insert("locks".into(), before.0["locks"]);
    assert_eq!(after, before);
}

/// Each waited in a line of its own, and heard nothing of the machine's turn: ten seconds went by between any two.
#[tokio::test(start_paused = true)]
async fn services_of_one_machine_follow_each_other_at_once() {
    let (alone, together) = (took(1).await, took(SERVICES).await);
    let each = together / SERVICES;
    assert!(each < alone + A_MOMENT, "{each:?} each, and {alone:?} alone");
}

/// How long it takes until so many services of one machine are replaced, and through with it.
async fn took(services: u32) -> Duration {
    let shape = Shape { scope: Scope::Service, ..Shape::plain(1, &[]) };
    let spec = |number: u32| Spec {
        service: format!("service-{number}"),
        monitor: "0",
        ..Spec::new(&format!("web-{number}"), &shape.tracks[0])
    };
    let hosts = vec![(0..services).map(spec).collect()];
    let mut cluster = Cluster::with(Shape { hosts, ..shape }, 1).await;
    let digest = cluster.push(Behaviour::Serves);
    let begun = Instant::now();
    cluster.notify(0).await;
    let is_done = |cluster: &Cluster| {
        let is_over = cluster.members[0].node.world.memory().replacing.transitions().is_empty();
        is_over && (0..services).all(|number| cluster.runs(0, &format!("web-{number}"), &digest))
    };
    cluster.wait_until(LIMIT, "replaced", is_done).await;
    begun.elapsed()
}
