//! The main job on real parts: a push becomes a healthy deployment.

mod common;

use common::{REPOSITORY, SOON, Stage};
use deployer_testkit::{AppImage, Behaviour, docker, wait_until};
use serde_json::Value;

#[test]
fn a_push_is_deployed_and_so_are_the_second_and_the_third() {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    for version in ["v2", "v3", "v4"] {
        let digest = stage.push(version);
        stage.wait_for_digest(web.name(), &digest);
        web.wait_for_version(version, SOON);
    }
    stage.assert_settled(&web, "v4");
    assert_eq!(stage.track()["record"]["seq"], 4);
}

#[test]
fn a_tag_moved_back_to_an_older_image_deploys_it() {
    let stage = Stage::new();
    let first = stage.push("v1");
    let web = stage.run(&stage.container("web"));
    docker(["tag", &stage.image(), &format!("{}/{REPOSITORY}:old", stage.registry.push_address())]);
    let second = stage.push("v2");
    stage.wait_for_digest(web.name(), &second);
    docker(["push", "--quiet", &format!("{}/{REPOSITORY}:old", stage.registry.push_address())]);
    assert_eq!(stage.registry.retag(REPOSITORY, "old", "latest"), first);
    stage.wait_for_digest(web.name(), &first);
    stage.assert_settled(&web, "v1");
    docker(["rmi", &format!("{}/{REPOSITORY}:old", stage.registry.push_address())]);
}

#[test]
fn a_rollback_stays_through_hooks_and_a_restart_and_retry_undoes_it() {
    let mut stage = Stage::new();
    let first = stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let second = stage.push("v2");
    stage.wait_for_digest(web.name(), &second);
    assert_eq!(stage.daemon.cli(["rollback", &stage.image()]).code, Some(0));
    stage.wait_for_digest(web.name(), &first);
    assert_eq!(history(&stage), ["2 hook rolled back good", "1 adopted target good"]);
    for _ in 0..3 {
        assert_eq!(stage.registry.retag(REPOSITORY, "latest", "latest"), second, "the registry notifies again");
        wait_until(SOON, "the hook to be served", || {
            let track = stage.track();
            if track["pending"] == false { Ok(()) } else { Err(track.to_string()) }
        });
    }
    stage.assert_settled(&web, "v1");
    stage.daemon.stop();
    stage.daemon.restart();
    stage.wait_for_state(web.name(), "current");
    stage.assert_settled(&web, "v1");
    assert_eq!(stage.daemon.cli(["retry", &stage.image()]).code, Some(0));
    stage.wait_for_digest(web.name(), &second);
    stage.assert_settled(&web, "v2");
}

/// The history as it is told to programs: place, source, and what became of it.
fn history(stage: &Stage) -> Vec<String> {
    let told = stage.daemon.cli(["history", &stage.image(), "-o", "json"]);
    let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
    let lines = |list: &str| told[list].as_array().cloned().unwrap_or_default();
    let line = |version: &Value| {
        let mut line = format!("{} {}", version["seq"], version["source"].as_str().unwrap_or_default());
        for (word, holds) in [
            (" target", version["seq"] == told["target"]),
            (" rolled back", version["withdrawn"] == true),
            (" good", lines("verdicts").iter().any(|v| v["digest"] == version["digest"] && v["verdict"] == "good")),
        ] {
            line.push_str(if holds { word } else { "" });
        }
        line
    };
    lines("versions").iter().map(line).collect()
}

#[test]
fn deploy_follows_to_the_end_and_its_exit_code_tells() {
    let mut stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    stage.registry.notify(Vec::new());
    stage.push("v2");
    let deployed = stage.daemon.cli(["deploy", &stage.image()]);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    assert!(deployed.stdout.contains("candidate passed the gate"), "it tells what happens: {deployed:?}");
    stage.assert_settled(&web, "v2");
    stage.push_that("v3", Behaviour::ExitsAtOnce);
    let failed = stage.daemon.cli(["deploy", &stage.image()]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("exited"), "it says why: {failed:?}");
    let mistaken = stage.daemon.cli(["deploy", "nobody/runs:this"]);
    assert_eq!(mistaken.code, Some(2), "{mistaken:?}");
    stage.assert_settled(&web, "v2");
}

/// Else a person would be told of the outage that is over, or wait for the next try's time.
#[test]
fn deploy_asks_a_registry_that_is_back_at_once() {
    let mut stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    stage.registry.notify(Vec::new());
    stage.push("v2");
    stage.registry.stop();
    let away = stage.daemon.cli(["deploy", &stage.image()]);
    assert_eq!(away.code, Some(1), "{away:?}");
    assert!(away.stderr.contains("connection refused"), "{away:?}");
    stage.registry.restart();
    let back = stage.daemon.cli(["deploy", &stage.image()]);
    assert_eq!(back.code, Some(0), "{back:?}");
    stage.assert_settled(&web, "v2");
}

