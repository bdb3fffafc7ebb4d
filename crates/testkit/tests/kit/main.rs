//! The kit, tried on the real engine and a real registry.

mod cluster;
mod daemon;
mod hosts;
mod stand_in;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use deployer_testkit::http::{Address, Request};
use deployer_testkit::{
    AppImage, Behaviour, Container, Engine, Hook, Notification, Process, Registry, RegistryOptions, Sampler, Scene,
    docker, free_port, try_docker, wait_until,
};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_push_is_notified_and_can_be_pulled() {
    let scene = Scene::new();
    let (endpoint, calls) = listen_for_one_call();
    let hook = Hook::distribution("/hooks/reg", "127.0.0.1:5000");
    let notifications = vec![hook.notification(&endpoint)];
    let registry = Registry::start(RegistryOptions { notifications, login: false });

    let digest = AppImage::new("v1").push(&scene, &registry, "acme/web", "latest");

    let call = calls.recv_timeout(SOON).expect("the registry calls its endpoint");
    assert!(call.starts_with("POST /hooks/reg HTTP/1.1\r\n"), "{call}");
    assert!(call.contains(&format!("Authorization: {}\r\n", hook.authorization())), "{call}");
    // The first call is of the manifest: calls for layers are ignored as configured.
    assert!(call.contains("\"tag\": \"latest\"") && call.contains(&digest), "{call}");

    let image = registry.image("acme/web", "latest");
    assert!(try_docker(["image", "inspect", &image]).is_err(), "the push moved no tag that a container would use");
    let looked = registry.manifest_requests("acme/web");
    docker(["pull", "--quiet", &image]);
    assert!(registry.manifest_requests("acme/web") > looked, "{:?}", registry.requests());
    let digests = docker(["image", "inspect", "--format", "{{.RepoDigests}}", &image]);
    assert!(digests.contains(&digest), "{digests}");

    let other = AppImage::new("v2").push(&scene, &registry, "acme/web", "latest");
    assert_ne!(digest, other);
    assert_eq!(registry.digest("acme/web", "latest"), Some(other));
    assert_eq!(registry.retag("acme/web", &digest, "latest"), digest);
    registry.delete("acme/web", &digest);
    assert_eq!(registry.digest("acme/web", "latest"), None);
}

#[test]
fn a_registry_with_a_login_keeps_strangers_out_and_its_data_over_a_restart() {
    let scene = Scene::new();
    let mut registry = Registry::start(RegistryOptions { login: true, ..RegistryOptions::default() });
    let digest = AppImage::new("v1").push(&scene, &registry, "acme/web", "latest");
    let stranger = Request::new("GET", "/v2/acme/web/tags/list").send(&Address::Tcp(registry.address()));
    assert_eq!(stranger.expect("the registry answers").status, 401);
    registry.stop();
    assert!(Request::new("GET", "/v2/").send(&Address::Tcp(registry.address())).is_err());
    let unheard = Notification { url: "http://127.0.0.1:1/".to_owned(), headers: Vec::new() };
    registry.notify(vec![unheard]);
    assert_eq!(registry.digest("acme/web", "latest"), Some(digest));
}

/// How a container is seen once it has come to rest.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    running: bool,
    exit_code: i64,
    serves: bool,
    health: String,
}

