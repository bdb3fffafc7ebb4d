//! Record, verdict and target: which image should run, as three facts kept apart.
//!
//! The record is what the registry said; a verdict is what we think of a digest; the target follows from both.
//! Creation times play no part: see `docs/adr/0002`. Every node computes the target with the same function.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::image::Digest;

/// Entries a record keeps, the newest first. At the limit the oldest goes; with it goes the way back to it.
pub const HISTORY_MAX: usize = 50;
/// Version of the value's form in the store.
const FORM: u32 = 1;

/// What made somebody ask the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The digest that already ran when the track was first seen.
    Adopted,
    /// A registry's notification, or `deployer deploy`.
    Hook,
    /// The slow check that heals lost notifications.
    Check,
    /// The local tag was moved by hand.
    LocalTag,
}

/// One answer of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Grows by one with every entry of a track.
    pub seq: u64,
    /// What the tag pointed to.
    pub digest: Digest,
    /// Why the registry was asked.
    pub source: Source,
    /// Unix seconds, for display only.
    pub at: i64,
    /// A person took this entry back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// No registry said so: some container ran it when the track was first seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsaid: bool,
}

impl Version {
    /// Whether a container may be moved to this version, given what was adopted from the first of its predecessors. What
    /// another container happened to run is no version of this one.
    pub fn is_for(&self, adopted: Option<&Digest>) -> bool {
        !self.unsaid || adopted == Some(&self.digest)
    }
}

/// The history of a track, the newest entry first; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    v: u32,
    history: Vec<Version>,
}

impl Record {
    /// The first record of a track: what runs, so that there is something to go back to, and what the registry
    /// says if that differs.
    pub fn adopt(running: Option<&Digest>, registry: &Digest, source: Source, at: i64) -> Self {
        let adopted = running.filter(|running| *running != registry);
        let first = Version {
            seq: 1,
            digest: adopted.unwrap_or(registry).clone(),
            source: Source::Adopted,
            at,
            withdrawn: false,
            unsaid: adopted.is_some(),
        };
        let record = Self { v: FORM, history: vec![first] };
        if adopted.is_some() { record.advanced(registry.clone(), source, at) } else { record }
    }

    /// The record with a further entry on top.
    pub fn advanced(&self, digest: Digest, source: Source, at: i64) -> Self {
        let seq = self.newest().map_or(1, |newest| newest.seq + 1);
        let version = Version { seq, digest, source, at, withdrawn: false, unsaid: false };
        let history = std::iter::once(version).chain(self.history.iter().cloned()).take(HISTORY_MAX).collect();
        Self { v: FORM, history }
    }

    /// The record with one entry withdrawn or given back; `None` if nothing changes.
    pub fn with_withdrawn(&self, seq: u64, withdrawn: bool) -> Option<Self> {
        let mut record = self.clone();
        let version = record.history.iter_mut().find(|version| version.seq == seq)?;
        (version.withdrawn != withdrawn).then(|| version.withdrawn = withdrawn)?;
        Some(record)
    }

    /// The newest entry. Empty only if the stored value was tampered with.
    pub fn newest(&self) -> Option<&Version> {
        self.history.first()
    }

    /// All entries, the newest first.
    pub fn history(&self) -> &[Version] {
        &self.history
    }

    /// The digests that leave the history when the next record is written over this one.
    pub fn forgotten_by(&self, next: &Self) -> BTreeSet<Digest> {
        let digests = |record: &Self| record.history.iter().map(|version| version.digest.clone()).collect();
        let (before, after): (BTreeSet<Digest>, BTreeSet<Digest>) = (digests(self), digests(next));
        before.difference(&after).cloned().collect()
    }

    /// The entry that no registry named, if it is still known.
    pub fn unsaid(&self) -> Option<&Version> {
        self.history.iter().find(|version| version.unsaid)
    }

