//! What the stages share: the edges, the settings, and this node's short memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_core::availability::Instance;
use deployer_core::backoff::Backoff;
use deployer_core::image::{Digest, ImageName, Track};
use deployer_core::keys::Keys;
use deployer_core::node::Identity;
use deployer_core::policy::Manage;
use deployer_core::slot::Scope;
use deployer_core::store::{LeaseId, Revision};
use deployer_engine::Engine;
use deployer_engine::mirror::Mirror;
use deployer_store::Store;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

use crate::asking::Asking;
use crate::fault::Fault;
use crate::happening::Account;
use crate::journal::Journals;
use crate::owed::Owed;
use crate::supervision;
use crate::words::Words;

/// Changes of the store that wait for a slow listener; beyond it that one takes everything for changed.
const CHANGES_MAX: usize = 1024;

/// Values that make no sense and are named; further ones are passed over in silence.
const NONSENSE_MAX: usize = 100;

/// The settings that the stages need.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// A word that differs after each start of the daemon.
    pub boot: String,
    /// By what this daemon is told from every other.
    pub identity: Identity,
    /// Whose instances wait for each other.
    pub scope: Scope,
    /// Which containers are managed.
    pub manage: Manage,
    /// The ID of the container this daemon runs in, if it runs in one.
    pub own_container: Option<String>,
    /// How often one node asks the registry to heal lost notifications; `None`: never.
    pub registry_check: Option<Duration>,
    /// Where the journals lie.
    pub state_dir: PathBuf,
    /// Where this machine's file system begins, for the look at who else runs containers here: `/` but in tests.
    pub root: PathBuf,
    /// What every key in the store begins with.
    pub prefix: String,
}

/// The edges, the settings, and what this node remembers while it runs.
pub struct World {
    /// The container engine.
    pub engine: Arc<dyn Engine>,
    /// What the engine has; a task keeps it true.
    pub mirror: Arc<Mirror>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Where facts lie in the store.
    pub keys: Keys,
    /// The settings.
    pub settings: Settings,
    /// Clock and random numbers.
    pub ambient: Arc<Ambient>,
    /// What people are told.
    pub account: Account,
    /// The journals of replacements under way.
    pub journals: Journals,
    /// Rings when a stage has changed something that the update stage should look at; see [`World::ring_for`].
    pub bell: Notify,
    /// Every node's instances by key, as the store watch last saw them; `None` until it has listed them once.
    pub instances: watch::Sender<Option<BTreeMap<String, Instance>>>,
    /// Tells of every change of the store as it is seen.
    pub changes: broadcast::Sender<Changed>,
    /// Whether this node is registered.
    pub presence: watch::Sender<Presence>,
    /// The tracks that some node runs; `None` until engine and store were listed once.
    pub registered: watch::Sender<Option<BTreeSet<Track>>>,
    memory: Mutex<Memory>,
}

/// Whether this node is registered, and how the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// The lease, and the revision of the sign that hangs on it.
    pub lease: Option<(LeaseId, Revision)>,
    /// Why the node is not registered, or the store not heard, for people.
    pub trouble: Option<String>,
}

impl Presence {
    /// The trouble in fixed words: anybody may ask, and the store's own name addresses, keys and nodes.
    pub fn public_trouble(&self) -> Option<&'static str> {
        match (&self.trouble, self.lease) {
            (Some(_), None) => Some("this node is not registered in the store"),
            (Some(_), Some(_)) => Some("the store does not answer"),
            (None, _) => None,
        }
    }
}

/// Why a version cannot be deployed to a container of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The container is such that it cannot be replaced: the others go on.
    Refused(String),
    /// Something is wrong that may well be wrong elsewhere, too: the rollout halts.
    Failed(String),
}

impl Trouble {
    /// What was seen, for people.
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::Failed(reason) => reason,
        }
    }
}

/// What changed in the store.
#[derive(Clone, Debug)]
pub enum Changed {
    /// One key.
    Key(Arc<str>),
    /// Anything: changes may have been missed.
    Anything,
}

/// A container in the middle of its replacement.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The track it runs.
    pub track: Track,
    /// The service that it is an instance of.
    pub service: String,
}

