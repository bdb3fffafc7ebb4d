//! Further hosts and etcd. A host needs root, as `scripts/setup` does.

use std::net::TcpStream;
use std::time::Duration;

use deployer_testkit::http::{Address, Request};
use deployer_testkit::{AppImage, Container, Etcd, Host, Registry, RegistryOptions, Sampler, Scene, wait_until};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn two_hosts_run_the_same_image_under_the_same_name_apart_from_each_other() {
    let scene = Scene::new();
    let registry = Registry::start(RegistryOptions::default());
    AppImage::new("v1").push(&scene, &registry, "acme/web", "latest");
    let image = registry.image("acme/web", "latest");
    let hosts = [Host::start(), Host::start()];
    let forwards = hosts.each_ref().map(|host| host.reach(&registry.address()));
    let words = ["one", "two"];
    let containers: Vec<_> = hosts
        .iter()
        .zip(words)
        .map(|(host, word)| Container::new(&scene, word).on(host.engine()).image(&image).run())
        .collect();
    for container in &containers {
        container.wait_for_version("v1", SOON);
    }
    let [one, two] = [&containers[0], &containers[1]];
    assert!(hosts[1].engine().inspect(one.name()).is_err(), "a host sees its own containers only");
    let sampler = Sampler::start_on(&[(one.engine(), one.name()), (two.engine(), two.name())]);
    one.stop();
    let samples = sampler.stop();
    assert_eq!(samples.never_both_down(&[one.name(), two.name()]), Ok(()));
    assert!(samples.of(one.name()).last().is_some_and(|sample| sample.answer.is_err()));
    assert_eq!(samples.longest_gap(two.name()), Duration::ZERO);

    drop(forwards);
    hosts[0].engine().docker(["rmi", "--force", &image]);
    let error = hosts[0].engine().try_docker(["pull", &image]).expect_err("the registry is cut off");
    assert!(error.contains("connection refused"), "{error}");
}

#[test]
fn a_host_survives_the_death_of_its_engine_and_is_gone_when_dropped() {
    let scene = Scene::new();
    let registry = Registry::start(RegistryOptions::default());
    AppImage::new("v1").push(&scene, &registry, "acme/web", "latest");
    let mut host = Host::start();
    let forward = host.reach(&registry.address());
    let web =
        Container::new(&scene, "web").on(host.engine()).image(&registry.image("acme/web", "latest")).restart("always");
    let web = web.run();
    web.wait_for_version("v1", SOON);
    let address = format!("{}:8080", host.engine().container_address(web.name()).expect("it runs").0);

    host.kill_9();
    assert!(host.engine().try_docker(["version"]).is_err());
    assert!(TcpStream::connect(&address).is_ok(), "containers outlive their engine");
    host.restart();
    web.wait_for_version("v1", SOON);

    // The hardest case to clean up after: containers without an engine.
    host.kill_9();
    drop((host, forward));
    // Something else may have the address now, such as a gateway that answers for everything.
    let request = Request { limit: Duration::from_millis(500), ..Request::new("GET", "/version") };
    let answer = request.send(&Address::Tcp(address)).map(|answer| answer.text());
    assert_ne!(answer.ok().as_deref(), Some("v1\n"));
}

#[test]
fn etcd_keeps_its_data_and_address_over_a_kill() {
    let mut etcd = Etcd::start();
    etcd.control(["put", "key", "value"]);
    etcd.process().kill_9();
    assert!(TcpStream::connect(etcd.address()).is_err());
    etcd.restart();
    wait_until(SOON, "the value", || match etcd.control(["get", "--print-value-only", "key"]) {
        value if value == "value" => Ok(()),
        other => Err(other),
    });
}

#[test]
fn a_host_with_a_full_disk_takes_no_image_until_there_is_room() {
    let scene = Scene::new();
    let registry = Registry::start(RegistryOptions::default());
    AppImage::new("v1").push(&scene, &registry, "acme/web", "latest");
    let host = Host::start();
    let _way = host.reach(&registry.address());
    let image = registry.image("acme/web", "latest");
    let full = host.fill_disk();
    let error = host.engine().try_docker(["pull", &image]).expect_err("there is no room");
    assert!(error.contains("no space left on device"), "{error}");
    drop(full);
    host.engine().docker(["pull", "--quiet", &image]);
}
