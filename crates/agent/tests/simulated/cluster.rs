//! Several machines over one store and one registry, and what must hold for them together.

use std::sync::Arc;
use std::time::Duration;

use deployer_core::availability::Report;
use deployer_core::image::{Digest, Track};
use deployer_core::record::Record;
use deployer_core::slot::Scope;
use deployer_core::store::{Change, Entry};
use deployer_simulated::engine::{SimulatedEngine, Spec};
use deployer_simulated::history::{Befalling, History, What};
use deployer_simulated::registry::{Behaviour, SimulatedRegistry, digest};
use deployer_simulated::store::{Handle, SimulatedStore};
use tokio::time::{Instant, sleep, timeout};

use super::attendance;
use super::checker::{self, End, EndOfHost, Violation};
use super::node::{Hooked, Node, folder};

/// How long a letter to or from the store is on its way at most, here.
const LINE: Duration = Duration::from_millis(20);
/// The same for an engine, which is on the same machine.
const ENGINE: Duration = Duration::from_millis(5);
/// How long a container takes to begin or to end at most.
const LIFE: Duration = Duration::from_secs(2);
/// Simulated time in which everything must have come to its end: gates, monitors, and the longest backoff.
pub const LIMIT: Duration = Duration::from_secs(3600);
/// How long nothing may happen before it counts as the end.
const QUIET: u32 = 20;
/// What of the store goes into the story: what the checker judges, and what people need to see why.
const NOTED: [&str; 5] = ["/claim/", "/verdicts/", "/reports/", "/instances/", "/record"];
/// Between two looks at what is waited for.
const STEP: Duration = Duration::from_millis(10);
/// The hosts, and their daemons' names.
const HOSTS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
/// What there is in the beginning.
#[derive(Clone)]
pub struct Shape {
    pub scope: Scope,
    pub tracks: Vec<Track>,
    /// The containers of each machine.
    pub hosts: Vec<Vec<Spec>>,
    /// How often the daemons ask the registry of their own accord.
    pub registry_check: Option<Duration>,
}

impl Shape {
    /// So many machines, each with containers of these names and one track.
    pub fn plain(machines: usize, containers: &[&str]) -> Self {
        let track = track(1);
        let host: Vec<Spec> = containers.iter().map(|name| Spec::new(name, &track)).collect();
        Self { scope: Scope::Cluster, tracks: vec![track], hosts: vec![host; machines], registry_check: None }
    }
}

/// The track of a number.
pub fn track(number: usize) -> Track {
    let names = ["web", "api", "jobs", "mail"];
    let name = names[(number - 1) % names.len()];
    Track::parse(&format!("registry.example.com/acme/{name}:1")).expect("a track")
}

/// A machine and its way to the store.
pub struct Member {
    pub node: Node,
    pub line: Handle,
}

/// The machines, and what they share.
pub struct Cluster {
    pub members: Vec<Member>,
    pub store: SimulatedStore,
    pub registry: SimulatedRegistry,
    /// Everything that has happened.
    pub story: History,
    /// The first track, and all.
    pub track: Track,
    pub tracks: Vec<Track>,
    pub scope: Scope,
    registry_check: Option<Duration>,
    instances: usize,
    begun: Duration,
    pushes: u32,
}

impl Cluster {
    /// So many machines that run version 1 of one track, and whose daemons have come to rest.
    pub async fn start(machines: usize, containers: &[&str], seed: u64) -> Self {
        Self::with(Shape::plain(machines, containers), seed).await
    }

    /// So many machines on each of which somebody has run something of the track, and whose daemons have come to rest.
    pub async fn of(machines: usize, seed: u64, run: impl Fn(&SimulatedEngine, &SimulatedRegistry, &Track)) -> Self {
        let mut cluster = Self::empty(&Shape::plain(0, &[]), seed);
        for (number, host) in (1..).zip(HOSTS).take(machines) {
            let seed = seed * 1000 + 100 * number;
            let engine = cluster.engine(host, seed);
            run(&engine, &cluster.registry, &cluster.track);
            cluster.instances += engine.containers().len();
            cluster.add([host; 2], engine, seed);
        }
        cluster.begin().await;
        cluster
    }

