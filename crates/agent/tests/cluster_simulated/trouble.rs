//! Trouble of single nodes: it is over when its cause is, or when a person says go on, once and on any machine.

use std::time::Duration;

use deployer_core::availability::Report;
use deployer_core::image::Digest;
use deployer_engine::EngineError;
use deployer_simulated::engine::{SimulatedEngine, Spec};
use deployer_simulated::registry::{Behaviour, SimulatedRegistry};
use serde_json::json;
use tokio::time::sleep;

use crate::simulated::cluster::{Cluster, first};

/// Time in which what a person says reaches every node, and three containers are replaced.
const SOON: Duration = Duration::from_secs(120);
const AN_HOUR: Duration = Duration::from_secs(3600);
/// After so long what was refused is looked at again ever more rarely: by itself not within [`SOON`] of that moment.
const A_LONG_REST: Duration = Duration::from_secs(45 * 60);

fn refused() -> EngineError {
    EngineError::Refused { what: "do it".into(), status: 500, message: "simulated".into() }
}

fn is_in_trouble(cluster: &Cluster, machine: usize) -> bool {
    !cluster.members[machine].node.world.memory().troubles.all().is_empty()
}

fn is_everywhere(cluster: &Cluster, digest: &Digest) -> bool {
    (0..cluster.members.len()).all(|machine| cluster.runs(machine, "web", digest))
}

#[tokio::test(start_paused = true)]
async fn one_retry_from_any_machine_reaches_every_node_in_trouble_at_once() {
    // What is refused for its files alone halts nobody, and so it may happen to two; the other trouble halts the rollout.
    for (seed, command, call, machines) in [
        (1, "retry", "changes", vec![0, 1]),
        (2, "deploy", "changes", vec![0, 1]),
        (3, "retry", "api", vec![0]),
        (4, "deploy", "api", vec![0]),
    ] {
        let mut cluster = Cluster::start(3, &["web"], seed).await;
        for machine in &machines {
            cluster.members[*machine].node.engine.refuse(call, refused());
        }
        let digest = cluster.push(Behaviour::Serves);
        cluster.notify(2).await;
        let are_in_trouble = |cluster: &Cluster| machines.iter().all(|machine| is_in_trouble(cluster, *machine));
        cluster.wait_until(AN_HOUR, command, are_in_trouble).await;
        sleep(A_LONG_REST).await;
        let halt = cluster.members[0].node.world.keys.halt(&cluster.track);
        assert_eq!(cluster.store.entries(&halt).is_empty(), call == "changes", "{command} after {call}");
        for machine in &machines {
            cluster.members[*machine].node.engine.permit(call);
        }
        let track = cluster.track.to_string();
        cluster.members[2].node.command(command, &track).await;
        cluster.wait_until(SOON, command, |cluster| is_everywhere(cluster, &digest)).await;
        sleep(2 * AN_HOUR).await;
        assert_eq!(cluster.store.entries(&halt), [], "{command}: nobody halts again what was lifted");
    }
}

/// A container whose network another one shares cannot be replaced, and the others go on.
async fn leaned_on() -> (Cluster, Digest) {
    let mut cluster = Cluster::start(3, &["web"], 1).await;
    cluster.members[0].node.engine.lean_on(&cluster.track, "sidecar", "web");
    let digest = cluster.push(Behaviour::Serves);
    cluster.notify(2).await;
    let are_others_done = |cluster: &Cluster| cluster.runs(1, "web", &digest) && cluster.runs(2, "web", &digest);
    cluster.wait_until(AN_HOUR, "the others", are_others_done).await;
    cluster.wait_until(AN_HOUR, "refused", |cluster| is_in_trouble(cluster, 0)).await;
    assert!(cluster.runs(0, "web", &first()), "{}", cluster.describe());
    (cluster, digest)
}

#[tokio::test(start_paused = true)]
async fn a_retry_from_any_machine_reaches_a_container_that_was_refused() {
    let (cluster, digest) = leaned_on().await;
    sleep(A_LONG_REST).await;
    cluster.members[0].node.engine.remove_by_hand("sidecar");
    let track = cluster.track.to_string();
    cluster.members[2].node.command("retry", &track).await;
    cluster.wait_until(SOON, "retried", |cluster| is_everywhere(cluster, &digest)).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_refused_is_looked_at_again_when_the_cause_may_be_gone() {
    let (cluster, digest) = leaned_on().await;
    cluster.members[0].node.engine.remove_by_hand("sidecar");
    cluster.wait_until(AN_HOUR, "by itself", |cluster| is_everywhere(cluster, &digest)).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_container_is_left_alone_keeps_no_rollout_waiting_for_its_image() {
    for mark in ["com.docker.swarm.service.id", "deployer.misspelt"] {
        let run = |engine: &SimulatedEngine, _: &SimulatedRegistry, track: &_| match engine.node().as_str() {
            "a" => engine.run_with(&Spec::new("web", track), |body| {
                body["Labels"] = json!({"deployer.enable": "true", mark: "x"});
            }),
            _ => engine.run(track, "web"),
        };
        let mut cluster = Cluster::of(3, 1, run).await;
        let digest = cluster.push(Behaviour::Serves);
        cluster.notify(2).await;
        let are_others_done = |cluster: &Cluster| cluster.runs(1, "web", &digest) && cluster.runs(2, "web", &digest);
        cluster.wait_until(SOON, mark, are_others_done).await;
        assert!(cluster.runs(0, "web", &first()), "{}", cluster.describe());
    }
}

/// Found by storms: the write of what was so for a moment timed out and happened all the same, and what was said before and was
/// so again was taken for said. Everybody waited for an instance that was up.
#[tokio::test(start_paused = true)]
async fn a_word_whose_writing_was_not_answered_is_said_again() {
    for seed in 1..=5 {
        let mut cluster = Cluster::start(2, &["web"], seed).await;
        cluster.settle("at rest").await;
        cluster.store.lose_quorum();
        assert!(cluster.members[1].node.engine.dies("web"));
        sleep(Duration::from_secs(36)).await;
        cluster.store.regain_quorum();
        sleep(SOON).await;
        let reports = cluster.store.entries("/t/reports/");
        let mut reports = reports.iter().map(|entry| serde_json::from_slice::<Report>(&entry.value).expect("a report"));
        assert!(reports.len() == 2 && reports.all(|report| report.up), "seed {seed}\n{}", cluster.describe());
    }
}
