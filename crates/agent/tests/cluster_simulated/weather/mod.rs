//! A storm: pushes, good and bad, while everything happens that can, at moments that follow from a seed.

use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_simulated::ambient::chances;
use deployer_simulated::history::Entry;
use deployer_simulated::registry::Behaviour;
use deployer_simulated::store::Snapshot;
use tokio::time::sleep;

use crate::simulated::checker::Violation;
use crate::simulated::cluster::{Cluster, LIMIT};

mod hosts;
mod people;
mod shape;

use hosts::Condition;

/// The longest time between two blows, in milliseconds, mostly and now and then.
const PAUSE_LONGEST: u64 = 20_000;
const LULL_LONGEST: u64 = 120_000;

/// What a storm is made of: how many blows there are, and how often each kind comes.
pub struct Season {
    pub name: &'static str,
    pub blows: u32,
    pub kinds: &'static [(u64, Blow)],
    /// Whether machines and containers are of all kinds, or few and alike.
    pub is_varied: bool,
}

/// One kind of blow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    Push,
    PushBack,
    EngineCall,
    StoreCall,
    Line,
    Quorum,
    Forget,
    Kill,
    Freeze,
    Terminate,
    EngineCrash,
    EngineStop,
    EngineHang,
    Reboot,
    PowerLoss,
    Disk,
    EngineDisk,
    Registry,
    Replica,
    Networks,
    Dependency,
    Snapshot,
    Twin,
    Dies,
    FallsIll,
    Person,
    Prune,
}

/// Faults of calls, lines and daemons, and nothing else.
pub const MILD: Season = Season {
    name: "mild",
    blows: 25,
    is_varied: false,
    kinds: &[
        (6, Blow::Push),
        (4, Blow::EngineCall),
        (4, Blow::StoreCall),
        (2, Blow::Line),
        (2, Blow::Quorum),
        (2, Blow::Forget),
        (2, Blow::Kill),
        (2, Blow::Freeze),
    ],
};

/// People, and workloads that die, fall ill and recover: the machines are well.
pub const BUSY: Season = Season {
    name: "busy",
    blows: 20,
    is_varied: true,
    kinds: &[
        (8, Blow::Push),
        (1, Blow::PushBack),
        (6, Blow::Dies),
        (6, Blow::FallsIll),
        (6, Blow::Person),
        (1, Blow::Prune),
        (1, Blow::Kill),
        (1, Blow::Networks),
        (1, Blow::Dependency),
    ],
};

/// Engines and machines that die, hang, fill up and come back, under workloads that are well.
pub const ROUGH: Season = Season {
    name: "rough",
    blows: 16,
    is_varied: true,
    kinds: &[
        (8, Blow::Push),
        (3, Blow::EngineCrash),
        (2, Blow::EngineStop),
        (3, Blow::EngineHang),
        (2, Blow::Reboot),
        (2, Blow::PowerLoss),
        (2, Blow::Terminate),
        (1, Blow::Disk),
        (1, Blow::EngineDisk),
        (2, Blow::Twin),
    ],
};

/// Everything.
pub const WILD: Season = Season {
    name: "wild",
    blows: 20,
    is_varied: true,
    kinds: &[
        (8, Blow::Push),
        (1, Blow::PushBack),
        (3, Blow::EngineCall),
        (3, Blow::StoreCall),
        (2, Blow::Line),
        (1, Blow::Quorum),
        (1, Blow::Forget),
        (2, Blow::Kill),
        (2, Blow::Freeze),
        (2, Blow::Terminate),
        (2, Blow::EngineCrash),
        (1, Blow::EngineStop),
        (2, Blow::EngineHang),
        (1, Blow::Reboot),
        (1, Blow::PowerLoss),
        (1, Blow::Disk),
        (1, Blow::EngineDisk),
        (1, Blow::Registry),
        (1, Blow::Replica),
        (1, Blow::Networks),
        (1, Blow::Dependency),
        (1, Blow::Snapshot),
        (1, Blow::Twin),
        (3, Blow::Dies),
        (3, Blow::FallsIll),
        (5, Blow::Person),
        (1, Blow::Prune),
    ],
};

/// A cluster in a storm.
pub struct Storm {
    cluster: Cluster,
    /// The machines that are there from the beginning.
    conditions: Vec<Condition>,
    has_quorum: bool,
    has_twin: bool,
    snapshot: Option<Snapshot>,
    has_restored: bool,
    random: Ambient,
}

/// How a storm ended.
pub struct Aftermath {
    pub violations: Vec<Violation>,
    pub story: Vec<Entry>,
    /// What everybody does and the store holds.
    pub scene: String,
}

/// The storm of a seed, from its beginning to the end of everything that follows from it.
pub async fn storm(season: &Season, seed: u64) -> Aftermath {
    let mut storm = Storm::gather(season, seed).await;
    for _ in 0..season.blows {
        let blow = storm.choose(season.kinds);
        storm.strike(blow).await;
        let longest = if storm.below(6) == 0 { LULL_LONGEST } else { PAUSE_LONGEST };
        sleep(Duration::from_millis(storm.below(longest))).await;
    }
    storm.calm().await;
    storm.push_the_last().await;
    // If it does not come to rest, the checker says what is not as it should be.
    if !storm.cluster.comes_to_rest(LIMIT, Cluster::runs_what_was_pushed).await && storm.has_restored {
        storm.unlock_what_no_daemon_can_end().await;
        storm.cluster.comes_to_rest(LIMIT, Cluster::runs_what_was_pushed).await;
    }
    Aftermath {
        violations: storm.cluster.violations(),
        story: storm.cluster.story.entries(),
        scene: storm.cluster.describe(),
    }
}

