//! What a node misses while it is off or another bears its name, and a hook that nobody got.

use std::fs;
use std::time::{Duration, Instant};

use deployer_testkit::{Daemon, wait_until};

use crate::common::BINARY;
use crate::fleet::{Fleet, LONG, NODES, wait_for_health};

#[test]
fn a_node_off_during_three_pushes_goes_straight_to_the_newest() {
    let mut fleet = Fleet::new();
    let sampler = fleet.sample();
    fleet.daemon(2).stop();
    let mut digest = String::new();
    for version in ["v2", "v3", "v4"] {
        digest = fleet.push(version);
        fleet.wait_on([0, 1], &digest);
    }
    fleet.wait_until_seen_from(0, ["current", "current", "unknown"]);
    let status = fleet.wait_until_known(1, "the nodes", |_| true);
    let nodes: Vec<_> = status["nodes"].as_array().into_iter().flatten().map(|node| &node["state"]).collect();
    assert_eq!(nodes, ["ready", "ready", "stopped"], "{status}");
    let asked = fleet.cluster.tag_requests();
    fleet.daemon(2).restart();
    fleet.wait_for(&digest);
    fleet.assert_settled("v4");
    assert_eq!(fleet.cluster.tag_requests(), asked, "it asks no registry for what the record says");
    let samples = sampler.stop();
    fleet.cluster.never_two_down(&samples).expect("one at a time");
    assert_eq!(samples.versions(&fleet.cluster.nodes[2].name), ["v1", "v4"]);
    assert_eq!(samples.versions(&fleet.cluster.nodes[0].name), ["v1", "v2", "v3", "v4"]);
}

#[test]
fn a_node_that_lost_its_state_catches_up_from_the_record() {
    let mut fleet = Fleet::new();
    fleet.daemon(2).kill_9();
    fs::remove_dir_all(fleet.daemon(2).state_directory()).expect("it had one");
    let asked = fleet.cluster.tag_requests();
    let digest = fleet.push("v2");
    // Its lease has to end before a daemon that cannot prove to be the same takes its name.
    fleet.daemon(2).restart();
    fleet.wait_for(&digest);
    fleet.assert_settled("v2");
    assert_eq!(fleet.cluster.tag_requests() - asked, 1, "only the push had anybody ask");
}

#[test]
fn a_second_daemon_of_the_same_name_waits_until_the_first_is_gone() {
    let mut fleet = Fleet::new();
    let first = fleet.cluster.nodes[0].name.clone();
    let members = fleet.cluster.etcd.as_ref().expect("the fleet has an etcd").urls().join(",");
    let elsewhere = Daemon::builder(BINARY, &fleet.cluster.scene).on(&fleet.cluster.nodes[1].host).node(&first);
    let prefix = fleet.key("");
    let twin = elsewhere.argument("--etcd").argument(&members).argument("--etcd-prefix").argument(&prefix).start();
    let refusal = format!("another daemon is registered as node {first}");
    wait_for_health(&twin, 503, "not registered");
    let troubles = twin.status()["troubles"].to_string();
    assert!(troubles.contains(&refusal), "{troubles}");
    let digest = fleet.push("v2");
    fleet.wait_for(&digest);
    wait_for_health(&twin, 503, "not registered");
    fleet.daemon(0).stop();
    wait_for_health(&twin, 200, "ok");
}

/// The period of the check in this test, which is a day unless told otherwise.
const CHECK: Duration = Duration::from_secs(5);

#[test]
fn a_lost_hook_is_healed_by_the_check_which_one_node_makes_and_which_a_rollback_survives() {
    let mut fleet = Fleet::with(|builder| builder.settings("registry_check = \"5s\""));
    let first = fleet.containers[0].digest().expect("it runs");
    fleet.cluster.notify(&[]);
    let lost = fleet.push("v2");
    fleet.wait_for(&lost);
    fleet.assert_settled("v2");

    let image = fleet.cluster.image();
    let back = fleet.cluster.nodes[1].daemon.cli(["rollback", &image]);
    assert_eq!(back.code, Some(0), "{back:?}");
    fleet.wait_for(&first);
    let (asked, since) = (fleet.cluster.tag_requests(), Instant::now());
    // Three checks more, which all find the version that was taken back.
    let checks = wait_until(LONG, "further checks", || match fleet.cluster.tag_requests() - asked {
        checks @ 0..3 => Err(checks),
        checks => Ok(checks),
    });
    let periods = since.elapsed().as_secs() / CHECK.as_secs() + 1;
    assert!(checks as u64 <= periods, "{checks} checks in {:?}: more than one node asks", since.elapsed());
    fleet.wait_for(&first);
    fleet.assert_settled("v1");
    for node in NODES {
        let status = fleet.wait_until_known(node, "the record", |_| true);
        assert_eq!(status["tracks"][0]["record"]["digest"], lost.as_str(), "{status}");
    }
}
