//! The machines and containers of a storm.

use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_core::image::Track;
use deployer_core::slot::Scope;
use deployer_simulated::engine::Spec;

use crate::simulated::cluster::{Shape, track};

/// Long enough to see what dies early, and no longer: a storm spends most of its time at gates.
const MONITOR: &str = "10s";

/// Soon enough to heal a lost notification before a storm counts as one that comes to no end.
const REGISTRY_CHECK: Duration = Duration::from_secs(1200);

/// Few machines with containers that are all alike.
pub fn plain(seed: u64) -> Shape {
    let containers: &[&str] = if seed.is_multiple_of(4) { &["web", "web-too"] } else { &["web"] };
    let mut shape = Shape::plain(2 + (seed % 3) as usize, containers);
    shape.hosts.iter_mut().flatten().for_each(|spec| spec.monitor = MONITOR);
    shape
}

/// Machines and containers of all kinds.
pub fn of_all_kinds(random: &Ambient) -> Shape {
    let below = |limit: usize| (random.random() % limit as u64) as usize;
    // Now and then one machine is crowded.
    let is_crowded = below(100) == 0;
    let machines = if is_crowded { 1 + below(2) } else { [1, 2, 3, 3, 3, 3, 4, 5][below(8)] };
    let tracks: Vec<Track> = (1..=[1, 1, 1, 2, 3][below(5)]).map(track).collect();
    let services = services(random, &tracks);
    let policies = ["always", "always", "unless-stopped", "on-failure", "on-failure:3", "no"];
    let spec = |number: usize| {
        let service = services[below(services.len())].clone();
        let network = if below(6) == 0 { "backend" } else { "default" };
        Spec { name: format!("web{number}"), policy: policies[below(policies.len())], network, ..service }
    };
    let host = |number: usize| {
        let count = if is_crowded && number == 0 { 17 + below(24) } else { [1, 1, 1, 2, 3][below(5)] };
        let mut specs: Vec<Spec> = (1..=count).map(spec).collect();
        if below(4) == 0 {
            specs.push(Spec { is_managed: false, ..Spec::new("theirs", &tracks[0]) });
        }
        specs
    };
    let hosts = (0..machines).map(host).collect();
    let scope = [Scope::Cluster, Scope::Service][below(2)];
    Shape { scope, hosts, tracks, registry_check: Some(REGISTRY_CHECK) }
}

/// What the containers of each service have in common. Often there is one service; a track may have several.
fn services(random: &Ambient, tracks: &[Track]) -> Vec<Spec> {
    let below = |limit: usize| (random.random() % limit as u64) as usize;
    let limits = ["", "", "", "2", "50%"];
    let count = tracks.len() + [0, 0, 1][below(3)];
    let spec = |number: usize| {
        let service = if number < tracks.len() { String::new() } else { format!("service-{number}") };
        let (limit, has_check) = (limits[below(limits.len())].to_owned(), below(3) > 0);
        Spec { service, limit, has_check, monitor: MONITOR, ..Spec::new("", &tracks[number % tracks.len()]) }
    };
    (0..count).map(spec).collect()
}
