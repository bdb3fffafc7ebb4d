//! Several machines over one store and one registry, and what must hold for them together.

use std::time::Duration;

use deployer_core::image::{Digest, Track};
use deployer_core::record::Record;
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
        let run = |engine: &SimulatedEngine, _: &SimulatedRegistry, track: &Track| {
            containers.iter().for_each(|container| engine.run(track, container));
        };
        let mut cluster = Self::of(machines, seed, run).await;
        cluster.containers = containers.iter().map(|name| (*name).to_owned()).collect();
        cluster
    }

    /// So many machines on each of which somebody has run something of the track, and whose daemons have come to rest.
    pub async fn of(machines: usize, seed: u64, run: impl Fn(&SimulatedEngine, &SimulatedRegistry, &Track)) -> Self {
        let (registry, attendance) = (SimulatedRegistry::default(), Attendance::default());
        let store = SimulatedStore::new(seed);
        let track = Track::parse("registry.example.com/acme/web:1").expect("a track");
        registry.push(&track, 1, Behaviour::Serves);
        let names = ["a", "b", "c", "d", "e"].into_iter().take(machines);
        let members = names.zip(1..).map(|(name, number)| {
            let seed = seed * 1000 + number * 100;
            let engine = SimulatedEngine::new(name, &registry, &attendance, seed);
            run(&engine, &registry, &track);
            engine.slow(ENGINE, LIFE);
            let line = store.handle(name);
            line.slow(LINE);
            let node = Node::start(name, engine, folder(), std::sync::Arc::new(store.handle(name)), seed);
            Member { node, line }
        });
        let members = members.collect();
        let containers = Vec::new();
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

    /// Lets time pass until something is so, for this long at most.
    pub async fn wait_until(&self, longest: Duration, case: &str, is_so: impl Fn(&Self) -> bool) {
        let waited = async {
            while !is_so(self) {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let is_met = timeout(longest, waited).await.is_ok();
        assert!(is_met, "{case}: not within {longest:?}\n{}", self.describe());
    }

    /// The digests of the record, the newest first.
    pub fn history(&self) -> Vec<Digest> {
        let key = self.members[0].node.world.keys.record(&self.track);
        let record = self.store.entries(&key).pop().map(|entry| serde_json::from_slice::<Record>(&entry.value));
        let record = record.map(|record| record.expect("a record"));
        record.iter().flat_map(Record::history).map(|version| version.digest.clone()).collect()
    }

    /// Whether a notification waits.
    pub fn is_pending(&self) -> bool {
        !self.store.entries(&self.members[0].node.world.keys.pending(&self.track)).is_empty()
    }

    /// Whether a machine's container of a name runs a digest.
    pub fn runs(&self, machine: usize, name: &str, digest: &Digest) -> bool {
        let containers = self.members[machine].node.engine.containers();
        containers.iter().any(|(n, d, is_running)| n == name && d.as_ref() == Some(digest) && *is_running)
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
