//! Asking the registry for the whole cluster: whose turn it is, what an answer means, and what becomes of the turn.
//!
//! One node asks at a time. It gives its turn away when it gets nowhere, since what is in its way may be in nobody else's:
//! a certificate, a proxy, a login. What it met stands in the store for a while, as its *setback*, so that the others see
//! it and no crowd asks for what nobody can have.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::image::Digest;
use crate::plan::Answer;
use crate::record::Record;
use crate::store::Revision;

/// How long a turn lasts; it begins anew with each try. Longer than a try and the longest pause before the next, so that
/// it ends in the midst of nothing. A node that gets no further with it loses it then.
pub const TERM: Duration = Duration::from_secs(120);
/// Tries in a row after which a turn at a registry that does not answer goes to another node.
pub const TRIES_OF_ONE: u32 = 2;
/// Nodes that have a setback at a time. While so many have, nobody else asks: it is hardly the nodes' fault.
pub const SETBACKS_MAX: usize = 3;
/// Tries for a digest that a notification named and the tag does not show: about two minutes. After that the
/// notification counts as overtaken by a later push.
pub const NOT_YET_MAX: u32 = 8;
/// Tries for a tag that nobody finds: some minutes, in which a registry's replicas have caught up. After that the
/// notification is dropped, and a check is taken for done.
pub const ABSENT_MAX: u32 = 10;
/// The pause before a registry that shows an older version is asked whether it means it.
pub const SECOND_THOUGHT: Duration = Duration::from_secs(60);

/// A node that asked and got no answer of use. It ends by itself, a moment before that node asks again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    /// The node.
    pub node: String,
    /// For people: what it met.
    pub reason: String,
    /// Failures in a row for the same question, whichever node asked.
    pub failures: u32,
    /// Revision of the notification that it was about, which a later one ends; 0: whatever is asked.
    #[serde(default)]
    pub of: Revision,
    /// Unix seconds, for display only.
    pub at: i64,
}

impl Setback {
    /// Whether it stands for a question: the notification of this revision, or 0 for none.
    pub fn is_of(&self, pending: Revision) -> bool {
        self.of == 0 || self.of == pending
    }
}

/// Whether a node may take the turn that nobody has, to ask about the notification of this revision.
pub fn may_ask<'a>(setbacks: impl Iterator<Item = &'a Setback> + Clone, node: &str, pending: Revision) -> bool {
    let standing = setbacks.filter(|setback| setback.is_of(pending));
    standing.clone().count() < SETBACKS_MAX && standing.clone().all(|setback| setback.node != node)
}

/// Whether it is for the registry, or for a person, that everybody waits: none of so many nodes fares better.
pub fn is_stuck<'a>(setbacks: impl Iterator<Item = &'a Setback>, nodes: usize, pending: Revision) -> bool {
    setbacks.filter(|setback| setback.is_of(pending)).count() >= nodes.clamp(1, SETBACKS_MAX)
}

/// What is known when the registry's answer comes in.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What it said before.
    pub record: Option<&'a Record>,
    /// The digest that a notification named.
    pub named: Option<&'a Digest>,
    /// Tries for it before this one.
    pub tries: u32,
    /// The digest that the registry gave [`SECOND_THOUGHT`] ago, and that was not believed.
    pub doubted: Option<&'a Digest>,
}

impl Question<'_> {
    /// What a digest under the tag means. A replica or a cache may be behind, so that a version which the record has left
    /// behind is believed only if a notification names it, or the registry says it again after a while.
    pub fn weigh(&self, digest: &Digest) -> Answer {
        let Some(record) = self.record else { return Answer::Other };
        let is_known = |digest: &Digest| record.history().iter().any(|version| version.digest == *digest);
        if !is_known(digest) {
            return Answer::Other;
        }
        let is_newest = record.newest().is_some_and(|newest| newest.digest == *digest);
        let waits_for_another = self.named.is_some_and(|named| !is_known(named));
        if waits_for_another && self.tries < NOT_YET_MAX {
            Answer::NotYet
        } else if is_newest || waits_for_another {
            Answer::Newest
        } else if self.named == Some(digest) || self.doubted == Some(digest) {
            Answer::Other
        } else {
            Answer::Older
        }
    }

    /// What it means that there is no such tag.
    pub fn weigh_absence(&self) -> Answer {
        if self.tries + 1 < ABSENT_MAX { Answer::Absent } else { Answer::NeverThere }
    }
}

/// What becomes of a turn after an answer that was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The same node asks again: the registry answers, and time is all that it takes.
    Keep,
    /// Another node may ask.
    Leave,
}