/// What is remembered while the daemon runs, and found out again after a restart.
#[derive(Default)]
pub struct Memory {
    /// Of asking the registry.
    pub asking: Asking,
    /// The image that each track's tag named here when this node last saw or set it.
    pub local_tags: BTreeMap<Track, Option<String>>,
    /// Digests that could not be brought here, and when it is tried again.
    pub pulls: BTreeMap<(Track, Digest), Retry>,
    /// Images under a local tag that the registry has, by its own word.
    pub verified: BTreeSet<(ImageName, Digest)>,
    /// Images under a local tag that the registry is not known to have, and when it is asked again.
    pub unverified: BTreeMap<(ImageName, Digest), Retry>,
    /// Looks and pulls that panicked, by track or for everything, and when it is tried again.
    pub faults: BTreeMap<Option<Track>, Retry>,
    /// Values in the store that make no sense, by key, with the revision at which that was seen, and the words for it.
    pub nonsense: BTreeMap<String, (Revision, String)>,
    /// How far the pulls under way have come, for people.
    pub pulling: BTreeMap<Track, String>,
    /// Versions, by place in their record, that failed on this node through no fault of their own, by container ID. A
    /// container that a person makes anew has a new ID, and may well be without what was in the way.
    pub failed_here: BTreeMap<(String, u64), Trouble>,
    /// Versions for whose sake this node halted a rollout. A halt that is gone was lifted by a person.
    pub halted: BTreeMap<Track, u64>,
    /// Containers whose replacement could not begin, and when it is tried again.
    pub unready: BTreeMap<String, Retry>,
    /// Containers being replaced or waiting for it, with what is going on, for people.
    pub replacing: BTreeMap<String, String>,
    /// Replacements under way, by container name: for a moment no container has it.
    pub transitions: BTreeMap<String, Transition>,
    /// Containers that have to run and did not, when their replacement ended.
    pub owed: Owed,
    /// The replacement on this node that has a slot, or is about to take one: one at a time, whatever the scope.
    pub on_slot: Option<String>,
    /// The tracks that run here; `None` until the engine was listed once.
    pub tracks: Option<BTreeSet<Track>>,
    /// What this node has said in the store.
    pub said: Words,
    /// Tracks for which the bell was rung.
    pub rung: BTreeSet<Track>,
}

/// Something that failed and is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Failures in a row.
    pub failures: u32,
    /// When it is tried again.
    pub due: Instant,
    /// What was seen, for people.
    pub reason: String,
    /// Whether only a person or a new push will change the outcome.
    pub is_hopeless: bool,
}

impl Memory {
    /// When something that failed is due again. A registry that has said several times that it does not have an image is
    /// asked again when something happens, and not before.
    pub fn dues(&self) -> impl Iterator<Item = Instant> {
        let unverified = self.unverified.values().filter(|retry| !retry.is_hopeless);
        let failed = self.pulls.values().chain(self.faults.values()).chain(unverified);
        self.asking.dues().chain(failed.map(|retry| retry.due))
    }
}

impl World {
    /// Puts a world together.
    pub fn new(
        engine: Arc<dyn Engine>,
        store: Arc<dyn Store>,
        settings: Settings,
        ambient: Arc<Ambient>,
        journals: Journals,
    ) -> Self {
        Self {
            mirror: Arc::new(Mirror::new(Arc::clone(&engine), supervision::judge(&settings.root))),
            engine,
            store,
            keys: Keys::new(&settings.prefix),
            settings,
            account: Account::new(Arc::clone(&ambient)),
            ambient,
            journals,
            bell: Notify::new(),
            instances: watch::Sender::new(None),
            changes: broadcast::Sender::new(CHANGES_MAX),
            presence: watch::Sender::default(),
            registered: watch::Sender::new(None),
            memory: Mutex::default(),
        }
    }

    /// Rings the bell for a look at everything, and at once for one at this track.
    pub fn ring_for(&self, track: Track) {
        self.memory().rung.insert(track);
        self.bell.notify_one();
    }

    /// Notes that a look or a pull panicked: the track, or everything, rests for a while before the next.
    pub fn note_fault(&self, key: Option<Track>, fault: &Fault) {
        let random = self.ambient.random();
        let mut memory = self.memory();
        let failures = memory.faults.get(&key).map_or(0, |retry| retry.failures) + 1;
        let wait = Backoff::REGISTRY.wait(failures, random);
        let retry = Retry { failures, due: Instant::now() + wait, reason: fault.to_string(), is_hopeless: false };
        memory.faults.insert(key.clone(), retry);
        drop(memory);
        let of = key.as_ref().map_or_else(|| "everything".to_owned(), ToString::to_string);
        self.account.tell("trouble", &of, format!("{fault}; looking again in {} s", wait.as_secs()));
    }

    /// Names a value in the store that makes no sense: once in the log.
    pub fn name_nonsense(&self, key: String, revision: Revision, text: &str) {
        let mut memory = self.memory();
        let is_known = memory.nonsense.get(&key).is_some_and(|(known, _)| *known == revision);
        if is_known || memory.nonsense.len() >= NONSENSE_MAX {
            return;
        }
        memory.nonsense.insert(key, (revision, text.to_owned()));
        drop(memory);
        tracing::error!("passed over: {text}");
    }

    /// The memory. Never held across a wait.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
