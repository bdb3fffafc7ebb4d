//! An engine that is stopped by its init script, or killed, in the middle of a rollout. Its containers go down with it, and
//! nobody else's do; when it is back, everything goes on, and no version is blamed.

use deployer_core::replacement::Phase;
use deployer_testkit::{RunningContainer, wait_until};

use crate::fleet::{Fleet, LONG, NODES};

/// From the start of the gate until it has passed.
const AT_THE_GATE: &str = "left of its stable window";
/// What a restart policy can be. An engine that is started again after it was killed starts only what has the last one.
const POLICIES: [&str; 4] = ["no", "on-failure", "unless-stopped", "always"];

/// The old container is stopped, the new one is at the gate, or has passed it.
#[test]
fn an_engine_stopped_by_its_init_script_under_a_replacement_is_waited_for() {
    let mut fleet = Fleet::new();
    let sampler = fleet.sample();
    for phase in [Phase::Stopped, Phase::Started, Phase::Observed] {
        let version = format!("stopped-{}", phase.word());
        fleet.hold_all(phase);
        let digest = fleet.push(&version);
        let node = fleet.wait_until_one_is_held();
        let before = fleet.digests();
        fleet.host(node).stop();
        fleet.release_all();
        fleet.wait_until_deaf(node);
        for other in NODES.filter(|other| *other != node) {
            fleet.wait_until_one_says([other], &fleet.cluster.nodes[node].name.clone());
            assert_eq!(fleet.containers[other].digest(), before[other], "nobody else goes down");
        }
        fleet.host(node).restart();
        fleet.wait_for(&digest);
        fleet.assert_not_bad(&digest);
        fleet.assert_settled(&version);
    }
    fleet.assert_never_two_down(sampler);
}

#[test]
fn an_engine_stopped_by_its_init_script_beside_a_replacement_keeps_the_last_one_up() {
    let mut fleet = Fleet::new();
    let sampler = fleet.sample();
    fleet.hold_all(Phase::Observed);
    let digest = fleet.push("v2");
    let first = fleet.wait_until_one_is_held();
    let mut others = NODES.filter(|other| *other != first);
    let (stopped, last) = (others.next().expect("three"), others.next().expect("three"));
    let before = fleet.containers[last].digest();
    fleet.host(stopped).stop();
    fleet.wait_until_deaf(stopped);
    fleet.release_all();
    fleet.containers[first].wait_for_version("v2", LONG);
    let (name, node) = (fleet.containers[stopped].name(), &fleet.cluster.nodes[stopped].name);
    fleet.wait_until_one_says([last], &format!("waiting for {name} on {node} to be up"));
    assert_eq!(fleet.containers[last].digest(), before, "it is the only one left of the old ones");
    fleet.host(stopped).restart();
    fleet.wait_for(&digest);
    fleet.assert_not_bad(&digest);
    fleet.assert_settled("v2");
    fleet.assert_never_two_down(sampler);
}

/// What is put back ends with code 137 then, and whoever looks on has to start it again.
#[test]
fn an_engine_killed_at_the_control_gate_of_a_way_back_whatever_the_restart_policy() {
    let mut fleet = Fleet::with_gates("2s", "0s");
    let good = fleet.containers[0].digest().expect("it runs");
    let sampler = fleet.sample();
    for policy in POLICIES {
        fleet.set_policy(policy);
        let node = fleet.hold_bad(Phase::TagBack);
        fleet.release_all();
        fleet.wait_until_one_says([node], AT_THE_GATE);
        fleet.host(node).kill_9();
        fleet.host(node).restart();
        fleet.wait_for(&good);
        fleet.assert_settled("v1");
        fleet.assert_policy(policy);
    }
    fleet.assert_never_two_down(sampler);
}

/// Finding H5: it was taken for a failure of the version, and every node was told so.
#[test]
fn coordination_h5_an_engine_killed_at_the_gate_condemns_no_version() {
    let mut fleet = Fleet::with_gates("1s", "0s");
    let sampler = fleet.sample();
    for policy in ["unless-stopped", "always"] {
        fleet.set_policy(policy);
        fleet.hold_all(Phase::Started);
        let digest = fleet.push(policy);
        let node = fleet.wait_until_one_is_held();
        fleet.release_all();
        fleet.wait_until_one_says([node], AT_THE_GATE);
        fleet.host(node).kill_9();
        fleet.host(node).restart();
        fleet.wait_for(&digest);
        fleet.assert_not_bad(&digest);
        fleet.assert_settled(policy);
        fleet.assert_policy(policy);
    }
    fleet.assert_never_two_down(sampler);
}

impl Fleet {
    /// Waits until a node has noticed that its engine is not there.
    #[track_caller]
    fn wait_until_deaf(&self, node: usize) {
        wait_until(LONG, "the engine to be missed", || match self.status(node) {
            Err(error) if error.contains("engine") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    fn digests(&self) -> Vec<Result<String, String>> {
        self.containers.iter().map(RunningContainer::digest).collect()
    }

    /// Gives every container a restart policy, as a person does.
    #[track_caller]
    fn set_policy(&self, policy: &str) {
        for container in &self.containers {
            container.engine().docker(["update", "--restart", policy, container.name()]);
        }
    }

    #[track_caller]
    fn assert_policy(&self, policy: &str) {
        for container in &self.containers {
            assert_eq!(container.inspect()["HostConfig"]["RestartPolicy"]["Name"], policy);
        }
    }
}
