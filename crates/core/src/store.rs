//! The store's data: entries, comparisons and writes, as values.
//!
//! The store is a revisioned key-value map with the semantics of etcd v3: each write transaction advances one
//! revision; an entry knows the revisions of its creation and of its last change. Core builds [`Txn`]s and
//! never sends one, so that every rule of the protocol can be read, and tested, as data.

/// A point in the store's history; 0 stands for "does not exist".
pub type Revision = u64;

/// A lease of the store: its keys go when it is not kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A key with its value and history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key, prefix included.
    pub key: String,
    /// The value as it was written.
    pub value: Vec<u8>,
    /// Revision at which the key came into being; the fencing token of a claim.
    pub create_revision: Revision,
    /// Revision of the last write.
    pub mod_revision: Revision,
}

/// A question to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Range {
    /// Everything below a prefix, in the order of keys.
    All(String),
    /// Of what lies below a prefix and before a key, the last so many; the last of them first.
    LastBefore {
        /// The prefix.
        prefix: String,
        /// The key, which need not exist.
        before: String,
        /// How many at most.
        limit: u32,
    },
    /// How many keys lie below a prefix.
    Count(String),
}

impl Range {
    /// The prefix below which it looks.
    pub fn prefix(&self) -> &str {
        match self {
            Self::All(prefix) | Self::LastBefore { prefix, .. } | Self::Count(prefix) => prefix,
        }
    }
}

/// What was found in a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The entries; none where they were only counted.
    pub entries: Vec<Entry>,
    /// How many there are.
    pub count: u64,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key's last change is this revision; 0: the key does not exist.
    ModRevision(String, Revision),
    /// The key was created at this revision; 0: the key does not exist.
    CreateRevision(String, Revision),
    /// The key holds exactly this value.
    Value(String, Vec<u8>),
    /// No key below this prefix was created after this revision.
    NoneNewer(String, Revision),
}

impl Compare {
    /// The key, or the prefix, that is looked at.
    pub fn key(&self) -> &str {
        match self {
            Self::ModRevision(key, _)
            | Self::CreateRevision(key, _)
            | Self::Value(key, _)
            | Self::NoneNewer(key, _) => key,
        }
    }
}

/// A write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key; with a lease, until the lease ends.
    Put(String, Vec<u8>, Option<LeaseId>),
    /// Removes a key; absent is fine.
    Delete(String),
}

/// All writes, if all conditions hold; nothing otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Conditions, all of which must hold.
    pub when: Vec<Compare>,
    /// Writes, each key at most once.
    pub then: Vec<Write>,
}

impl Txn {
    /// A transaction without conditions or writes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    pub fn when(mut self, compare: Compare) -> Self {
        self.when.push(compare);
        self
    }

    /// Adds the condition that a key holds a value, as JSON.
    pub fn when_holds(self, key: String, value: &impl serde::Serialize) -> Self {
        self.when(Compare::Value(key, encode(value)))
    }

    /// Adds a write of a value as JSON.
    pub fn put(mut self, key: String, value: &impl serde::Serialize) -> Self {
        self.then.push(Write::Put(key, encode(value), None));
        self
    }

    /// Adds a write of a value as JSON that lasts as long as a lease.
    pub fn put_leased(mut self, key: String, value: &impl serde::Serialize, lease: LeaseId) -> Self {
        self.then.push(Write::Put(key, encode(value), Some(lease)));
        self
    }

    /// Adds the removal of a key.
    pub fn delete(mut self, key: String) -> Self {
        self.then.push(Write::Delete(key));
        self
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the conditions held and the writes were made.
    pub succeeded: bool,
    /// The store's revision after it.
    pub revision: Revision,
}

/// A change that a watch reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key was written.
    Put(Entry),
    /// A key was removed, or its lease ended, at a revision.
    Delete(String, Revision),
}

impl Change {
    /// The key that was written or removed.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete(key, _) => key,
        }
    }
}

/// The protocol's values are maps with text keys, which JSON can always hold.
fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value of the protocol is a plain map")
}
