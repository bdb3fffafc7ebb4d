//! What happens to a container, its image or its names between two steps of a replacement: afterwards one container of the name
//! runs, and the new version comes as soon as it can. Numbers as in the list of cases.

mod common;

use std::fs;
use std::time::Duration;

use common::{REPOSITORY, SOON, Stage};
use deployer_core::replacement::Phase;
use deployer_testkit::{AppImage, Behaviour, Container, RunningContainer, docker, wait_until};

/// Longer than a replacement takes.
const A_WHILE: Duration = Duration::from_secs(120);

/// What somebody does to a container that is held at a phase of its replacement. Then the new version must come.
fn check_while_held(phase: Phase, container: impl Fn(&Stage) -> Container, act: impl Fn(&Stage, &RunningContainer)) {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&container(&stage));
    let state = stage.daemon.state_directory();
    fs::write(state.join("hold-at"), phase.word()).expect("the state directory can be written");
    stage.push("v2");
    wait_until(SOON, "the daemon to be held", || fs::metadata(state.join("held")).map_err(|_| stage.daemon.log()));
    act(&stage, &web);
    fs::remove_file(state.join("hold-at")).expect("it is there");
    web.wait_for_version("v2", A_WHILE);
    stage.assert_settled(&web, "v2");
}

/// It counted as a failed stop, and the container was lost (wt 235, nf PR 1475).
#[test]
fn t51_a_container_that_ends_before_its_stop_is_replaced() {
    let web = |stage: &Stage| stage.container("web").restart("no");
    check_while_held(Phase::PolicyOff, web, |_, web| drop(docker(["kill", web.name()])));
}

/// The same with one that is removed (wt 1101).
#[test]
fn t51_a_container_that_vanishes_before_its_stop_is_replaced() {
    let web = |stage: &Stage| stage.container("web");
    check_while_held(Phase::PolicyOff, web, |_, web| drop(docker(["rm", "--force", web.name()])));
}

/// The call to stop it timed out, and it was neither stopped nor started again (wt 1602, nf 253).
#[test]
fn t52_a_container_that_only_a_kill_ends_is_not_lost() {
    let stage = Stage::new();
    stage.push_that("v1", Behaviour::IgnoresSigterm);
    let web = stage.run(&stage.container("web").option("--stop-timeout=3"));
    let digest = stage.push("v2");
    stage.wait_for_digest(web.name(), &digest);
    stage.assert_settled(&web, "v2");
}

/// The answer was 200 by then, the old one was stopped, and the new one could not be created (a pull is a stream of progress).
#[test]
fn t57_an_error_in_the_midst_of_a_pull_stops_nothing() {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let image = AppImage::new("v2").build(&stage.scene);
    image.push(&stage.registry, &stage.registry.push_address(), REPOSITORY, "broken");
    docker(["rmi", "--force", &image.id()]);
    stage.registry.damage(REPOSITORY, "broken");
    stage.registry.retag(REPOSITORY, "broken", "latest");
    wait_until(SOON, "the failed pull to be told", || {
        let found = stage.daemon.cli(["status"]).stdout;
        if found.contains("verification failed") { Ok(()) } else { Err(format!("{found}\n{}", stage.daemon.log())) }
    });
    assert_eq!((web.id(), web.version()), (web.first_id().to_owned(), Ok("v1".to_owned())));
    let digest = stage.push("v3");
    stage.wait_for_digest(web.name(), &digest);
    stage.assert_settled(&web, "v3");
}

/// The create failed, and the old one was gone (wt 1385).
#[test]
fn t58_an_image_that_is_pruned_between_pull_and_create_is_pulled_again() {
    let web = |stage: &Stage| stage.container("web");
    for phase in [Phase::Fenced, Phase::Tagged] {
        check_while_held(phase, web, |stage, web| {
            let old = web.inspect()["Image"].as_str().unwrap_or_default().to_owned();
            let repository = format!("{}/{REPOSITORY}", stage.registry.address());
            let digests = docker(["images", "--no-trunc", "--digests", "--format", "{{.ID}}", &repository]);
            let new: Vec<&str> = digests.lines().filter(|id| *id != old).collect();
            assert!(!new.is_empty(), "it was pulled: {digests}");
            new.iter().for_each(|id| drop(docker(["rmi", "--force", id])));
        });
    }
}

/// One that was set aside long ago was replaced in its turn, under a name with one more ending each time (dd 183, PR 503).
#[test]
fn t59_a_container_that_was_set_aside_is_no_target() {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let aside = format!("{}.old-00c0ffee", web.name());
    docker(["run", "--detach", "--name", &aside, "--label", &format!("{}=1", stage.scene.id()), &stage.image()]);
    let before = docker(["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &aside]);
    for version in ["v2", "v3"] {
        let digest = stage.push(version);
        stage.wait_for_digest(web.name(), &digest);
        web.wait_for_version(version, SOON);
    }
    stage.wait_for_quiet();
    assert_eq!(docker(["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &aside]), before);
    let names = docker(["ps", "--all", "--format", "{{.Names}}", "--filter", &format!("name={}", web.name())]);
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, [web.name(), &aside]);
    docker(["rm", "--force", &aside]);
}

/// There was nothing to go back to (dd PR 81).
#[test]
fn t61_a_version_whose_image_was_pruned_is_pulled_again_to_go_back_to() {
    let stage = Stage::new();
    let first = stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let image = web.inspect()["Image"].as_str().unwrap_or_default().to_owned();
    let second = stage.push("v2");
    stage.wait_for_digest(web.name(), &second);
    stage.assert_settled(&web, "v2");
    docker(["rmi", "--force", &image]);
    assert_eq!(stage.daemon.cli(["rollback", &stage.image()]).code, Some(0));
    stage.wait_for_digest(web.name(), &first);
    stage.assert_settled(&web, "v1");
}
