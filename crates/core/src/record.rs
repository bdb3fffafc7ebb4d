//! Record, verdict and target: which image should run, as three facts kept apart.
//!
//! The record is what the registry said; a verdict is what we think of a digest; the target follows from both.
//! Creation times play no part: see `docs/adr/0002`. Every node computes the target with the same function.

use std::collections::BTreeMap;

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
        };
        let record = Self { v: FORM, history: vec![first] };
        if adopted.is_some() { record.advanced(registry.clone(), source, at) } else { record }
    }

    /// The record with a further entry on top.
    pub fn advanced(&self, digest: Digest, source: Source, at: i64) -> Self {
        let seq = self.newest().map_or(1, |newest| newest.seq + 1);
        let version = Version { seq, digest, source, at, withdrawn: false };
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
}
