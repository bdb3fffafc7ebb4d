//! The protocol of slots, on a store that is a map.

use std::collections::BTreeMap;

use super::*;
use crate::store::Write;

fn claim(phase: ClaimPhase) -> Claim {
    let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).expect("a digest");
    Claim {
        node: "a".into(),
        boot: "1".into(),
        txn: "00c0ffee".into(),
        image: Track::parse("ghcr.io/acme/web:1").expect("a track"),
        digest,
        container: "web".into(),
        phase,
        machine: "machine".into(),
        state: "folder".into(),
        at: 0,
    }
}

/// The finder as `node machine folder`, and what the holder left as `hold` and `journal`.
#[track_caller]
fn check(phase: ClaimPhase, finder: &str, left: &str, expected: bool) {
    let words: Vec<&str> = finder.split(' ').collect();
    let identity = Identity { boot: words[1].into(), state: words[2].into() };
    let finder = Finder { node: words[0], identity: &identity, sign: 3 };
    let traces = Traces { has_hold: left.contains("hold"), has_journal: left.contains("journal") };
    assert_eq!(is_dead(&claim(phase), &finder, traces), expected, "{phase:?} {finder:?} {left}");
}

#[test]
fn anybody_ends_a_claim_before_its_fence_whose_holder_is_gone() {
    for finder in ["b elsewhere other", "a elsewhere other"] {
        check(ClaimPhase::Acquired, finder, "", true);
        check(ClaimPhase::Acquired, finder, "hold", false);
        check(ClaimPhase::Stopping, finder, "", false);
    }
}

#[test]
fn past_the_fence_a_claim_is_ended_by_its_own_directory_on_its_own_machine_alone() {
    check(ClaimPhase::Stopping, "a machine folder", "", true);
    check(ClaimPhase::Stopping, "a machine folder", "hold", true);
    check(ClaimPhase::Stopping, "a machine folder", "journal", false);
    check(ClaimPhase::Stopping, "a elsewhere folder", "", false);
    check(ClaimPhase::Stopping, "a machine other", "", false);
    check(ClaimPhase::Stopping, "b machine folder", "", false);
}

/// A store that was restored holds claims, with their holds, that this daemon gave back long ago.
#[test]
fn before_the_fence_a_claim_without_a_journal_is_ended_by_its_own_directory_though_its_node_lives() {
    check(ClaimPhase::Acquired, "a machine folder", "hold", true);
    check(ClaimPhase::Acquired, "a machine folder", "hold journal", false);
}

#[test]
fn a_claim_of_a_version_that_wrote_no_identity_is_nobodys_past_its_fence() {
    let value = serde_json::to_value(claim(ClaimPhase::Stopping)).expect("plain");
    let mut old = value.as_object().expect("a map").clone();
    old.retain(|name, _| name != "machine" && name != "state");
    let old: Claim = serde_json::from_value(old.into()).expect("readable");
    let identity = Identity { boot: "machine".into(), state: "folder".into() };
    let finder = Finder { node: "a", identity: &identity, sign: 3 };
    assert!(!is_dead(&old, &finder, Traces { has_hold: false, has_journal: false }));
}

#[test]
fn reaping_compares_the_very_claim_that_was_read_and_the_finders_own_sign() {
    let keys = Keys::new("/deployer");
    let value = serde_json::to_vec(&claim(ClaimPhase::Acquired)).expect("plain");
    let entry = Entry { key: keys.claim("all", 0), value, create_revision: 7, mod_revision: 9 };
    let identity = Identity { boot: "elsewhere".into(), state: "other".into() };
    let finder = Finder { node: "b", identity: &identity, sign: 3 };
    let txn = reap(&keys, "all", 0, &entry, &finder);
    let expected = [Compare::ModRevision(entry.key.clone(), 9), Compare::ModRevision(keys.node("b"), 3)];
    assert_eq!(txn.when, expected);
}

/// The store as transactions see it: what each key holds, and the lease that it goes with.
#[derive(Default)]
struct Store {
    entries: BTreeMap<String, (Entry, Option<LeaseId>)>,
    revision: Revision,
}

