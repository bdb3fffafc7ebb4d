//! What a person does to the new container of a host at its gate, and in its monitor window: what was stopped or removed
//! stays so, what was restarted is looked at anew, no version is blamed, and the others get it.

use deployer_testkit::wait_until;

use crate::common::is_quiet;
use crate::fleet::{Fleet, LONG, NODES};

/// Long enough for a person to come in between, on a busy machine.
const STABLE: &str = "1s";
const MONITOR: &str = "2s";
/// What the node says meanwhile: at the gate, and after it.
const MOMENTS: [&str; 2] = ["left of its stable window", "first of its version, watched"];

#[test]
fn what_a_person_stops_or_removes_at_the_gate_or_in_the_monitor_stays_so_and_blames_nobody() {
    let fleet = Fleet::with_gates(STABLE, MONITOR);
    for command in [&["stop"][..], &["rm", "--force"]] {
        for (number, moment) in MOMENTS.iter().enumerate() {
            let (version, case) = (format!("{}-{number}", command[0]), format!("{command:?}, {moment}"));
            let sampler = fleet.sample();
            let digest = fleet.push(&version);
            let node = fleet.wait_until_one_says(NODES, moment);
            fleet.by_hand(node, command);
            let others: Vec<usize> = NODES.filter(|other| *other != node).collect();
            fleet.wait_on(others.iter().copied(), &digest);
            fleet.wait_until_known(node, "that nothing is under way", is_quiet);
            let state = fleet.containers[node].inspect()["State"].clone();
            assert_eq!(state["Running"], false, "{case}: {state}");
            fleet.assert_not_bad(&digest);
            // The node where the person was is down by that person's will.
            let names: Vec<&str> = others.iter().map(|other| fleet.cluster.nodes[*other].name.as_str()).collect();
            sampler.stop().never_both_down(&names).unwrap_or_else(|seen| panic!("{case}: {seen}"));
            fleet.by_hand(node, &["start"]);
            fleet.wait_for(&digest);
            fleet.assert_settled(&version);
        }
    }
}

#[test]
fn what_a_person_restarts_at_the_gate_or_in_the_monitor_is_looked_at_anew_and_deployed() {
    let fleet = Fleet::with_gates(STABLE, MONITOR);
    let sampler = fleet.sample();
    for (moment, version) in MOMENTS.iter().zip(["v2", "v3"]) {
        let digest = fleet.push(version);
        let node = fleet.wait_until_one_says(NODES, moment);
        fleet.by_hand(node, &["restart"]);
        fleet.wait_until_one_says([node], MOMENTS[0]);
        fleet.wait_for(&digest);
        fleet.assert_not_bad(&digest);
        fleet.assert_settled(version);
    }
    fleet.assert_never_two_down(sampler);
}

impl Fleet {
    /// Runs a command of `docker` on a node's container.
    #[track_caller]
    fn by_hand(&self, node: usize, command: &[&str]) {
        let container = &self.containers[node];
        let mut docker = container.engine().command();
        docker.args(command).arg(container.name());
        wait_until(LONG, &format!("docker {command:?} to succeed"), || {
            let output = docker.output().map_err(|error| error.to_string())?;
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
        });
    }
}