    /// Machines of a shape that run the first versions, and whose daemons have come to rest.
    pub async fn with(shape: Shape, seed: u64) -> Self {
        let mut cluster = Self::empty(&shape, seed);
        for (number, (host, specs)) in (1..).zip(HOSTS.into_iter().zip(&shape.hosts)) {
            let seed = seed * 1000 + 100 * number;
            let engine = cluster.engine(host, seed);
            specs.iter().for_each(|spec| engine.run_as(spec));
            cluster.add([host; 2], engine, seed);
        }
        cluster.instances = shape.hosts.iter().map(Vec::len).sum();
        cluster.begin().await;
        cluster
    }

    fn empty(shape: &Shape, seed: u64) -> Self {
        let story = History::default();
        let store = SimulatedStore::new(seed);
        store.on_change(note_changes(&story));
        let mut cluster = Self {
            members: Vec::new(),
            store,
            registry: SimulatedRegistry::new(&story),
            story,
            track: shape.tracks[0].clone(),
            tracks: shape.tracks.clone(),
            scope: shape.scope,
            registry_check: shape.registry_check,
            instances: 0,
            begun: Duration::ZERO,
            pushes: 0,
        };
        for track in &shape.tracks {
            cluster.push_to(track, Behaviour::Serves);
        }
        cluster
    }

    async fn begin(&mut self) {
        self.settle("at the start").await;
        self.begun = self.story.now();
    }

    fn engine(&self, host: &str, seed: u64) -> SimulatedEngine {
        SimulatedEngine::new(host, &self.registry, &self.story, seed)
    }

    /// A machine more, whose daemon has a name that may be another's too.
    fn add(&mut self, names: [&str; 2], engine: SimulatedEngine, seed: u64) {
        engine.slow(ENGINE, LIFE);
        let line = self.store.handle(names[0]);
        line.slow(LINE);
        let store = Arc::new(self.store.handle(names[0]));
        let check = self.registry_check;
        let node = Node::start(names, self.scope, engine, &self.story, folder(), store, check, seed);
        self.members.push(Member { node, line });
    }

    /// A second machine of the same name as one that is there: another state directory, and containers of its own.
    pub fn add_twin(&mut self, of: usize, specs: &[Spec], seed: u64) {
        let Node { host, name, .. } = &self.members[of].node;
        let (host, name) = (host.clone(), name.clone());
        let twin = format!("{host}'");
        self.story.befell(&twin, Befalling::TwinOf(host));
        let engine = self.engine(&twin, seed);
        specs.iter().for_each(|spec| engine.run_as(spec));
        self.add([&twin, &name], engine, seed);
    }

    /// Takes the machine that came last away, with everything on it, in good order: what its daemon has begun it ends.
    pub async fn remove_last(&mut self) {
        if let Some(mut member) = self.members.pop() {
            member.node.terminate();
            let end = Instant::now() + LIMIT;
            while member.node.runs() && Instant::now() < end {
                sleep(Duration::from_secs(1)).await;
            }
            member.node.kill().await;
            member.node.engine.lose_power();
            self.story.befell(&member.node.host, Befalling::TwinGone);
        }
    }

    /// Pushes the next version of the first track; nobody is told.
    pub fn push(&mut self, behaviour: Behaviour) -> Digest {
        self.push_to(&self.track.clone(), behaviour)
    }

    /// Pushes the next version of a track; nobody is told.
    pub fn push_to(&mut self, track: &Track, behaviour: Behaviour) -> Digest {
        self.pushes += 1;
        self.registry.push(track, self.pushes, behaviour)
    }

    /// Tells one machine of the last push of the first track, or if it cannot take it the next.
    pub async fn notify(&self, first: usize) {
        self.notify_of(&self.track, first).await;
    }

    /// Tells one machine of a track's last push, or if it cannot take it the next, as a registry that is answered 503 does.
    /// What nobody runs is not taken in, and answered all the same. Whether one of them answered.
    pub async fn notify_of(&self, track: &Track, first: usize) -> bool {
        let count = self.members.len();
        let digest = self.registry.tag(track);
        for number in first..first + count {
            match self.members[number % count].node.hook(track, digest.as_ref()).await {
                Hooked::Refused => {}
                Hooked::Taken | Hooked::NotOurs => return true,
            }
        }
        false
    }

    /// Lets simulated time pass until nothing is under way, an hour at most.
    pub async fn settle(&mut self, case: &str) {
        let is_settled = self.comes_to_rest(LIMIT, |_| true).await;
        assert!(is_settled, "{case}: not settled\n{}", self.describe());
    }

