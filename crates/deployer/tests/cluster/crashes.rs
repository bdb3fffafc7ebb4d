//! `kill -9` and SIGSTOP of each daemon in turn, at each state of a replacement's journal. Afterwards all run the same,
//! never were two down, and nothing is left behind.

use deployer_core::replacement::Phase;
use deployer_testkit::wait_until;

use crate::fleet::{Fleet, LONG, NODES};

fn forward() -> impl Iterator<Item = Phase> {
    Phase::ALL.into_iter().filter(|phase| !phase.is_return())
}

fn back() -> impl Iterator<Item = Phase> {
    Phase::ALL.into_iter().filter(|phase| phase.is_return())
}

#[test]
fn a_kill_of_each_node_at_each_phase_of_the_way_forward() {
    let mut fleet = Fleet::new();
    let sampler = fleet.sample();
    for (phase, node) in forward().zip(NODES.cycle()) {
        let version = format!("killed-{}", phase.word());
        fleet.hold(node, phase);
        let digest = fleet.push(&version);
        fleet.wait_until_held(node);
        fleet.daemon(node).kill_9();
        fleet.release(node);
        fleet.daemon(node).restart();
        fleet.wait_for(&digest);
        fleet.assert_settled(&version);
    }
    fleet.assert_never_two_down(sampler);
}

#[test]
fn a_kill_at_each_phase_of_the_way_back() {
    let mut fleet = Fleet::new();
    let good = fleet.containers[0].digest().expect("it runs");
    let sampler = fleet.sample();
    for phase in back() {
        let node = fleet.hold_bad(phase);
        fleet.daemon(node).kill_9();
        fleet.release_all();
        fleet.daemon(node).restart();
        fleet.wait_for(&good);
        fleet.assert_settled("v1");
    }
    fleet.assert_never_two_down(sampler);
}

/// While a node stands still, the others hear of a newer version.
#[test]
fn a_node_that_stands_still_at_each_phase_of_the_way_forward_is_overtaken() {
    let mut fleet = Fleet::new();
    fleet.cluster.notify(&[0, 1, 2]);
    let sampler = fleet.sample();
    for (phase, node) in forward().zip(NODES.cycle()) {
        fleet.hold(node, phase);
        fleet.push(&format!("frozen-{}", phase.word()));
        fleet.wait_until_held(node);
        let version = format!("thawed-{}", phase.word());
        let digest = fleet.overtake(node, &version);
        fleet.wait_for(&digest);
        fleet.assert_settled(&version);
    }
    fleet.assert_never_two_down(sampler);
}

#[test]
fn a_node_that_stands_still_at_each_phase_of_the_way_back_is_overtaken() {
    let mut fleet = Fleet::new();
    fleet.cluster.notify(&[0, 1, 2]);
    let sampler = fleet.sample();
    for phase in back() {
        let node = fleet.hold_bad(phase);
        let version = format!("thawed-{}", phase.word());
        let digest = fleet.overtake(node, &version);
        fleet.wait_for(&digest);
        fleet.assert_settled(&version);
    }
    fleet.assert_never_two_down(sampler);
}

/// Before the fence nothing was done, so the others take the slot; past it they leave it, whatever the lease says.
#[test]
fn a_node_that_stands_still_for_longer_than_its_lease_does_no_harm_when_it_goes_on() {
    let mut fleet = Fleet::new();
    let sampler = fleet.sample();
    for (phase, node, is_left) in [(Phase::Claimed, 1, false), (Phase::Stopped, 2, true)] {
        let version = format!("outlived-{}", phase.word());
        fleet.hold(node, phase);
        let digest = fleet.push(&version);
        fleet.wait_until_held(node);
        fleet.daemon(node).process().freeze();
        let name = fleet.cluster.nodes[node].name.clone();
        wait_until(LONG, "its lease to end", || {
            let keys = fleet.keys("/nodes/");
            if keys.len() == NODES.len() - 1 { Ok(()) } else { Err(format!("{name} is among {keys:?}")) }
        });
        let has_claim = || fleet.etcd(["get", "--prefix", &fleet.key("/locks/")]).contains(&name);
        if is_left {
            assert!(has_claim(), "a claim past the fence is its own node's");
        } else {
            wait_until(LONG, "the claim to be reaped", || {
                if has_claim() { Err(fleet.keys("/locks/").join(" ")) } else { Ok(()) }
            });
        }
        fleet.release(node);
        fleet.daemon(node).process().thaw();
        fleet.wait_for(&digest);
        fleet.assert_settled(&version);
    }
    fleet.assert_never_two_down(sampler);
}

impl Fleet {
    /// Freezes a node that is held, pushes a version of which the others hear, and lets the node go on.
    fn overtake(&mut self, node: usize, version: &str) -> String {
        self.daemon(node).process().freeze();
        let digest = self.push(version);
        for other in NODES.filter(|other| *other != node) {
            self.wait_until_known(other, "the newer version", |status| {
                status["tracks"][0]["record"]["digest"] == digest.as_str()
            });
        }
        self.release_all();
        self.daemon(node).process().thaw();
        digest
    }
}
