//! One prefix as it was last seen. Nothing here waits or asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use deployer_core::store::{Change, Entry, Revision};
use tokio::time::Instant;

/// A key whose entry is another than before, or none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It was written.
    Put(Arc<str>),
    /// It is gone.
    Deleted(Arc<str>),
    /// Any key: the listener was too slow to be told of each.
    Anything,
}

/// How a region was when a list of it was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    revision: Option<Revision>,
    doubts: u64,
}

impl Begun {
    /// Whether the store was restored from a snapshot in the meantime: a list is never older than what was known before.
    pub fn is_undone_by(self, revision: Revision) -> bool {
        self.revision.is_some_and(|before| revision < before)
    }
}

/// What is known of a prefix.
pub(super) struct Region {
    entries: BTreeMap<String, Entry>,
    /// The revision at which the entries were true; `None` until they were listed once.
    revision: Option<Revision>,
    /// No reader is shown anything older than this: the last write of this process.
    expected: Revision,
    /// How often a write of this process had an outcome that does not say how things stand, and how many of those times
    /// were followed by a list.
    doubts: u64,
    settled: u64,
    /// Since when nothing is heard of the prefix.
    pub away_since: Option<Instant>,
    /// Whether it is to be listed before it is watched: it never was, or something may have been missed.
    pub is_due: bool,
}

impl Region {
    pub fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            revision: None,
            expected: 0,
            doubts: 0,
            settled: 0,
            away_since: None,
            is_due: true,
        }
    }

    /// The revision at which it was true.
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// The entries below a prefix that lies in this one.
    pub fn below(&self, prefix: &str) -> Vec<Entry> {
        let from = self.entries.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix)).map(|(_, entry)| entry.clone()).collect()
    }

    /// Whether only the store knows how things stand.
    pub fn is_doubtful(&self) -> bool {
        self.doubts > self.settled
    }

    /// Whether it is older than a reader may be shown.
    pub fn is_late(&self) -> bool {
        self.revision.is_none_or(|revision| revision < self.expected)
    }

    /// Shows no reader anything older than this revision any more.
    pub fn expect(&mut self, revision: Revision) {
        self.expected = self.expected.max(revision);
    }

    /// The same for the removal of a key, which is no change, and never comes, if there is none.
    pub fn expect_removal(&mut self, key: &str, revision: Revision) {
        if self.entries.contains_key(key) {
            self.expect(revision);
        }
    }

    /// Lets readers ask the store once more.
    pub fn doubt(&mut self) {
        self.doubts += 1;
    }

    /// Notes how it is before a list of it is asked for.
    pub fn begin(&self) -> Begun {
        Begun { revision: self.revision, doubts: self.doubts }
    }

    /// Takes a list. Gives what is different, and the revision at which the region is true now.
    pub fn list(&mut self, begun: Begun, listed: Vec<Entry>, revision: Revision) -> (Vec<Changed>, Revision) {
        self.settled = self.settled.max(begun.doubts);
        self.is_due = false;
        if begun.is_undone_by(revision) {
            // What was written to the one before is no more.
            self.expected = 0;
        } else if let Some(current) = self.revision.filter(|current| revision < *current) {
            return (Vec::new(), current);
        }
        let is_first = self.revision.replace(revision).is_none();
        let listed: BTreeMap<String, Entry> = listed.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let before = std::mem::replace(&mut self.entries, listed);
        // Whoever wants to know has not read it yet.
        let changed = if is_first { Vec::new() } else { difference(&before, &self.entries) };
        (changed, revision)
    }

    /// Takes a change, unless it is part of what was listed. Gives what is different.
    pub fn change(&mut self, change: Change) -> Option<Changed> {
        let at = match &change {
            Change::Put(entry) => entry.mod_revision,
            Change::Delete(_, revision) => *revision,
        };
        if self.revision.is_none_or(|revision| at < revision) {
            return None;
        }
        self.revision = Some(at);
        match change {
            Change::Put(entry) => {
                let key: Arc<str> = entry.key.as_str().into();
                let before = self.entries.insert(entry.key.clone(), entry);
                before.is_none_or(|before| before.mod_revision != at).then_some(Changed::Put(key))
            }
            Change::Delete(key, _) => self.entries.remove(&key).map(|_| Changed::Deleted(key.into())),
        }
    }
}

fn difference(before: &BTreeMap<String, Entry>, after: &BTreeMap<String, Entry>) -> Vec<Changed> {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let written = after.values().filter(|entry| before.get(&entry.key) != Some(*entry));
    let gone = gone.map(|key| Changed::Deleted(key.as_str().into()));
    gone.chain(written.map(|entry| Changed::Put(entry.key.as_str().into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, revision: Revision) -> Entry {
        Entry { key: key.into(), value: Vec::new(), create_revision: revision, mod_revision: revision }
    }

    fn listed(keys: &[(&str, Revision)], revision: Revision) -> Region {
        let mut region = Region::new();
        region.list(region.begin(), keys.iter().map(|(key, at)| entry(key, *at)).collect(), revision);
        region
    }

    /// A region that knows revision 9 gets a list that was asked for at a revision; what it knows then.
    #[track_caller]
    fn check_list(asked_at: Revision, revision: Revision, expected: Revision) {
        let mut region = listed(&[("a", 4)], asked_at);
        let begun = region.begin();
        region.change(Change::Put(entry("a", 9)));
        assert_eq!(region.list(begun, vec![entry("a", revision)], revision).1, expected, "{asked_at} {revision}");
        assert_eq!(region.below("a"), [entry("a", expected)]);
    }

    #[test]
    fn a_list_that_was_overtaken_is_left_and_one_of_a_restored_store_is_taken() {
        check_list(5, 12, 12);
        check_list(5, 7, 9);
        check_list(5, 3, 3);
    }

    #[test]
    fn a_change_is_told_once_however_often_it_comes() {
        let mut region = listed(&[("a", 4), ("b", 5)], 5);
        assert_eq!(region.change(Change::Put(entry("b", 5))), None, "it was listed");
        assert_eq!(region.change(Change::Delete("a".into(), 3)), None, "it is there again since");
        assert_eq!(region.change(Change::Delete("a".into(), 6)), Some(Changed::Deleted("a".into())));
        assert_eq!(region.change(Change::Delete("a".into(), 6)), None);
        let (changed, _) = region.list(region.begin(), vec![entry("b", 8), entry("c", 7)], 9);
        assert_eq!(changed, [Changed::Put("b".into()), Changed::Put("c".into())]);
        assert_eq!(region.list(region.begin(), vec![entry("b", 8), entry("c", 7)], 10), (vec![], 10));
    }

    #[test]
    fn what_this_process_wrote_is_waited_for_and_what_it_does_not_know_is_asked_for() {
        let mut region = listed(&[("a", 4)], 5);
        region.expect_removal("b", 7);
        assert!(!region.is_late(), "there was none to remove");
        region.expect_removal("a", 7);
        assert!(region.is_late());
        region.change(Change::Delete("a".into(), 7));
        assert!(!region.is_late());
        let begun = region.begin();
        region.doubt();
        region.list(begun, vec![], 8);
        assert!(region.is_doubtful(), "the list was asked for before");
        region.list(region.begin(), vec![], 8);
        assert!(!region.is_doubtful());
    }
}
