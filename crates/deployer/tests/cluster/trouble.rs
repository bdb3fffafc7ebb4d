//! What keeps one machine from deploying, and is no fault of the digest: the rollout halts, and nobody calls it bad.

use deployer_testkit::Behaviour;
use serde_json::Value;

use crate::common::is_quiet;
use crate::fleet::{Fleet, NODES};

/// Whether a node knows that the newest version is not for it, or halted, while it goes on running another.
fn is_halted(status: &Value, digest: &str) -> bool {
    let track = &status["tracks"][0];
    let is_left = |container: &Value| container["digest"] != digest && container["state"] != "waiting";
    track["record"]["digest"] == digest
        && is_quiet(status)
        && track["containers"].as_array().is_some_and(|containers| containers.iter().all(is_left))
}

#[track_caller]
fn assert_no_verdict(fleet: &Fleet, digest: &str) {
    for node in NODES {
        let status = fleet.wait_until_known(node, "its verdicts", |_| true);
        assert!(!status["tracks"][0]["verdicts"].to_string().contains(digest), "nobody has judged {digest}: {status}");
    }
}

#[test]
fn an_engine_without_room_halts_the_rollout_until_somebody_says_go_on() {
    let fleet = Fleet::new();
    let sampler = fleet.sample();
    let full = fleet.cluster.nodes[1].host.fill_disk();
    let digest = fleet.push("v2");
    fleet.wait_until_known(1, "that it has no room", |status| {
        fleet.state(status, 1).as_deref() == Some("failed_here") && status.to_string().contains("no room for")
    });
    for node in NODES {
        fleet.wait_until_known(node, "that the rollout is halted", |status| is_halted(status, &digest));
    }
    assert_no_verdict(&fleet, &digest);
    drop(full);
    let image = fleet.cluster.image();
    let retried = fleet.cluster.nodes[0].daemon.cli(["retry", &image]);
    assert_eq!(retried.code, Some(0), "{retried:?}");
    fleet.wait_for(&digest);
    fleet.assert_settled("v2");
    fleet.assert_never_two_down(sampler);
}

#[test]
fn an_image_for_another_platform_halts_the_rollout_until_the_next_push() {
    let fleet = Fleet::new();
    let sampler = fleet.sample();
    let foreign = fleet.cluster.push("foreign", Behaviour::ForeignArchitecture);
    for node in NODES {
        fleet.wait_until_known(node, "that the image is not for it", |status| {
            is_halted(status, &foreign) && status.to_string().contains("platform")
        });
    }
    assert_no_verdict(&fleet, &foreign);
    fleet.assert_settled("v1");
    let digest = fleet.push("v2");
    fleet.wait_for(&digest);
    fleet.assert_settled("v2");
    fleet.assert_never_two_down(sampler);
}
