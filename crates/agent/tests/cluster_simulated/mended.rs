//! Findings of the coordination that need no storm: a full disk, a lost state directory, a missing network, an engine that
//! hiccups, a shutdown in the midst.

use std::time::Duration;

use deployer_core::replacement::Phase;
use deployer_core::store::Txn;
use deployer_simulated::engine::{Fault, Move, Spec};
use deployer_simulated::registry::Behaviour;
use deployer_simulated::store::Fault as StoreFault;
use serde_json::json;
use tokio::time::sleep;

use crate::simulated::cluster::{Cluster, Shape, first};

/// Time in which a few containers are replaced, or put back, with what is waited for in between.
const SOON: Duration = Duration::from_secs(300);
const AN_HOUR: Duration = Duration::from_secs(3600);

/// Machines of which the first is held in a phase of its replacement.
async fn held_at(machines: usize, phase: Phase) -> Cluster {
    let mut cluster = Cluster::start(machines, &["web"], 1).await;
    cluster.members[0].node.hold_at(phase);
    cluster.push(Behaviour::Serves);
    cluster.notify(0).await;
    cluster.wait_until(AN_HOUR, "held", |cluster| cluster.members[0].node.is_held()).await;
    cluster
}

fn state_of(cluster: &Cluster, machine: usize, name: &str) -> Option<&'static str> {
    cluster.members[machine].node.engine.container_of(name).map(|(_, _, state)| state)
}

fn is_owed(cluster: &Cluster) -> bool {
    cluster.members[0].node.world.memory().owed.has("web")
}

