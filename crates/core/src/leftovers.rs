//! What the store still holds of what is no more, and when it goes.
//!
//! A track that nobody runs may come back: Compose takes a service down and up again, a release is tried and taken back.
//! So its record goes only after it was found without an instance on several sweeps, and nobody objected: a node that has
//! a container of it, running or not, removes the mark. A verdict goes when no record knows its digest any more.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::availability::Instance;
use crate::image::{Digest, Track};
use crate::keys::Keys;
use crate::record::Record;
use crate::store::{Compare, Entry, Revision, Txn};

/// Sweeps, of which there is one a day, that find a track without an instance before what is known of it goes.
pub const SWEEPS_MAX: u32 = 7;

/// The mark of a track that was found without an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// How often.
    pub sweeps: u32,
}

/// What the store holds. Instances were listed first: what is registered after that makes a transaction fail.
pub struct Store<'a> {
    /// Every instance, and the revision at which they were listed.
    pub instances: (&'a [Entry], Revision),
    /// Every track's facts, and the revision at which they were listed.
    pub images: (&'a [Entry], Revision),
    /// Every verdict.
    pub verdicts: &'a [Entry],
    /// Claims, holds, tickets and deferrals.
    pub locks: &'a [Entry],
}

/// What goes, or is marked: each by itself, and only if it has not moved since it was read.
pub fn sweep(keys: &Keys, store: &Store) -> Vec<Txn> {
    let run = store.instances.0.iter().filter_map(|entry| serde_json::from_slice::<Instance>(&entry.value).ok());
    let run: BTreeSet<Track> = run.map(|instance| instance.image).collect();
    let mut tracks: BTreeMap<Track, Vec<(&str, &Entry)>> = BTreeMap::new();
    for entry in store.images.0 {
        if let Some((track, fact)) = keys.track_of(&entry.key) {
            tracks.entry(track).or_default().push((fact, entry));
        }
    }
    let left = tracks.iter().filter(|(track, _)| !run.contains(track));
    let mut txns: Vec<Txn> = left.map(|(track, facts)| leave(keys, store, track, facts)).collect();
    txns.extend(forget_verdicts(keys, store, &tracks));
    txns.extend(forget_deferrals(keys, store, &tracks, &run));
    txns
}

/// Marks a track without an instance once more, or removes what is known of it.
fn leave(keys: &Keys, store: &Store, track: &Track, facts: &[(&str, &Entry)]) -> Txn {
    let mark = facts.iter().find(|(fact, _)| *fact == "left").map(|(_, entry)| *entry);
    let sweeps = mark.and_then(|entry| serde_json::from_slice(&entry.value).ok()).map_or(0, |left: Left| left.sweeps);
    let txn = Txn::new().when(Compare::NoneNewer(keys.all_instances(), store.instances.1));
    if sweeps + 1 < SWEEPS_MAX {
        let seen = mark.map_or(0, |entry| entry.mod_revision);
        let txn = txn.when(Compare::ModRevision(keys.left(track), seen));
        return txn.put(keys.left(track), &Left { sweeps: sweeps + 1 });
    }
    let txn = txn.when(Compare::NoneNewer(keys.image(track), store.images.1));
    facts.iter().fold(txn, |txn, (_, entry)| without(txn, entry))
}

/// Verdicts on digests that no record knows. Where a record cannot be read nobody knows what it knows.
fn forget_verdicts(keys: &Keys, store: &Store, tracks: &BTreeMap<Track, Vec<(&str, &Entry)>>) -> Vec<Txn> {
    let mut known: BTreeSet<Digest> = BTreeSet::new();
    for (_, entry) in tracks.values().flatten().filter(|(fact, _)| *fact == "record") {
        let Ok(record) = serde_json::from_slice::<Record>(&entry.value) else { return Vec::new() };
        known.extend(record.history().iter().map(|version| version.digest.clone()));
    }
    let is_unknown = |entry: &&Entry| keys.verdict_of(&entry.key).is_some_and(|digest| !known.contains(&digest));
    store.verdicts.iter().filter(is_unknown).map(|entry| without(Txn::new(), entry)).collect()
}

/// Deferrals of tracks that nobody runs, and those that a later push has made void.
fn forget_deferrals(
    keys: &Keys,
    store: &Store,
    tracks: &BTreeMap<Track, Vec<(&str, &Entry)>>,
    run: &BTreeSet<Track>,
) -> Vec<Txn> {
    let is_void = |entry: &&Entry| {
        keys.is_deferral(&entry.key)
            && serde_json::from_slice::<Track>(&entry.value).is_ok_and(|track| {
                let facts = tracks.get(&track).map(Vec::as_slice).unwrap_or_default();
                let record = facts.iter().find(|(fact, _)| *fact == "record");
                !run.contains(&track) || record.is_some_and(|(_, record)| record.mod_revision > entry.mod_revision)
            })
    };
    store.locks.iter().filter(is_void).map(|entry| without(Txn::new(), entry)).collect()
}

fn without(txn: Txn, entry: &Entry) -> Txn {
    txn.when(Compare::ModRevision(entry.key.clone(), entry.mod_revision)).delete(entry.key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Source;
    use crate::store::Write;

    fn track(name: &str) -> Track {
        Track::parse(&format!("ghcr.io/acme/{name}:1")).expect("a track")
    }

    fn digest(letter: char) -> Digest {
        Digest::parse(&format!("sha256:{}", letter.to_string().repeat(64))).expect("a digest")
    }

    fn entry(key: String, value: &impl Serialize) -> Entry {
        let value = serde_json::to_vec(value).expect("plain");
        Entry { key, value, create_revision: 3, mod_revision: 7 }
    }

    /// A store in which `web` runs and `job` does not, with a record each, of digests 1 and 2, and a mark if any.
    fn check(sweeps: Option<u32>, extra: &[Entry], expected: &[&str]) {
        let keys = Keys::new("/t");
        let instance = Instance { node: "n".into(), image: track("web"), container: "web".into(), off: true };
        let instances = [entry(keys.instance("web", "n", "web"), &instance)];
        let record = |letter| Record::adopt(None, &digest(letter), Source::Hook, 0);
        let mut images = vec![
            entry(keys.record(&track("web")), &record('1')),
            entry(keys.record(&track("job")), &record('2')),
            entry(keys.halt(&track("job")), &"a halt"),
        ];
        images.extend(sweeps.map(|sweeps| entry(keys.left(&track("job")), &Left { sweeps })));
        images.extend(extra.iter().filter(|entry| entry.key.starts_with(&keys.images())).cloned());
        let verdicts: Vec<Entry> = extra.iter().filter(|e| e.key.starts_with(&keys.all_verdicts())).cloned().collect();
        let locks: Vec<Entry> = extra.iter().filter(|e| e.key.starts_with(&keys.locks())).cloned().collect();
        let store = Store { instances: (&instances, 20), images: (&images, 21), verdicts: &verdicts, locks: &locks };
        let txns = sweep(&keys, &store);
        let line = |write: &Write| match write {
            Write::Put(key, value, _) => format!("{key} {}", String::from_utf8_lossy(value)),
            Write::Delete(key) => format!("-{key}"),
        };
        let lines: Vec<String> = txns.iter().flat_map(|txn| &txn.then).map(line).collect();
        let encoded = keys.image(&track("job"));
        let lines: Vec<String> = lines.iter().map(|line| line.replace(&encoded, "job/")).collect();
        assert_eq!(lines, expected, "{sweeps:?}");
        assert!(txns.iter().all(|txn| !txn.when.is_empty()), "nothing goes that has moved");
    }

    #[test]
    fn a_track_that_nobody_runs_is_marked_for_a_week_and_then_goes_whole() {
        check(None, &[], &["job/left {\"sweeps\":1}"]);
        check(Some(5), &[], &["job/left {\"sweeps\":6}"]);
        check(Some(6), &[], &["-job/record", "-job/halt", "-job/left"]);
    }

    #[test]
    fn what_is_registered_or_written_meanwhile_keeps_a_track() {
        let keys = Keys::new("/t");
        let images = [entry(keys.record(&track("job")), &1), entry(keys.left(&track("job")), &Left { sweeps: 6 })];
        let store = Store { instances: (&[], 20), images: (&images, 21), verdicts: &[], locks: &[] };
        let when = &sweep(&keys, &store)[0].when;
        assert!(when.contains(&Compare::NoneNewer(keys.all_instances(), 20)));
        assert!(when.contains(&Compare::NoneNewer(keys.image(&track("job")), 21)));
    }

    #[test]
    fn a_verdict_goes_when_no_record_knows_its_digest() {
        let keys = Keys::new("/t");
        let verdict = |service, letter| entry(keys.verdict(service, &digest(letter)), &"a verdict");
        let extra = [verdict("web", '1'), verdict("shop", '2'), verdict("web", '3')];
        let gone = format!("-{}", keys.verdict("web", &digest('3')));
        check(None, &extra, &["job/left {\"sweeps\":1}", &gone]);
        let unreadable = [verdict("web", '3'), entry(keys.record(&track("odd")), &"of another form")];
        let odd = format!("{} {{\"sweeps\":1}}", keys.left(&track("odd")));
        check(None, &unreadable, &["job/left {\"sweeps\":1}", &odd]);
    }

    #[test]
    fn a_deferral_goes_with_its_track_or_with_the_next_push() {
        let keys = Keys::new("/t");
        let deferral = |name, mod_revision| {
            let entry = entry(keys.deferral("cluster", &track(name)), &track(name));
            Entry { mod_revision, ..entry }
        };
        let gone = |name| format!("-{}", keys.deferral("cluster", &track(name)));
        check(None, &[deferral("web", 9)], &["job/left {\"sweeps\":1}"]);
        check(None, &[deferral("web", 7)], &["job/left {\"sweeps\":1}"]);
        check(None, &[deferral("web", 5)], &["job/left {\"sweeps\":1}", &gone("web")]);
        check(None, &[deferral("job", 9)], &["job/left {\"sweeps\":1}", &gone("job")]);
    }
}
