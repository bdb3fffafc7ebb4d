//! Twenty containers of one service on a host.

use deployer_testkit::{Behaviour, Cluster, ClusterOptions, Container, Process, RunningContainer, Sampler, wait_until};
use serde_json::Value;

use crate::common::{BINARY, is_quiet, quick};
use crate::fleet::LONG;

/// Containers on the first host; the second has one.
const CROWD: usize = 20;

/// Finding H6: sixteen that waited left no room for the one that had to go first, and nobody ever went.
#[test]
fn coordination_h6_of_twenty_stale_containers_on_a_host_the_unhealthy_oldest_goes_first() {
    let cluster = Cluster::start(BINARY, ClusterOptions { hosts: 2, etcd_members: 1 }, |builder| builder);
    cluster.push("v1", Behaviour::Healthy);
    let at_once = |container: Container| quick(container).label("deployer.health.stable", "0s");
    let oldest = cluster.run("web0", at_once);
    let host = &cluster.nodes[0].host;
    let further = (1..CROWD).map(|number| {
        let container = Container::new(&cluster.scene, &format!("web{number}")).image(&cluster.image());
        // One HEALTHCHECK is enough for this, and twenty are a load.
        at_once(container.managed(&cluster.scene)).option("--no-healthcheck").on(host.engine()).run()
    });
    let mut crowd: Vec<RunningContainer> = oldest[..1].to_vec();
    crowd.extend(further);
    crowd.iter().for_each(|container| container.wait_for_version("v1", LONG));
    wait_until(LONG, "all to be known", || {
        let status = cluster.nodes[0].daemon.status();
        let count = status["tracks"][0]["containers"].as_array().map_or(0, Vec::len);
        if count == CROWD + 1 && is_quiet(&status) { Ok(()) } else { Err(status.to_string()) }
    });

    // It answers all the same, but its HEALTHCHECK asks for this.
    host.engine().docker(["exec", oldest[0].name(), "/bin/busybox", "rm", "/www/version"]);
    wait_until(LONG, "it to be unhealthy", || match oldest[0].inspect()["State"]["Health"]["Status"].as_str() {
        Some("unhealthy") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let events = listen(&cluster);
    let [first, second] = [0, 1].map(|node| &cluster.nodes[node].name);
    let shown = [0, 1, CROWD / 2, CROWD - 1].map(|number| (crowd[number].name(), host.engine(), crowd[number].name()));
    let mut asked = shown.to_vec();
    asked.push((second, cluster.nodes[1].host.engine(), oldest[1].name()));
    let sampler = Sampler::start_as(&asked);

    let digest = cluster.push("v2", Behaviour::Serves);
    wait_until(LONG, &format!("all of {first} and {second} to run {digest}"), || {
        let status = cluster.nodes[0].daemon.status();
        let stale = crowd.iter().chain(&oldest[1..]).filter(|container| container.digest().as_ref() != Ok(&digest));
        let stale: Vec<_> = stale.map(RunningContainer::name).collect();
        if stale.is_empty() && is_quiet(&status) { Ok(()) } else { Err(format!("{stale:?} are left: {status}")) }
    });
    let names: Vec<&str> = asked.iter().map(|(word, ..)| *word).collect();
    sampler.stop().never_both_down(&names).unwrap_or_else(|seen| panic!("{seen}"));
    assert_one_at_a_time(&events.stdout(), oldest[0].first_id());
    for (node, count) in cluster.nodes.iter().zip([CROWD, 1]) {
        let all = node.host.engine().docker(["ps", "--all", "--quiet"]);
        assert_eq!(all.lines().count(), count, "no other container is left on {}", node.name);
        let journals = std::fs::read_dir(node.daemon.state_directory().join("replacements")).expect("the folder");
        assert_eq!(journals.count(), 0, "journals are closed on {}", node.name);
    }
}

/// Follows what the first host's engine tells of starts and ends.
fn listen(cluster: &Cluster) -> Process {
    let node = &cluster.nodes[0];
    let mut command = node.host.engine().command();
    command.args(["events", "--format", "{{json .}}", "--filter", "event=start", "--filter", "event=die"]);
    // Told of from now on, whenever the command gets through to the engine.
    let now = node.host.engine().docker(["info", "--format", "{{.SystemTime}}"]);
    command.args(["--since", &now]);
    Process::spawn("docker-events", &command, node.daemon.state_directory())
}

/// Holds that the ailing one ended first, and that never two were down as the engine tells it.
#[track_caller]
fn assert_one_at_a_time(events: &str, ailing: &str) {
    let events: Vec<Value> = events.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut down = 0;
    let mut ends = Vec::new();
    for event in &events {
        match event["Action"].as_str() {
            Some("die") => {
                ends.push(event["id"].as_str().unwrap_or_default());
                down += 1;
            }
            Some("start") => down -= 1,
            other => panic!("{other:?} was not asked for"),
        }
        assert!((0..=1).contains(&down), "one at a time: {events:?}");
    }
    assert_eq!(ends.first(), Some(&ailing), "what is down already goes first");
    assert_eq!(ends.len(), CROWD, "each was stopped once");
}