    /// The digest by which an image is known here, of all that its repository gives it: the target's, or else the
    /// newest one that the record knows. An index may change without this platform's image, which then has several.
    pub fn known_as(record: Option<&Self>, target: Option<&Version>, digests: &[Digest]) -> Option<Digest> {
        let history = record.into_iter().flat_map(|record| &record.history);
        let known = target.into_iter().chain(history).map(|version| &version.digest);
        known.chain(digests).find(|digest| digests.contains(digest)).cloned()
    }

    /// The newest entry that is neither withdrawn nor bad for the service whose verdicts are given.
    pub fn target(&self, verdicts: &Verdicts) -> Option<&Version> {
        self.history.iter().find(|version| !version.withdrawn && !verdicts.is_bad(&version.digest))
    }
}

/// What is thought of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opinion {
    /// It passed gate and monitor once.
    Good,
    /// It failed where its predecessor stood; it is not tried again until a person says so.
    Bad,
}

/// A stored opinion with its ground.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Good or bad.
    pub verdict: Opinion,
    /// The node that saw it.
    pub node: String,
    /// For people: what was seen.
    pub reason: String,
    /// Unix seconds, for display only.
    pub at: i64,
}

/// A service's verdicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts(pub BTreeMap<Digest, Verdict>);

impl Verdicts {
    /// Whether a digest is known to be bad.
    pub fn is_bad(&self, digest: &Digest) -> bool {
        self.0.get(digest).is_some_and(|verdict| verdict.verdict == Opinion::Bad)
    }

    /// Whether a digest is known to be good.
    pub fn is_good(&self, digest: &Digest) -> bool {
        self.0.get(digest).is_some_and(|verdict| verdict.verdict == Opinion::Good)
    }
}

/// A notification that was accepted and waits for the registry to be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The digest that the notification named: a hint, never an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Unix seconds, for display only.
    pub at: i64,
}

