//! The contract of `Store`, one function a promise. Each begins on a store that holds nothing below `/t/`.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deployer_core::store::{Change, Compare, Entry, LeaseId, Listed, Outcome, Range, Revision, Txn};
use deployer_store::{Store, StoreError, TXN_BYTES_MAX, TXN_OPERATIONS_MAX};
use futures_util::stream::{BoxStream, StreamExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

pub use crate::mirror::{
    a_listener_hears_of_each_change_once, a_mirror_equals_a_list_at_every_revision,
    a_mirror_goes_on_after_a_gap_and_a_restart, a_prefix_that_is_not_followed_is_read_from_the_store,
    whoever_wrote_is_not_shown_what_was_before,
};
pub use crate::outage::{a_watch_taken_up_again_after_a_restart_has_no_gap, a_write_whose_answer_is_lost_is_made_once};

/// How long a store may take for anything; passing it is a failure, never part of a passing run.
pub const LIMIT: Duration = Duration::from_secs(15);

/// The shortest lease that every store grants as asked.
const TTL: Duration = Duration::from_secs(2);

/// A store of some kind, and what a test must be able to do to it from behind.
pub trait Opened {
    /// The store.
    fn store(&self) -> &Arc<dyn Store>;

    /// Makes the store forget all changes up to now.
    fn forget(&self) -> impl Future<Output = ()>;

    /// Has a transaction carried out of which nobody is told. A store that is never far from its caller loses no
    /// answer: there the caller does not listen.
    fn lose_answer(&self, txn: Txn) -> impl Future<Output = ()> {
        async { drop(self.store().txn(txn).await) }
    }

    /// Ends the store's server and starts it again with everything it had, where there is one.
    fn restart(&self) -> impl Future<Output = ()> {
        async {}
    }
}

/// One test for every promise: `plain` ones need real threads, `leases` ones wait for time to pass.
macro_rules! holds_the_contract {
    ($open:path, plain: #[$plain:meta], leases: #[$leases:meta]) => {
        crate::contract::holds_the_contract! { @ $open, #[$plain],
            a_key_knows_its_creation_and_its_last_change
            a_transaction_is_one_revision
            nothing_written_is_no_revision
            a_failed_condition_writes_nothing
            a_value_is_compared_whole
            none_newer_sees_creations_only
            a_list_is_sorted_and_of_one_moment
            ranges_are_of_one_moment_and_find_the_last_before_a_key
            of_two_that_compare_one_wins
            counting_together_loses_nothing
            what_no_store_takes_is_refused
            a_revoked_lease_takes_its_keys_at_once
            a_put_without_lease_detaches
            a_put_moves_to_another_lease
            nothing_is_put_under_a_lease_that_ended
            a_watch_has_no_gap
            a_watch_sees_its_prefix_only
            a_watch_may_begin_in_the_future
            a_watch_of_several_prefixes_has_no_gap_in_any
            forgotten_changes_are_said_to_be
            a_write_whose_answer_is_lost_is_made_once
            a_watch_taken_up_again_after_a_restart_has_no_gap
            a_mirror_equals_a_list_at_every_revision
            a_mirror_goes_on_after_a_gap_and_a_restart
            a_prefix_that_is_not_followed_is_read_from_the_store
            whoever_wrote_is_not_shown_what_was_before
            a_listener_hears_of_each_change_once
        }
        crate::contract::holds_the_contract! { @ $open, #[$leases],
            a_lease_ends_and_the_watch_says_so
            a_lease_that_is_kept_alive_lasts
        }
    };
    (@ $open:path, #[$test:meta], $($name:ident)*) => {
        $(
            #[$test]
            async fn $name() {
                crate::contract::$name(&$open().await).await;
            }
        )*
    };
}
pub(crate) use holds_the_contract;

pub async fn a_key_knows_its_creation_and_its_last_change(opened: &impl Opened) {
    let store = opened.store();
    assert_eq!(get(store, "/t/a").await, None);
    let made = done(store, Txn::new().when(absent("/t/a")).put("/t/a".into(), &1)).await;
    check_entry(get(store, "/t/a").await, "1", made, made);
    let changed = done(store, Txn::new().when(Compare::ModRevision("/t/a".into(), made)).put("/t/a".into(), &2)).await;
    assert!(changed > made);
    check_entry(get(store, "/t/a").await, "2", made, changed);
    let unchanged = Compare::CreateRevision("/t/a".into(), made);
    let removed = done(store, Txn::new().when(unchanged).delete("/t/a".into())).await;
    assert_eq!(get(store, "/t/a").await, None);
    let again = done(store, Txn::new().when(absent("/t/a")).put("/t/a".into(), &3)).await;
    assert!(again > removed);
    check_entry(get(store, "/t/a").await, "3", again, again);
}

pub async fn a_transaction_is_one_revision(opened: &impl Opened) {
    let store = opened.store();
    let before = done(store, Txn::new().put("/t/a".into(), &1)).await;
    let mut watch = store.watch("/t/", before).await.expect("a watch");
    let txn = Txn::new().delete("/t/a".into()).put("/t/b".into(), &2).put("/t/c".into(), &3);
    let revision = done(store, txn).await;
    assert_eq!(revision, before + 1);
    let seen = [next(&mut watch).await, next(&mut watch).await, next(&mut watch).await];
    assert!(seen.iter().all(|change| revision_of(change) == revision), "{seen:?}");
    assert_eq!(seen.iter().map(key_of).collect::<BTreeSet<_>>(), BTreeSet::from(["/t/a", "/t/b", "/t/c"]));
}

pub async fn nothing_written_is_no_revision(opened: &impl Opened) {
    let store = opened.store();
    let before = done(store, Txn::new().put("/t/a".into(), &1)).await;
    let same = Outcome { succeeded: true, revision: before };
    for txn in [Txn::new(), Txn::new().when(absent("/t/b")), Txn::new().delete("/t/b".into())] {
        assert_eq!(store.txn(txn).await, Ok(same));
    }
    assert_eq!(store.list("/t/").await.expect("a list").1, before);
}

pub async fn a_failed_condition_writes_nothing(opened: &impl Opened) {
    let store = opened.store();
    let before = done(store, Txn::new().put("/t/a".into(), &1)).await;
    let refused = Outcome { succeeded: false, revision: before };
    let conditions = [
        absent("/t/a"),
        Compare::CreateRevision("/t/a".into(), 0),
        Compare::ModRevision("/t/a".into(), before + 1),
        Compare::ModRevision("/t/b".into(), before),
        Compare::CreateRevision("/t/b".into(), before),
        Compare::NoneNewer("/t/".into(), before - 1),
        Compare::Value("/t/a".into(), b"2".to_vec()),
        Compare::Value("/t/b".into(), b"2".to_vec()),
    ];
    for condition in conditions {
        let txn = Txn::new().when(Compare::ModRevision("/t/a".into(), before)).when(condition);
        let txn = txn.put("/t/b".into(), &2).delete("/t/a".into());
        assert_eq!(store.txn(txn).await, Ok(refused));
    }
    check_entry(get(store, "/t/a").await, "1", before, before);
    assert_eq!(get(store, "/t/b").await, None);
}

pub async fn a_value_is_compared_whole(opened: &impl Opened) {
    let store = opened.store();
    done(store, Txn::new().put("/t/a".into(), &"one")).await;
    let if_it_is = |value: &[u8]| Txn::new().when(Compare::Value("/t/a".into(), value.to_vec())).put("/t/b".into(), &1);
    for (value, expected) in [(&b"\"on"[..], false), (b"", false), (b"\"one\"", true), (b"\"one\"x", false)] {
        assert_eq!(store.txn(if_it_is(value)).await.expect("an answer").succeeded, expected, "{value:?}");
    }
}

pub async fn none_newer_sees_creations_only(opened: &impl Opened) {
    let store = opened.store();
    let newer = |prefix: &str, revision| Txn::new().when(Compare::NoneNewer(prefix.into(), revision));
    assert!(store.txn(newer("/t/", 0)).await.expect("an answer").succeeded, "nothing is there");
    let first = done(store, Txn::new().put("/t/a".into(), &1)).await;
    let changed = done(store, Txn::new().put("/t/a".into(), &2)).await;
    assert!(store.txn(newer("/t/", first)).await.expect("an answer").succeeded, "a change is no creation");
    let second = done(store, newer("/t/", first).put("/t/b".into(), &3)).await;
    assert!(second > changed);
    assert!(!store.txn(newer("/t/", changed)).await.expect("an answer").succeeded);
    assert!(store.txn(newer("/t/", second)).await.expect("an answer").succeeded);
    assert!(store.txn(newer("/t/a", changed)).await.expect("an answer").succeeded, "another prefix");
    done(store, Txn::new().delete("/t/b".into())).await;
    assert!(store.txn(newer("/t/", changed)).await.expect("an answer").succeeded, "what is gone does not count");
}

pub async fn a_list_is_sorted_and_of_one_moment(opened: &impl Opened) {
    let store = opened.store();
    done(store, Txn::new().put("/t/x/b".into(), &0).put("/t/x/a".into(), &0).put("/t/xx".into(), &0)).await;
    done(store, Txn::new().put("/t/w".into(), &0).put("/t/y".into(), &0)).await;
    let mut writer = JoinSet::new();
    writer.spawn({
        let store = Arc::clone(store);
        async move {
            for number in 1..=100 {
                done(&store, Txn::new().put("/t/x/a".into(), &number).put("/t/x/b".into(), &number)).await;
            }
        }
    });
    let mut newest = 0;
    while newest < 100 {
        let (entries, revision) = store.list("/t/x/").await.expect("a list");
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["/t/x/a", "/t/x/b"]);
        assert_eq!(entries[0].value, entries[1].value);
        assert!(entries[0].mod_revision <= revision);
        newest = serde_json::from_slice(&entries[0].value).expect("a number");
    }
    writer.join_all().await;
}

