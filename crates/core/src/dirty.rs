//! Keys that need a look, each once at a time.
//!
//! Every stage works level-triggered: a key says that something may have changed, never what to do. A key that
//! is marked while it is being worked on is worked on again afterwards.

use std::collections::{BTreeSet, VecDeque};

/// A queue of distinct keys in order of arrival, with those under way held back.
#[derive(Clone, Debug)]
pub struct Dirty<K> {
    waiting: VecDeque<K>,
    under_way: BTreeSet<K>,
}

impl<K> Default for Dirty<K> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), under_way: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Dirty<K> {
    /// Notes that a key needs a look. Marking twice before the look is marking once.
    pub fn mark(&mut self, key: K) {
        if !self.waiting.contains(&key) {
            self.waiting.push_back(key);
        }
    }

    /// The next key that is not under way, which is under way from now on.
    pub fn take(&mut self) -> Option<K> {
        let position = self.waiting.iter().position(|key| !self.under_way.contains(key))?;
        let key = self.waiting.remove(position)?;
        self.under_way.insert(key.clone());
        Some(key)
    }

    /// Whether a key is under way.
    pub fn is_under_way(&self, key: &K) -> bool {
        self.under_way.contains(key)
    }

    /// Says that the look at a key has ended.
    pub fn done(&mut self, key: &K) {
        self.under_way.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_marked_while_under_way_runs_again_and_never_twice_at_once() {
        let mut dirty = Dirty::default();
        for key in ["a", "a", "b"] {
            dirty.mark(key);
        }
        assert_eq!((dirty.take(), dirty.take(), dirty.take()), (Some("a"), Some("b"), None));
        dirty.mark("a");
        assert_eq!((dirty.take(), dirty.is_under_way(&"a")), (None, true));
        dirty.done(&"a");
        assert!(!dirty.is_under_way(&"a"), "it only waits");
        assert_eq!((dirty.take(), dirty.take()), (Some("a"), None));
    }
}