impl Store {
    fn commit(&mut self, txn: Txn) -> bool {
        let of =
            |key: &String, revision: fn(&Entry) -> Revision| self.entries.get(key).map_or(0, |(at, _)| revision(at));
        let holds = txn.when.iter().all(|compare| match compare {
            Compare::ModRevision(key, expected) => of(key, |entry| entry.mod_revision) == *expected,
            Compare::CreateRevision(key, expected) => of(key, |entry| entry.create_revision) == *expected,
            Compare::Value(key, value) => self.entries.get(key).is_some_and(|(entry, _)| entry.value == *value),
            Compare::NoneNewer(prefix, seen) => {
                self.entries.values().all(|(entry, _)| !entry.key.starts_with(prefix) || entry.create_revision <= *seen)
            }
        });
        if holds {
            self.revision += 1;
            txn.then.into_iter().for_each(|write| self.write(write));
        }
        holds
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Put(key, value, lease) => {
                let create_revision = self.entries.get(&key).map_or(self.revision, |(entry, _)| entry.create_revision);
                let entry = Entry { key: key.clone(), value, create_revision, mod_revision: self.revision };
                self.entries.insert(key, (entry, lease));
            }
            Write::Delete(key) => drop(self.entries.remove(&key)),
        }
    }

    fn touch(&mut self, key: &str) {
        assert!(self.commit(Txn::new().put(key.to_owned(), &"anything")));
    }

    fn remove(&mut self, key: &str) {
        assert!(self.commit(Txn::new().delete(key.to_owned())));
    }

    fn claim(&self, key: &str) -> Option<(Claim, Option<LeaseId>)> {
        let (entry, lease) = self.entries.get(key)?;
        Some((serde_json::from_slice(&entry.value).expect("a claim"), *lease))
    }
}

const SCOPE: &str = "service:web";
const LEASE: LeaseId = LeaseId(5);

/// A store in which node `a` has read everything and may take slot 0, with what it read.
fn before_the_claim() -> (Keys, Store, Entrant, Grounds) {
    let (keys, mut store) = (Keys::new("/deployer"), Store::default());
    let claim = claim(ClaimPhase::Acquired);
    store.touch(&keys.record(&claim.image));
    let record = store.revision;
    store.touch(&keys.node("a"));
    let sign = store.revision;
    store.touch(&keys.ticket(SCOPE, "1", "a", "web"));
    let entrant = Entrant { scope: SCOPE.into(), slot: 0, seen: store.revision, lease: LEASE, sign };
    (keys, store, entrant, Grounds { record, service: "web".into(), verdict: 0, halt: 0, retry: 0 })
}

/// What changes the grounds, whoever holds a slot.
fn changes_of_grounds(keys: &Keys) -> Vec<String> {
    let claim = claim(ClaimPhase::Acquired);
    vec![keys.record(&claim.image), keys.verdict("web", &claim.digest), keys.halt(&claim.image), keys.pause()]
}

#[test]
fn a_slot_is_taken_without_a_lease_and_held_by_one_and_the_ticket_stays() {
    let (keys, mut store, entrant, grounds) = before_the_claim();
    let acquired = claim(ClaimPhase::Acquired);
    assert!(store.commit(acquire(&keys, &entrant, &acquired, &grounds)));
    assert_eq!(store.claim(&keys.claim(SCOPE, 0)), Some((acquired, None)));
    assert_eq!(store.entries.get(&keys.hold(SCOPE, 0)).map(|(_, lease)| *lease), Some(Some(LEASE)));
    assert!(store.entries.contains_key(&keys.ticket(SCOPE, "1", "a", "web")), "the next in line waits for it");
}

#[test]
fn a_slot_is_taken_only_if_all_that_was_read_still_stands() {
    let check = |change: &dyn Fn(&Keys, &mut Store), expected: bool, what: &str| {
        let (keys, mut store, entrant, grounds) = before_the_claim();
        change(&keys, &mut store);
        assert_eq!(store.commit(acquire(&keys, &entrant, &claim(ClaimPhase::Acquired), &grounds)), expected, "{what}");
    };
    for key in changes_of_grounds(&Keys::new("/deployer")) {
        check(&|_, store| store.touch(&key), false, &key);
    }
    check(&|keys, store| store.touch(&keys.node("a")), false, "another daemon has the node's name");
    check(&|keys, store| store.remove(&keys.node("a")), false, "the node is no longer registered");
    check(&|keys, store| store.touch(&keys.claim(SCOPE, 0)), false, "the slot is another's");
    check(&|keys, store| store.touch(&keys.claim(SCOPE, 1)), false, "another instance of the service may go down");
    check(&|keys, store| store.touch(&keys.claim("service:web-2", 0)), true, "another service's slot");
    check(&|keys, store| store.touch(&keys.record(&Track::parse("api:1").expect("a track"))), true, "another track");
}

/// A store in which node `a` holds slot 0.
fn before_the_fence() -> (Keys, Store, Token, Grounds) {
    let (keys, mut store, entrant, grounds) = before_the_claim();
    assert!(store.commit(acquire(&keys, &entrant, &claim(ClaimPhase::Acquired), &grounds)));
    let token = Token { scope: SCOPE.into(), slot: 0, fence: store.revision, at: 0 };
    (keys, store, token, grounds)
}

/// The claim of slot 0 as it was written.
fn own(store: &Store, keys: &Keys) -> Vec<u8> {
    store.entries[&keys.claim(SCOPE, 0)].0.value.clone()
}