impl Storm {
    async fn gather(season: &Season, seed: u64) -> Self {
        let random = chances(seed);
        let shape = if season.is_varied { shape::of_all_kinds(&random) } else { shape::plain(seed) };
        let conditions = shape.hosts.iter().map(|_| Condition::default()).collect();
        let cluster = Cluster::with(shape, seed).await;
        Self { cluster, conditions, has_quorum: true, has_twin: false, snapshot: None, has_restored: false, random }
    }

    fn below(&self, limit: u64) -> u64 {
        self.random.random() % limit
    }

    /// One of some.
    fn one_of<T: Clone>(&self, some: &[T]) -> T {
        some[self.below(some.len() as u64) as usize].clone()
    }

    fn choose(&self, kinds: &[(u64, Blow)]) -> Blow {
        let mut number = self.below(kinds.iter().map(|(weight, _)| weight).sum());
        let chosen = kinds.iter().find(|(weight, _)| {
            let is_it = number < *weight;
            number = number.saturating_sub(*weight);
            is_it
        });
        chosen.expect("the numbers are below the sum").1
    }

    async fn strike(&mut self, blow: Blow) {
        let machine = self.below(self.conditions.len() as u64) as usize;
        match blow {
            Blow::Push => self.push().await,
            Blow::PushBack => self.push_back().await,
            Blow::EngineCall => self.fail_engine(machine),
            Blow::StoreCall => self.fail_store(machine),
            Blow::Line => self.switch_line(machine),
            Blow::Quorum => self.switch_quorum(),
            Blow::Forget => self.cluster.store.compact(),
            Blow::Kill => self.switch_daemon(machine).await,
            Blow::Freeze => self.switch_freezer(machine),
            Blow::Terminate => self.terminate(machine).await,
            Blow::EngineCrash | Blow::EngineStop | Blow::EngineHang => self.switch_engine(machine, blow),
            Blow::Reboot | Blow::PowerLoss => self.switch_host(machine, blow).await,
            Blow::Disk => self.switch_disk(machine),
            Blow::EngineDisk => self.switch_engine_disk(machine),
            Blow::Registry => self.switch_registry(machine),
            Blow::Replica => self.fall_behind(),
            Blow::Networks => self.switch_networks(machine),
            Blow::Dependency => self.switch_dependency(machine),
            Blow::Snapshot => self.snapshot_or_restore(),
            Blow::Twin => self.let_twin_come(machine),
            Blow::Dies => self.workload_dies(machine),
            Blow::FallsIll => self.workload_falls_ill(machine),
            Blow::Person => self.person(machine),
            Blow::Prune => self.prune(machine),
        }
    }

    async fn push(&mut self) {
        const BEHAVIOURS: [Behaviour; 7] = [
            Behaviour::Serves,
            Behaviour::Serves,
            Behaviour::ExitsAtOnce,
            Behaviour::DiesAfter(Duration::from_secs(12)),
            Behaviour::NeverListens,
            Behaviour::StartRefused,
            Behaviour::Sickens,
        ];
        let behaviour = self.one_of(&BEHAVIOURS);
        let track = self.one_of(&self.cluster.tracks);
        self.cluster.push_to(&track, behaviour);
        self.tell_of(&track).await;
    }

    /// A person points the tag to an older version again.
    async fn push_back(&mut self) {
        let track = self.one_of(&self.cluster.tracks);
        let older = self.one_of(&self.cluster.registry.tags(&track));
        self.cluster.registry.point(&track, &older);
        self.tell_of(&track).await;
    }

    async fn tell_of(&self, track: &deployer_core::image::Track) {
        // Now and then a notification is lost.
        if self.has_quorum && self.below(8) > 0 {
            let first = self.below(self.conditions.len() as u64) as usize;
            self.cluster.notify_of(track, first).await;
        }
    }

    async fn push_the_last(&mut self) {
        for track in self.cluster.tracks.clone() {
            self.cluster.push_to(&track, Behaviour::Serves);
            // Nobody answers a hook before it has listed engine and store, and the registry comes again.
            while !self.cluster.notify_of(&track, 0).await {
                sleep(Duration::from_secs(5)).await;
            }
        }
    }

    /// Ends everything that goes wrong by itself; what a person did stays done.
    async fn calm(&mut self) {
        if !self.has_quorum {
            self.switch_quorum();
        }
        self.cluster.registry.catch_up();
        for machine in 0..self.conditions.len() {
            self.mend(machine).await;
        }
        if self.has_twin {
            // Nobody takes a machine away in the very moment in which its store is back: what it holds it would hold for ever.
            sleep(Duration::from_secs(60)).await;
            self.cluster.remove_last().await;
        }
        assert!(self.cluster.members.iter_mut().all(|member| member.node.runs()), "every daemon runs again");
        self.cluster.tell("the storm is over");
    }
}