#[track_caller]
fn check(scene: &Scene, behaviour: Behaviour, running: bool, exit_code: i64, serves: bool, health: &str) {
    let word = format!("{behaviour:?}").to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "");
    let container = AppImage::new("v7").behaviour(behaviour.clone()).build(scene).container(scene, &word).run();
    let expected = Seen { running, exit_code, serves, health: health.to_owned() };
    wait_until(SOON, &format!("{behaviour:?} to be {expected:?}"), || {
        let state = &container.inspect()["State"];
        let seen = Seen {
            running: state["Running"] == true,
            exit_code: state["ExitCode"].as_i64().unwrap_or(-1),
            serves: container.version().as_deref() == Ok("v7"),
            health: state["Health"]["Status"].as_str().unwrap_or_default().to_owned(),
        };
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

#[test]
fn images_behave_as_they_say() {
    let scene = Scene::new();
    check(&scene, Behaviour::Serves, true, 0, true, "");
    check(&scene, Behaviour::ExitsAtOnce, false, 1, false, "");
    check(&scene, Behaviour::NeverListens, true, 0, false, "");
    check(&scene, Behaviour::DiesAfter(Duration::from_millis(1500)), true, 0, true, "");
    check(&scene, Behaviour::DiesAfter(Duration::from_millis(200)), false, 1, false, "");
    check(&scene, Behaviour::NeverHealthy, true, 0, true, "unhealthy");
    check(&scene, Behaviour::Healthy, true, 0, true, "healthy");
}

#[test]
fn images_stop_at_once_or_not_at_all() {
    let scene = Scene::new();
    let quick = AppImage::new("v1").build(&scene).container(&scene, "quick").run();
    let stubborn =
        AppImage::new("v1").behaviour(Behaviour::IgnoresSigterm).build(&scene).container(&scene, "stubborn").run();
    for container in [&quick, &stubborn] {
        container.wait_for_version("v1", SOON);
        docker(["stop", "--time", "1", container.name()]);
    }
    assert_eq!(quick.inspect()["State"]["ExitCode"], 0);
    assert_eq!(stubborn.inspect()["State"]["ExitCode"], 137);
}

#[test]
fn an_entrypoint_that_is_missing_is_refused_at_the_start() {
    let scene = Scene::new();
    let image = AppImage::new("v1").behaviour(Behaviour::StartRefused).build(&scene);
    let container = image.container(&scene, "refused").create();
    let error = try_docker(["start", container.name()]).expect_err("the engine refuses the start");
    assert!(error.contains("no such file"), "{error}");
}

#[test]
fn a_foreign_image_says_so_and_can_be_pushed_and_pulled() {
    let scene = Scene::new();
    let registry = Registry::start(RegistryOptions::default());
    AppImage::new("v1").behaviour(Behaviour::ForeignArchitecture).push(&scene, &registry, "acme/web", "latest");
    let image = registry.image("acme/web", "latest");
    docker(["pull", "--quiet", &image]);
    let foreign = docker(["image", "inspect", "--format", "{{.Architecture}}", &image]);
    assert_ne!(foreign, docker(["version", "--format", "{{.Server.Arch}}"]));
    assert!(["arm64", "amd64"].contains(&foreign.as_str()), "{foreign}");
}

#[test]
fn what_an_image_declares_arrives_literally() {
    let scene = Scene::new();
    let odd = r#"a "b" $HOME \ c='d' #"#;
    let image = AppImage::new("v1").env("ODD", odd).label("odd", odd).volume("/data").cmd(["one", "two words"]);
    let container = image.build(&scene).container(&scene, "odd").env("USERS", odd).create();
    let config = container.inspect()["Config"].clone();
    let environment = config["Env"].as_array().expect("a container has variables");
    for name in ["ODD", "USERS"] {
        assert!(environment.contains(&format!("{name}={odd}").into()), "{environment:?}");
    }
    assert_eq!(config["Labels"]["odd"], odd);
    assert_eq!(config["Cmd"], serde_json::json!(["one", "two words"]));
    assert!(config["Volumes"]["/data"].is_object(), "{config}");
}

#[test]
fn a_scene_leaves_nothing_behind_even_in_a_panic() {
    let scene = Scene::new();
    let id = scene.id().to_owned();
    let owned = thread::spawn(move || {
        let network = scene.network("net");
        let image = AppImage::new("v1").volume("/data").build(&scene);
        image.container(&scene, "web").network(&network).volume(&format!("{}:/named", scene.volume("data"))).run();
        image.tag(&format!("{}:kept", scene.name("keep")));
        panic!("the test fails");
    });
    assert!(owned.join().is_err());
    let filter = format!("label=testkit.scene={id}");
    for list in [["ps", "-aq"].as_slice(), &["images", "-q"], &["network", "ls", "-q"], &["volume", "ls", "-q"]] {
        let output = Command::new("docker").args(list).args(["--filter", &filter]).output().expect("docker runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{list:?}");
    }
    assert_eq!(docker(["images", "-q", &format!("keep-{id}")]), "");
}

#[test]
fn the_sampler_sees_a_gap_and_two_down_at_once() {
    let scene = Scene::new();
    let image = AppImage::new("v1").build(&scene);
    let (one, two) = (image.container(&scene, "one").run(), image.container(&scene, "two").run());
    let names = [one.name(), two.name()];
    let serving = || [&one, &two].map(|container| container.wait_for_version("v1", SOON));
    serving();

    let sampler = Sampler::start(&names);
    for name in names {
        docker(["restart", name]);
        serving();
    }
    let in_turn = sampler.stop();
    in_turn.never_both_down(&names).expect("one is up while the other restarts");
    assert!(in_turn.failed_requests() > 0);
    let gap = in_turn.longest_gap(one.name());
    assert!(gap > Duration::from_millis(50) && gap < SOON, "{gap:?}");

    let sampler = Sampler::start(&names);
    docker(["stop", names[0], names[1]]);
    docker(["start", names[0], names[1]]);
    serving();
    let together = sampler.stop();
    let seen = together.never_both_down(&names).expect_err("both were stopped");
    assert!(seen.contains("both down"), "{seen}");
}

#[test]
fn the_sampler_is_not_fooled_by_another_container_at_the_same_address() {
    let scene = Scene::new();
    let image = AppImage::new("v1").build(&scene);
    let network = scene.network("net");
    let first = image.container(&scene, "first").network(&network).run();
    first.wait_for_version("v1", SOON);
    let address = Engine::shared().container_address(first.name()).expect("the first container runs").0;
    let sampler = Sampler::start(&[first.name()]);
    docker(["stop", first.name()]);
    let second = image.container(&scene, "second").network(&network).run();
    second.wait_for_version("v1", SOON);
    assert_eq!(Engine::shared().container_address(second.name()).expect("the second container runs").0, address);
    let samples = sampler.stop();
    assert!(samples.of(first.name()).last().expect("samples were taken").answer.is_err());
}

#[test]
fn a_name_that_never_answers_is_no_proof() {
    let scene = Scene::new();
    let nobody = scene.name("nobody");
    let sampler = Sampler::start(&[&nobody]);
    assert!(sampler.stop().never_both_down(&[&nobody]).is_err());
}

#[test]
fn a_process_dies_with_its_guard_and_keeps_its_log() {
    let directory = tempfile::tempdir().expect("the temporary directory can be written");
    let mut command = Command::new("sh");
    command.args(["-c", "echo $WORD; echo oops >&2; exec sleep 1000"]).env("WORD", "hello");
    // The thread that starts it ends at once, which must not end the child.
    let mut process = thread::scope(|scope| {
        let started = scope.spawn(|| Process::spawn("sleeper", &command, directory.path()));
        started.join().expect("the process starts")
    });
    wait_until(SOON, "the output", || if process.stderr() == "oops\n" { Ok(()) } else { Err(process.stderr()) });
    assert_eq!(process.stdout(), "hello\n");
    assert!(process.is_running());
    let entry = format!("/proc/{}", process.pid());
    drop(process);
    assert!(!std::path::Path::new(&entry).exists());
}

#[test]
fn what_a_killed_test_left_is_swept_up_by_the_next_test_process() {
    let scene = Scene::new();
    let image = AppImage::new("v1").build(&scene);
    let [_, mine] = scene.labels();
    // The same pid, but a start time at which this process did not start.
    let dead = format!("{}/0", mine.rsplit_once('/').expect("an owner has three parts").0);
    let label = |owner: &str, word: &str| {
        let name = scene.name(word);
        docker(["run", "--detach", "--label", owner, "--name", &name, image.name()]);
        name
    };
    let (left, kept) = (label(&dead, "left"), label(&mine, "kept"));

    let next = Command::new(std::env::current_exe().expect("a test has a path"))
        .args(["--exact", "a_name_that_never_answers_is_no_proof"])
        .output()
        .expect("the test binary runs");
    assert!(next.status.success());
    // Another test process may have begun to remove it, and be still at it.
    wait_until(SOON, "the dead process's container to go", || match Engine::shared().inspect(&left) {
        Err(_) => Ok(()),
        Ok(found) => Err(found["State"].to_string()),
    });
    assert!(Engine::shared().inspect(&kept).is_ok());
}

#[test]
fn ports_are_given_out_once() {
    let (one, two) = (free_port(), free_port());
    assert_ne!(one, two);
}

#[test]
#[should_panic(expected = "for the moon; last seen: only stars")]
fn a_wait_ends_with_what_was_seen_last() {
    wait_until(Duration::from_millis(50), "the moon", || Err::<(), _>("only stars"));
}

#[test]
fn a_named_image_can_be_run_without_building_it() {
    let scene = Scene::new();
    let image = AppImage::new("v3").build(&scene);
    let name = format!("{}:tagged", scene.name("tagged"));
    image.tag(&name);
    let container = Container::new(&scene, "web").image(&name).managed(&scene).restart("always").run();
    container.wait_for_version("v3", SOON);
    let inspection = container.inspect();
    assert_eq!(inspection["Config"]["Image"], name);
    assert_eq!(inspection["Config"]["Labels"]["deployer.enable"], scene.id());
    assert_eq!(inspection["Image"], image.id());
    assert_eq!(container.id(), container.first_id());
}

/// A server that answers its first request with 202 and hands the request out.
fn listen_for_one_call() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address").to_string();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the registry connects");
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        // The body is whole once the braces of its JSON are.
        let balanced = |bytes: &[u8]| {
            let count = |brace| bytes.iter().filter(|byte| **byte == brace).count();
            count(b'{') > 0 && count(b'{') == count(b'}')
        };
        while !balanced(&request) {
            let size = stream.read(&mut buffer).expect("the registry sends");
            request.extend_from_slice(&buffer[..size]);
        }
        stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").expect("the registry listens");
        sender.send(String::from_utf8_lossy(&request).into_owned()).expect("the test waits");
    });
    (address, receiver)
}
