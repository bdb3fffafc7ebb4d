//! Which version a container is moved to: never one that it never ran and no registry named, and the same that is shown.

use deployer_simulated::engine::{SimulatedEngine, Spec};
use deployer_simulated::registry::{Behaviour, SimulatedRegistry, digest};
use serde_json::Value;

use crate::simulated::cluster::{Cluster, first};

/// Two machines that run different versions when they are first looked at, while the registry has a third.
async fn unequal(newest: Behaviour) -> Cluster {
    let run = |engine: &SimulatedEngine, registry: &SimulatedRegistry, track: &_| {
        if engine.node() == "b" {
            registry.push(track, 2, Behaviour::Serves);
        }
        engine.run(track, "web");
        if engine.node() == "b" {
            registry.push(track, 3, newest);
        }
    };
    Cluster::of(2, 1, run).await
}

#[tokio::test(start_paused = true)]
async fn what_only_another_container_ran_is_not_what_a_container_goes_back_to() {
    let cluster = unequal(Behaviour::ExitsAtOnce).await;
    assert!(cluster.runs(0, "web", &digest(1)), "{}", cluster.describe());
    assert!(cluster.runs(1, "web", &digest(2)), "{}", cluster.describe());
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_what_was_adopted_reaches_those_that_ran_it() {
    let mut cluster = unequal(Behaviour::Serves).await;
    assert!(cluster.runs(0, "web", &digest(3)) && cluster.runs(1, "web", &digest(3)), "{}", cluster.describe());
    let adopted = cluster.history().last().cloned().expect("a record");
    let track = cluster.track.to_string();
    cluster.members[0].node.command("rollback", &track).await;
    cluster.settle("rolled back").await;
    for (machine, ran) in [digest(1), digest(2)].into_iter().enumerate() {
        let expected = if ran == adopted { adopted.clone() } else { digest(3) };
        let status = cluster.members[machine].node.status().await;
        assert!(cluster.runs(machine, "web", &expected), "{machine}: {status} {}", cluster.describe());
    }
    let next = cluster.push(Behaviour::Serves);
    let next = if next == digest(2) { cluster.registry.push(&cluster.track, 4, Behaviour::Serves) } else { next };
    cluster.notify(0).await;
    cluster.settle("pushed").await;
    assert!(cluster.runs(0, "web", &next) && cluster.runs(1, "web", &next), "{}", cluster.describe());
}

#[tokio::test(start_paused = true)]
async fn only_what_a_managed_container_runs_is_adopted() {
    let run = |engine: &SimulatedEngine, registry: &SimulatedRegistry, track: &_| {
        engine.run_with(&Spec::new("someone-elses", track), |body| body["Labels"] = serde_json::json!({}));
        registry.push(track, 2, Behaviour::Serves);
        engine.run(track, "web");
        registry.push(track, 3, Behaviour::ExitsAtOnce);
    };
    let cluster = Cluster::of(1, 1, run).await;
    assert_eq!(cluster.history(), [digest(3), digest(2)]);
    assert!(cluster.runs(0, "web", &digest(2)), "{}", cluster.describe());
    assert!(cluster.runs(0, "someone-elses", &first()), "{}", cluster.describe());
}

fn states(status: &Value) -> Vec<&str> {
    let containers = status["tracks"][0]["containers"].as_array().expect("a track");
    containers.iter().map(|container| container["state"].as_str().unwrap_or_default()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_index_that_changes_without_this_platforms_image_is_current_on_every_node() {
    let mut cluster = Cluster::start(3, &["web"], 1).await;
    let again = cluster.registry.push_again(&cluster.track, 2, &first());
    cluster.notify(0).await;
    cluster.settle("told").await;
    assert_eq!(cluster.history(), [again, first()]);
    for member in &cluster.members {
        let status = member.node.status().await;
        assert_eq!(states(&status), ["current"; 3], "from {}: {status}", member.node.name);
    }
}
