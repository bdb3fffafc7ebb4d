//! Parts of etcd, or the way to it, that are away for a time. Workloads stay, what is past the fence is finished, nothing
//! new starts, and it heals by itself.

use std::time::{Duration, Instant};

use deployer_core::replacement::Phase;
use deployer_testkit::{RunningContainer, wait_until};

use crate::fleet::{Fleet, LONG, NODES, wait_for_health};

/// How a process is taken away, and brought back.
#[derive(Clone, Copy, Debug)]
enum Away {
    Killed,
    Frozen,
}

impl Fleet {
    fn take_member(&mut self, member: usize, away: Away) {
        let member = self.cluster.etcd.as_mut().expect("the fleet has an etcd").member(member);
        match away {
            Away::Killed => member.process().kill_9(),
            Away::Frozen => member.process().freeze(),
        }
    }

    fn bring_member(&mut self, member: usize, away: Away) {
        let member = self.cluster.etcd.as_mut().expect("the fleet has an etcd").member(member);
        match away {
            Away::Killed => member.restart(),
            Away::Frozen => member.process().thaw(),
        }
    }

    fn leader(&self) -> usize {
        self.cluster.etcd.as_ref().expect("the fleet has an etcd").leader()
    }
}

#[test]
fn a_rollout_survives_the_loss_of_the_leader_of_etcd() {
    let mut fleet = Fleet::new();
    let sampler = fleet.sample();
    for away in [Away::Killed, Away::Frozen] {
        let version = format!("{away:?}");
        fleet.hold(0, Phase::Stopped);
        let digest = fleet.push(&version);
        fleet.wait_until_held(0);
        let leader = fleet.leader();
        fleet.take_member(leader, away);
        fleet.release(0);
        fleet.wait_for(&digest);
        fleet.bring_member(leader, away);
        fleet.leader();
        fleet.assert_settled(&version);
    }
    fleet.assert_never_two_down(sampler);
}

#[test]
fn two_members_of_etcd_killed_for_a_minute() {
    survives_two_members(Away::Killed);
}

#[test]
fn two_members_of_etcd_frozen_for_a_minute() {
    survives_two_members(Away::Frozen);
}

fn survives_two_members(away: Away) {
    let mut fleet = Fleet::new();
    let sampler = fleet.sample();
    fleet.hold(1, Phase::Stopped);
    let digest = fleet.push("v2");
    fleet.wait_until_held(1);
    let since = Instant::now();
    for member in [0, 1] {
        fleet.take_member(member, away);
    }
    let before: Vec<_> = fleet.containers.iter().map(RunningContainer::digest).collect();
    fleet.release(1);
    fleet.containers[1].wait_for_version("v2", LONG);
    for node in NODES {
        wait_until(LONG, "hooks to be turned away", || match fleet.cluster.call_hook(node, &digest) {
            Ok(503) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        wait_for_health(&fleet.cluster.nodes[node].daemon, 503, "degraded");
    }
    wait_until(LONG, "a minute to pass", || {
        for node in [0, 2] {
            assert_eq!(fleet.containers[node].digest(), before[node], "nothing new starts");
        }
        let left = Duration::from_secs(60).saturating_sub(since.elapsed());
        if left.is_zero() { Ok(()) } else { Err(format!("{left:?} left")) }
    });
    for member in [0, 1] {
        fleet.bring_member(member, away);
    }
    fleet.wait_for(&digest);
    fleet.assert_settled("v2");
    fleet.cluster.nodes.iter().for_each(|node| wait_for_health(&node.daemon, 200, "ok"));
    fleet.assert_never_two_down(sampler);
}

#[test]
fn a_node_cut_off_from_etcd_in_the_middle_of_a_replacement_keeps_the_others_waiting_until_it_is_healed() {
    let fleet = Fleet::new();
    let sampler = fleet.sample();
    for (phase, node) in [(Phase::Claimed, 0), (Phase::Stopped, 1)] {
        let version = format!("cut-{}", phase.word());
        fleet.hold(node, phase);
        let digest = fleet.push(&version);
        fleet.wait_until_held(node);
        let cut = fleet.cluster.cut_from_etcd(node);
        let before: Vec<_> = fleet.containers.iter().map(RunningContainer::digest).collect();
        fleet.release(node);
        if phase.is_past_fence() {
            fleet.containers[node].wait_for_version(&version, LONG);
        }
        wait_until(LONG, "its lease to end", || {
            let keys = fleet.keys("/nodes/");
            if keys.len() == NODES.len() - 1 { Ok(()) } else { Err(keys.join(" ")) }
        });
        for other in NODES.filter(|other| *other != node) {
            assert_eq!(fleet.containers[other].digest(), before[other], "nobody else goes down");
        }
        drop(cut);
        fleet.wait_for(&digest);
        fleet.assert_settled(&version);
    }
    fleet.assert_never_two_down(sampler);
}
