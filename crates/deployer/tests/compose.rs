//! Side by side with Compose: `up` after a replacement changes nothing, and during one it breaks nothing.

mod common;

use std::fs;

use common::{REPOSITORY, SOON, Stage};
use deployer_core::replacement::Phase;
use deployer_testkit::{AppImage, Behaviour, Compose, RunningContainer, docker, try_docker, wait_until};

/// A project whose services all run the stage's image, opted in, with a quick gate. Further settings of each are members of a flow
/// mapping; further parts of the file are lines.
fn project(stage: &Stage, services: &[(&str, &str)], more: &str) -> Compose {
    let labels = format!(
        "${{LABELS}}, deployer.enable: \"{}\", deployer.health.timeout: 5s, deployer.health.stable: 300ms, \
         deployer.monitor: 700ms",
        stage.scene.id()
    );
    let services = services.iter().map(|(name, settings)| {
        format!(
            "  {name}: {{ image: \"{}\", restart: unless-stopped, stop_grace_period: 1s, labels: {{ {labels} }}, {settings} }}\n",
            stage.image()
        )
    });
    let services: String = services.collect();
    // What no service names is not made.
    let networks = "networks: { default: { labels: { ${LABELS} } }, edge: { labels: { ${LABELS} } } }";
    Compose::new(&stage.scene, "app", &format!("services:\n{services}{networks}\n{more}\n"))
}

/// Waits until the containers serve and the daemon has taken their version for the first.
#[track_caller]
fn wait_for_first(stage: &Stage, containers: &[RunningContainer]) {
    for container in containers {
        wait_until(SOON, &format!("{} to serve", container.name()), || container.version());
        stage.wait_for_state(container.name(), "current");
    }
}

/// T65 (wt 339, 696, 1989): what Compose notes of a container is as it would have noted it of the new one.
#[test]
fn t65_up_after_a_replacement_changes_nothing() {
    let stage = Stage::new();
    stage.push("v1");
    let settings =
        "ports: [\"127.0.0.1::8080\"], environment: { A: b }, volumes: [\"data:/data\", /anonymous], hostname: web";
    let project = project(&stage, &[("web", settings)], "volumes: { data: { labels: { ${LABELS} } } }");
    project.up();
    let web = project.container("web", 1);
    wait_for_first(&stage, std::slice::from_ref(&web));
    for version in ["v2", "v3"] {
        let digest = stage.push(version);
        stage.wait_for_digest(web.name(), &digest);
        stage.assert_settled(&web, version);
        let id = web.id();
        project.up();
        assert_eq!(web.id(), id, "Compose made it anew");
        assert_eq!(project.names(), [web.name()]);
    }
    // What the file says otherwise is carried out by Compose, and deployer goes on from there.
    let text = fs::read_to_string(project.file()).expect("it is there");
    fs::write(project.file(), text.replace("A: b", "A: c")).expect("it can be written");
    let before = web.id();
    project.up();
    assert_ne!(web.id(), before);
    wait_for_first(&stage, std::slice::from_ref(&web));
    let digest = stage.push("v4");
    stage.wait_for_digest(web.name(), &digest);
    stage.assert_settled(&web, "v4");
    let environment = web.inspect()["Config"]["Env"].to_string();
    assert!(environment.contains("A=c") && !environment.contains("A=b"), "{environment}");
    project.run(["down", "--volumes"]);
    assert_eq!(project.names(), [""; 0]);
}

/// T66b, T66c (finding A1): Compose sees two containers for one, removes the newer and makes the older anew. Whatever it does, one
/// container of the name serves in the end, and it is the new version.
#[test]
fn t66_up_in_the_middle_of_a_replacement_loses_nothing() {
    for phase in [Phase::Created, Phase::PolicyOff, Phase::Stopped, Phase::Swapped] {
        let (stage, project, web) = held_at(phase, Behaviour::Serves);
        let during = project.try_run(["up", "--detach"]);
        let case = format!("{phase:?}, {during:?}");
        fs::remove_file(stage.daemon.state_directory().join("hold-at")).expect("it is there");
        let digest = stage.track()["target"]["digest"].as_str().expect("a digest").to_owned();
        stage.wait_for_digest(web.name(), &digest);
        stage.assert_settled(&web, "v2");
        assert_eq!(project.names(), [web.name()], "{case}");
        let id = web.id();
        project.up();
        assert_eq!(web.id(), id, "{case}");
        let digest = stage.push("v3");
        stage.wait_for_digest(web.name(), &digest);
        stage.assert_settled(&web, "v3");
    }
}

/// T66d (finding A1): during the gate and the monitor it removes both, and mostly fails to make a third of the name, since the engine
/// still removes the second. Whoever does it again, as its error asks for, has one that runs, and that gets the next version.
#[test]
fn t66_up_during_the_monitor_is_not_in_the_way_of_what_compose_makes_next() {
    for behaviour in [Behaviour::Serves, Behaviour::NeverListens] {
        let (stage, project, _) = held_at(Phase::Started, behaviour);
        let mut during = project.try_run(["up", "--detach"]);
        fs::remove_file(stage.daemon.state_directory().join("hold-at")).expect("it is there");
        let web = wait_until(SOON, "one container to run", || {
            if during.is_err() {
                during = project.try_run(["up", "--detach"]);
            }
            stage.wait_for_quiet();
            let only = project.only()?;
            // It may go between two looks.
            let runs = try_docker(["inspect", "--format", "{{.State.Running}}", only.name()])?;
            if runs == "true" { Ok(only) } else { Err(format!("{}: {during:?}", only.name())) }
        });
        let digest = stage.push("v3");
        stage.wait_for_digest(web.name(), &digest);
        stage.assert_settled(&web, "v3");
    }
}

