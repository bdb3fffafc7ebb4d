//! The entries in memory, and what a transaction would make of them.
//!
//! Pure: no file, no clock, no lock. A [`Draft`] is drawn up from the ledger, made durable by the caller, and
//! only then entered with [`Ledger::enter`], so that no reader ever sees what a crash could take back.

use std::collections::BTreeMap;
use std::ops::Bound;

use deployer_core::store::{Change, Compare, Entry, LeaseId, Listed, Outcome, Range, Revision, Write};

/// What is kept for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Revision at which the key came into being.
    pub create_revision: Revision,
    /// Revision of the last write.
    pub mod_revision: Revision,
    /// The lease that the key lasts as long as.
    pub lease: Option<LeaseId>,
    /// The value as it was written.
    pub value: Vec<u8>,
}

impl Item {
    fn entry(&self, key: &str) -> Entry {
        Entry {
            key: key.to_owned(),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
        }
    }
}

/// All keys at one revision.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    pub revision: Revision,
    pub items: BTreeMap<String, Item>,
}

impl Ledger {
    pub fn get(&self, key: &str) -> Option<Entry> {
        self.items.get(key).map(|item| item.entry(key))
    }

    pub fn list(&self, prefix: &str) -> Vec<Entry> {
        below(&self.items, prefix).map(|(key, item)| item.entry(key)).collect()
    }

    /// What lies in a range.
    pub fn find(&self, range: &Range) -> Listed {
        let entries: Vec<Entry> = match range {
            Range::All(prefix) => self.list(prefix),
            Range::Count(prefix) => {
                return Listed { count: below(&self.items, prefix).count() as u64, ..Listed::default() };
            }
            Range::LastBefore { prefix, before, limit } => {
                let from = (Bound::Included(prefix.as_str()), Bound::Excluded(before.as_str().max(prefix)));
                let below = self.items.range::<str, _>(from).rev().filter(|(key, _)| key.starts_with(prefix.as_str()));
                below.take(*limit as usize).map(|(key, item)| item.entry(key)).collect()
            }
        };
        Listed { count: entries.len() as u64, entries }
    }

    /// Keys whose lease is one of those for which `ended` holds.
    pub fn leased(&self, ended: impl Fn(LeaseId) -> bool) -> Vec<String> {
        let has_ended = |item: &Item| item.lease.is_some_and(&ended);
        self.items.iter().filter(|(_, item)| has_ended(item)).map(|(key, _)| key.clone()).collect()
    }

    /// Enters what a draft decided, once it is durable, and gives the changes for the history.
    pub fn enter(&mut self, decided: Decided) -> Vec<(Revision, Vec<Change>)> {
        self.revision = decided.revision;
        for (key, item) in decided.items {
            match item {
                Some(item) => self.items.insert(key, item),
                None => self.items.remove(&key),
            };
        }
        decided.changes
    }
}

/// What a draft came to; `items` holds the last state of each key it touched, `None` for a removed one.
#[derive(Debug)]
pub(super) struct Decided {
    pub revision: Revision,
    pub items: BTreeMap<String, Option<Item>>,
    pub changes: Vec<(Revision, Vec<Change>)>,
}

/// Several transactions, each decided on what the ones before it would leave.
pub(super) struct Draft<'a> {
    ledger: &'a Ledger,
    decided: Decided,
}

impl<'a> Draft<'a> {
    pub fn new(ledger: &'a Ledger) -> Self {
        let decided = Decided { revision: ledger.revision, items: BTreeMap::new(), changes: Vec::new() };
        Self { ledger, decided }
    }

    pub fn decided(self) -> Decided {
        self.decided
    }

    /// Whether all conditions hold.
    pub fn holds(&self, when: &[Compare]) -> bool {
        when.iter().all(|compare| match compare {
            Compare::ModRevision(key, revision) => self.item(key).map_or(0, |item| item.mod_revision) == *revision,
            Compare::CreateRevision(key, revision) => {
                self.item(key).map_or(0, |item| item.create_revision) == *revision
            }
            Compare::Value(key, value) => self.item(key).is_some_and(|item| item.value == *value),
            Compare::NoneNewer(prefix, revision) => self.newest(prefix) <= *revision,
        })
    }

    /// Makes the writes at one new revision; if none of them changes anything, nothing.
    pub fn write(&mut self, then: Vec<Write>) -> Outcome {
        let revision = self.decided.revision + 1;
        let changes: Vec<Change> = then.into_iter().filter_map(|write| self.write_one(write, revision)).collect();
        if !changes.is_empty() {
            self.decided.revision = revision;
            self.decided.changes.push((revision, changes));
        }
        Outcome { succeeded: true, revision: self.decided.revision }
    }

    /// What a transaction that writes nothing comes to.
    pub fn refused(&self) -> Outcome {
        Outcome { succeeded: false, revision: self.decided.revision }
    }

    /// Keys whose lease is this one, as they would be now.
    pub fn leased(&self, lease: LeaseId) -> Vec<String> {
        let mut keys = self.ledger.leased(|other| other == lease);
        keys.retain(|key| !self.decided.items.contains_key(key));
        let is_leased = |item: &Option<Item>| item.as_ref().is_some_and(|item| item.lease == Some(lease));
        keys.extend(self.decided.items.iter().filter(|(_, item)| is_leased(item)).map(|(key, _)| key.clone()));
        keys
    }

    fn write_one(&mut self, write: Write, revision: Revision) -> Option<Change> {
        match write {
            Write::Put(key, value, lease) => {
                let create_revision = self.item(&key).map_or(revision, |item| item.create_revision);
                let item = Item { create_revision, mod_revision: revision, lease, value };
                let change = Change::Put(item.entry(&key));
                self.decided.items.insert(key, Some(item));
                Some(change)
            }
            Write::Delete(key) => {
                self.item(&key)?;
                self.decided.items.insert(key.clone(), None);
                Some(Change::Delete(key, revision))
            }
        }
    }

    fn item(&self, key: &str) -> Option<&Item> {
        match self.decided.items.get(key) {
            Some(touched) => touched.as_ref(),
            None => self.ledger.items.get(key),
        }
    }

    /// The newest create revision below a prefix; 0 without a key.
    fn newest(&self, prefix: &str) -> Revision {
        let untouched = below(&self.ledger.items, prefix).filter(|(key, _)| !self.decided.items.contains_key(*key));
        let touched = below(&self.decided.items, prefix).filter_map(|(_, item)| item.as_ref());
        untouched.map(|(_, item)| item).chain(touched).map(|item| item.create_revision).max().unwrap_or(0)
    }
}

fn below<'a, V>(items: &'a BTreeMap<String, V>, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a V)> {
    items
        .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
}