pub async fn ranges_are_of_one_moment_and_find_the_last_before_a_key(opened: &impl Opened) {
    let store = opened.store();
    let txn = ["/t/l/1", "/t/l/3", "/t/l/3/x", "/t/l/5", "/t/m", "/t/k"].into_iter();
    let written = done(store, txn.fold(Txn::new(), |txn, key| txn.put(key.into(), &0))).await;
    let last = |before: &str, limit| Range::LastBefore { prefix: "/t/l/".into(), before: before.into(), limit };
    let cases: [(Range, &[&str], u64); 9] = [
        (Range::All("/t/l/".into()), &["/t/l/1", "/t/l/3", "/t/l/3/x", "/t/l/5"], 4),
        (Range::All("/t/none/".into()), &[], 0),
        (Range::Count("/t/l/".into()), &[], 4),
        (Range::Count("/t/none/".into()), &[], 0),
        (last("/t/l/5", 2), &["/t/l/3/x", "/t/l/3"], 2),
        (last("/t/l/4", 9), &["/t/l/3/x", "/t/l/3", "/t/l/1"], 3),
        (last("/t/l/1", 1), &[], 0),
        (last("/t/l/~", 1), &["/t/l/5"], 1),
        (last("/t/k", 1), &[], 0),
    ];
    let asked: Vec<Range> = cases.iter().map(|(range, ..)| range.clone()).collect();
    let (found, revision) = store.ranges(&asked).await.expect("an answer");
    assert_eq!((found.len(), revision), (cases.len(), written));
    for ((range, keys, count), Listed { entries, count: counted }) in cases.into_iter().zip(found) {
        assert_eq!(entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), keys, "{range:?}");
        assert_eq!(counted, count, "{range:?}");
        assert!(entries.iter().all(|entry| entry.mod_revision == written && entry.value == b"0"), "{range:?}");
    }
    let too_many = vec![Range::Count("/t/".into()); TXN_OPERATIONS_MAX + 1];
    assert!(matches!(store.ranges(&too_many).await, Err(StoreError::Broken(_))));
    assert_eq!(store.ranges(&too_many[1..]).await.expect("as many as may be").0.len(), TXN_OPERATIONS_MAX);
}

