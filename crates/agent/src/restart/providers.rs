//! The other containers whose namespaces a container of a replacement uses, as they are now.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use deployer_core::gate::addresses;
use deployer_core::successor::{Dependence, DependenceKind, depends_on};
use deployer_engine::mirror::Container;
use serde_json::Value;

use crate::world::World;

/// How long one that exists may take to run, before what uses it is started all the same: after a boot the engine starts both.
const RUNS_WITHIN: Duration = Duration::from_secs(60);
/// Containers that use each other's network in a row, at the most.
const STEPS_MAX: usize = 4;

/// What an engine refuses to start a container without.
fn is_needed(used: &Dependence) -> bool {
    used.kind != DependenceKind::Volumes
}

fn find(world: &World, used: &Dependence) -> Option<Arc<Container>> {
    let snapshot = world.engine_mirror.snapshot();
    snapshot.containers.values().find(|other| used.is_on(&other.name, &other.id)).cloned()
}

/// Why no engine would start a container of this inspection: something that it uses is gone, or does not run.
pub fn unmet(world: &World, container: &Value) -> Option<String> {
    depends_on(container).iter().filter(|used| is_needed(used)).find_map(|used| match find(world, used) {
        None => Some(format!("container '{}', which it uses, is gone", used.on)),
        Some(other) if !runs(&other) => Some(format!("container '{}', which it uses, does not run", other.name)),
        Some(_) => None,
    })
}

fn runs(other: &Container) -> bool {
    matches!(other.state.as_str(), "running" | "paused")
}

/// Waits for a while until all that a container uses runs, or is gone.
pub async fn wait_for_all(world: &World, container: &Value) {
    let needed: Vec<Dependence> = depends_on(container).into_iter().filter(is_needed).collect();
    let mut mirror = world.engine_mirror.subscribe();
    let all_run = mirror.wait_for(|now| {
        let mut used = now.containers.values().filter(|other| needed.iter().any(|u| u.is_on(&other.name, &other.id)));
        used.all(|other| runs(other))
    });
    // What is missing then is told by the engine.
    drop(tokio::time::timeout(RUNS_WITHIN, all_run).await);
}

/// The processes whose namespaces a container uses: another one of the same name has others, and who was in those of before is
/// left in what is of no use any more.
pub fn processes(world: &World, container: &Value) -> Vec<(String, String)> {
    let needed = depends_on(container).into_iter().filter(is_needed);
    let process = |other: Arc<Container>| (other.id.clone(), other.started_at.clone());
    needed.filter_map(|used| find(world, &used)).filter(|other| runs(other)).map(process).collect()
}

/// Where a container of this inspection answers: at its own addresses, or at those of the container whose network it uses.
pub fn addresses_of(world: &World, container: &Value) -> Vec<IpAddr> {
    let is_network = |used: &Dependence| used.kind == DependenceKind::Network;
    let Some(mut used) = depends_on(container).into_iter().find(is_network) else { return addresses(container) };
    for _ in 0..STEPS_MAX {
        let Some(other) = find(world, &used) else { break };
        match other.leans_on.iter().find(|used| is_network(used)) {
            Some(further) => used = further.clone(),
            None => return other.addresses.clone(),
        }
    }
    Vec::new()
}
