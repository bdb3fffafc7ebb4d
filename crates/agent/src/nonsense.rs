//! Values in the store that make no sense, as far as this node came upon them: each is named once in the log, and shown for
//! as long as it is there.

use std::collections::BTreeMap;

use deployer_core::store::Revision;

/// Values that make no sense and are named; further ones are passed over in silence.
const NAMED_MAX: usize = 100;

/// The memory: by key, the revision at which it was seen, and the words for it.
#[derive(Debug, Default)]
pub struct Nonsense(BTreeMap<String, (Revision, String)>);

impl Nonsense {
    /// Notes that a value makes no sense. Whether it is to be named.
    pub fn meet(&mut self, key: String, revision: Revision, text: &str) -> bool {
        let is_known = self.0.get(&key).is_some_and(|(known, _)| *known == revision);
        if is_known || self.0.len() >= NAMED_MAX {
            return false;
        }
        self.0.insert(key, (revision, text.to_owned()));
        true
    }

    /// All that was named, with key and revision.
    pub fn all(&self) -> Vec<(String, Revision, String)> {
        self.0.iter().map(|(key, (revision, text))| (key.clone(), *revision, text.clone())).collect()
    }

    /// Forgets a value that is not there any more.
    pub fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_named_once_and_no_more_than_so_many() {
        let mut nonsense = Nonsense::default();
        for (key, revision, expected) in [("a", 1, true), ("a", 1, false), ("a", 2, true), ("b", 2, true)] {
            assert_eq!(nonsense.meet(key.to_owned(), revision, "why"), expected, "{key} {revision}");
        }
        assert_eq!(nonsense.all(), [("a".into(), 2, "why".into()), ("b".into(), 2, "why".into())]);
        nonsense.forget("a");
        let named = (0..200).filter(|number| nonsense.meet(format!("c{number}"), 1, "why")).count();
        assert_eq!(named, NAMED_MAX - 1);
        nonsense.forget("b");
        assert!(nonsense.meet("b".to_owned(), 3, "why"));
    }
}
