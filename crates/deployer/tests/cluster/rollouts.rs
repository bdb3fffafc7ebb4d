//! The main job across machines: a push through any node becomes the same digest on all, one at a time.

use deployer_testkit::{Behaviour, wait_until};

use crate::fleet::{Fleet, LONG, NODES};

#[test]
fn a_push_through_any_one_node_is_on_all_and_the_registry_is_asked_once() {
    let mut fleet = Fleet::new();
    let sampler = fleet.sample();
    for node in NODES {
        fleet.cluster.notify(&[node]);
        let (asked, too_early) = (fleet.cluster.tag_requests(), fleet.answers_before_the_tag());
        let version = format!("through {}", node + 1);
        let digest = fleet.push(&version);
        fleet.wait_for(&digest);
        NODES.for_each(|other| fleet.wait_until_seen_from(other, ["current"; 3]));
        fleet.assert_settled(&version);
        let too_early = fleet.answers_before_the_tag() - too_early;
        let answers = fleet.cluster.tag_requests() - asked - too_early;
        assert_eq!(answers, 1, "the registry was asked once for {version}, and {too_early} times too early");
        assert!(too_early <= 2, "half a second and another one are long for a tag that is on its way: {too_early}");
    }
    fleet.assert_never_two_down(sampler);
}

#[test]
fn deploy_ends_when_the_last_node_runs_it_and_says_why_it_failed_on_another() {
    let mut fleet = Fleet::new();
    fleet.cluster.notify(&[]);
    let digest = fleet.push("v2");
    let image = fleet.cluster.image();
    let deployed = fleet.cluster.nodes[1].daemon.cli(["deploy", &image]);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    let running = fleet.containers.iter().map(|container| container.digest());
    assert!(running.clone().all(|running| running.as_deref() == Ok(&digest)), "{:?}", running.collect::<Vec<_>>());
    let bad = fleet.cluster.push("bad", Behaviour::ExitsAtOnce);
    let failed = fleet.cluster.nodes[2].daemon.cli(["deploy", &image]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("exited"), "it says why: {failed:?}");
    fleet.wait_for_bad(&bad);
    fleet.assert_settled("v2");
}

/// Pushes come faster than rollouts end, and after a while slower: a rollout is overtaken, one is not.
#[test]
fn twenty_pushes_in_a_row_end_with_the_last_on_all() {
    let fleet = Fleet::new();
    let sampler = fleet.sample();
    let mut digest = String::new();
    for push in 1..=20 {
        digest = fleet.push(&format!("push {push}"));
        if push % 5 == 0 {
            // The first node that has it shows that a rollout is under way.
            wait_until(LONG, "a node to run the push", || {
                let found = fleet.containers.iter().map(|container| container.digest());
                let found: Vec<_> = found.collect();
                if found.contains(&Ok(digest.clone())) { Ok(()) } else { Err(format!("{found:?}")) }
            });
        }
    }
    fleet.wait_for(&digest);
    fleet.assert_settled("push 20");
    fleet.assert_never_two_down(sampler);
}

/// The control of the tests above: with the slot switched off, the same sampler must see two down.
#[test]
fn the_sampler_sees_two_down_when_slots_are_off() {
    let fleet = Fleet::with(|builder| builder.env("DEPLOYER_WITHOUT_SLOTS", "1"));
    let sampler = fleet.sample();
    for version in ["v2", "v3", "v4"] {
        let digest = fleet.push(version);
        fleet.wait_for(&digest);
    }
    fleet.cluster.never_two_down(&sampler.stop()).expect_err("without slots they go down together");
}

#[test]
fn a_bad_image_touches_one_node_only() {
    let fleet = Fleet::new();
    let good = fleet.containers[0].digest().expect("it runs");
    for behaviour in [Behaviour::ExitsAtOnce, Behaviour::NeverHealthy] {
        let started = || -> Vec<String> {
            let started =
                fleet.containers.iter().map(|container| container.inspect()["State"]["StartedAt"].to_string());
            started.collect()
        };
        let before = started();
        let bad = fleet.cluster.push("bad", behaviour);
        fleet.wait_for_bad(&bad);
        fleet.wait_for(&good);
        fleet.assert_settled("v1");
        let touched = before.iter().zip(started()).filter(|(before, after)| *before != after).count();
        assert_eq!(touched, 1, "one node has tried {bad}");
    }
}
