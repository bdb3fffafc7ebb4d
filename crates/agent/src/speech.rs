//! What this node has said in the store, and what it may have said: of a writing that was not answered nobody knows whether
//! it happened, and it may yet.

use std::collections::BTreeSet;

use deployer_core::keys::Keys;

use crate::words::{Said, Words};

/// The memory.
#[derive(Clone, Debug, Default)]
pub struct Speech {
    said: Words,
    /// How often something was said in it that was not seen in a look around.
    spoken: u64,
    unanswered: BTreeSet<String>,
}

impl Speech {
    /// How often something was said beside the looks around: one that began when it was less often has seen less.
    pub fn spoken(&self) -> u64 {
        self.spoken
    }

    /// All that was said last.
    pub fn words(&self) -> Words {
        self.said.clone()
    }

    /// What was said last under a key.
    pub fn last(&self, key: &str) -> Option<&Said> {
        self.said.0.get(key)
    }

    /// Whether a word stands in the store for certain.
    pub fn has_said(&self, key: &str, word: &Said) -> bool {
        self.last(key) == Some(word) && !self.unanswered.contains(key)
    }

    /// The keys of words that outlast the node's lease.
    pub fn lasting(&self) -> impl Iterator<Item = &String> {
        self.said.lasting()
    }

    /// The keys under which something may stand.
    pub fn keys(&self) -> BTreeSet<&String> {
        self.said.0.keys().chain(&self.unanswered).collect()
    }

    /// Notes that this is about to be said, or withdrawn.
    pub fn try_to_say(&mut self, changes: &[(String, Option<Said>)]) {
        self.unanswered.extend(changes.iter().map(|(key, _)| key.clone()));
    }

    /// Notes that this was said, or withdrawn.
    pub fn be_answered(&mut self, changes: &[(String, Option<Said>)]) {
        for (key, word) in changes.iter().cloned() {
            self.unanswered.remove(&key);
            match word {
                Some(word) => drop(self.said.0.insert(key, word)),
                None => drop(self.said.0.remove(&key)),
            }
        }
    }

    /// Notes that something was said beside the looks around.
    pub fn note(&mut self, keys: &Keys, key: &str, word: Said) {
        self.spoken += 1;
        self.unanswered.remove(key);
        if let Some(mark) = keys.up_of_report(key) {
            self.unanswered.remove(&mark);
        }
        self.said.0.insert(key.to_owned(), word);
        self.said.mark_ups(keys);
    }

    /// Notes that these stand, or do not, as nobody here said it. Whether that is news.
    pub fn doubt(&mut self, keys: BTreeSet<String>) -> bool {
        let before = self.unanswered.len();
        self.unanswered.extend(keys);
        self.unanswered.len() > before
    }

    /// Takes it that an instance was last said to be down: where its slot may have been given back already, nothing may count it
    /// as up again that was said before.
    pub fn lower(&mut self, report: &str) {
        if let Some(Said::Leased(report)) = self.said.0.get_mut(report)
            && report.is_object()
        {
            report["up"] = false.into();
        }
    }

    /// Whether there is a key of which nobody knows what stands there.
    pub fn is_any_unanswered(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Begins anew with nothing but these keys, under which something stands that this daemon does not know.
    pub fn begin(&mut self, lasting: BTreeSet<String>) {
        self.unanswered.clear();
        self.said = Words(lasting.into_iter().map(|key| (key, Said::UNKNOWN)).collect());
    }

    /// Notes what was found to stand under a key, whoever said it.
    pub fn read(&mut self, key: String, word: Said) {
        self.said.0.insert(key, word);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The answer to the release was lost. Until it was asked for again the instance, which was down, was said to be up as it had
    /// been before its replacement, and the next one went down beside it.
    #[test]
    fn what_was_said_before_a_release_that_is_not_answered_counts_nobody_as_up() {
        let mut speech = Speech::default();
        let said = |up: bool| Said::Leased(json!({"state": "stale", "up": up}));
        speech.read("report".to_owned(), said(true));
        speech.lower("report");
        speech.lower("nothing");
        assert_eq!(speech.last("report"), Some(&said(false)));
        assert_eq!(speech.last("nothing"), None);
    }

    #[test]
    fn what_was_not_answered_is_neither_said_nor_withdrawn() {
        let (one, two) = (Said::Lasting(1.into()), Said::Lasting(2.into()));
        let change = |word: Option<&Said>| [("key".to_owned(), word.cloned())];
        let mut speech = Speech::default();
        // What is said, or withdrawn, and whether that is answered; which of the two words stands for certain then, and
        // whether anything may stand.
        for (word, is_answered, stands, may_stand) in [
            (Some(&one), false, [false, false], true),
            (Some(&one), true, [true, false], true),
            (Some(&two), false, [false, false], true),
            (Some(&one), true, [true, false], true),
            (None, false, [false, false], true),
            (None, true, [false, false], false),
        ] {
            speech.try_to_say(&change(word));
            if is_answered {
                speech.be_answered(&change(word));
            }
            assert_eq!([&one, &two].map(|word| speech.has_said("key", word)), stands, "{word:?} {is_answered}");
            assert_eq!(!speech.keys().is_empty(), may_stand, "{word:?} {is_answered}");
        }
    }
}
