//! Which processes are known to answer. An engine says "running" as soon as there is a process: after a restart, by
//! whomever, it may take long to open its port, and the next instance must not go down before.

use std::collections::BTreeMap;

use deployer_engine::mirror::{Container, Snapshot};
use tokio::time::Instant;

/// The processes that answer, or have had their time to: when each was started, as the engine writes it, and when it was
/// seen, by the container's ID.
#[derive(Clone, Debug, Default)]
pub struct Settled(BTreeMap<String, (String, Instant)>);

impl Settled {
    /// Whether a container's process of now has settled. One with no port to be asked at has.
    pub fn has(&self, container: &Container) -> bool {
        container.addresses.is_empty()
            || container.ports.is_empty()
            || self.0.get(&container.id).is_some_and(|(started_at, _)| *started_at == container.started_at)
    }

    /// When a container's process was seen to settle, if this daemon saw that.
    pub fn since(&self, id: &str, started_at: &str) -> Option<Instant> {
        self.0.get(id).filter(|(known, _)| known == started_at).map(|(_, seen)| *seen)
    }

    /// Notes that a container's process has settled.
    pub fn note(&mut self, id: &str, started_at: &str) {
        self.0.insert(id.to_owned(), (started_at.to_owned(), Instant::now()));
    }

    /// Forgets containers that are not there any more.
    pub fn retain(&mut self, snapshot: &Snapshot) {
        self.0.retain(|id, _| snapshot.containers.contains_key(id));
    }
}
