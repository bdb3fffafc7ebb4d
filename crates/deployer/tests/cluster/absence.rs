//! What a node misses while it is off, and a hook that nobody got.

use std::time::{Duration, Instant};

use deployer_testkit::wait_until;

use crate::fleet::{Fleet, LONG, NODES};

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