pub async fn of_two_that_compare_one_wins(opened: &impl Opened) {
    let store = opened.store();
    for round in 0..100 {
        let key = format!("/t/{round}");
        let mut attempts = JoinSet::new();
        for who in ["one", "other"] {
            let store = Arc::clone(store);
            let txn = Txn::new().when(absent(&key)).put(key.clone(), &who);
            attempts.spawn(async move { (who, store.txn(txn).await.expect("an answer")) });
        }
        let mut attempts = attempts.join_all().await;
        attempts.retain(|(_, outcome)| outcome.succeeded);
        let [(winner, outcome)] = attempts[..] else { panic!("round {round}: {attempts:?}") };
        check_entry(get(store, &key).await, &format!("\"{winner}\""), outcome.revision, outcome.revision);
    }
}

pub async fn counting_together_loses_nothing(opened: &impl Opened) {
    let store = opened.store();
    let count = |store: Arc<dyn Store>| async move {
        for _ in 0..20 {
            loop {
                let found = get(&store, "/t/count").await;
                let (number, seen) = found.map_or((0, 0), |found| (number(&found), found.mod_revision));
                let unmoved = Compare::ModRevision("/t/count".into(), seen);
                let txn = Txn::new().when(unmoved).put("/t/count".into(), &(number + 1));
                if store.txn(txn).await.expect("an answer").succeeded {
                    break;
                }
            }
        }
    };
    let tasks: JoinSet<()> = (0..5).map(|_| count(Arc::clone(store))).collect();
    tasks.join_all().await;
    assert_eq!(get(store, "/t/count").await.map(|entry| number(&entry)), Some(100));
}

