//! The store's state in memory: entries, leases, and the changes of late.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use deployer_core::store::{Change, Compare, Entry, LeaseId, Revision, Write};
use tokio::time::Instant;

/// Changes kept for watches that begin in the past; older ones need a listing first.
const PAST_MAX: usize = 4096;

/// What one write comes to: the entry as it will be, or its end.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub change: Change,
    pub lease: Option<LeaseId>,
    /// Whether the file has to know: the key outlives the process now, or did before.
    pub is_durable: bool,
}

struct Lease {
    ttl: Duration,
    ends: Instant,
    keys: BTreeSet<String>,
}

pub struct Memory {
    entries: BTreeMap<String, (Entry, Option<LeaseId>)>,
    revision: Revision,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: i64,
    past: VecDeque<(Revision, Change)>,
    /// Changes up to this revision are no longer kept.
    forgotten: Revision,
}

impl Memory {
    pub fn new(entries: Vec<Entry>, revision: Revision) -> Self {
        Self {
            entries: entries.into_iter().map(|entry| (entry.key.clone(), (entry, None))).collect(),
            revision,
            leases: BTreeMap::new(),
            next_lease: 1,
            past: VecDeque::new(),
            forgotten: revision,
        }
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).map(|(entry, _)| entry.clone())
    }

    pub fn list(&self, prefix: &str) -> Vec<Entry> {
        self.below(prefix).cloned().collect()
    }

    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries
            .range(prefix.to_owned()..)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, (entry, _))| entry)
    }

    pub fn holds(&self, compare: &Compare) -> bool {
        let entry = |key: &String| self.entries.get(key).map(|(entry, _)| entry);
        match compare {
            Compare::ModRevision(key, revision) => entry(key).map_or(0, |e| e.mod_revision) == *revision,
            Compare::CreateRevision(key, revision) => entry(key).map_or(0, |e| e.create_revision) == *revision,
            Compare::NoneNewer(prefix, revision) => self.below(prefix).all(|e| e.create_revision <= *revision),
        }
    }

    /// What the writes come to at the next revision. The removal of an absent key comes to nothing.
    pub fn prepare(&self, writes: &[Write]) -> Vec<Prepared> {
        let revision = self.revision + 1;
        let was_durable = |key: &String| self.entries.get(key).is_some_and(|(_, lease)| lease.is_none());
        let prepared = |write: &Write| match write {
            Write::Put(key, value, lease) => {
                let create_revision = self.entries.get(key).map_or(revision, |(entry, _)| entry.create_revision);
                let entry = Entry { key: key.clone(), value: value.clone(), create_revision, mod_revision: revision };
                let is_durable = lease.is_none() || was_durable(key);
                Some(Prepared { change: Change::Put(entry), lease: *lease, is_durable })
            }
            Write::Delete(key) => self.entries.contains_key(key).then(|| {
                let change = Change::Delete(key.clone(), revision);
                Prepared { change, lease: None, is_durable: was_durable(key) }
            }),
        };
        writes.iter().filter_map(prepared).collect()
    }

    /// Makes prepared writes, as one revision.
    pub fn apply(&mut self, prepared: Vec<Prepared>) -> Vec<Change> {
        self.revision += 1;
        let mut changes = Vec::new();
        for Prepared { change, lease, .. } in prepared {
            let key = match &change {
                Change::Put(entry) => entry.key.clone(),
                Change::Delete(key, _) => key.clone(),
            };
            if let Some((_, Some(before))) = self.entries.get(&key)
                && let Some(before) = self.leases.get_mut(before)
            {
                before.keys.remove(&key);
            }
            match &change {
                Change::Put(entry) => {
                    if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
                        lease.keys.insert(key.clone());
                    }
                    self.entries.insert(key, (entry.clone(), lease));
                }
                Change::Delete(..) => drop(self.entries.remove(&key)),
            }
            self.remember(change.clone());
            changes.push(change);
        }
        changes
    }

    fn remember(&mut self, change: Change) {
        self.past.push_back((self.revision, change));
        while self.past.len() > PAST_MAX {
            if let Some((revision, _)) = self.past.pop_front() {
                self.forgotten = revision;
            }
        }
    }

    /// Every change after a revision; `None` if some are no longer kept.
    pub fn since(&self, after: Revision) -> Option<Vec<Change>> {
        let kept = || self.past.iter().filter(|(revision, _)| *revision > after);
        (after >= self.forgotten).then(|| kept().map(|(_, change)| change.clone()).collect())
    }

    pub fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        let lease = LeaseId(self.next_lease);
        self.next_lease += 1;
        self.leases.insert(lease, Lease { ttl, ends: now + ttl, keys: BTreeSet::new() });
        lease
    }

    pub fn has_lease(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    pub fn keep_alive(&mut self, lease: LeaseId, now: Instant) -> bool {
        let lease = self.leases.get_mut(&lease);
        lease.map(|lease| lease.ends = now + lease.ttl).is_some()
    }

    pub fn revoke(&mut self, lease: LeaseId) -> Vec<Change> {
        let keys = self.leases.remove(&lease).map(|lease| lease.keys).unwrap_or_default();
        let removals: Vec<Write> = keys.into_iter().map(Write::Delete).collect();
        let prepared = self.prepare(&removals);
        if prepared.is_empty() { Vec::new() } else { self.apply(prepared) }
    }

    pub fn end_leases(&mut self, now: Instant) -> Vec<Change> {
        let over: Vec<LeaseId> = self.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(id, _)| *id).collect();
        over.into_iter().flat_map(|lease| self.revoke(lease)).collect()
    }
}
