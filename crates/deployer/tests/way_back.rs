//! The way back, when somebody removes what it leads to, or what was put back does not stay up: it ends with something
//! that serves, or says that nothing does, and goes on trying.

mod common;

use std::fs;

use common::{REPOSITORY, SOON, Stage, bad_verdict};
use deployer_core::replacement::Phase;
use deployer_testkit::{AppImage, Behaviour, RunningContainer, docker, wait_until};

/// Holds the running daemon at a phase of its next replacement, and gives back what lets it go on.
fn hold(stage: &Stage, phase: Phase) -> impl FnOnce() {
    let file = stage.daemon.state_directory().join("hold-at");
    fs::write(&file, phase.word()).expect("the state directory can be written");
    move || fs::remove_file(file).expect("it is there")
}

fn wait_for_hold(stage: &Stage) {
    let held = stage.daemon.state_directory().join("held");
    wait_until(SOON, "the daemon to be held", || fs::read_to_string(&held).map_err(|_| stage.daemon.log()));
}

/// The full name of the container that a replacement has set aside, such as `web.old-` and its number.
fn set_aside(web: &RunningContainer, infix: &str) -> String {
    let filter = format!("name={}.{infix}-", web.name());
    docker(["ps", "--all", "--format", "{{.Names}}", "--filter", &filter])
}

/// What stands under the name runs the digest's image, alone, and no journal is open.
#[track_caller]
fn wait_for_running(stage: &Stage, web: &RunningContainer, digest: &str) {
    wait_until(SOON, &format!("{} to run {digest}", web.name()), || {
        let found = stage.container_status(web.name()).ok_or_else(|| "it is not in the status".to_owned())?;
        let is_running = web.inspect()["State"]["Running"] == true;
        let journals = fs::read_dir(stage.daemon.state_directory().join("replacements")).map_or(1, Iterator::count);
        if found["digest"] == digest && is_running && journals == 0 {
            return Ok(());
        }
        Err(format!("{found}, running: {is_running}, {journals} journals\n{}", stage.daemon.log()))
    });
    let all = docker(["ps", "--all", "--format", "{{.Names}}", "--filter", &format!("name={}", web.name())]);
    assert_eq!(all, web.name(), "one container is left");
}

/// Finding A1, T61b: `docker container prune` during the gate, and then the new version fails.
#[test]
fn a_predecessor_that_was_pruned_leaves_the_candidate_running() {
    for phase in [Phase::Started, Phase::Returning, Phase::NamesBack] {
        let stage = Stage::new();
        stage.push("v1");
        let web = stage.run(&stage.container("web"));
        let release = hold(&stage, phase);
        let digest = stage.push_that("v2", Behaviour::NeverListens);
        wait_for_hold(&stage);
        let old = if phase >= Phase::NamesBack { web.name().to_owned() } else { set_aside(&web, "old") };
        docker(["rm", "--force", &old]);
        release();
        wait_for_running(&stage, &web, &digest);
        assert!(!stage.daemon.log().contains("the old one serves"), "{}", stage.daemon.log());
        let digest = stage.push("v3");
        stage.wait_for_digest(web.name(), &digest);
        stage.assert_settled(&web, "v3");
    }
}

/// The same after the verdict: the candidate stays until the good version has been deployed in its place.
#[test]
fn a_predecessor_that_is_removed_at_the_very_end_leaves_no_gap() {
    let stage = Stage::new();
    let good = stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let release = hold(&stage, Phase::ReturnReleased);
    stage.push_that("v2", Behaviour::NeverListens);
    wait_for_hold(&stage);
    docker(["rm", "--force", web.name()]);
    release();
    stage.wait_for_digest(web.name(), &good);
    stage.assert_settled(&web, "v1");
}

/// Finding A1, T58b: the same while neither runs, so that both are pruned. The journal has all that is needed.
#[test]
fn both_containers_pruned_are_made_anew_from_the_journal() {
    for phase in [Phase::Stopped, Phase::Swapped] {
        let stage = Stage::new();
        stage.push("v1");
        let web = stage.run(&stage.container("web"));
        let release = hold(&stage, phase);
        let digest = stage.push("v2");
        wait_for_hold(&stage);
        let (old, new) = if phase == Phase::Stopped {
            (web.name().to_owned(), set_aside(&web, "new"))
        } else {
            (set_aside(&web, "old"), web.name().to_owned())
        };
        docker(["rm", &old, &new]);
        release();
        wait_for_running(&stage, &web, &digest);
        stage.assert_settled(&web, "v2");
    }
}

/// Finding A1, T66b: `docker compose up -d` sees two containers for one, removes the old and starts the new.
#[test]
fn a_predecessor_that_compose_removed_is_replaced_by_the_candidate_it_started() {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let release = hold(&stage, Phase::Created);
    let digest = stage.push("v2");
    wait_for_hold(&stage);
    docker(["rm", "--force", web.name()]);
    docker(["start", &set_aside(&web, "new")]);
    release();
    wait_for_running(&stage, &web, &digest);
    stage.assert_settled(&web, "v2");
}

/// Pushes a version whose entrypoint is a line of shell before the application.
fn push_script(stage: &Stage, version: &str, script: &str) -> String {
    let image = AppImage::new(version).entrypoint(["/bin/sh", "-c", script]);
    image.push(&stage.scene, &stage.registry, REPOSITORY, "latest")
}

/// PB23 and finding H4: the old version ends once when it is put back, whatever its restart policy is.
#[test]
fn a_predecessor_that_needs_a_second_start_gets_it() {
    for policy in ["always", "no"] {
        let stage = Stage::new();
        push_script(&stage, "v1", "if [ -e /data/lock ]; then /bin/busybox rm /data/lock; exit 3; fi; exec /bin/app");
        let data = format!("{}:/data", stage.scene.volume("data"));
        let web = stage.run(&stage.container("web").restart(policy).volume(&data));
        let bad = push_script(&stage, "v2", "/bin/busybox touch /data/lock; exit 1");
        stage.wait_for_bad(&bad);
        stage.assert_settled(&web, "v1");
        assert_eq!(web.inspect()["HostConfig"]["RestartPolicy"]["Name"], policy);
        let digest = stage.push("v3");
        stage.wait_for_digest(web.name(), &digest);
        stage.assert_settled(&web, "v3");
    }
}

/// PB04: the new version migrates the data and misses its gate; the old one ends on newer data. Nothing serves, nobody is
/// condemned, and a retry brings up the new one.
#[test]
fn after_a_migration_with_no_way_back_a_retry_brings_up_the_new_version() {
    let stage = Stage::new();
    push_script(&stage, "v1", "if [ -e /data/new ]; then exit 1; fi; exec /bin/app");
    let data = format!("{}:/data", stage.scene.volume("data"));
    let web = stage.run(&stage.container("web").restart("no").volume(&data));
    let migrates =
        "if [ -e /data/new ]; then exec /bin/app; fi; /bin/busybox touch /data/new; exec /bin/busybox sleep 1000";
    let digest = push_script(&stage, "v2", migrates);
    let failed = stage.wait_for_state(web.name(), "failed_here");
    assert!(failed["reason"].as_str().is_some_and(|r| r.contains("does not pass the same check")), "{failed}");
    stage.wait_for_quiet();
    assert_eq!(bad_verdict(&stage.track(), &digest), None, "the old one fails as well");
    let deployed = stage.daemon.cli(["deploy", &stage.image()]);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    stage.wait_for_digest(web.name(), &digest);
    stage.assert_settled(&web, "v2");
}