/// A project of one container, whose replacement by a version that behaves so is held at a phase.
fn held_at(phase: Phase, behaviour: Behaviour) -> (Stage, Compose, RunningContainer) {
    let stage = Stage::new();
    stage.push("v1");
    let project = project(&stage, &[("web", "init: true")], "");
    project.up();
    let web = project.container("web", 1);
    wait_for_first(&stage, std::slice::from_ref(&web));
    let state = stage.daemon.state_directory();
    fs::write(state.join("hold-at"), phase.word()).expect("the state directory can be written");
    stage.push_that("v2", behaviour);
    wait_until(SOON, "the daemon to be held", || {
        fs::read_to_string(state.join("held")).map_err(|_| stage.daemon.log())
    });
    (stage, project, web)
}

/// T67: each keeps its name and number, and Compose counts them as before.
#[test]
fn t67_scaled_services_keep_their_numbers() {
    let stage = Stage::new();
    stage.push("v1");
    let project = project(&stage, &[("web", "scale: 3")], "");
    project.up();
    let all = [1, 2, 3].map(|number| project.container("web", number));
    wait_for_first(&stage, &all);
    let digest = stage.push("v2");
    for container in &all {
        stage.wait_for_digest(container.name(), &digest);
    }
    stage.wait_for_quiet();
    let ids = all.each_ref().map(RunningContainer::id);
    project.up();
    assert_eq!(all.each_ref().map(RunningContainer::id), ids);
    for (container, number) in all.iter().zip(1..) {
        assert_eq!(container.inspect()["Config"]["Labels"]["com.docker.compose.container-number"], number.to_string());
    }
    project.run(["up", "--detach", "--scale", "web=4"]);
    let fourth = project.container("web", 4);
    wait_for_first(&stage, std::slice::from_ref(&fourth));
    project.run(["up", "--detach", "--scale", "web=2"]);
    assert_eq!(project.names(), [all[0].name(), all[1].name()]);
    let digest = stage.push("v3");
    for container in &all[..2] {
        stage.wait_for_digest(container.name(), &digest);
    }
    stage.assert_settled(&all[0], "v3");
}

/// PB02: web migrates at its start, and the jobs end at once on a database older than they are.
#[test]
fn case_pb02_the_jobs_of_an_image_come_after_the_web_that_migrates() {
    let stage = Stage::new();
    push_migrating(&stage, 1);
    let jobs = "entrypoint: [/bin/sh, -c, \"[ $$(/bin/busybox cat /data/at) -ge $$SCHEMA ] || exit 1; exec /bin/app\"]";
    let jobs =
        format!("scale: 3, volumes: [\"data:/data\"], depends_on: {{ web: {{ condition: service_started }} }}, {jobs}");
    let services = [("jobs", jobs.as_str()), ("web", "volumes: [\"data:/data\"]")];
    let project = project(&stage, &services, "volumes: { data: { labels: { ${LABELS} } } }");
    project.up();
    let all = [("web", 1), ("jobs", 1), ("jobs", 2), ("jobs", 3)].map(|(name, number)| project.container(name, number));
    wait_for_first(&stage, &all);
    for schema in [2, 3] {
        let digest = push_migrating(&stage, schema);
        for container in &all {
            stage.wait_for_digest(container.name(), &digest);
        }
    }
}

/// A version that migrates a database to its schema before it serves.
fn push_migrating(stage: &Stage, schema: u32) -> String {
    let script = "/bin/busybox echo $SCHEMA > /data/at; exec /bin/app";
    let image = AppImage::new(&format!("v{schema}")).env("SCHEMA", &schema.to_string());
    image.entrypoint(["/bin/sh", "-c", script]).push(&stage.scene, &stage.registry, REPOSITORY, "latest")
}

/// PB14: `links:` in a network of the project's own is but a name, on both sides of it.
#[test]
fn case_pb14_scaled_services_with_links_are_replaced_on_both_sides() {
    let stage = Stage::new();
    stage.push("v1");
    let cloud = "scale: 2, links: [\"db:clouddb\"], depends_on: [db], networks: [default, edge]";
    let project = project(&stage, &[("cloud", cloud), ("db", "init: true")], "");
    project.up();
    let all = [("cloud", 1), ("cloud", 2), ("db", 1)].map(|(name, number)| project.container(name, number));
    wait_for_first(&stage, &all);
    let digest = stage.push("v2");
    for container in &all {
        stage.wait_for_digest(container.name(), &digest);
    }
    for cloud in &all[..2] {
        let reached = "/bin/busybox wget -q -O - http://clouddb:8080/version";
        assert_eq!(docker(["exec", cloud.name(), "/bin/sh", "-c", reached]), "v2");
    }
}
