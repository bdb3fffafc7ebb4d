//! `kill -9` at every state of a replacement's journal, with a good and a bad candidate, and once more during the
//! recovery. Afterwards: one container of the name, serving, the journal closed, and the deployment ended as it
//! would have without.

mod common;

use std::fs;
use std::thread;

use common::{SOON, Stage};
use deployer_core::replacement::Phase;
use deployer_testkit::{Behaviour, wait_until};

/// Cases that run side by side; more would only slow each other down.
const AT_ONCE: usize = 3;

fn wait_for_hold(stage: &Stage) {
    let held = stage.daemon.state_directory().join("held");
    wait_until(SOON, "the daemon to be held", || fs::read_to_string(&held).map_err(|_| stage.daemon.log()));
    fs::remove_file(held).expect("the file was just read");
}

fn survives(phase: Phase, behaviour: Behaviour) {
    let mut stage = Stage::with(|builder| builder.env("DEPLOYER_HOLD_AT", &phase.word()));
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let digest = stage.push_that("v2", behaviour.clone());
    wait_for_hold(&stage);
    stage.daemon.restart_without_waiting(&[("DEPLOYER_HOLD_AT", "any")]);
    wait_for_hold(&stage);
    stage.daemon.restart_with(&[("DEPLOYER_HOLD_AT", "")]);
    if behaviour == Behaviour::Serves {
        stage.wait_for_digest(web.name(), &digest);
        stage.assert_settled(&web, "v2");
    } else {
        stage.wait_for_bad(&digest);
        stage.assert_settled(&web, "v1");
    }
}

/// Runs every case, and tells of all that failed.
fn check(phases: &[Phase], behaviour: &Behaviour) {
    let mut failed = Vec::new();
    for some in phases.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let running: Vec<_> =
                some.iter().map(|phase| (phase, scope.spawn(|| survives(*phase, behaviour.clone())))).collect();
            failed.extend(running.into_iter().filter_map(|(phase, run)| run.join().err().map(|_| *phase)));
        });
    }
    assert!(failed.is_empty(), "did not survive a kill with {behaviour:?} at {failed:?}");
}

#[test]
fn a_good_candidate_survives_a_kill_at_every_phase_of_the_way_forward() {
    let forward: Vec<Phase> = Phase::ALL.into_iter().filter(|phase| !phase.is_return()).collect();
    check(&forward, &Behaviour::Serves);
}

#[test]
fn a_bad_candidate_survives_a_kill_at_every_phase_up_to_the_gate_and_of_the_way_back() {
    let reached = |phase: &Phase| phase.is_return() || *phase <= Phase::Started;
    let phases: Vec<Phase> = Phase::ALL.into_iter().filter(reached).collect();
    check(&phases, &Behaviour::ExitsAtOnce);
}

/// The store is damaged when the daemon comes back, after a kill that left nothing serving: the container is brought up
/// before the store is opened, and once the file was moved away the replacement comes to its end.
#[test]
fn a_damaged_store_keeps_no_container_down() {
    let hold = Phase::Stopped.word();
    let mut stage = Stage::with(|builder| builder.env("DEPLOYER_HOLD_AT", &hold));
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    stage.push("v2");
    wait_for_hold(&stage);
    stage.daemon.kill_9();
    let store = stage.daemon.state_directory().join("store.redb");
    fs::write(&store, "no store").expect("it can be written");
    stage.daemon.restart_without_waiting(&[("DEPLOYER_HOLD_AT", "")]);
    let ended = stage.daemon.process().wait(SOON).expect("it ends");
    assert_eq!(ended.code(), Some(1));
    assert!(stage.daemon.log().contains("store.redb"), "{}", stage.daemon.log());
    web.wait_for_version("v2", SOON);
    fs::remove_file(store).expect("it is there");
    stage.daemon.restart();
    stage.assert_settled(&web, "v2");
}
