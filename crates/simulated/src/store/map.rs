//! What the simulated store holds: keys, leases and the history of changes, without a network or faults.
//!
//! Written from etcd's documentation and not from the embedded store, so that a mistake in one of them shows.

use std::collections::BTreeMap;
use std::time::Duration;

use deployer_core::store::{Change, Compare, Entry, LeaseId, Listed, Outcome, Range, Revision, Txn, Write};
use deployer_store::{StoreError, flaw, flaw_of_ranges};
use tokio::time::Instant;

/// The shortest lease that a server of default settings grants; a shorter one is made this long.
const TTL_MIN: Duration = Duration::from_secs(2);

/// Is told who made a change, and which.
pub type Listener = Box<dyn Fn(&str, &Change) + Send>;

/// What the store was at a moment.
#[derive(Clone)]
pub struct Snapshot {
    revision: Revision,
    items: BTreeMap<String, Item>,
    leases: BTreeMap<LeaseId, Lease>,
}

#[derive(Clone)]
struct Item {
    entry: Entry,
    lease: Option<LeaseId>,
}

#[derive(Clone)]
struct Lease {
    ttl: Duration,
    ends: Instant,
}

/// All keys, and how they came about.
pub struct Map {
    pub revision: Revision,
    items: BTreeMap<String, Item>,
    leases: BTreeMap<LeaseId, Lease>,
    last_lease: i64,
    /// Changes by revision and moment, above `forgotten`.
    history: Vec<(Revision, Instant, Vec<Change>)>,
    forgotten: Revision,
    /// Whoever is told of every change and its writer.
    pub listener: Option<Listener>,
}

impl Map {
    /// Holds nothing. A new server's revision is 1.
    pub fn new() -> Self {
        let (items, leases) = (BTreeMap::new(), BTreeMap::new());
        Self { revision: 1, items, leases, last_lease: 0, history: Vec::new(), forgotten: 0, listener: None }
    }

    pub fn get(&self, key: &str) -> Option<Entry> {
        self.items.get(key).map(|item| item.entry.clone())
    }

    pub fn list(&self, prefix: &str) -> Vec<Entry> {
        self.below(prefix).map(|item| item.entry.clone()).collect()
    }

    /// Several questions at once.
    pub fn ranges(&self, ranges: &[Range]) -> Result<Vec<Listed>, StoreError> {
        if let Some(message) = flaw_of_ranges(ranges) {
            return Err(StoreError::Broken(format!("simulated: {message}")));
        }
        Ok(ranges.iter().map(|range| self.find(range)).collect())
    }

    fn find(&self, range: &Range) -> Listed {
        let mut entries = self.list(range.prefix());
        match range {
            Range::All(_) => {}
            Range::Count(_) => return Listed { count: entries.len() as u64, entries: Vec::new() },
            Range::LastBefore { before, limit, .. } => {
                entries.retain(|entry| entry.key < *before);
                entries.reverse();
                entries.truncate(*limit as usize);
            }
        }
        Listed { count: entries.len() as u64, entries }
    }

    /// A transaction of a host.
    pub fn txn(&mut self, writer: &str, txn: Txn, now: Instant) -> Result<Outcome, StoreError> {
        if let Some(message) = flaw(&txn) {
            return Err(StoreError::Broken(format!("simulated: {message}")));
        }
        let succeeded = txn.when.iter().all(|compare| self.holds(compare));
        if succeeded {
            let is_gone = |lease: &LeaseId| !self.leases.contains_key(lease);
            if txn.then.iter().any(|write| matches!(write, Write::Put(_, _, Some(lease)) if is_gone(lease))) {
                return Err(StoreError::LeaseGone);
            }
            self.write(writer, txn.then, now);
        }
        Ok(Outcome { succeeded, revision: self.revision })
    }

