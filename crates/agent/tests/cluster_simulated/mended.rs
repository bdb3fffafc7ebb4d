//! Findings of the coordination that need no storm: a full disk, a lost state directory, a missing network, an engine that
//! hiccups, a shutdown in the midst.

use std::time::Duration;

use deployer_core::replacement::Phase;
use deployer_simulated::engine::{Fault, Move, Spec};
use deployer_simulated::registry::Behaviour;
use deployer_simulated::store::Fault as StoreFault;
use tokio::time::sleep;

use crate::simulated::cluster::{Cluster, Shape, first};

/// Time in which a few containers are replaced, or put back, with what is waited for in between.
pub const SOON: Duration = Duration::from_secs(300);
pub const AN_HOUR: Duration = Duration::from_secs(3600);

/// Machines of which the first is held in a phase of its replacement.
async fn held_at(machines: usize, phase: Phase) -> Cluster {
    let mut cluster = Cluster::start(machines, &["web"], 1).await;
    cluster.members[0].node.hold_at(phase);
    cluster.push(Behaviour::Serves);
    cluster.notify(0).await;
    cluster.wait_until(AN_HOUR, "held", |cluster| cluster.members[0].node.is_held()).await;
    cluster
}

pub fn state_of(cluster: &Cluster, machine: usize, name: &str) -> Option<&'static str> {
    cluster.members[machine].node.engine.container_of(name).map(|(_, _, state)| state)
}

fn is_in_trouble(cluster: &Cluster, machine: usize) -> bool {
    !cluster.members[machine].node.world.memory().troubles.all().is_empty()
}

