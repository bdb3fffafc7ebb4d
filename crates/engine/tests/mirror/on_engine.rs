//! The mirror on the real engine, which other tests use meanwhile: what is counted is what concerns the test's own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use deployer_core::deed::DeedKind;
use deployer_engine::docker::Docker;
use deployer_engine::mirror::{Health, nanos};
use deployer_engine::{Engine, EngineEvent};
use deployer_testkit::{AppImage, Container, Scene, docker};
use deployer_wire::Endpoint;
use futures_util::StreamExt;

use crate::{Following, is_heard};

/// For what takes a second or two on an idle machine.
const SOON: Duration = Duration::from_secs(60);

/// Calls by their first line, each with the bytes of its answer.
type Calls = Arc<Mutex<Vec<(String, usize)>>>;

fn socket() -> String {
    let engine = deployer_testkit::Engine::shared();
    engine.address().trim_start_matches("unix://").to_owned()
}

/// A way to the engine on which calls are counted. It ends with the process.
fn counted() -> (Docker, Calls) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let calls = Calls::default();
    let log = Arc::clone(&calls);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = Arc::clone(&log);
            thread::spawn(move || pass_on(stream, &log));
        }
    });
    (Docker::new(Endpoint::Tcp(address.to_string())), calls)
}

/// One call a connection, as the edge makes them. What it asks fits one read.
fn pass_on(mut asker: TcpStream, log: &Calls) {
    let mut engine = UnixStream::connect(socket()).expect("the engine");
    let mut bytes = vec![0; 64 << 10];
    let length = asker.read(&mut bytes).unwrap_or_default();
    let head = String::from_utf8_lossy(&bytes[..length]).lines().next().unwrap_or_default().to_owned();
    let place = {
        let mut log = log.lock().expect("no panic");
        log.push((head, 0));
        log.len() - 1
    };
    let _ = engine.write_all(&bytes[..length]);
    while let Ok(length @ 1..) = engine.read(&mut bytes) {
        log.lock().expect("no panic")[place].1 += length;
        if asker.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}

fn calls_of(calls: &Calls, part: &str) -> Vec<(String, usize)> {
    calls.lock().expect("no panic").iter().filter(|(head, _)| head.contains(part)).cloned().collect()
}

fn checked(scene: &Scene) -> Container {
    let image = AppImage::new("v1").build(scene);
    let check = ["--health-cmd=true", "--health-interval=1s", "--health-retries=1"];
    check.into_iter().fold(Container::new(scene, "web").image(image.name()), Container::option)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_container_costs_two_calls_and_32_kb_at_most() {
    let scene = Scene::new();
    let (engine, calls) = counted();
    let following = Following::begin(engine);
    following.until(is_heard).await;
    let web = checked(&scene).run();
    let id = web.id();
    let is_healthy = |snapshot: &deployer_engine::mirror::Snapshot| {
        snapshot.containers.get(&id).is_some_and(|web| web.health == Some(Health::Healthy))
    };
    following.until(is_healthy).await;
    let own = calls_of(&calls, &id);
    let bytes: usize = own.iter().map(|(_, bytes)| bytes).sum();
    assert!(own.len() <= 3 && bytes <= own.len() * (32 << 10), "it was created, started, and became healthy: {own:?}");
    docker(["pause", web.name()]);
    following.until(|snapshot| snapshot.containers[&id].state == "paused").await;
    docker(["unpause", web.name()]);
    following.until(|snapshot| snapshot.containers[&id].state == "running").await;
    assert!(calls_of(&calls, &id).len() <= own.len() + 2, "one for each: {calls:?}");
    let started = nanos(&following.mirror.snapshot().containers[&id].started_at);
    docker(["rm", "--force", web.name()]);
    following.until(|snapshot| !snapshot.containers.contains_key(&id)).await;
    let deeds: Vec<DeedKind> = following.mirror.deeds(&id, started).iter().map(|deed| deed.kind).collect();
    assert_eq!(deeds, [DeedKind::Pause, DeedKind::Kill { signal: Some(9) }, DeedKind::Destroy]);
    for list in ["/containers/json", "/images/json"] {
        assert_eq!(calls_of(&calls, list).len(), 1, "everything was listed once: {calls:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_healthcheck_its_outcome_is_heard_and_no_exec() {
    let scene = Scene::new();
    let engine = Docker::new(Endpoint::Unix(socket().into()));
    let mut events = engine.events().await.expect("a stream");
    let web = checked(&scene).run();
    let id = web.id();
    deployer_testkit::wait_until(SOON, "four checks", || {
        let checks = web.inspect()["State"]["Health"]["Log"].as_array().map_or(0, Vec::len);
        if checks >= 4 { Ok(()) } else { Err(format!("{checks} so far")) }
    });
    docker(["rename", web.name(), &scene.name("other")]);
    let mut heard: Vec<String> = Vec::new();
    let own = async {
        while let Some(Ok(EngineEvent { id: of, action, detail, .. })) = events.next().await {
            if of == id {
                heard.push(format!("{action} {detail}").trim().to_owned());
                if action == "rename" {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(SOON, own).await.expect("in time");
    assert_eq!(heard, ["create", "start", "health_status healthy", "rename"]);
}
