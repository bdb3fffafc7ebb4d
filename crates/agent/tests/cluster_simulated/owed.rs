//! What is owed, since its replacement put it back and it does not stay up: until it does, through whatever comes meanwhile.

use std::time::Duration;

use deployer_core::replacement::Phase;
use deployer_core::store::Txn;
use deployer_engine::EngineError;
use deployer_simulated::engine::{Move, Spec};
use deployer_simulated::registry::Behaviour;
use serde_json::json;
use tokio::time::sleep;

use super::mended::{AN_HOUR, SOON, state_of};
use crate::simulated::cluster::{Cluster, Shape, first};

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

/// The next replacement had taken nothing down itself, and when it failed early nobody started what it had taken over.
#[tokio::test(start_paused = true)]
async fn what_is_owed_is_still_owed_when_its_next_replacement_fails_early() {
    for refused in ["tag", "create", "update"] {
        for policy in ["no", "always"] {
            let case = format!("{refused} {policy}");
            let mut cluster = owing_one(policy).await;
            cluster.push(Behaviour::Serves);
            let message = "no space left on device".to_owned();
            let refusal = EngineError::Refused { what: refused.to_owned(), status: 500, message };
            cluster.members[0].node.engine.refuse(refused, refusal);
            let before = cluster.members[0].node.engine.calls_of(refused);
            cluster.notify(0).await;
            let is_over = |cluster: &Cluster| {
                let node = &cluster.members[0].node;
                node.engine.calls_of(refused) > before && node.journals().iter().all(|it| it.phase.is_final())
            };
            cluster.wait_until(AN_HOUR, &case, is_over).await;
            cluster.members[0].node.engine.permit(refused);
            cluster.members[0].node.engine.set_without_dependency(false);
            cluster.wait_until(2 * SOON, &case, |cluster| state_of(cluster, 0, "web") == Some("running")).await;
        }
    }
}

/// Between the end of the one journal and the beginning of the other.
#[tokio::test(start_paused = true)]
async fn what_is_owed_is_still_owed_when_its_next_replacement_is_killed_early() {
    for phase in [Phase::Fenced, Phase::Tagged, Phase::Created] {
        let case = phase.word();
        let mut cluster = owing_one("no").await;
        cluster.members[0].node.hold_at(phase);
        cluster.push(Behaviour::Serves);
        cluster.notify(0).await;
        cluster.wait_until(AN_HOUR, &case, |cluster| cluster.members[0].node.is_held()).await;
        let node = &mut cluster.members[0].node;
        node.kill().await;
        node.let_go();
        node.engine.set_without_dependency(false);
        node.start_again();
        cluster.wait_until(2 * SOON, &case, |cluster| state_of(cluster, 0, "web") == Some("running")).await;
    }
}
