//! Hosts, daemons, etcd and registry together, with a stand-in for the binary.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use deployer_testkit::http::{Address, Request};
use deployer_testkit::{
    AppImage, Behaviour, Cluster, ClusterOptions, Engine, EtcdCluster, Host, Node, Registry, RegistryOptions, Scene,
    docker, wait_until,
};

use crate::stand_in::stand_in;

const SOON: Duration = Duration::from_secs(20);

fn start(hosts: usize, etcd_members: usize) -> Cluster {
    let directory = tempfile::tempdir().expect("the temporary directory can be written");
    Cluster::start(stand_in(directory.path()), ClusterOptions { hosts, etcd_members }, |builder| builder)
}

/// What a node of the cluster gets when it asks a member of etcd for its health, as its daemon would.
fn ask_etcd(node: &Node, address: &str) -> Output {
    let url = format!("http://{address}/health");
    let mut command = node.host.enter("/bin/busybox");
    command.args(["timeout", "2", "/bin/busybox", "wget", "-q", "-O", "-", &url]);
    command.output().expect("busybox runs")
}

#[track_caller]
fn assert_healthy(node: &Node, address: &str) {
    wait_until(SOON, "etcd to answer", || {
        let answer = ask_etcd(node, address);
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        if text.contains("true") { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}

#[test]
fn a_cluster_has_daemons_on_its_hosts_which_reach_etcd_and_the_registry_until_they_are_cut_off() {
    let cluster = start(2, 3);
    let addresses = cluster.etcd.as_ref().expect("it has an etcd").addresses();
    for (number, node) in (1..).zip(&cluster.nodes) {
        let arguments = node.daemon.state_directory().join("arguments");
        let arguments = fs::read_to_string(arguments).expect("the stand-in writes its arguments");
        let urls: Vec<_> = addresses.iter().map(|address| format!("http://{address}")).collect();
        let expected = format!("--etcd {} --etcd-prefix /{}", urls.join(","), cluster.scene.id());
        assert!(arguments.contains(&expected), "{arguments}");
        assert!(arguments.contains(&format!("--node node{number}-{}", cluster.scene.id())), "{arguments}");
        assert!(node.daemon.address().starts_with(&node.host.address()), "{}", node.daemon.address());
        assert!(TcpStream::connect(node.daemon.address()).is_ok(), "its hooks are reached from this machine");
        addresses.iter().for_each(|address| assert_healthy(node, address));
    }
    cluster.push("v1", Behaviour::Serves);
    let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };

    let cut = cluster.cut_from_etcd(0);
    for address in &addresses {
        let began = Instant::now();
        let answer = ask_etcd(one, address);
        assert!(!answer.status.success() && answer.stdout.is_empty(), "{answer:?}");
        assert!(began.elapsed() >= Duration::from_secs(2), "it hangs, and is not refused: {answer:?}");
        assert_healthy(two, address);
    }
    one.host.engine().docker(["pull", "--quiet", &cluster.image()]);
    drop(cut);
    addresses.iter().for_each(|address| assert_healthy(one, address));

    let cut = cluster.cut_from_registry(1);
    let engine = two.host.engine().address();
    let pull = Command::new("timeout").args(["2", "docker", "--host", engine, "pull", &cluster.image()]).output();
    assert_eq!(pull.expect("docker runs").status.code(), Some(124), "a pull without a registry hangs");
    drop(cut);
    two.host.engine().docker(["pull", "--quiet", &cluster.image()]);
}

#[test]
fn containers_of_one_name_are_watched_by_their_nodes() {
    let cluster = start(3, 0);
    let digest = cluster.push("v1", Behaviour::Serves);
    let containers = cluster.run("web", |container| container);
    assert!(containers.iter().all(|container| container.name() == cluster.scene.name("web")));
    assert!(containers.iter().all(|container| container.digest() == Ok(digest.clone())));

    let sampler = cluster.sample(&containers);
    for container in &containers[..2] {
        container.engine().docker(["restart", "--time", "0", container.name()]);
        container.wait_for_version("v1", SOON);
    }
    let in_turn = sampler.stop();
    cluster.never_two_down(&in_turn).expect("one restarts after the other");
    assert!(in_turn.of(&cluster.nodes[0].name).iter().any(|sample| sample.answer.is_err()), "the gap was seen");
    assert_eq!(in_turn.longest_gap(&cluster.nodes[2].name), Duration::ZERO);

    let sampler = cluster.sample(&containers);
    containers[1].stop();
    containers[2].stop();
    let seen = cluster.never_two_down(&sampler.stop()).expect_err("two are stopped");
    assert!(seen.contains(&cluster.nodes[1].name) && seen.contains(&cluster.nodes[2].name), "{seen}");
}

#[test]
fn an_etcd_of_three_survives_the_loss_of_its_leader_and_stands_still_without_two() {
    let mut etcd = EtcdCluster::start(3);
    etcd.control(["put", "key", "value"]);
    let leader = etcd.leader();
    etcd.member(leader).process().kill_9();
    let next = etcd.leader();
    assert_ne!(next, leader);
    let follower = 3 - leader - next;
    etcd.member(follower).control(["put", "key", "other"]);

    etcd.member(next).process().freeze();
    let error = etcd.member(follower).try_control(["put", "key", "third"]).expect_err("one of three decides nothing");
    assert!(error.contains("timed out") || error.contains("deadline exceeded"), "{error}");
    etcd.member(next).process().thaw();
    etcd.leader();
    etcd.member(leader).restart();
    let value = etcd.member(leader).control(["get", "--print-value-only", "key"]);
    assert!(["other", "third"].contains(&value.as_str()), "a write without an answer may have happened: {value}");
}

#[test]
fn the_registry_counts_how_often_it_was_asked_what_a_tag_points_to() {
    let scene = Scene::new();
    let registry = Registry::start(RegistryOptions::default());
    let digest = AppImage::new("v1").push(&scene, &registry, "acme/web", "latest");
    let asked = || registry.tag_requests("acme/web", "latest");
    assert_eq!(asked(), 0, "neither a push nor the kit asks: {:?}", registry.requests());
    let name = registry.image("acme/web", "latest");
    Engine::shared().call("GET", &format!("/distribution/{name}/json")).expect("the registry answers");
    assert_eq!(asked(), 1, "{:?}", registry.requests());
    docker(["pull", "--quiet", &format!("{}@{digest}", name.trim_end_matches(":latest"))]);
    assert_eq!(asked(), 1, "a pull by digest asks for no tag: {:?}", registry.requests());
    docker(["pull", "--quiet", &name]);
    assert_eq!(asked(), 2, "{:?}", registry.requests());
}

#[test]
fn what_a_killed_test_left_on_the_disk_is_swept_up_by_the_next_test_process() {
    let host = Host::start();
    let left = tempfile::Builder::new().prefix("deployer-testkit-").tempdir().expect("the temporary directory");
    let path = left.path().display().to_string();
    let mut mount = Command::new("mount");
    fs::create_dir(left.path().join("mounted")).expect("an own directory can be written");
    mount.args(["-t", "tmpfs", "tmpfs", &format!("{path}/mounted")]);
    assert!(mount.status().expect("mount runs").success());
    let log = format!("{path}/log");
    fs::write(&log, "").expect("an own directory can be written");
    let mut shim = host.enter("tail").args(["-f", &log]).spawn().expect("tail runs");
    let mut reader = Command::new("tail").args(["-f", &log]).spawn().expect("tail runs");
    let own_network = fs::read_link("/proc/self/ns/net").expect("a process has namespaces");
    wait_until(SOON, "the shim to be on its host", || {
        let network = fs::read_link(format!("/proc/{}/ns/net", shim.id()));
        let files = fs::read_dir(format!("/proc/{}/fd", shim.id())).into_iter().flatten().flatten();
        let has_log = files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file.as_os_str() == &*log);
        if network.is_ok_and(|network| network != own_network) && has_log { Ok(()) } else { Err("not yet".to_owned()) }
    });
    // From here on any test process that begins sweeps it up. The first process, which has another start time, is taken for
    // one whose pid was reused.
    let namespace = fs::read_link("/proc/self/ns/pid").expect("a process has namespaces").display().to_string();
    let namespace: String = namespace.chars().filter(char::is_ascii_digit).collect();
    fs::write(format!("{path}/.owner"), format!("{namespace}/1/0")).expect("an own directory can be written");

    let next = Command::new(std::env::current_exe().expect("a test has a path"))
        .args(["--exact", "hosts::etcd_keeps_its_data_and_address_over_a_kill"])
        .output()
        .expect("the test binary runs");
    assert!(next.status.success(), "{next:?}");
    assert!(!shim.wait().expect("it was started here").success(), "what ran on the dead test's host was ended");
    assert!(reader.try_wait().expect("it was started here").is_none(), "what did not was left alone");
    reader.kill().and_then(|()| reader.wait()).expect("it was started here");
    wait_until(SOON, "the directory to go", || if left.path().exists() { Err(path.clone()) } else { Ok(()) });
    // A request that needs the kit shows that the living host was none of its business.
    let request = Request::new("GET", "/_ping");
    let socket = host.engine().address().trim_start_matches("unix://").to_owned();
    assert_eq!(request.send(&Address::Unix(socket.into())).expect("the host's engine answers").status, 200);
}