pub async fn what_no_store_takes_is_refused(opened: &impl Opened) {
    let store = opened.store();
    let before = done(store, Txn::new().put("/t/a".into(), &1)).await;
    let many = |count: usize| (0..count).fold(Txn::new(), |txn, number| txn.put(format!("/t/{number}"), &number));
    let large = Txn::new().put("/t/b".into(), &"x".repeat(TXN_BYTES_MAX));
    let twice = Txn::new().put("/t/b".into(), &1).delete("/t/b".into());
    for txn in [many(TXN_OPERATIONS_MAX + 1), large, twice] {
        let error = store.txn(txn).await.expect_err("no store takes it");
        assert_eq!(error.kind(), "broken", "{error}");
    }
    assert_eq!(done(store, many(TXN_OPERATIONS_MAX)).await, before + 1);
    assert_eq!(done(store, Txn::new().put("/t/b".into(), &"x".repeat(TXN_BYTES_MAX - 100))).await, before + 2);
}

pub async fn a_revoked_lease_takes_its_keys_at_once(opened: &impl Opened) {
    let store = opened.store();
    let lease = store.grant(LIMIT).await.expect("a lease");
    done(store, Txn::new().put_leased("/t/a".into(), &1, lease).put("/t/stays".into(), &1)).await;
    let before = done(store, Txn::new().put_leased("/t/b".into(), &2, lease)).await;
    let mut watch = store.watch("/t/", before).await.expect("a watch");
    store.revoke(lease).await.expect("revoked");
    let ended = before + 1;
    let gone = BTreeSet::from([key_of(&next(&mut watch).await).to_owned(), key_of(&next(&mut watch).await).to_owned()]);
    assert_eq!(gone, BTreeSet::from(["/t/a".to_owned(), "/t/b".to_owned()]));
    let (entries, revision) = store.list("/t/").await.expect("a list");
    assert_eq!((entries.len(), revision), (1, ended));
    assert_eq!(store.keep_alive(lease).await, Err(StoreError::LeaseGone));
    store.revoke(lease).await.expect("ending it again is fine");
}