/// Whether a node asks again itself, after so many failures in its turn.
pub fn then(answer: Answer, failures: u32) -> Then {
    match answer {
        Answer::NotYet | Answer::Older => Then::Keep,
        Answer::Unavailable if failures < TRIES_OF_ONE => Then::Keep,
        _ => Then::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Source;

    fn digest(letter: char) -> Digest {
        Digest::parse(&format!("sha256:{}", letter.to_string().repeat(64))).expect("a digest")
    }

    fn setback(node: &str, of: Revision) -> Setback {
        Setback { node: node.into(), reason: "no".into(), failures: 1, of, at: 0 }
    }

    /// Setbacks as `node` or `node/revision`; node `a` wants to ask about the notification of revision 7.
    #[track_caller]
    fn check_turn(setbacks: &str, expected: bool) {
        let setbacks: Vec<Setback> = setbacks
            .split_whitespace()
            .map(|word| match word.split_once('/') {
                Some((node, of)) => setback(node, of.parse().expect("a revision")),
                None => setback(word, 0),
            })
            .collect();
        assert_eq!(may_ask(setbacks.iter(), "a", 7), expected, "{setbacks:?}");
    }

    #[test]
    fn a_few_ask_in_turn_and_then_nobody_until_a_setback_ends() {
        check_turn("", true);
        check_turn("b c", true);
        check_turn("b c d", false);
        check_turn("b c d e", false);
        check_turn("a", false);
    }

    #[test]
    fn a_question_is_stuck_when_nobody_is_left_to_ask_it() {
        let all = [setback("a", 0), setback("b", 7), setback("c", 5)];
        for (count, nodes, expected) in
            [(0, 0, false), (1, 0, true), (1, 1, true), (1, 2, false), (2, 2, true), (2, 9, false), (3, 9, false)]
        {
            assert_eq!(is_stuck(all[..count].iter(), nodes, 7), expected, "{count} of {nodes}");
        }
        assert!(is_stuck([&all[0], &all[0], &all[1]].into_iter(), 9, 7));
    }

    #[test]
    fn a_setback_of_an_earlier_notification_is_over() {
        check_turn("a/5 b/5 c/5 d/5", true);
        check_turn("a/7", false);
        check_turn("b/7 c d/5", true);
        check_turn("b/7 c d/7", false);
    }

    /// The record's versions from the oldest on, the named one, tries before, the doubted one, and the answer.
    #[track_caller]
    fn check(history: &str, named: Option<char>, tries: u32, doubted: Option<char>, said: char, expected: Answer) {
        let mut versions = history.chars().map(digest);
        let first = versions.next().map(|first| Record::adopt(None, &first, Source::Hook, 0));
        let record = first.map(|first| versions.fold(first, |record, next| record.advanced(next, Source::Hook, 0)));
        let (named, doubted) = (named.map(digest), doubted.map(digest));
        let question = Question { record: record.as_ref(), named: named.as_ref(), tries, doubted: doubted.as_ref() };
        let case = format!("{history} named {named:?} after {tries}, doubted {doubted:?}: {said}");
        assert_eq!(question.weigh(&digest(said)), expected, "{case}");
    }

    #[test]
    fn what_the_record_does_not_know_is_new() {
        check("", None, 0, None, '1', Answer::Other);
        check("12", None, 0, None, '3', Answer::Other);
        check("12", Some('4'), 0, None, '3', Answer::Other);
    }

    #[test]
    fn a_named_digest_that_is_not_there_is_waited_for_whatever_the_registry_shows_instead() {
        check("12", Some('3'), 0, None, '2', Answer::NotYet);
        check("12", Some('3'), NOT_YET_MAX, None, '2', Answer::Newest);
        check("12", Some('3'), 0, None, '1', Answer::NotYet);
        check("12", Some('3'), NOT_YET_MAX, Some('1'), '1', Answer::Newest);
    }

    #[test]
    fn an_older_version_is_believed_when_it_is_named_or_said_twice() {
        check("12", Some('1'), 0, None, '1', Answer::Other);
        check("12", None, 0, None, '1', Answer::Older);
        check("12", Some('2'), 0, None, '1', Answer::Older);
        check("123", None, 0, Some('2'), '1', Answer::Older);
        check("12", None, 0, Some('1'), '1', Answer::Other);
    }

    #[test]
    fn the_newest_version_is_the_newest() {
        check("12", None, 0, None, '2', Answer::Newest);
        check("12", Some('2'), 0, None, '2', Answer::Newest);
        check("12", Some('1'), 0, None, '2', Answer::Newest);
        check("121", None, 0, None, '1', Answer::Newest);
    }

    #[test]
    fn a_tag_that_nobody_finds_is_not_asked_for_for_ever() {
        let absence = |tries| Question { record: None, named: None, tries, doubted: None }.weigh_absence();
        assert_eq!((absence(0), absence(ABSENT_MAX - 2)), (Answer::Absent, Answer::Absent));
        assert_eq!((absence(ABSENT_MAX - 1), absence(ABSENT_MAX)), (Answer::NeverThere, Answer::NeverThere));
    }

    #[test]
    fn a_turn_goes_on_to_others_unless_time_is_all_that_it_takes() {
        for (answer, failures, expected) in [
            (Answer::NotYet, 5, Then::Keep),
            (Answer::Older, 1, Then::Keep),
            (Answer::Unavailable, 1, Then::Keep),
            (Answer::Unavailable, 2, Then::Leave),
            (Answer::Denied, 1, Then::Leave),
            (Answer::Absent, 1, Then::Leave),
            (Answer::NeverThere, 1, Then::Leave),
        ] {
            assert_eq!(then(answer, failures), expected, "{answer:?} after {failures}");
        }
    }
}
