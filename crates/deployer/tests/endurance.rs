//! Many replacements in a row, of one container: it is then what it was at first, on another image, and nothing has gathered
//! beside it. Twenty in the ordinary run; `make test-deep` has a thousand.

mod common;
#[path = "../../core/tests/successor/comparable.rs"]
mod comparable;

use std::time::Duration;

use common::{REPOSITORY, Stage};
use comparable::comparable;
use deployer_testkit::{AppImage, RunningContainer, docker, wait_until};
use serde_json::Value;

/// Replacements in the ordinary run; `REPLACEMENTS` says another number.
const REPLACEMENTS: usize = 20;
/// Images that take turns: more than the store remembers versions of a tag, so that each is news.
const IMAGES: usize = 20;
/// Images that deployer keeps for a way back, or has not put away yet.
const KEPT_MAX: usize = 4;
/// For the images of versions that nobody needs to go, after the last replacement.
const PUT_AWAY: Duration = Duration::from_secs(60);

#[test]
fn many_replacements_in_a_row_lose_nothing_and_leave_nothing() {
    let number = std::env::var("REPLACEMENTS").map_or(REPLACEMENTS, |text| text.parse().expect("a number"));
    let stage = Stage::new();
    push_all(&stage);
    point(&stage, 0);
    let web = run(&stage);
    let first = lasting(&web);
    let before = everything_of(&stage);
    let mut id = web.id();
    for round in 1..=number {
        let digest = point(&stage, round % IMAGES);
        stage.wait_for_digest(web.name(), &digest);
        stage.wait_for_quiet();
        let successor = web.id();
        assert_ne!(successor, id, "round {round}");
        id = successor;
    }
    eprintln!("{number} replacements");
    assert_eq!(lasting(&web), first);
    assert_eq!(docker(["exec", web.name(), "/bin/busybox", "cat", "/anonymous/written-first"]), "by the first");
    stage.assert_settled(&web, &format!("v{}", number % IMAGES));
    wait_until(PUT_AWAY, "nothing to be left over", || {
        let now = everything_of(&stage);
        let more = now.images.saturating_sub(before.images);
        let lasting = |it: &Everything| (it.containers, it.networks, it.volumes.clone());
        let is_as_before = lasting(&now) == lasting(&before);
        if is_as_before && more <= KEPT_MAX { Ok(()) } else { Err(format!("{now:?} after {before:?}")) }
    });
}

/// Pushes every version under a tag of its own. None stays on this engine: what is there before deployer pulls it is a person's.
fn push_all(stage: &Stage) {
    for version in 0..IMAGES {
        let image = AppImage::new(&format!("v{version}")).volume("/anonymous").build(&stage.scene);
        image.push(&stage.registry, &stage.registry.push_address(), REPOSITORY, &format!("v{version}"));
        docker(["rmi", "--force", &image.id()]);
    }
}

/// Lets the tag point to a version, of which the registry tells as of any push. Gives back the digest.
fn point(stage: &Stage, version: usize) -> String {
    stage.registry.retag(REPOSITORY, &format!("v{version}"), "latest")
}

/// Three networks, an anonymous volume with data, a host name of its owner's.
fn run(stage: &Stage) -> RunningContainer {
    let container = stage.container("web").network(&stage.scene.network("one")).option("--hostname=of-its-owner");
    let container = container.env("OF_ITS_OWNER", "kept").publish("127.0.0.1::8080").option("--network-alias=shop");
    let web = stage.run(&container.label("deployer.health.stable", "100ms").label("deployer.monitor", "0"));
    for word in ["two", "three"] {
        let network = stage.scene.network(word);
        docker(["network", "connect", "--alias", word, &network, web.name()]);
    }
    let write = "echo by the first > /anonymous/written-first";
    docker(["exec", web.name(), "/bin/sh", "-c", write]);
    stage.wait_for_state(web.name(), "current");
    web
}

/// What of a container must outlast every replacement.
fn lasting(web: &RunningContainer) -> Value {
    let mut lasting = comparable(&web.inspect());
    // The engine's choice, and each image's own.
    lasting["HostConfig"]["Runtime"].take();
    lasting["Config"]["Env"]
        .as_array_mut()
        .expect("variables")
        .retain(|entry| !entry.as_str().is_some_and(|entry| entry.starts_with("TESTKIT_BUILD=")));
    lasting
}

/// What the engine has of the scene.
#[derive(Debug)]
struct Everything {
    containers: usize,
    networks: usize,
    volumes: Vec<String>,
    images: usize,
}

fn everything_of(stage: &Stage) -> Everything {
    let label = format!("label={}", stage.scene.labels()[0]);
    let web = stage.scene.name("web");
    let mounts = docker(["inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}", &web]);
    Everything {
        containers: docker(["ps", "--all", "--quiet", "--filter", &label]).lines().count(),
        networks: docker(["network", "ls", "--quiet", "--filter", &label]).lines().count(),
        volumes: mounts.split_whitespace().map(str::to_owned).collect(),
        images: docker(["images", "--all", "--quiet", "--no-trunc", "--filter", &label]).lines().count(),
    }
}