/// Why the rollout of a version stands still in the whole cluster: trouble of one node that is no verdict. It ends with
/// a newer version, or when a person says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// The version's place in the record.
    pub seq: u64,
    /// The node in trouble.
    pub node: String,
    /// For people: what was seen.
    pub reason: String,
    /// Unix seconds, for display only.
    pub at: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(letter: char) -> Digest {
        Digest::parse(&format!("sha256:{}", letter.to_string().repeat(64))).expect("a digest")
    }

    fn thought(digest: &Digest, verdict: Opinion) -> Verdicts {
        let verdict = Verdict { verdict, node: "a".into(), reason: "seen".into(), at: 0 };
        Verdicts(BTreeMap::from([(digest.clone(), verdict)]))
    }

    fn bad(digest: &Digest) -> Verdicts {
        thought(digest, Opinion::Bad)
    }

    #[test]
    fn without_a_verdict_a_digest_is_neither_good_nor_bad() {
        let check = |verdicts: Verdicts, expected: (bool, bool)| {
            let of = digest('1');
            assert_eq!((verdicts.is_good(&of), verdicts.is_bad(&of)), expected, "{verdicts:?}");
        };
        check(thought(&digest('1'), Opinion::Good), (true, false));
        check(thought(&digest('1'), Opinion::Bad), (false, true));
        check(thought(&digest('2'), Opinion::Good), (false, false));
        check(Verdicts::default(), (false, false));
    }

    #[test]
    fn what_ran_is_adopted_so_that_there_is_a_way_back() {
        let (v1, v2) = (digest('1'), digest('2'));
        let record = Record::adopt(Some(&v1), &v2, Source::Check, 7);
        assert_eq!(record.history().iter().map(|v| (v.seq, &v.digest)).collect::<Vec<_>>(), [(2, &v2), (1, &v1)]);
        assert_eq!(Record::adopt(Some(&v1), &v1, Source::Check, 7).history().len(), 1);
    }

    #[test]
    fn what_was_adopted_is_for_those_alone_that_ran_it() {
        let (v1, v2) = (digest('1'), digest('2'));
        let record = Record::adopt(Some(&v1), &v2, Source::Check, 7);
        let [said, adopted] = record.history() else { panic!("two versions") };
        assert!(said.is_for(None) && said.is_for(Some(&v1)));
        assert!(adopted.is_for(Some(&v1)) && !adopted.is_for(Some(&v2)) && !adopted.is_for(None));
        let said_too = Record::adopt(Some(&v1), &v1, Source::Check, 7);
        assert!(said_too.newest().is_some_and(|newest| newest.is_for(None)));
        assert_eq!((record.unsaid(), said_too.unsaid()), (Some(adopted), None));
    }

    /// The history from the oldest on, the target, the image's digests in the engine's order, and what it is known as.
    #[track_caller]
    fn check_name(history: &str, target: Option<char>, digests: &str, expected: Option<char>) {
        let mut versions = history.chars().map(digest);
        let first = versions.next().map(|first| Record::adopt(None, &first, Source::Hook, 0));
        let record = first.map(|first| versions.fold(first, |record, next| record.advanced(next, Source::Hook, 0)));
        let target = target.map(digest);
        let target =
            record.as_ref().and_then(|record| record.history().iter().find(|v| Some(&v.digest) == target.as_ref()));
        let digests: Vec<Digest> = digests.chars().map(digest).collect();
        assert_eq!(Record::known_as(record.as_ref(), target, &digests), expected.map(digest), "{history} {digests:?}");
    }

    #[test]
    fn an_image_with_several_digests_is_known_as_the_target_and_else_as_the_newest_version() {
        check_name("123", Some('2'), "123", Some('2'));
        check_name("123", Some('3'), "12", Some('2'));
        check_name("123", Some('3'), "4", Some('4'));
        check_name("", None, "45", Some('4'));
        check_name("123", Some('3'), "", None);
    }

    #[test]
    fn the_target_passes_over_bad_and_withdrawn_entries() {
        let (v1, v2, v3) = (digest('1'), digest('2'), digest('3'));
        let record = Record::adopt(Some(&v1), &v2, Source::Hook, 0).advanced(v3.clone(), Source::Hook, 0);
        let target = |record: &Record, verdicts: &Verdicts| record.target(verdicts).map(|v| v.seq);
        assert_eq!(target(&record, &Verdicts::default()), Some(3));
        assert_eq!(target(&record, &bad(&v3)), Some(2));
        let rolled_back = record.with_withdrawn(2, true).expect("changed");
        assert_eq!(target(&rolled_back, &bad(&v3)), Some(1));
        assert_eq!(rolled_back.with_withdrawn(2, true), None, "withdrawing twice changes nothing");
    }

    #[test]
    fn a_tag_moved_back_to_an_older_image_is_a_new_entry() {
        let (v1, v2) = (digest('1'), digest('2'));
        let record = Record::adopt(Some(&v1), &v2, Source::Hook, 0).advanced(v1.clone(), Source::Hook, 0);
        assert_eq!(record.target(&Verdicts::default()).map(|v| (v.seq, &v.digest)), Some((3, &v1)));
    }

    #[test]
    fn history_is_bounded() {
        let record = (0..200).fold(Record::adopt(None, &digest('0'), Source::Hook, 0), |record, i| {
            record.advanced(digest(if i % 2 == 0 { 'a' } else { 'b' }), Source::Hook, i)
        });
        assert_eq!((record.history().len(), record.newest().map(|v| v.seq)), (HISTORY_MAX, Some(201)));
    }

    #[test]
    fn a_digest_leaves_the_history_with_the_last_of_its_entries() {
        let first = Record::adopt(Some(&digest('1')), &digest('2'), Source::Hook, 0);
        let full = (2..HISTORY_MAX).fold(first, |record, _| record.advanced(digest('3'), Source::Hook, 0));
        let next = full.advanced(digest('4'), Source::Hook, 0);
        assert_eq!(full.forgotten_by(&next), BTreeSet::from([digest('1')]));
        assert_eq!(next.forgotten_by(&next.advanced(digest('2'), Source::Hook, 0)), BTreeSet::new());
    }
}