#[test]
fn deploy_says_that_what_is_left_alone_is_not_deployed() {
    let stage = Stage::new();
    stage.push("v1");
    let mislabelled = stage.container("mislabelled").label("deployer.monitor", "soon").run();
    stage.wait_for_state(mislabelled.name(), "held_back");
    let told = stage.daemon.cli(["deploy", &stage.image()]);
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.stderr.contains("deployer.monitor=soon"), "{told:?}");
    let unparsable = stage.daemon.cli(["deploy", "acme/Web:1"]);
    assert_eq!(unparsable.code, Some(2), "{unparsable:?}");
    assert!(unparsable.stderr.contains("is not a repository"), "{unparsable:?}");
}

#[test]
fn what_is_the_users_survives_and_what_is_the_images_follows_the_image() {
    let stage = Stage::new();
    let image =
        |version: &str| AppImage::new(version).env("FROM_IMAGE", version).label("from.image", version).volume("/data");
    image("v1").push(&stage.scene, &stage.registry, REPOSITORY, "latest");
    let network = stage.scene.network("second");
    let plain = stage.container("web").env("FROM_USER", "kept").label("from.user", "kept").option("--hostname=mine");
    let web = stage.run(&plain);
    docker(["network", "connect", "--alias", "nickname", &network, web.name()]);
    docker(["exec", web.name(), "/bin/sh", "-c", "echo precious >/data/file"]);
    for version in ["v2", "v3"] {
        let digest = image(version).push(&stage.scene, &stage.registry, REPOSITORY, "latest");
        stage.wait_for_digest(web.name(), &digest);
        let inspection = web.inspect();
        let env = inspection["Config"]["Env"].to_string();
        assert!(env.contains("FROM_USER=kept") && env.contains(&format!("FROM_IMAGE={version}")), "{env}");
        let labels = &inspection["Config"]["Labels"];
        assert_eq!((&labels["from.user"], &labels["from.image"]), (&"kept".into(), &version.into()));
        assert_eq!(inspection["Config"]["Hostname"], "mine");
        assert_eq!(inspection["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
        let aliases = inspection["NetworkSettings"]["Networks"][&network]["Aliases"].to_string();
        assert!(aliases.contains("nickname"), "{aliases}");
        assert_eq!(docker(["exec", web.name(), "/bin/busybox", "cat", "/data/file"]), "precious");
    }
}

/// An entry point that fetches a file at each start could never be deployed, and nothing said how.
#[test]
fn case_pb07_files_that_their_user_lets_go_keep_no_version_out() {
    let stage = Stage::new();
    stage.push("v1");
    let lets_go = stage.run(&stage.container("web").label("deployer.discard", "files"));
    let keeps = stage.run(&stage.container("other"));
    for container in [&lets_go, &keeps] {
        let fetch = "echo fetched >/etc/fetched && touch -d \"@$(($(date +%s) + 2))\" /etc/fetched";
        docker(["exec", container.name(), "/bin/sh", "-c", fetch]);
    }
    let second = stage.push("v2");
    stage.wait_for_digest(lets_go.name(), &second);
    let refused = stage.wait_for_state(keeps.name(), "failed_here");
    assert!(refused["reason"].to_string().contains("deployer.discard=files"), "{refused}");
    assert_eq!(keeps.id(), keeps.first_id());
}

/// It said that there was nothing to do, and the push was refused.
#[test]
fn case_pb21_a_plan_tells_before_any_push_what_would_be_refused() {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let helper = stage.run(&stage.container("helper").option("--rm").restart("no"));
    let endless = stage.run(&stage.container("endless").option("--stop-timeout=-1"));
    let plan = stage.daemon.cli(["plan", "--output", "json"]);
    let tracks: Value = serde_json::from_str(&plan.stdout).unwrap_or_else(|error| panic!("{error}: {plan:?}"));
    let refusal = |name: &str| {
        let containers = tracks[0]["containers"].as_array().expect("containers");
        containers.iter().find(|container| container["name"] == name).expect("each is in it")["refusal"].to_string()
    };
    assert_eq!(refusal(web.name()), "null");
    assert!(refusal(helper.name()).contains("--rm"), "{}", refusal(helper.name()));
    assert!(refusal(endless.name()).contains("deployer.stop.timeout"), "{}", refusal(endless.name()));
    let table = stage.daemon.cli(["plan"]).stdout;
    assert!(table.contains("a new version would be refused"), "{table}");
}

#[test]
fn what_is_not_ours_is_left_alone_with_the_reason() {
    let stage = Stage::new();
    let digest = stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let pinned =
        stage.container("pinned").image(&format!("{}@{digest}", stage.image().trim_end_matches(":latest"))).run();
    let foreign = stage.container("foreign").label("com.docker.swarm.task.id", "x").run();
    let mislabelled = stage.container("mislabelled").label("deployer.monitor", "soon").run();
    let stranger = deployer_testkit::Container::new(&stage.scene, "stranger").image(&stage.image()).run();
    let removed_on_exit = stage.container("ephemeral").option("--rm").restart("no").run();
    // The last option counts.
    let endless = stage.container("endless").option("--stop-timeout=-1").run();
    let second = stage.push("v2");
    stage.wait_for_digest(web.name(), &second);
    let refused = stage.wait_for_state(removed_on_exit.name(), "failed_here");
    assert!(refused["reason"].to_string().contains("--rm"), "{refused}");
    let refused = stage.wait_for_state(endless.name(), "failed_here");
    assert!(refused["reason"].to_string().contains("deployer.stop.timeout"), "{refused}");
    assert_eq!(
        stage.wait_for_state(foreign.name(), "unmanaged")["reason"],
        "it belongs to Docker Swarm, which would make it again"
    );
    let held = stage.wait_for_state(mislabelled.name(), "held_back");
    assert!(held["reason"].to_string().contains("deployer.monitor=soon"), "{held}");
    let unmanaged = stage.wait_for_state(pinned.name(), "unmanaged");
    assert!(unmanaged["reason"].to_string().contains("by digest"), "{unmanaged}");
    for untouched in [&pinned, &foreign, &mislabelled, &stranger, &removed_on_exit, &endless] {
        assert_eq!(untouched.id(), untouched.first_id(), "{} was touched", untouched.name());
    }
}

#[test]
fn a_stopped_container_stays_stopped() {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let stopped = stage.container("stopped").create();
    let digest = stage.push("v2");
    stage.wait_for_digest(web.name(), &digest);
    assert_eq!(stopped.id(), stopped.first_id());
    assert_ne!(stage.wait_for_state(stopped.name(), "held_back")["digest"], digest.as_str());
}

/// What somebody else has named stays: on containerd's image store it could go with the name that the pull made.
#[test]
fn images_that_nobody_needs_are_removed_and_the_way_back_is_kept() {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let repository = stage.image().trim_end_matches(":latest").to_owned();
    let known_good = format!("{repository}:known-good");
    let digests: Vec<String> = ["v2", "v3", "v4", "v5"]
        .map(|version| {
            let digest = stage.push(version);
            stage.wait_for_digest(web.name(), &digest);
            stage.wait_for_quiet();
            if version == "v3" {
                docker(["tag", &format!("{repository}@{digest}"), &known_good]);
            }
            digest
        })
        .into();
    let names = |name: &str| {
        deployer_testkit::try_docker(["image", "inspect", "--format", "{{.RepoTags}}", name]).unwrap_or_default()
    };
    wait_until(SOON, "old images to go", || {
        let here: Vec<bool> =
            digests.iter().map(|digest| !names(&format!("{repository}@{digest}")).is_empty()).collect();
        let is_kept = names(&known_good).contains("deployer.invalid/");
        if here == [false, true, true, true] && !is_kept { Ok(()) } else { Err(format!("{here:?} {is_kept}")) }
    });
    assert!(names(&known_good).contains(&known_good), "a person's tag is not ours to remove");
    docker(["rmi", &known_good]);
}

/// Built and pushed on the machine that runs it: the tag names an image that no registry knows until the push ends,
/// which is after the registry has told of it.
#[test]
fn a_push_from_the_same_machine_is_deployed() {
    let stage = Stage::new();
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let image = AppImage::new("v2").build(&stage.scene);
    let digest = image.push(&stage.registry, &stage.registry.address(), REPOSITORY, "latest");
    stage.wait_for_digest(web.name(), &digest);
    stage.assert_settled(&web, "v2");
    let bad = AppImage::new("v3").behaviour(Behaviour::ExitsAtOnce).build(&stage.scene);
    let bad = bad.push(&stage.registry, &stage.registry.address(), REPOSITORY, "latest");
    stage.wait_for_bad(&bad);
    stage.assert_settled(&web, "v2");
    let under_the_tag = docker(["image", "inspect", "--format", "{{.Id}}", &stage.image()]);
    assert_eq!(web.inspect()["Image"], under_the_tag.as_str(), "the tag is back at what runs");
}

/// `docker build` and `compose up` on the machine itself. Whether a registry has the image, containerd's image store does
/// not tell; the classic one does.
#[test]
fn a_local_build_is_left_alone_until_it_is_pushed() {
    let mut stage = Stage::new();
    let first = stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let build = AppImage::new("v2").build(&stage.scene);
    build.tag(&stage.image());
    docker(["rm", "--force", web.name()]);
    let web = stage.container("web").run();
    stage.wait_for_state(web.name(), "held_back");
    assert_eq!(stage.registry.retag(REPOSITORY, "latest", "latest"), first, "the registry notifies of the old one");
    stage.daemon.stop();
    stage.daemon.restart();
    let held = stage.wait_for_state(web.name(), "held_back");
    assert!(held["reason"].to_string().contains("the local tag names"), "{held}");
    assert_eq!(web.id(), web.first_id(), "it is not replaced by what the registry has");
    let digest = build.push(&stage.registry, &stage.registry.address(), REPOSITORY, "latest");
    stage.wait_for_digest(web.name(), &digest);
    assert_eq!(web.id(), web.first_id(), "it runs that already");
    assert_eq!(stage.track()["record"]["digest"], digest.as_str());
}