pub async fn a_put_without_lease_detaches(opened: &impl Opened) {
    let store = opened.store();
    let lease = store.grant(LIMIT).await.expect("a lease");
    done(store, Txn::new().put_leased("/t/a".into(), &1, lease)).await;
    let detached = done(store, Txn::new().put("/t/a".into(), &2)).await;
    store.revoke(lease).await.expect("revoked");
    check_entry(get(store, "/t/a").await, "2", detached - 1, detached);
    assert_eq!(store.list("/t/").await.expect("a list").1, detached, "a lease without keys ends without a revision");
}

pub async fn a_put_moves_to_another_lease(opened: &impl Opened) {
    let store = opened.store();
    let (first, second) = (grant(store).await, grant(store).await);
    done(store, Txn::new().put_leased("/t/a".into(), &1, first)).await;
    done(store, Txn::new().put_leased("/t/a".into(), &2, second)).await;
    store.revoke(first).await.expect("revoked");
    assert!(get(store, "/t/a").await.is_some());
    store.revoke(second).await.expect("revoked");
    assert_eq!(get(store, "/t/a").await, None);
}

pub async fn nothing_is_put_under_a_lease_that_ended(opened: &impl Opened) {
    let store = opened.store();
    let lease = grant(store).await;
    store.revoke(lease).await.expect("revoked");
    let before = done(store, Txn::new().put("/t/a".into(), &1)).await;
    let put = |txn: Txn| txn.put("/t/b".into(), &2).put_leased("/t/c".into(), &3, lease);
    assert_eq!(store.txn(put(Txn::new())).await, Err(StoreError::LeaseGone));
    let refused = Outcome { succeeded: false, revision: before };
    assert_eq!(store.txn(put(Txn::new().when(absent("/t/a")))).await, Ok(refused), "not even looked at");
    let (entries, revision) = store.list("/t/").await.expect("a list");
    assert_eq!((entries.len(), revision), (1, before));
    let never = LeaseId(7);
    assert_eq!(store.keep_alive(never).await, Err(StoreError::LeaseGone));
}

pub async fn a_watch_has_no_gap(opened: &impl Opened) {
    const WRITES: u64 = 300;
    let store = opened.store();
    let first = done(store, Txn::new().put("/t/n".into(), &0)).await;
    let mut writer = JoinSet::new();
    writer.spawn({
        let store = Arc::clone(store);
        async move {
            for number in 1..=WRITES {
                done(&store, Txn::new().put("/t/n".into(), &number)).await;
            }
        }
    });
    let read_from = |after: Revision| {
        let store = Arc::clone(store);
        async move {
            let mut watch = store.watch("/t/", after).await.expect("a watch");
            for revision in after + 1..=first + WRITES {
                let change = next(&mut watch).await;
                assert_eq!(revision_of(&change), revision);
                assert!(matches!(&change, Change::Put(entry) if number(entry) == revision - first), "{change:?}");
            }
        }
    };
    let mut readers = JoinSet::new();
    readers.spawn(read_from(first));
    while writer.try_join_next().is_none() {
        let (_, now) = store.list("/t/").await.expect("a list");
        if readers.len() < 20 {
            readers.spawn(read_from(now));
            readers.spawn(read_from(first + (now - first) / 2));
        }
        tokio::task::yield_now().await;
    }
    readers.join_all().await;
}

