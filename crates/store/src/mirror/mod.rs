//! A mirror of what a node reads again and again: the keys below a few prefixes, kept true by one watch of all of them.
//!
//! Reading it asks nobody. It may be behind the store, but never behind what this process has written (`through`), and
//! whoever acts on it compares revisions in a transaction anyway. While the store is away it shows what it saw last, which
//! is no reader's error. `keep` keeps it, `region` is one prefix, `listener` tells of changes.

mod keep;
mod listener;
mod region;
mod through;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_core::store::{Entry, Revision};
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep_until};

use crate::news::News;
use crate::store::{Store, StoreError};

pub use listener::Listener;
pub use region::Changed;
use region::{Begun, Region};
pub use through::Through;

/// How long a reader waits for what this process has written, and for a first list. After that it asks the store itself:
/// a watch that is so late may be as good as broken, or be one of a thousand that the store serves one after the other.
const PATIENCE: Duration = Duration::from_millis(200);

/// Changes that wait for a slow listener; beyond it that one takes everything for changed.
const CHANGES_MAX: usize = 1024;

/// See the module's head.
pub struct Mirror {
    store: Arc<dyn Store>,
    ambient: Arc<Ambient>,
    state: Mutex<State>,
    /// Counts what a reader may wait for.
    news: News,
    changes: broadcast::Sender<Changed>,
    /// How often the watch broke off.
    breaks: AtomicU64,
    /// How often a region was found older than it was known.
    restorations: AtomicU64,
    /// Rings when a prefix has come in.
    grown: Notify,
}

#[derive(Default)]
struct State {
    regions: BTreeMap<String, Region>,
    /// Whether somebody keeps the mirror; until then everything is read from the store.
    is_kept: bool,
}

/// How true a prefix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// The revision at which it was.
    pub revision: Revision,
    /// Since when nothing is heard of it, if so.
    pub away_since: Option<Instant>,
}

/// What the mirror can say to a reader.
enum View {
    /// Nothing: it does not hold the prefix.
    NotHeld,
    /// This.
    Known(Vec<Entry>, Revision),
    /// Soon more, of a region.
    Late(String),
    /// Nothing before the store was asked, of a region.
    Doubtful(String),
}

impl Mirror {
    /// A mirror that holds nothing yet. Random numbers keep many nodes from asking in step.
    pub fn new(store: Arc<dyn Store>, ambient: Arc<Ambient>) -> Self {
        Self {
            store,
            ambient,
            state: Mutex::default(),
            news: News::default(),
            breaks: AtomicU64::new(0),
            restorations: AtomicU64::new(0),
            changes: broadcast::Sender::new(CHANGES_MAX),
            grown: Notify::new(),
        }
    }

    /// Holds these prefixes from now on, and no others.
    pub fn follow(&self, prefixes: BTreeSet<String>) {
        let mut state = self.lock();
        state.regions.retain(|prefix, _| prefixes.contains(prefix));
        let before = state.regions.len();
        for prefix in prefixes {
            state.regions.entry(prefix).or_insert_with(Region::new);
        }
        if state.regions.len() > before {
            self.grown.notify_one();
        }
    }

    /// The entries below a prefix, and the revision at which they were true: from memory, or from the store if the prefix
    /// is not held.
    ///
    /// # Errors
    /// [`StoreError`] if the store has to be asked and does not answer.
    pub async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let told = self.news.told();
            match self.view(prefix) {
                View::NotHeld => return self.store.list(prefix).await,
                View::Known(entries, revision) => return Ok((entries, revision)),
                View::Late(_) if Instant::now() < until => {
                    tokio::select! {
                        biased;
                        () = self.news.beyond(told) => {}
                        () = sleep_until(until) => {}
                    }
                }
                View::Late(region) | View::Doubtful(region) => return self.ask(&region, prefix).await,
            }
        }
    }

    /// A key's entry, in the same way.
    ///
    /// # Errors
    /// Those of [`Mirror::list`].
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        if matches!(self.view(key), View::NotHeld) {
            return self.store.get(key).await;
        }
        let (entries, _) = self.list(key).await?;
        Ok(entries.into_iter().find(|entry| entry.key == key))
    }

    /// How true a prefix is; `None` until it was listed once.
    pub fn truth(&self, prefix: &str) -> Option<Truth> {
        let state = self.lock();
        let (_, region) = state.holding(prefix)?;
        Some(Truth { revision: region.revision()?, away_since: region.away_since })
    }

    /// Shows no reader of a key anything older than this revision, at which the key was written.
    pub fn expect(&self, key: &str, revision: Revision) {
        self.lock().of_key(key).for_each(|region| region.expect(revision));
    }

    /// Tells of changes from now on.
    pub fn listen(self: &Arc<Self>) -> Listener {
        Listener::new(Arc::clone(self), self.changes.subscribe())
    }

    fn view(&self, prefix: &str) -> View {
        let state = self.lock();
        let Some((name, region)) = state.holding(prefix) else { return View::NotHeld };
        if region.is_doubtful() {
            return View::Doubtful(name.clone());
        }
        match region.revision().filter(|_| !region.is_late()) {
            Some(revision) => View::Known(region.below(prefix), revision),
            None if region.away_since.is_some() => View::Doubtful(name.clone()),
            None => View::Late(name.clone()),
        }
    }

    /// Asks the store in the place of a watch that is late, and lets everybody have the answer.
    async fn ask(&self, region: &str, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        let begun = self.begin(region);
        let (mut entries, revision) = self.store.list(region).await?;
        if let Some(begun) = begun {
            self.take_list(region, begun, entries.clone(), revision);
        }
        if let View::Known(entries, revision) = self.view(prefix) {
            return Ok((entries, revision));
        }
        entries.retain(|entry| entry.key.starts_with(prefix));
        Ok((entries, revision))
    }

    fn begin(&self, region: &str) -> Option<Begun> {
        self.lock().regions.get(region).map(Region::begin)
    }

    /// Goes up each time the watch breaks off: the store may have been restored meanwhile, with or without a sign of it.
    pub fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Relaxed)
    }

    /// Goes up with each sign that the store was restored from a snapshot: what was withdrawn since stands there again.
    pub fn restorations(&self) -> u64 {
        self.restorations.load(Ordering::Relaxed)
    }

    /// Puts a list in its place, and gives the revision from which a watch goes on.
    fn take_list(&self, region: &str, begun: Begun, entries: Vec<Entry>, revision: Revision) -> Revision {
        let mut state = self.lock();
        let Some(held) = state.regions.get_mut(region) else { return revision };
        if begun.is_undone_by(revision) {
            self.restorations.fetch_add(1, Ordering::Relaxed);
        }
        let (changed, revision) = held.list(begun, entries, revision);
        drop(state);
        self.tell(changed);
        revision
    }

    fn tell(&self, changed: impl IntoIterator<Item = Changed>) {
        self.news.tell();
        for changed in changed {
            // Nobody may be listening, which is no error.
            let _ = self.changes.send(changed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The region in which a prefix lies, if it is kept.
    fn holding(&self, prefix: &str) -> Option<(&String, &Region)> {
        let before = self.regions.range(..=prefix.to_owned()).rev();
        before.into_iter().find(|(region, _)| self.is_kept && prefix.starts_with(region.as_str()))
    }

    /// The regions in which a key lies: one prefix may begin with another.
    fn of_key<'a>(&'a mut self, key: &'a str) -> impl Iterator<Item = &'a mut Region> {
        self.regions.iter_mut().filter(move |(region, _)| key.starts_with(region.as_str())).map(|(_, region)| region)
    }
}
