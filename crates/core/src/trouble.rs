//! Trouble of one machine that is no verdict, and for how long it keeps a container from being replaced.
//!
//! It ends with a newer version, with its cause, or when a person says go on. That word is a key in the store, so that it
//! reaches every node at once: each compares its revision with the one at which its own trouble arose.

use crate::store::Revision;

/// Why a version cannot be deployed to a container of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The container is such that it cannot be replaced, whatever the version: the others go on.
    Refused(String),
    /// Something is wrong that may well be wrong elsewhere, too: the rollout halts.
    Failed(String),
}

impl Trouble {
    /// What was seen, for people.
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::Failed(reason) => reason,
        }
    }
}

/// Trouble that a container met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// What it is.
    pub trouble: Trouble,
    /// Place in the record of the version that met it.
    pub seq: u64,
    /// Revision of the last word of a person to go on, when it arose; 0: none.
    pub since: Revision,
    /// How often in a row.
    pub failures: u32,
}

impl Met {
    /// Whether it keeps the container from the version of a place, when a person's last word to go on has this revision.
    /// A refusal is about the container, so it holds for any version, until it is time to look whether its cause has gone.
    pub fn stands(&self, seq: u64, retry: Revision, is_due: bool) -> bool {
        let is_about_it = match self.trouble {
            Trouble::Refused(_) => !is_due,
            Trouble::Failed(_) => self.seq == seq,
        };
        self.since == retry && is_about_it
    }

    /// What it comes to when the same container meets trouble again.
    pub fn again(before: Option<&Self>, trouble: Trouble, seq: u64, since: Revision) -> Self {
        let is_same = |before: &&Self| before.since == since && before.trouble == trouble;
        let failures = before.filter(is_same).map_or(0, |before| before.failures) + 1;
        Self { trouble, seq, since, failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Trouble {
        Trouble::Refused("leant on".into())
    }

    fn failed() -> Trouble {
        Trouble::Failed("disk full".into())
    }

    /// Trouble with version 3, which arose after the word of revision 20.
    #[track_caller]
    fn check(trouble: Trouble, seq: u64, retry: Revision, is_due: bool, expected: bool) {
        let met = Met::again(None, trouble, 3, 20);
        assert_eq!(met.stands(seq, retry, is_due), expected, "{met:?} {seq} {retry} {is_due}");
    }

    #[test]
    fn whatever_it_is_people_are_told_what_was_seen() {
        assert_eq!([refused(), failed()].each_ref().map(Trouble::reason), ["leant on", "disk full"]);
    }

    #[test]
    fn a_persons_word_ends_whatever_arose_before_it() {
        for trouble in [refused(), failed()] {
            check(trouble.clone(), 3, 20, false, true);
            check(trouble, 3, 25, false, false);
        }
    }

    #[test]
    fn a_failure_is_about_one_version_and_a_refusal_about_the_container() {
        check(failed(), 4, 20, false, false);
        check(failed(), 3, 20, true, true);
        check(refused(), 4, 20, false, true);
        check(refused(), 3, 20, true, false);
    }

    #[test]
    fn the_same_trouble_again_counts_up_until_a_person_speaks() {
        let first = Met::again(None, refused(), 3, 20);
        let second = Met::again(Some(&first), refused(), 4, 20);
        assert_eq!((first.failures, second.failures), (1, 2));
        assert_eq!(Met::again(Some(&second), refused(), 4, 25).failures, 1);
        assert_eq!(Met::again(Some(&second), failed(), 4, 20).failures, 1);
    }
}