pub async fn a_watch_sees_its_prefix_only(opened: &impl Opened) {
    let store = opened.store();
    let before = done(store, Txn::new().put("/t/a/1".into(), &0)).await;
    let mut watch = store.watch("/t/a/", before).await.expect("a watch");
    let mut all = store.watch("", before).await.expect("a watch");
    done(store, Txn::new().put("/t/b".into(), &1).put("/t/a".into(), &1)).await;
    done(store, Txn::new().put("/t/c".into(), &1).delete("/t/a/1".into()).put("/t/a/2".into(), &2)).await;
    let seen = [next(&mut watch).await, next(&mut watch).await];
    assert_eq!(seen.iter().map(key_of).collect::<BTreeSet<_>>(), BTreeSet::from(["/t/a/1", "/t/a/2"]));
    for _ in 0..5 {
        next(&mut all).await;
    }
}

pub async fn a_watch_of_several_prefixes_has_no_gap_in_any(opened: &impl Opened) {
    const WRITES: u64 = 100;
    let store = opened.store();
    let first =
        done(store, Txn::new().put("/t/a/n".into(), &0).put("/t/b/n".into(), &0).put("/t/c/n".into(), &0)).await;
    let writing = async {
        for number in 1..=WRITES {
            done(store, Txn::new().put("/t/a/n".into(), &number)).await;
            done(store, Txn::new().put("/t/b/n".into(), &number).put("/t/c/n".into(), &number)).await;
        }
    };
    let reading = async {
        // The first from now on; of the second what it was, too; the third is not asked for.
        let mut watch =
            store.watch_all(&[("/t/a/".into(), first), ("/t/b/".into(), first - 1)]).await.expect("a watch");
        let (mut of_a, mut of_b) = (1, 0);
        while of_a <= WRITES || of_b <= WRITES {
            let Change::Put(entry) = next(&mut watch).await else { panic!("nothing is removed") };
            let expected = if entry.key == "/t/a/n" { &mut of_a } else { &mut of_b };
            assert!(entry.key != "/t/c/n" && number(&entry) == *expected, "{entry:?}, expected {expected}");
            *expected += 1;
        }
    };
    tokio::join!(writing, reading);
    opened.forget().await;
    let outcome = store.watch_all(&[("/t/a/".into(), first + 2 * WRITES), ("/t/b/".into(), first)]).await;
    let is_forgotten = match outcome {
        Err(error) => matches!(error, StoreError::Compacted(_)),
        Ok(mut watch) => matches!(timeout(LIMIT, watch.next()).await, Ok(Some(Err(StoreError::Compacted(_))))),
    };
    assert!(is_forgotten);
    assert!(store.watch_all(&[]).await.is_ok());
}

pub async fn a_watch_may_begin_in_the_future(opened: &impl Opened) {
    let store = opened.store();
    let now = done(store, Txn::new().put("/t/a".into(), &0)).await;
    let mut watch = store.watch("/t/", now + 2).await.expect("a watch");
    for number in 1..=3 {
        done(store, Txn::new().put("/t/a".into(), &number)).await;
    }
    assert_eq!(revision_of(&next(&mut watch).await), now + 3);
}

pub async fn forgotten_changes_are_said_to_be(opened: &impl Opened) {
    let store = opened.store();
    let first = done(store, Txn::new().put("/t/a".into(), &1)).await;
    done(store, Txn::new().put("/t/a".into(), &2)).await;
    opened.forget().await;
    let error = match store.watch("/t/", first - 1).await {
        Err(error) => error,
        Ok(mut watch) => {
            let error = timeout(LIMIT, watch.next()).await.expect("in time").expect("an item").expect_err("forgotten");
            assert!(watch.next().await.is_none(), "an error is the last item");
            error
        }
    };
    assert!(matches!(error, StoreError::Compacted(at) if at > first), "{error:?}");
    let (entries, now) = store.list("/t/").await.expect("a list");
    assert!(entries.iter().any(|entry| entry.key == "/t/a"));
    let mut watch = store.watch("/t/", now).await.expect("a watch from the list on");
    let revision = done(store, Txn::new().put("/t/a".into(), &3)).await;
    assert_eq!(revision_of(&next(&mut watch).await), revision);
}

