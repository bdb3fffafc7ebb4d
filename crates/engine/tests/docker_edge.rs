//! The Docker edge against the real engine and registry, and against a server that does what those will not.

use std::io::{Read, Write};
use std::iter::repeat;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use deployer_core::image::{Digest, ImageName, ImageRef, Track};
use deployer_engine::docker::Docker;
use deployer_engine::{Api, Engine, EngineError, Hand, HttpProbe, ImageHand, ImageSummary, PullError, ResolveError};
use deployer_testkit::{AppImage, Registry, RegistryOptions, Scene, docker};
use deployer_wire::Endpoint;
use futures_util::StreamExt;
use serde_json::{Value, json};

/// For what takes a second or two on an idle machine.
const SOON: Duration = Duration::from_secs(60);
/// The repository that is pushed to.
const REPOSITORY: &str = "acme/web";

fn real() -> Docker {
    Docker::new(Endpoint::parse(deployer_testkit::Engine::shared().address()).expect("the engine's address"))
}

fn track(registry: &Registry, tag: &str) -> Track {
    Track::parse(&registry.image(REPOSITORY, tag)).expect("a track")
}

/// An engine that gives the same answer to everything.
fn canned(answer: &'static [u8]) -> Docker {
    scripted(vec![answer]).0
}

/// An engine that gives these answers in turn, the last of them from then on, and the heads of what it was asked.
fn scripted(answers: Vec<&'static [u8]>) -> (Docker, Arc<Mutex<Vec<String>>>) {
    let (address, asked) = server(answers);
    (Docker::new(Endpoint::Tcp(address.to_string())), asked)
}

fn server(answers: Vec<&'static [u8]>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    thread::spawn(move || {
        let last = *answers.last().expect("an answer");
        for (mut stream, answer) in listener.incoming().flatten().zip(answers.into_iter().chain(repeat(last))) {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or_default();
            log.lock().expect("no panic").push(String::from_utf8_lossy(&request[..read]).into_owned());
            let _ = stream.write_all(answer);
        }
    });
    (address, asked)
}

/// An answer with a body, as a server gives it.
fn answer(status: &str, body: &Value) -> &'static [u8] {
    let body = body.to_string();
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes().leak()
}

const PING: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nContent-Length: 0\r\n\r\n";

fn name(text: &str) -> ImageName {
    ImageRef::parse(text).expect("a name").name
}

/// Lists as Docker 26 gave them, with each of its image stores, of five images: `one` pulled by digest, with further tags
/// and a keep-tag; `two` pulled by its tag; `three` pulled by digest and pushed to another repository; one that lost its
/// names while it was in use; one that was built here as `app:1`.
#[tokio::test]
async fn an_image_is_known_by_digest_whatever_the_engines_list_shows_of_it() {
    for (recorded, is_containerds) in [
        (include_str!("image_lists/docker-26-classic.json"), false),
        (include_str!("image_lists/docker-26-containerd.json"), true),
    ] {
        let recorded: Value = serde_json::from_str(recorded).expect("JSON");
        let (engine, _) = scripted(vec![PING, answer("200 OK", &recorded["list"])]);
        let images = engine.images().await.expect("a list");
        let (web, blog, app) = (name("127.0.0.1:5000/acme/web"), name("localhost:5000/acme/blog"), name("app"));
        let at = |repository: &ImageName, word: &str| {
            let digest = Digest::parse(recorded["digests"][word].as_str().expect("a digest")).expect("a digest");
            let mut found = images.iter().filter(|image| image.is_at(repository, &digest));
            (found.next().unwrap_or_else(|| panic!("{word} is here: {images:?}")), found.count())
        };
        let tags = |image: &ImageSummary| image.tags.iter().map(Track::to_string).collect::<Vec<_>>();
        let (one, others) = at(&web, "one");
        let keep_tag = "deployer.invalid/pulled/0123456789abcdef:sha256-1";
        assert_eq!(tags(one), ["127.0.0.1:5000/acme/web:known-good", keep_tag, "docker.io/library/zoo:latest"]);
        assert_eq!((others, one.unverified.contains(&web)), (0, false), "its name by digest says where it is from");
        let (two, _) = at(&web, "two");
        assert_eq!(tags(two), ["127.0.0.1:5000/acme/web:2"]);
        assert_eq!(two.unverified.contains(&web), is_containerds, "a build here would look the same");
        assert_eq!(at(&web, "three"), at(&blog, "three"));
        let built = images.iter().find(|image| image.is_tagged_in(&app)).expect("it is here");
        assert_eq!(built.digests.contains_key(&app), is_containerds, "{built:?}");
        assert_eq!(built.unverified.contains(&app), is_containerds, "{built:?}");
        assert_eq!(images.iter().filter(|image| image.tags.is_empty()).count(), 1, "{images:?}");
    }
}