#[tokio::test(start_paused = true)]
async fn coordination_m3_what_should_serve_is_brought_up_on_a_full_disk() {
    for phase in [Phase::Stopped, Phase::Swapped] {
        let case = phase.word();
        let mut cluster = held_at(1, phase).await;
        let node = &mut cluster.members[0].node;
        node.kill().await;
        node.let_go();
        node.fill_disk(true);
        node.start_again();
        cluster.wait_until(SOON, &case, |cluster| state_of(cluster, 0, "web") == Some("running")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn coordination_m4_without_a_journal_nothing_is_stopped() {
    for phase in [Phase::Claimed, Phase::Fenced, Phase::Tagged] {
        let case = phase.word();
        let cluster = held_at(1, phase).await;
        let before = cluster.members[0].node.engine.container_of("web");
        cluster.members[0].node.fill_disk(true);
        cluster.members[0].node.let_go();
        cluster.wait_until(SOON, &case, |cluster| is_in_trouble(cluster, 0)).await;
        sleep(SOON).await;
        assert_eq!(cluster.members[0].node.engine.container_of("web"), before, "{case}");
        let stops = cluster.violations();
        assert!(!format!("{stops:?}").contains("stopped"), "{case}: {stops:?}");
    }
}

/// The network is gone while neither runs: a start is answered 404, and the container is there all the same.
#[tokio::test(start_paused = true)]
async fn coordination_m5_a_missing_network_is_trouble_and_what_was_stopped_is_owed() {
    let shape = Shape::plain(1, &[]);
    let spec = Spec { network: "backend", ..Spec::new("web", &shape.tracks[0]) };
    let mut cluster = Cluster::with(Shape { hosts: vec![vec![spec]], ..shape }, 1).await;
    cluster.members[0].node.hold_at(Phase::Swapped);
    cluster.push(Behaviour::Serves);
    cluster.notify(0).await;
    cluster.wait_until(AN_HOUR, "held", |cluster| cluster.members[0].node.is_held()).await;
    cluster.members[0].node.engine.set_without_networks(true);
    cluster.members[0].node.let_go();
    cluster.wait_until(SOON, "trouble", |cluster| is_in_trouble(cluster, 0)).await;
    assert_eq!(state_of(&cluster, 0, "web"), Some("exited"), "{}", cluster.describe());
    cluster.members[0].node.engine.set_without_networks(false);
    cluster.wait_until(2 * SOON, "owed", |cluster| cluster.runs(0, "web", &first())).await;
}

/// The journal cannot be written, and the claim cannot be given back for the moment, whichever call it is that fails.
#[tokio::test(start_paused = true)]
async fn coordination_m9_a_claim_that_could_not_be_given_back_keeps_nobody_for_ever() {
    for call in 1..=16 {
        let case = format!("call {call}");
        // The same calls each time, so that each of them fails once.
        let mut cluster = Cluster::start(2, &["web"], 1).await;
        cluster.members[0].node.hold_at(Phase::Prefetched);
        let digest = cluster.push(Behaviour::Serves);
        cluster.notify(1).await;
        cluster.wait_until(AN_HOUR, "held", |cluster| cluster.members[0].node.is_held()).await;
        cluster.members[0].node.fill_disk(true);
        cluster.members[0].line.fail(call, StoreFault::Unsent);
        cluster.members[0].node.let_go();
        cluster.wait_until(AN_HOUR, &case, |cluster| is_in_trouble(cluster, 0)).await;
        cluster.members[0].node.fill_disk(false);
        let track = cluster.track.to_string();
        cluster.members[1].node.command("retry", &track).await;
        let is_done = |cluster: &Cluster| (0..2).all(|machine| cluster.runs(machine, "web", &digest));
        cluster.wait_until(AN_HOUR, &case, is_done).await;
    }
}

/// A store may get to a writing long after it was given up: an instance that had been withdrawn since was registered again for
/// good, and all others waited for it to be up. Whichever call it is that comes late.
#[tokio::test(start_paused = true)]
async fn what_is_written_late_is_not_said_again() {
    for call in 1..=6 {
        let case = format!("call {call}");
        let mut cluster = Cluster::start(2, &["web"], 1).await;
        let (engine, line) = (&cluster.members[0].node.engine, &cluster.members[0].line);
        line.fail(call, StoreFault::Late(Duration::from_secs(20)));
        engine.run_as(&Spec::new("other", &cluster.track));
        sleep(Duration::from_secs(10)).await;
        assert!(engine.does("other", &Move::Remove), "{case}");
        sleep(Duration::from_secs(60)).await;
        let digest = cluster.push(Behaviour::Serves);
        cluster.notify(1).await;
        let is_done = |cluster: &Cluster| (0..2).all(|machine| cluster.runs(machine, "web", &digest));
        cluster.wait_until(AN_HOUR, &case, is_done).await;
    }
}

/// Of two answers on the sign the older had come last: a claim that hung on it was refused, and tried again without an end.
#[tokio::test(start_paused = true)]
async fn a_sign_that_is_known_wrongly_is_written_anew() {
    let mut cluster = Cluster::start(2, &["web"], 1).await;
    let presence = &cluster.members[0].node.world.presence;
    presence.send_modify(|presence| presence.lease = presence.lease.map(|(lease, sign)| (lease, sign - 1)));
    let digest = cluster.push(Behaviour::Serves);
    cluster.notify(1).await;
    let is_done = |cluster: &Cluster| (0..2).all(|machine| cluster.runs(machine, "web", &digest));
    cluster.wait_until(SOON, "replaced", is_done).await;
}

/// A replacement may take minutes after the word to end.
#[tokio::test(start_paused = true)]
async fn coordination_l6_signs_of_life_end_after_the_replacement_does() {
    let mut cluster = held_at(3, Phase::Stopped).await;
    cluster.members[0].node.terminate();
    let sign = cluster.members[0].node.world.keys.node("a");
    for _ in 0..30 {
        sleep(Duration::from_secs(10)).await;
        assert_eq!(cluster.store.entries(&sign).len(), 1, "it is there while it acts");
        assert_eq!(state_of(&cluster, 1, "web").zip(state_of(&cluster, 2, "web")), Some(("running", "running")));
    }
    cluster.members[0].node.let_go();
    cluster.settle("ended").await;
    assert!(!cluster.members[0].node.runs() && cluster.store.entries(&sign).is_empty(), "{}", cluster.describe());
    assert_eq!(cluster.violations(), []);
}

/// One call of each two seconds is lost on its way, for as long as the gate goes on.
#[tokio::test(start_paused = true)]
async fn coordination_l8_an_engine_that_hiccups_keeps_no_gate_open() {
    let mut cluster = held_at(1, Phase::Started).await;
    let digest = cluster.push(Behaviour::NeverListens);
    cluster.members[0].node.let_go();
    cluster.notify(0).await;
    cluster.wait_until(AN_HOUR, "at the gate", |cluster| cluster.runs(0, "web", &digest)).await;
    for _ in 0..60 {
        cluster.members[0].node.engine.fail(1, Fault::Down);
        sleep(Duration::from_secs(2)).await;
    }
    assert!(!cluster.runs(0, "web", &digest), "judged within two minutes: {}", cluster.describe());
    cluster.members[0].node.engine.forgive();
    cluster.settle("put back").await;
}

/// The container is half replaced, and nobody has a journal of that any more: it counts as down until a person has looked.
#[tokio::test(start_paused = true)]
async fn coordination_l9_a_lost_state_directory_withdraws_no_instance_that_is_half_replaced() {
    for phase in [Phase::PolicyOff, Phase::Stopped, Phase::Swapped] {
        let case = phase.word();
        let mut cluster = held_at(3, phase).await;
        let node = &mut cluster.members[0].node;
        node.kill().await;
        node.let_go();
        node.lose_state();
        node.start_again();
        sleep(SOON).await;
        let instances = node_instances(&cluster);
        assert!(instances.contains(&"a".to_owned()), "{case}: {instances:?}\n{}", cluster.describe());
        assert_eq!(cluster.violations().iter().filter(|v| format!("{v:?}").contains("down")).count(), 0, "{case}");
    }
}

/// The store writes a ticket when its container has left the line long ago; the next one in line waits for nobody then.
#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_written_late_keeps_nobody_waiting() {
    for call in 1..=8 {
        let case = format!("call {call}");
        let mut cluster = held_at(3, Phase::Stopped).await;
        for machine in [1, 2] {
            cluster.members[machine].line.fail(call, StoreFault::Late(Duration::from_secs(20)));
        }
        let digest = cluster.push(Behaviour::Serves);
        cluster.notify(1).await;
        sleep(Duration::from_secs(9)).await;
        cluster.members[0].node.let_go();
        cluster.settle(&case).await;
        cluster.assert_converged(&digest, &case);
    }
}

fn node_instances(cluster: &Cluster) -> Vec<String> {
    let keys = &cluster.members[0].node.world.keys;
    let entries = cluster.store.entries(&keys.all_instances());
    let node = |entry: &deployer_core::store::Entry| {
        let value: serde_json::Value = serde_json::from_slice(&entry.value).expect("JSON");
        value["node"].as_str().map(str::to_owned)
    };
    entries.iter().filter_map(node).collect()
}