pub async fn a_lease_ends_and_the_watch_says_so(opened: &impl Opened) {
    let store = opened.store();
    let lease = store.grant(TTL).await.expect("a lease");
    let begun = Instant::now();
    let txn = Txn::new().put_leased("/t/a".into(), &1, lease).put_leased("/t/b".into(), &1, lease);
    let before = done(store, txn.put("/t/stays".into(), &1)).await;
    let mut watch = store.watch("/t/", before).await.expect("a watch");
    let gone = [next(&mut watch).await, next(&mut watch).await];
    assert!(begun.elapsed() >= TTL, "not before its time");
    let expected = ["/t/a", "/t/b"].map(|key| Change::Delete(key.to_owned(), before + 1));
    assert!(expected.iter().all(|change| gone.contains(change)), "{gone:?}");
    assert_eq!(store.keep_alive(lease).await, Err(StoreError::LeaseGone));
    assert_eq!(store.list("/t/").await.expect("a list").0.len(), 1);
}

pub async fn a_lease_that_is_kept_alive_lasts(opened: &impl Opened) {
    let store = opened.store();
    let lease = store.grant(TTL).await.expect("a lease");
    let before = done(store, Txn::new().put_leased("/t/a".into(), &1, lease)).await;
    let begun = Instant::now();
    while begun.elapsed() < 2 * TTL {
        // Time has to pass for a lease to outlive it; nothing is waited for here.
        sleep(TTL / 4).await;
        store.keep_alive(lease).await.expect("alive");
    }
    assert!(get(store, "/t/a").await.is_some());
    let last_kept = Instant::now();
    let mut watch = store.watch("/t/", before).await.expect("a watch");
    assert_eq!(next(&mut watch).await, Change::Delete("/t/a".to_owned(), before + 1));
    assert!(last_kept.elapsed() >= TTL / 2, "not at once");
}

/// The condition that a key does not exist.
pub fn absent(key: &str) -> Compare {
    Compare::ModRevision(key.to_owned(), 0)
}

/// Makes a transaction that must succeed, and gives its revision.
pub async fn done(store: &Arc<dyn Store>, txn: Txn) -> Revision {
    let outcome = timeout(LIMIT, store.txn(txn)).await.expect("in time").expect("an answer");
    assert!(outcome.succeeded, "the conditions hold");
    outcome.revision
}

/// Reads a key.
pub async fn get(store: &Arc<dyn Store>, key: &str) -> Option<Entry> {
    timeout(LIMIT, store.get(key)).await.expect("in time").expect("an answer")
}

/// A lease that outlives the test.
pub async fn grant(store: &Arc<dyn Store>) -> LeaseId {
    store.grant(Duration::from_secs(60)).await.expect("a lease")
}

/// The next change of a watch, which must come.
pub async fn next(watch: &mut BoxStream<'static, Result<Change, StoreError>>) -> Change {
    timeout(LIMIT, watch.next()).await.expect("in time").expect("an item").expect("a change")
}

/// The revision at which a change was made.
pub fn revision_of(change: &Change) -> Revision {
    match change {
        Change::Put(entry) => entry.mod_revision,
        Change::Delete(_, revision) => *revision,
    }
}

/// The key that was changed.
pub fn key_of(change: &Change) -> &str {
    match change {
        Change::Put(entry) => &entry.key,
        Change::Delete(key, _) => key,
    }
}

/// The entry's value, which must be a number.
pub fn number(entry: &Entry) -> u64 {
    serde_json::from_slice(&entry.value).expect("a number")
}

/// Asserts what a key holds and when it was made and changed.
#[track_caller]
pub fn check_entry(entry: Option<Entry>, value: &str, create_revision: Revision, mod_revision: Revision) {
    let entry = entry.expect("the key exists");
    assert_eq!(entry.value, value.as_bytes());
    assert_eq!((entry.create_revision, entry.mod_revision), (create_revision, mod_revision));
}