#[tokio::test]
async fn a_name_is_the_same_in_short_and_in_full() {
    let digest = format!("sha256:{}", "1".repeat(64));
    let (short, full) = (format!("nginx@{digest}"), format!("docker.io/library/nginx@{digest}"));
    let names = |by_tag: &'static str, by_digest: &String| {
        let list = json!([{"Id": "sha256:2", "RepoTags": [by_tag], "RepoDigests": [by_digest]}]);
        scripted(vec![PING, answer("200 OK", &list)]).0
    };
    let docker = names("nginx:1", &short).images().await.expect("a list");
    let podman = names("docker.io/library/nginx:1", &full).images().await.expect("a list");
    assert_eq!(docker, podman);
    assert!(docker[0].is_at(&name("nginx"), &Digest::parse(&digest).expect("a digest")), "{docker:?}");
}

/// As containerd's image store answers while one of the images is being removed.
#[tokio::test]
async fn a_list_that_fails_for_an_image_being_removed_is_asked_for_again() {
    let gone = answer("404 Not Found", &json!({"message": "content digest sha256:1: not found"}));
    let (engine, asked) = scripted(vec![PING, gone, gone, answer("200 OK", &json!([]))]);
    assert_eq!(engine.images().await.expect("a list"), []);
    assert_eq!(asked.lock().expect("no panic").len(), 4);
    let (engine, asked) = scripted(vec![PING, gone]);
    assert_eq!(engine.images().await.map_err(|error| error.kind()), Err("not_found"));
    assert!(asked.lock().expect("no panic").len() < 10, "not for ever");
}

#[tokio::test]
async fn a_registrys_answers_are_told_apart() {
    let scene = Scene::new();
    let registry = Registry::start(RegistryOptions::default());
    let digest = AppImage::new("v1").push(&scene, &registry, REPOSITORY, "latest");
    let resolved = real().resolve(&track(&registry, "latest")).await.expect("it is there");
    assert_eq!(resolved.digest.as_str(), digest);
    let image = |digest: &str| track(&registry, "latest").at(&Digest::parse(digest).expect("a digest"));
    assert!(real().has(&image(&digest)).await.expect("an answer"));
    assert!(!real().has(&image(&format!("sha256:{}", "0".repeat(64)))).await.expect("an answer"));
    let missing = real().resolve(&track(&registry, "missing")).await;
    assert!(matches!(missing, Err(ResolveError::Absent { .. })), "{missing:?}");
    let closed = Track::parse("127.0.0.1:1/acme/web:latest").expect("a track");
    let closed = real().resolve(&closed).await;
    assert!(matches!(closed, Err(ResolveError::Unavailable { .. })), "{closed:?}");
    let login = Registry::start(RegistryOptions { login: true, ..RegistryOptions::default() });
    AppImage::new("v1").push(&scene, &login, REPOSITORY, "latest");
    let denied = real().resolve(&track(&login, "latest")).await;
    assert!(matches!(denied, Err(ResolveError::Denied { .. })), "{denied:?}");
}

#[tokio::test]
async fn a_pull_brings_exactly_the_digest_and_says_what_is_wrong() {
    let scene = Scene::new();
    let registry = Registry::start(RegistryOptions::default());
    let digest = AppImage::new("v1").push(&scene, &registry, REPOSITORY, "latest");
    let track = track(&registry, "latest");
    let reference = track.at(&Digest::parse(&digest).expect("a digest"));
    real().pull(&reference, &|_| ()).await.expect("it is there");
    assert!(real().image(&format!("{}@{digest}", track.name())).await.is_ok());
    let gone = track.at(&Digest::parse(&format!("sha256:{}", "0".repeat(64))).expect("a digest"));
    let gone = real().pull(&gone, &|_| ()).await;
    assert!(matches!(gone, Err(PullError::Absent { .. })), "{gone:?}");
}

#[tokio::test]
async fn repeated_calls_change_nothing() {
    let scene = Scene::new();
    let image = AppImage::new("v1").build(&scene);
    let edge = real();
    let body = json!({"Image": image.name(), "Labels": {"testkit.scene": scene.id()}});
    let id = edge.create(&scene.name("edge"), &body).await.expect("created");
    let taken = edge.create(&scene.name("edge"), &body).await;
    assert!(matches!(taken, Err(EngineError::Conflict { .. })), "{taken:?}");
    for _ in 0..2 {
        edge.start(&id).await.expect("started, or runs already");
    }
    let running = edge.remove(&id).await;
    assert!(matches!(running, Err(EngineError::Conflict { .. })), "a running container is not removed: {running:?}");
    for _ in 0..2 {
        edge.stop(&id, Duration::from_secs(1)).await.expect("stopped, or stopped already");
    }
    for _ in 0..2 {
        edge.remove(&id).await.expect("removed, or gone already");
    }
    assert!(matches!(edge.container(&id).await, Err(EngineError::NotFound { .. })));
}

