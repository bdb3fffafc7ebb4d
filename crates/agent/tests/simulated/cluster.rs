//! Several machines over one store and one registry, and what must hold for them together.

use std::time::Duration;

use deployer_core::image::{Digest, Track};
use deployer_core::store::Entry;
use tokio::time::{sleep, timeout};

use super::attendance::Attendance;
use super::engine::SimulatedEngine;
use super::node::{Node, folder};
use super::registry::{Behaviour, SimulatedRegistry, digest};
use super::store::{Handle, SimulatedStore};

/// How long a letter to or from the store is on its way at most, here.
const LINE: Duration = Duration::from_millis(20);
/// The same for an engine, which is on the same machine.
const ENGINE: Duration = Duration::from_millis(5);
/// How long a container takes to begin or to end at most.
const LIFE: Duration = Duration::from_secs(2);
/// Simulated time in which everything must have come to its end: gates, monitors, and the longest backoff.
const LIMIT: Duration = Duration::from_secs(3600);
/// How long nothing may happen before it counts as the end.
const QUIET: u32 = 20;

/// A machine and its way to the store.
pub struct Member {
    pub node: Node,
    pub line: Handle,
}

/// The machines, and what they share. Each runs containers of one track under the same names.
pub struct Cluster {
    pub members: Vec<Member>,
    pub store: SimulatedStore,
    pub registry: SimulatedRegistry,
    pub attendance: Attendance,
    pub track: Track,
    containers: Vec<String>,
    pushes: u32,
}

impl Cluster {
    /// So many machines that run version 1, and whose daemons have come to rest.
    pub async fn start(machines: usize, containers: &[&str], seed: u64) -> Self {
        let (registry, attendance) = (SimulatedRegistry::default(), Attendance::default());
        let store = SimulatedStore::new(seed);
        let track = Track::parse("registry.example.com/acme/web:1").expect("a track");
        registry.push(&track, 1, Behaviour::Serves);
        let names = ["a", "b", "c", "d", "e"].into_iter().take(machines);
        let members = names.zip(1..).map(|(name, number)| {
            let seed = seed * 1000 + number * 100;
            let engine = SimulatedEngine::new(name, &registry, &attendance, seed);
            containers.iter().for_each(|container| engine.run(&track, container));
            engine.slow(ENGINE, LIFE);
            let line = store.handle(name);
            line.slow(LINE);
            let node = Node::start(name, engine, folder(), std::sync::Arc::new(store.handle(name)), seed);
            Member { node, line }
        });
        let members = members.collect();
        let containers = containers.iter().map(|name| (*name).to_owned()).collect();
        let mut cluster = Self { members, store, registry, attendance, track, containers, pushes: 1 };
        cluster.settle("at the start").await;
        cluster.attendance.begin();
        cluster
    }

    /// Pushes the next version; nobody is told.
    pub fn push(&mut self, behaviour: Behaviour) -> Digest {
        self.pushes += 1;
        self.registry.push(&self.track, self.pushes, behaviour)
    }

    /// Tells one machine of a push, or if it cannot take it the next, as a registry that is answered 503 does.
    pub async fn notify(&self, first: usize) {
        let count = self.members.len();
        for number in first..first + count {
            if self.members[number % count].node.notify(&self.track).await.is_ok() {
                return;
            }
        }
    }

    /// Lets simulated time pass until nothing is under way, an hour at most.
    pub async fn settle(&mut self, case: &str) {
        let settled = async {
            let mut quiet = 0;
            while quiet < QUIET {
                sleep(Duration::from_secs(1)).await;
                quiet = if self.is_quiet() { quiet + 1 } else { 0 };
            }
        };
        let is_settled = timeout(LIMIT, settled).await.is_ok();
        assert!(is_settled, "{case}: not settled\n{}", self.describe());
    }

    fn is_quiet(&mut self) -> bool {
        self.members.iter_mut().all(|member| member.node.is_quiet()) && self.left_behind().is_empty()
    }

    /// Keys that must be gone when nothing is under way: notifications, claims, holds, tickets.
    fn left_behind(&self) -> Vec<Entry> {
        let keys = &self.members[0].node.world.keys;
        let mut left = self.store.entries(&keys.locks());
        left.extend(self.store.entries(&keys.pending(&self.track)));
        left
    }

    /// Asserts that every instance runs a digest, that nothing is left behind, and that at no moment since the start
    /// more than one of the instances was down.
    #[track_caller]
    pub fn assert_converged(&self, digest: &Digest, case: &str) {
        let names: Vec<&str> = self.containers.iter().map(String::as_str).collect();
        self.members.iter().for_each(|member| member.node.assert_whole(&names, &[digest], case));
        assert_eq!(self.left_behind(), [], "{case}");
        let all = self.members.len() * self.containers.len();
        if let Some((fewest, down)) = self.attendance.fewest() {
            assert!(fewest + 1 >= all, "{case}: only {fewest} of {all} served, down were {down}");
        }
    }

    /// What everybody does and the store holds, for a test that fails.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for Member { node, .. } in &self.members {
            let journals = node.world.journals.all().unwrap_or_default();
            let journals: Vec<_> = journals.iter().map(|j| (&j.txn, j.phase, &j.failure)).collect();
            let replacing = node.world.memory().replacing.clone();
            text += &format!("{}: {replacing:?} {journals:?} {:?}\n", node.name, node.engine.containers());
        }
        for entry in self.store.entries("") {
            text += &format!("{} {} {}\n", entry.mod_revision, entry.key, String::from_utf8_lossy(&entry.value));
        }
        text
    }
}

/// The version that every cluster begins with.
pub fn first() -> Digest {
    digest(1)
}
