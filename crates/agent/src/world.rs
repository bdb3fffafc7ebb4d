//! What the stages share: the edges, the settings, and this node's short memory.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_core::image::Track;
use deployer_core::keys::Keys;
use deployer_core::node::Identity;
use deployer_core::policy::Manage;
use deployer_core::slot::Scope;
use deployer_core::store::{LeaseId, Revision};
use deployer_core::trouble::Trouble;
use deployer_engine::Engine;
use deployer_engine::mirror::Mirror as EngineMirror;
use deployer_store::Store;
use deployer_store::mirror::{Mirror, Through};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::asking::Asking;
use crate::concern::Concern;
use crate::doubt::Doubt;
use crate::fault::Fault;
use crate::fetches::Fetches;
use crate::happening::Account;
use crate::journal::Journals;
use crate::looks::Looks;
use crate::nonsense::Nonsense;
use crate::owed::Owed;
use crate::replacing::Replacing;
use crate::settled::Settled;
use crate::speech::Speech;
use crate::supervision;
use crate::tags::Tags;
use crate::tickets::Tickets;
use crate::troubles::Troubles;
use crate::verified::Verified;

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
    pub engine_mirror: Arc<EngineMirror>,
    /// The store, for those who write, and for those who must read what stands there now.
    pub store: Arc<dyn Store>,
    /// What is read again and again, at hand.
    pub mirror: Arc<Mirror>,
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
    /// Tells a replacement that waits for this machine's turn that another one has ended; see [`World::leave_turn`].
    pub turn_over: Notify,
    /// Held by whoever says something in the store until it is noted as said: of two who speak of one instance at once, the
    /// one that is noted last would else not be the one that was heard last.
    pub saying: tokio::sync::Mutex<()>,
    /// Held by whoever writes this node's sign anew.
    pub signing: tokio::sync::Mutex<()>,
    /// Whether this node is registered.
    pub presence: watch::Sender<Presence>,
    /// The tracks that run here, which the store mirror follows; `None` until engine and store were heard once.
    pub registered: watch::Sender<Option<Concern>>,
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

/// What is remembered while the daemon runs, and found out again after a restart.
#[derive(Default)]
pub struct Memory {
    /// Of asking the registry.
    pub asking: Asking,
    /// Of what tracks' tags name here.
    pub tags: Tags,
    /// Of the update stage's looks.
    pub looks: Looks,
    /// Of bringing digests here.
    pub fetches: Fetches,
    /// Of the registry's word on what a local tag names.
    pub verified: Verified,
    /// Of values in the store that make no sense.
    pub nonsense: Nonsense,
    /// Of what keeps versions from this machine's containers.
    pub troubles: Troubles,
    /// What this machine's containers have in line.
    pub tickets: Tickets,
    /// Of writings whose fate nobody was told of.
    pub doubt: Doubt,
    /// Of this machine's containers in the middle of their replacement.
    pub replacing: Replacing,
    /// Processes that answer, or have had their time to.
    pub settled: Settled,
    /// Containers that have to run and did not, when their replacement ended.
    pub owed: Owed,
    /// Of what this node has said in the store.
    pub speech: Speech,
}

impl Memory {
    /// When something that failed is due again.
    pub fn dues(&self) -> impl Iterator<Item = Instant> {
        let failed = self.looks.dues().chain(self.fetches.dues()).chain(self.verified.dues());
        self.asking.dues().chain(failed).chain(self.troubles.dues())
    }

    /// Forgets everything of tracks and containers that are not here any more.
    pub fn retain(&mut self, tracks: &BTreeSet<Track>, container_ids: &BTreeSet<&str>) {
        self.asking.retain(tracks);
        self.tags.retain(tracks);
        self.looks.retain(tracks);
        self.fetches.retain(tracks);
        self.troubles.retain(tracks, container_ids);
    }
}

/// Replacements of a machine that look whether it is their turn when another has ended. All of them would be many where many
/// services wait, each in a line of its own; the others look after a while.
const LOOK_FOR_THE_TURN: usize = 3;

impl World {
    /// Gives this machine's turn back at the end of a replacement: those who wait in other lines hear nothing of its slot.
    pub fn leave_turn(&self, txn: &str) {
        self.memory().replacing.leave_turn(txn);
        (0..LOOK_FOR_THE_TURN).for_each(|_| self.turn_over.notify_one());
    }

    /// Puts a world together.
    pub fn new(
        engine: Arc<dyn Engine>,
        store: Arc<dyn Store>,
        settings: Settings,
        ambient: Arc<Ambient>,
        journals: Journals,
    ) -> Self {
        let mirror = Arc::new(Mirror::new(store, Arc::clone(&ambient)));
        Self {
            engine_mirror: Arc::new(EngineMirror::new(Arc::clone(&engine), supervision::judge(&settings.root))),
            engine,
            store: Arc::new(Through(Arc::clone(&mirror))),
            mirror,
            keys: Keys::new(&settings.prefix),
            settings,
            account: Account::new(Arc::clone(&ambient)),
            ambient,
            journals,
            bell: Notify::new(),
            turn_over: Notify::new(),
            saying: tokio::sync::Mutex::default(),
            signing: tokio::sync::Mutex::default(),
            presence: watch::Sender::default(),
            registered: watch::Sender::new(None),
            memory: Mutex::default(),
        }
    }

    /// Follows in the store what concerns this node.
    pub fn follow(&self, concern: Concern) {
        let prefixes = concern.prefixes(&self.keys);
        self.registered.send_if_modified(|registered| {
            let is_news = registered.as_ref() != Some(&concern);
            *registered = Some(concern);
            is_news
        });
        self.mirror.follow(prefixes);
    }

    /// Rings the bell for a look at everything, and at once for one at this track.
    pub fn ring_for(&self, track: Track) {
        self.memory().looks.ring(track);
        self.bell.notify_one();
    }

    /// Notes that a version cannot be deployed to a container of this machine. Whether that is news.
    pub fn meet(&self, container_id: &str, trouble: Trouble, seq: u64, since: Revision) -> bool {
        let random = self.ambient.random();
        self.memory().troubles.meet(container_id, trouble, seq, since, random)
    }

    /// Notes that a look or a pull panicked: the track, or everything, rests for a while before the next.
    pub fn note_fault(&self, key: Option<Track>, fault: &Fault) {
        let random = self.ambient.random();
        let wait = self.memory().looks.note_fault(key.clone(), fault.to_string(), random);
        let of = key.as_ref().map_or_else(|| "everything".to_owned(), ToString::to_string);
        self.account.tell("trouble", &of, format!("{fault}; looking again in {} s", wait.as_secs()));
    }

    /// Names a value in the store that makes no sense: once in the log.
    pub fn name_nonsense(&self, key: String, revision: Revision, text: &str) {
        if self.memory().nonsense.meet(key, revision, text) {
            tracing::error!("passed over: {text}");
        }
    }

    /// The memory. Never held across a wait.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