/// What the mirror is told after an event has to be what its list would say, on every kind of image store.
#[tokio::test]
async fn an_image_that_is_asked_for_alone_is_as_the_list_has_it() {
    let scene = Scene::new();
    let registry = Registry::start(RegistryOptions::default());
    let digest = AppImage::new("v1").push(&scene, &registry, REPOSITORY, "latest");
    let track = track(&registry, "latest");
    let reference = track.at(&Digest::parse(&digest).expect("a digest"));
    let built = AppImage::new("v2").build(&scene);
    real().pull(&reference, &|_| ()).await.expect("it is there");
    let pulled = real().image_summary(&reference.to_string()).await.expect("it is here");
    let further = format!("testkit/{}:further", scene.id());
    for step in ["pulled", "tagged", "untagged"] {
        match step {
            "tagged" => drop(docker(["tag", &pulled.id, &further])),
            "untagged" => drop(docker(["rmi", &further])),
            _ => {}
        }
        let listed = real().images().await.expect("listed");
        for name in [reference.to_string(), built.name().to_owned()] {
            let alone = real().image_summary(&name).await.expect("it is here");
            let in_list = listed.iter().find(|image| image.id == alone.id);
            assert_eq!(Some(&alone), in_list, "{step}: {name}");
            assert_eq!(alone, real().image_summary(&alone.id).await.expect("it is here"), "{step}: {name} by ID");
        }
    }
}

#[tokio::test]
async fn moving_a_tag_is_seen_as_an_event() {
    let scene = Scene::new();
    let image = AppImage::new("v1").build(&scene);
    let mut events = real().events().await.expect("a stream");
    let name = format!("testkit/{}:moved", scene.id());
    docker(["tag", image.name(), &name]);
    let seen = async {
        while let Some(event) = events.next().await {
            let event = event.expect("an event");
            if event.action == "tag" && event.attributes.get("name") == Some(&name) {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(SOON, seen).await.expect("in time"));
}

#[tokio::test]
async fn an_engine_that_is_too_old_is_told_so() {
    let ping = b"HTTP/1.1 200 OK\r\nApi-Version: 1.39\r\nContent-Length: 2\r\n\r\nOK";
    let error = canned(ping).info().await.expect_err("too old").to_string();
    assert!(error.contains("1.39") && error.contains("1.41"), "{error}");
}

/// It speaks Docker's API, and shows by it less than a container was made with.
#[tokio::test]
async fn podman_says_so_in_its_ping() {
    let ping = |header: &str| {
        format!("HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n{header}Content-Length: 2\r\n\r\nOK").leak().as_bytes()
    };
    for (header, shows_all_settings) in [("Libpod-Api-Version: 5.4.2\r\n", false), ("", true)] {
        let api = canned(ping(header)).api().await.expect("it answers");
        assert_eq!(api, Api { version: (1, 41), shows_all_settings });
    }
}

#[tokio::test]
async fn nonsense_and_a_broken_connection_are_errors_and_no_panic() {
    let nonsense = canned(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").info().await;
    assert!(matches!(nonsense, Err(EngineError::Nonsense { .. })), "{nonsense:?}");
    let cut = canned(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 500\r\n\r\n{\"Version\":").info().await;
    assert!(matches!(cut, Err(EngineError::Unreachable { .. })), "{cut:?}");
    let silent = canned(b"").info().await;
    assert!(matches!(silent, Err(EngineError::Unreachable { .. })), "{silent:?}");
    let absent = Docker::new(Endpoint::Unix("/nowhere/docker.sock".into())).info().await;
    assert!(absent.expect_err("nobody there").to_string().contains("unix:///nowhere/docker.sock"));
}

#[tokio::test]
async fn the_version_is_settled_once_and_anew_after_the_engine_was_away() {
    const NEW: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.43\r\nContent-Length: 0\r\n\r\n";
    const OLD: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n";
    let (engine, asked) = scripted(vec![NEW, NEW, NEW, b"", OLD]);
    engine.start("a").await.expect("started");
    engine.start("b").await.expect("started");
    assert_eq!(engine.start("c").await.map_err(|error| error.kind()), Err("unreachable"));
    engine.start("d").await.expect("started");
    let asked = asked.lock().expect("no panic");
    let asked: Vec<&str> = asked.iter().filter_map(|head| head.lines().next()).collect();
    let expected = [
        "GET /_ping HTTP/1.1",
        "POST /v1.43/containers/a/start HTTP/1.1",
        "POST /v1.43/containers/b/start HTTP/1.1",
        "POST /v1.43/containers/c/start HTTP/1.1",
        "GET /_ping HTTP/1.1",
        "POST /v1.41/containers/d/start HTTP/1.1",
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn a_probe_names_the_host_that_it_asks() {
    let (address, asked) = server(vec![b"HTTP/1.1 204 No Content\r\n\r\n"]);
    assert_eq!(real().http_get(address, "/up", SOON).await, HttpProbe::Status(204));
    let asked = asked.lock().expect("no panic").join("").to_lowercase();
    assert!(asked.contains(&format!("\r\nhost: {address}\r\n")), "{asked}");
}