    pub fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        let whole_seconds = Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0));
        let ttl = whole_seconds.max(TTL_MIN);
        self.last_lease += 1;
        let id = LeaseId(self.last_lease);
        self.leases.insert(id, Lease { ttl, ends: now + ttl });
        id
    }

    pub fn keep_alive(&mut self, lease: LeaseId, now: Instant) -> Result<(), StoreError> {
        let lease = self.leases.get_mut(&lease).ok_or(StoreError::LeaseGone)?;
        lease.ends = now + lease.ttl;
        Ok(())
    }

    /// Ends a lease, by request or because its time is over.
    pub fn end(&mut self, writer: &str, lease: LeaseId, now: Instant) {
        self.leases.remove(&lease);
        let held = self.items.values().filter(|item| item.lease == Some(lease));
        let writes = held.map(|item| Write::Delete(item.entry.key.clone())).collect();
        self.write(writer, writes, now);
    }

    /// The lease that ends first, and when.
    pub fn next_end(&self) -> Option<(Instant, LeaseId)> {
        self.leases.iter().map(|(id, lease)| (lease.ends, *id)).min()
    }

    /// Gives every lease its whole time again, as a new leader does.
    pub fn renew_leases(&mut self, now: Instant) {
        self.leases.values_mut().for_each(|lease| lease.ends = now + lease.ttl);
    }

    /// What a snapshot holds.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { revision: self.revision, items: self.items.clone(), leases: self.leases.clone() }
    }

    /// Is again what it was at a snapshot: its keys, its revision, and its leases with their whole time. What was granted
    /// since is not known, and no number is granted a second time, since they are random.
    pub fn restore(&mut self, snapshot: &Snapshot, now: Instant) {
        let Snapshot { revision, items, leases } = snapshot.clone();
        (self.revision, self.items, self.leases) = (revision, items, leases);
        self.compact();
        self.renew_leases(now);
    }

    /// Forgets all changes up to now.
    pub fn compact(&mut self) {
        self.history.clear();
        self.forgotten = self.revision;
    }

    /// Whether the changes above a revision are all known.
    pub fn remembers(&self, after: Revision) -> Result<(), StoreError> {
        if after < self.forgotten { Err(StoreError::Compacted(self.forgotten)) } else { Ok(()) }
    }

    /// Changes below a prefix above a revision, each with the moment it was made.
    pub fn changes(&self, prefix: &str, after: Revision) -> Vec<(Instant, Change)> {
        let start = self.history.partition_point(|(revision, ..)| *revision <= after);
        let changes = self.history[start..].iter().flat_map(|(_, at, changes)| changes.iter().map(|c| (*at, c)));
        changes
            .filter(|(_, change)| key_of(change).starts_with(prefix))
            .map(|(at, change)| (at, change.clone()))
            .collect()
    }

    fn holds(&self, compare: &Compare) -> bool {
        let entry = |key: &String| self.items.get(key).map(|item| &item.entry);
        match compare {
            Compare::ModRevision(key, revision) => entry(key).map_or(0, |entry| entry.mod_revision) == *revision,
            Compare::CreateRevision(key, revision) => entry(key).map_or(0, |entry| entry.create_revision) == *revision,
            Compare::Value(key, value) => entry(key).is_some_and(|entry| entry.value == *value),
            Compare::NoneNewer(prefix, revision) => {
                self.below(prefix).all(|item| item.entry.create_revision <= *revision)
            }
        }
    }

    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Item> {
        self.items.range(prefix.to_owned()..).map(|(_, item)| item).take_while(move |i| i.entry.key.starts_with(prefix))
    }

    fn write(&mut self, writer: &str, writes: Vec<Write>, now: Instant) {
        let revision = self.revision + 1;
        let changes: Vec<Change> = writes.into_iter().filter_map(|write| self.write_one(write, revision)).collect();
        if let Some(listener) = &self.listener {
            changes.iter().for_each(|change| listener(writer, change));
        }
        if !changes.is_empty() {
            self.revision = revision;
            self.history.push((revision, now, changes));
        }
    }

    fn write_one(&mut self, write: Write, revision: Revision) -> Option<Change> {
        match write {
            Write::Put(key, value, lease) => {
                let create_revision = self.items.get(&key).map_or(revision, |item| item.entry.create_revision);
                let entry = Entry { key: key.clone(), value, create_revision, mod_revision: revision };
                self.items.insert(key, Item { entry: entry.clone(), lease });
                Some(Change::Put(entry))
            }
            Write::Delete(key) => self.items.remove(&key).map(|_| Change::Delete(key, revision)),
        }
    }
}

fn key_of(change: &Change) -> &str {
    match change {
        Change::Put(entry) => &entry.key,
        Change::Delete(key, _) => key,
    }
}