/// A machine that has put back what ends whenever it is started, since what it needs is away.
async fn owing_one(policy: &'static str) -> Cluster {
    let shape = Shape::plain(2, &[]);
    let spec = Spec { policy, ..Spec::new("web", &shape.tracks[0]) };
    let mut cluster = Cluster::with(Shape { hosts: vec![vec![spec], vec![]], ..shape }, 1).await;
    cluster.members[0].node.engine.set_without_dependency(true);
    cluster.push(Behaviour::Serves);
    cluster.notify(0).await;
    cluster.wait_until(AN_HOUR, "owed", is_owed).await;
    cluster
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

/// What was put back ended whenever it was started, and a person gave it another name: under the old one it was started again
/// beside what had meanwhile taken its place under the new one.
#[tokio::test(start_paused = true)]
async fn what_is_owed_and_renamed_is_left_to_whoever_renamed_it() {
    let mut cluster = owing_one("always").await;
    let engine = &cluster.members[0].node.engine;
    assert!(engine.does("web", &Move::Rename("renamed".to_owned())));
    engine.set_without_dependency(false);
    let digest = cluster.push(Behaviour::Serves);
    cluster.notify(0).await;
    cluster.wait_until(AN_HOUR, "replaced", |cluster| cluster.runs(0, "renamed", &digest)).await;
    cluster.wait_until(AN_HOUR, "left", |cluster| !is_owed(cluster)).await;
    cluster.settle("in the end").await;
    cluster.assert_converged(&digest, "in the end");
}

/// The daemon that came after it gave the container its old name back, and started it.
#[tokio::test(start_paused = true)]
async fn what_is_owed_and_renamed_while_its_daemon_was_gone_is_left_to_whoever_renamed_it() {
    let mut cluster = owing_one("always").await;
    cluster.members[0].node.kill().await;
    assert!(cluster.members[0].node.engine.does("web", &Move::Rename("renamed".to_owned())));
    cluster.members[0].node.start_again();
    cluster.members[0].node.engine.set_without_dependency(false);
    let digest = cluster.push(Behaviour::Serves);
    cluster.notify(0).await;
    cluster.wait_until(AN_HOUR, "replaced", |cluster| cluster.runs(0, "renamed", &digest)).await;
    cluster.settle("in the end").await;
    assert_eq!(state_of(&cluster, 0, "web"), None);
    cluster.assert_converged(&digest, "in the end");
}

/// It is not started either: nobody knows what its owner has in mind with it.
#[tokio::test(start_paused = true)]
async fn what_is_owed_and_renamed_while_its_daemon_was_gone_is_not_started() {
    let mut cluster = owing_one("no").await;
    cluster.members[0].node.kill().await;
    assert!(cluster.members[0].node.engine.does("web", &Move::Rename("renamed".to_owned())));
    let starts = cluster.members[0].node.engine.calls_of("start");
    cluster.members[0].node.start_again();
    cluster.settle("in the end").await;
    assert_eq!(cluster.members[0].node.engine.calls_of("start"), starts);
    assert_eq!((state_of(&cluster, 0, "web"), state_of(&cluster, 0, "renamed")), (None, Some("exited")));
}

/// Its network was gone, so that it was tried for long, and in the end it ran under the name that its owner had taken from it.
#[tokio::test(start_paused = true)]
async fn what_is_owed_and_renamed_while_it_is_brought_up_is_left_to_whoever_renamed_it() {
    let mut cluster = owing_one("no").await;
    cluster.members[0].node.engine.hold("start");
    cluster.wait_until(AN_HOUR, "tried", |cluster| cluster.members[0].node.engine.is_waited_for("start")).await;
    let engine = &cluster.members[0].node.engine;
    assert!(engine.does("web", &Move::Rename("renamed".to_owned())));
    engine.set_without_dependency(false);
    engine.let_go("start");
    cluster.wait_until(AN_HOUR, "left", |cluster| !is_owed(cluster)).await;
    cluster.settle("in the end").await;
    assert_eq!((state_of(&cluster, 0, "web"), state_of(&cluster, 0, "renamed")), (None, Some("running")));
}

/// It was replaced by the next version, and started.
#[tokio::test(start_paused = true)]
async fn what_is_owed_and_stopped_by_a_person_is_not_started_by_the_next_replacement() {
    let mut cluster = owing_one("always").await;
    let engine = &cluster.members[0].node.engine;
    // It is between two starts, so that no process ends of it.
    assert!(!engine.does("web", &Move::Stop));
    engine.set_without_dependency(false);
    cluster.push(Behaviour::Serves);
    cluster.notify(0).await;
    cluster.wait_until(AN_HOUR, "left", |cluster| !is_owed(cluster)).await;
    cluster.settle("in the end").await;
    assert_eq!(state_of(&cluster, 0, "web"), Some("exited"));
    assert_eq!(cluster.violations(), []);
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

/// The engine tells of a restart after the new start: what ended by itself then was taken for stopped, and nobody started it
/// any more.
#[tokio::test(start_paused = true)]
async fn what_is_owed_and_restarted_by_a_person_is_owed_all_the_same() {
    for policy in ["no", "always"] {
        let cluster = owing_one(policy).await;
        assert!(cluster.members[0].node.engine.does("web", &Move::Restart), "{policy}");
        sleep(Duration::from_secs(10)).await;
        cluster.members[0].node.engine.set_without_dependency(false);
        cluster.wait_until(2 * SOON, policy, |cluster| state_of(cluster, 0, "web") == Some("running")).await;
    }
}

/// While its next replacement waited in line, for as long as that took, what is owed was not started.
#[tokio::test(start_paused = true)]
async fn what_is_owed_is_started_though_its_next_replacement_waits() {
    let mut cluster = owing_one("no").await;
    let (track, world) = (cluster.track.clone(), &cluster.members[0].node.world);
    let claim = json!({"node": "gone", "boot": "1", "txn": "00c0ffee", "image": track, "digest": first(), "container": "web",
        "phase": "stopping", "machine": "another", "state": "another", "at": 0});
    let claimed = Txn::new().put(world.keys.claim("cluster", 0), &claim);
    world.store.txn(claimed).await.expect("nobody but a person ends it");
    cluster.push(Behaviour::Serves);
    cluster.notify(1).await;
    let waits = |cluster: &Cluster| cluster.members[0].node.journals().iter().any(|it| it.phase == Phase::Prefetched);
    cluster.wait_until(AN_HOUR, "waiting", waits).await;
    cluster.members[0].node.engine.set_without_dependency(false);
    cluster.wait_until(2 * SOON, "started", |cluster| state_of(cluster, 0, "web") == Some("running")).await;
}

/// A daemon that began before the next start was due knew nothing of it.
#[tokio::test(start_paused = true)]
async fn a_persons_word_on_what_is_owed_is_heard_at_once() {
    for word in [Move::Stop, Move::Rename("renamed".to_owned())] {
        let cluster = owing_one("always").await;
        cluster.members[0].node.engine.does("web", &word);
        let case = format!("{word:?}");
        cluster.wait_until(Duration::from_secs(2), &case, |cluster| !is_owed(cluster)).await;
    }
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