    /// Lets simulated time pass until nothing is under way and something holds, for so long at most. Whether it came to that.
    pub async fn comes_to_rest(&mut self, limit: Duration, is_right: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        let (mut quiet, mut length) = (0, 0);
        while quiet < QUIET || !is_right(self) {
            if Instant::now() >= end {
                return false;
            }
            sleep(Duration::from_secs(1)).await;
            let is_quiet = self.story.length() == length && self.is_quiet();
            length = self.story.length();
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
        true
    }

    /// Lets time pass until something is so, for this long at most.
    pub async fn wait_until(&self, longest: Duration, case: &str, is_so: impl Fn(&Self) -> bool) {
        let waited = async {
            while !is_so(self) {
                sleep(STEP).await;
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

    fn is_quiet(&mut self) -> bool {
        self.members.iter_mut().all(|member| member.node.is_quiet()) && self.left_behind().is_empty()
    }

    /// Keys that must be gone when nothing is under way: notifications, claims, holds, tickets.
    pub fn left_behind(&self) -> Vec<Entry> {
        let Some(member) = self.members.first() else { return Vec::new() };
        let keys = &member.node.world.keys;
        let mut left = self.store.entries(&keys.locks());
        // A rollout that gave way has its place for as long as its track lives.
        left.retain(|entry| !entry.key.contains("/deferred/"));
        // What came in before the last container of a track went is swept away some day.
        let is_run = |track: &&Track| self.members.iter().any(|member| member.node.engine.runs_track(track));
        left.extend(self.tracks.iter().filter(is_run).flat_map(|track| self.store.entries(&keys.pending(track))));
        left
    }

    /// Whether every container that runs and is ours runs what its tag points to.
    pub fn runs_what_was_pushed(&self) -> bool {
        self.members.iter().all(|member| !member.node.engine.has_strays())
    }

    /// How everything is now, for the checker.
    pub fn end(&self) -> End {
        let hosts = self.members.iter().map(|member| EndOfHost {
            host: member.node.host.clone(),
            journals: member.node.journals().iter().map(|journal| journal.txn.clone()).collect(),
            containers: member.node.engine.everything(),
        });
        let reports = self.store.entries(&self.members[0].node.world.keys.all_reports());
        let reports = reports.iter().filter_map(|entry| serde_json::from_slice::<Report>(&entry.value).ok());
        End {
            hosts: hosts.collect(),
            left: self.left_behind().into_iter().map(|entry| entry.key).collect(),
            said: reports.map(|report| (report.id, (report.state, report.reason))).collect(),
        }
    }

    /// Everything that was not as it must be, from the beginning until now, when nothing should be under way.
    pub fn violations(&self) -> Vec<Violation> {
        checker::check(&self.story.entries(), &self.end())
    }

    /// Asserts that every instance runs a digest, that nothing is left behind, and that at no moment since the start
    /// more than one of the instances was down.
    #[track_caller]
    pub fn assert_converged(&self, digest: &Digest, case: &str) {
        for Member { node, .. } in &self.members {
            let strays = node.engine.containers().into_iter().filter(|c| c.1.as_ref() != Some(digest) || !c.2);
            assert_eq!(strays.collect::<Vec<_>>(), [], "{case}, {}", node.host);
        }
        if let Some((fewest, down)) = attendance::fewest(&self.story.entries(), self.begun) {
            assert!(
                fewest + 1 >= self.instances,
                "{case}: only {fewest} of {} served, down were {down}",
                self.instances
            );
        }
        assert_eq!(self.violations(), [], "{case}");
    }

    /// What everybody does and the store holds, for a test that fails.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for Member { node, .. } in &self.members {
            let journals: Vec<_> = node.journals().into_iter().map(|j| (j.txn, j.phase, j.failure)).collect();
            let (memory, containers) = (node.world.memory(), node.engine.containers());
            text += &format!("{}: {:?} {journals:?} {containers:?}\n", node.host, memory.replacing);
        }
        for entry in self.store.entries("") {
            text += &format!("{} {} {}\n", entry.mod_revision, entry.key, String::from_utf8_lossy(&entry.value));
        }
        text
    }

    /// Says something in the history.
    pub fn tell(&self, text: &str) {
        self.story.note("", What::Told(text.to_owned()));
    }
}

/// The version that every cluster begins with.
pub fn first() -> Digest {
    digest(1)
}

fn note_changes(story: &History) -> impl Fn(&str, &Change) + Send + 'static {
    let story = story.clone();
    move |writer, change| {
        let (Change::Put(Entry { key, .. }) | Change::Delete(key, _)) = change;
        if NOTED.iter().any(|part| key.contains(part)) {
            story.note(writer, What::Stored(change.clone()));
        }
    }
}