/// What a store that was put back to before a claim may come to: its revisions are given again, this one to another's claim.
fn became_anothers(keys: &Keys, store: &mut Store) {
    let another = Claim { node: "b".into(), txn: "another".into(), ..claim(ClaimPhase::Acquired) };
    store.entries.get_mut(&keys.claim(SCOPE, 0)).expect("held").0.value = serde_json::to_vec(&another).expect("plain");
}

#[test]
fn the_fence_is_passed_once_and_says_so_to_all() {
    let (keys, mut store, token, grounds) = before_the_fence();
    assert!(store.commit(fence(&keys, &token, &claim(ClaimPhase::Acquired), &grounds)));
    assert_eq!(store.claim(&keys.claim(SCOPE, 0)), Some((claim(ClaimPhase::Stopping), None)));
    assert!(store.commit(release_if_held(&keys, &token, own(&store, &keys))), "the token is still the same");
}

#[test]
fn the_fence_is_passed_only_if_the_claim_and_its_grounds_still_stand() {
    let check = |change: &dyn Fn(&Keys, &mut Store), expected: bool, what: &str| {
        let (keys, mut store, token, grounds) = before_the_fence();
        change(&keys, &mut store);
        assert_eq!(store.commit(fence(&keys, &token, &claim(ClaimPhase::Acquired), &grounds)), expected, "{what}");
    };
    for key in changes_of_grounds(&Keys::new("/deployer")) {
        check(&|_, store| store.touch(&key), false, &key);
    }
    check(&|keys, store| store.remove(&keys.claim(SCOPE, 0)), false, "somebody ended the claim");
    let anew = |keys: &Keys, store: &mut Store| {
        store.remove(&keys.claim(SCOPE, 0));
        store.touch(&keys.claim(SCOPE, 0));
    };
    check(&anew, false, "the slot is another's by now");
    check(&became_anothers, false, "the slot is another's, of the same revision");
    check(&|keys, store| store.touch(&keys.claim(SCOPE, 1)), true, "another slot");
}

#[test]
fn a_slot_is_given_back_whole_once_and_never_in_anothers_name() {
    let (keys, mut store, token, _) = before_the_fence();
    let held = own(&store, &keys);
    assert!(store.commit(release_if_held(&keys, &token, held.clone())));
    assert!(!store.entries.contains_key(&keys.claim(SCOPE, 0)) && !store.entries.contains_key(&keys.hold(SCOPE, 0)));
    assert!(!store.commit(release_if_held(&keys, &token, held.clone())), "again is no error and does nothing");
    store.touch(&keys.claim(SCOPE, 0));
    assert!(!store.commit(release_if_held(&keys, &token, held)), "the slot is another's by now");

    let (keys, mut store, token, _) = before_the_fence();
    let held = own(&store, &keys);
    became_anothers(&keys, &mut store);
    assert!(!store.commit(release_if_held(&keys, &token, held)), "the slot is another's, of the same revision");
}

#[test]
fn a_person_ends_the_very_claim_that_was_looked_at() {
    let seen = |store: &Store, keys: &Keys| store.entries.get(&keys.claim(SCOPE, 0)).expect("held").0.clone();
    let (keys, mut store, token, grounds) = before_the_fence();
    let looked_at = seen(&store, &keys);
    assert!(store.commit(fence(&keys, &token, &claim(ClaimPhase::Acquired), &grounds)));
    assert!(!store.commit(remove_unmoved(&keys, SCOPE, 0, &looked_at)), "it went on meanwhile");
    assert!(store.commit(remove_unmoved(&keys, SCOPE, 0, &seen(&store, &keys))));
    assert!(!store.entries.contains_key(&keys.claim(SCOPE, 0)) && !store.entries.contains_key(&keys.hold(SCOPE, 0)));
}

#[test]
fn a_scope_is_the_cluster_with_one_slot_or_a_service_with_as_many_as_may_be_down() {
    let of = |scope: Scope| {
        (scope.word(), scope.name("web"), scope.slots(Limit::Count(3), 10), scope.slots(Limit::Percent(50), 10))
    };
    assert_eq!(Scope::ALL.map(of), [("cluster", "cluster".into(), 1, 1), ("service", "service:web".into(), 3, 5)]);
}

#[test]
fn a_number_of_slots_is_known_beforehand_unless_it_follows_the_instances() {
    for (scope, limit, expected) in [
        (Scope::Cluster, Limit::Count(3), Some(1)),
        (Scope::Cluster, Limit::Percent(50), Some(1)),
        (Scope::Service, Limit::Count(3), Some(3)),
        (Scope::Service, Limit::Percent(50), None),
    ] {
        assert_eq!(scope.slots_known(limit), expected, "{scope:?} {limit:?}");
        assert!(
            [1, 10].into_iter().all(|instances| expected.is_none_or(|slots| scope.slots(limit, instances) == slots))
        );
    }
}
