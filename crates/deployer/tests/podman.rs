//! Podman by its Docker-like socket: its containers are left as they are, with the reason, before any push and after (ADR 19).
//! `make test-engines` runs this on Podman's engines; on any other there is nothing to look at.

mod common;

use common::{SOON, Stage};
use deployer_testkit::wait_until;

#[test]
#[ignore = "needs Podman: scripts/test-engines trixie-podman"]
fn t78_a_container_of_podmans_is_left_as_it_is_and_the_reason_told() {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.container("web").option("--sysctl=net.core.somaxconn=512").run();
    let told = |found: &serde_json::Value| found["reason"].as_str().unwrap_or_default().contains("Podman");
    let doctor = stage.daemon.cli(["doctor"]);
    assert!(doctor.stdout.contains("problem") && doctor.stdout.contains("Podman"), "{doctor:?}");
    wait_until(SOON, "the plan to tell", || {
        let plan = stage.daemon.cli(["plan"]);
        if plan.stdout.contains("Podman is not served") { Ok(()) } else { Err(format!("{plan:?}")) }
    });
    stage.push("v2");
    let found = stage.wait_for_state(web.name(), "failed_here");
    assert!(told(&found), "{found}");
    assert_eq!(web.id(), web.first_id());
    assert_eq!(web.inspect()["State"]["Running"], true);
}
