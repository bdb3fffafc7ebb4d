//! Bad pushes: each ends on the predecessor, serving, and only what the image is to blame for is held against it.

mod common;

use std::time::Duration;

use common::{REPOSITORY, Stage, bad_verdict};
use deployer_testkit::{AppImage, Behaviour, Container, Sampler};

/// Pushes a version that behaves badly in a way that is its own fault.
#[track_caller]
fn check_bad(behaviour: Behaviour, expected_reason: &str) {
    let mut stage = Stage::new();
    let first = stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let digest = stage.push_that("v2", behaviour);
    let verdict = stage.wait_for_bad(&digest);
    let reason = verdict["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(expected_reason), "{reason}");
    stage.assert_settled(&web, "v1");
    assert_eq!(web.id(), web.first_id(), "the very predecessor serves again");
    stage.daemon.stop();
    stage.daemon.restart();
    stage.wait_for_digest(web.name(), &first);
    assert!(bad_verdict(&stage.track(), &digest).is_some(), "the verdict survives a restart");
    let good = stage.push("v3");
    stage.wait_for_digest(web.name(), &good);
    stage.assert_settled(&web, "v3");
}

#[test]
fn an_image_that_exits_at_once_is_put_back() {
    check_bad(Behaviour::ExitsAtOnce, "exited");
}

#[test]
fn an_image_that_never_listens_is_put_back() {
    check_bad(Behaviour::NeverListens, "no answer on TCP port 8080");
}

#[test]
fn an_image_that_is_never_healthy_is_put_back() {
    check_bad(Behaviour::NeverHealthy, "unhealthy");
}

/// The engine takes such numbers, and so did a sum that overflowed and ended every daemon that ran the track.
#[test]
fn security_1_a_push_with_a_healthcheck_beyond_all_measure_ends_no_daemon() {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let daemon = stage.daemon.pid();
    let check = "HEALTHCHECK --interval=2562047h --timeout=2562047h --retries=2147483647 --start-period=1s CMD true";
    let digest = AppImage::new("v2").change(check).push(&stage.scene, &stage.registry, REPOSITORY, "latest");
    let verdict = stage.wait_for_bad(&digest);
    assert!(verdict["reason"].to_string().contains("HEALTHCHECK has not passed"), "{verdict}");
    stage.assert_settled(&web, "v1");
    let good = stage.push("v3");
    stage.wait_for_digest(web.name(), &good);
    assert_eq!(stage.daemon.pid(), daemon);
}

/// With the windows as they are by default: five seconds stable, watched for thirty more.
#[test]
fn an_image_that_dies_after_fifteen_seconds_is_put_back() {
    let mut stage = Stage::new();
    stage.push("v1");
    let defaults = deployer_testkit::Container::new(&stage.scene, "web")
        .image(&stage.image())
        .managed(&stage.scene)
        .restart("always");
    let web = stage.run(&defaults);
    let digest = stage.push_that("v2", Behaviour::DiesAfter(Duration::from_secs(15)));
    let verdict = stage.wait_for_bad(&digest);
    assert!(verdict["reason"].to_string().contains("exited"), "{verdict}");
    stage.assert_settled(&web, "v1");
    stage.daemon.stop();
    stage.daemon.restart();
    stage.wait_for_state(web.name(), "current");
    assert!(bad_verdict(&stage.track(), &digest).is_some(), "the verdict survives a restart");
}

/// Trouble of this machine: the old one serves, nothing is held against the digest, and it is not tried again
/// until somebody says so.
#[track_caller]
fn check_trouble(behaviour: Behaviour, expected_reason: &str) {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let sampler = Sampler::start(&[web.name()]);
    let digest = stage.push_that("v2", behaviour.clone());
    let halted = stage.wait_for_state(web.name(), "failed_here");
    assert!(halted["reason"].to_string().contains(expected_reason), "{halted}");
    stage.wait_for_quiet();
    assert_eq!(bad_verdict(&stage.track(), &digest), None);
    stage.assert_settled(&web, "v1");
    assert_eq!(web.id(), web.first_id(), "the very predecessor serves");
    let samples = sampler.stop();
    if behaviour == Behaviour::ForeignArchitecture {
        assert_eq!(samples.failed_requests(), 0, "it was not even stopped");
    }
    let good = stage.push("v3");
    stage.wait_for_digest(web.name(), &good);
}

#[test]
fn an_image_for_another_platform_is_not_started_and_gets_no_verdict() {
    check_trouble(Behaviour::ForeignArchitecture, "platform");
}

#[test]
fn an_image_whose_start_is_refused_is_put_back_without_a_verdict() {
    check_trouble(Behaviour::StartRefused, "start container");
}

/// An engine shows the labels and variables of an image as the container's own. They opted a stranger's container in, and kept
/// the mended version from taking the place of one that named a supervisor.
#[test]
fn security_2_what_an_image_says_opts_nobody_in_and_keeps_no_later_version_out() {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let odd = AppImage::new("v2")
        .label("deployer.enable", stage.scene.id())
        .label("deployer.supervisor", "systemd:other.service")
        .label("deployer.monitor", "soon")
        .label("com.docker.swarm.task", "1")
        .env("NOMAD_ALLOC_ID", "1");
    let second = odd.push(&stage.scene, &stage.registry, REPOSITORY, "latest");
    stage.wait_for_digest(web.name(), &second);
    let stranger = Container::new(&stage.scene, "stranger").image(&stage.image()).run();
    let third = stage.push("v3");
    stage.wait_for_digest(web.name(), &third);
    stage.assert_settled(&web, "v3");
    assert_eq!(stranger.id(), stranger.first_id());
    assert_eq!(stranger.digest(), Ok(second));
}
