//! The simulated store: the contract, and the faults that it can play, since a fault that does nothing would let
//! every test of the stages pass.

use std::sync::Arc;
use std::time::Duration;

use deployer_core::store::{Change, Txn};
use deployer_simulated::store::{CALL_LIMIT, Fault, Handle, SILENCE_LIMIT, SimulatedStore};
use deployer_store::{Store, StoreError};
use futures_util::stream::StreamExt;
use tokio::time::{Instant, advance, sleep};

use crate::contract::{Opened, absent, done, get, holds_the_contract, next};

struct InMemory {
    shared: SimulatedStore,
    store: Arc<dyn Store>,
}

impl Opened for InMemory {
    fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    async fn forget(&self) {
        self.shared.compact();
    }
}

async fn open() -> InMemory {
    let shared = SimulatedStore::new(1);
    let store = Arc::new(shared.handle("a"));
    InMemory { shared, store }
}

/// A store whose letters take their time, which is what the stages meet.
async fn open_far_away() -> InMemory {
    let shared = SimulatedStore::new(1);
    let handle = shared.handle("a");
    handle.slow(Duration::from_millis(20));
    InMemory { shared, store: Arc::new(handle) }
}

holds_the_contract! { open,
    plain: #[tokio::test(flavor = "multi_thread", worker_threads = 4)],
    leases: #[tokio::test(start_paused = true)]
}

mod far_away {
    use super::*;

    holds_the_contract! { open_far_away,
        plain: #[tokio::test(start_paused = true)],
        leases: #[tokio::test(start_paused = true)]
    }
}

/// A handle, and the same node's way to the store as the tests of the contract take it.
fn node(shared: &SimulatedStore, name: &str) -> (Handle, Arc<dyn Store>) {
    (shared.handle(name), Arc::new(shared.handle(name)))
}

fn put(number: u32) -> Txn {
    Txn::new().put("/t/a".into(), &number)
}

/// The fault of a call shows in its answer and in what the store holds right after and in the end.
async fn check_fault(fault: Fault, expected: [bool; 2]) {
    let shared = SimulatedStore::new(1);
    let (a, store) = node(&shared, "a");
    a.fail(2, fault);
    done(&store, put(0)).await;
    let begun = Instant::now();
    let answer = store.txn(Txn::new().put("/t/b".into(), &1)).await;
    assert_eq!(answer.map_err(|error| error.kind()), Err("away"), "{fault:?}");
    assert_eq!(begun.elapsed(), CALL_LIMIT);
    let is_there = || shared.entries("/t/b").len() == 1;
    let at_once = is_there();
    sleep(Duration::from_secs(10)).await;
    assert_eq!([at_once, is_there()], expected, "{fault:?}");
    assert!(store.get("/t/b").await.is_ok(), "only the second fails");
}

#[tokio::test(start_paused = true)]
async fn calls_are_lost_on_either_way() {
    check_fault(Fault::Unsent, [false, false]).await;
    check_fault(Fault::Lost, [true, true]).await;
    check_fault(Fault::Late(Duration::from_secs(3)), [false, true]).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_hears_and_does_nothing() {
    let shared = SimulatedStore::new(1);
    let ((a, cut), (_, other)) = (node(&shared, "a"), node(&shared, "b"));
    let lease = cut.grant(Duration::from_secs(20)).await.expect("a lease");
    let before = done(&cut, put(1).put_leased("/t/hold".into(), &1, lease)).await;
    let mut watch = cut.watch("/t/", before).await.expect("a watch");
    let mut elsewhere = other.watch("/t/", before).await.expect("a watch");
    a.cut();
    let begun = Instant::now();
    assert_eq!(cut.txn(put(2)).await.map_err(|error| error.kind()), Err("away"));
    assert_eq!(cut.get("/t/a").await.map_err(|error| error.kind()), Err("away"));
    done(&other, put(3)).await;
    let error = watch.next().await.expect("an item").expect_err("nothing is heard");
    assert_eq!((error.kind(), begun.elapsed()), ("away", SILENCE_LIMIT));
    assert!(watch.next().await.is_none());
    assert!(matches!(next(&mut elsewhere).await, Change::Put(_)));
    assert_eq!(next(&mut elsewhere).await, Change::Delete("/t/hold".into(), before + 2), "nobody keeps it alive");
    a.heal();
    assert_eq!(cut.keep_alive(lease).await, Err(StoreError::LeaseGone));
    let mut watch = cut.watch("/t/", before).await.expect("a watch");
    assert!(matches!(next(&mut watch).await, Change::Put(_)), "what was missed comes");
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_delays_a_watch_and_leaves_no_gap() {
    let shared = SimulatedStore::new(1);
    let ((a, cut), (_, other)) = (node(&shared, "a"), node(&shared, "b"));
    let before = done(&other, put(1)).await;
    let mut watch = cut.watch("/t/", before).await.expect("a watch");
    a.cut();
    done(&other, put(2)).await;
    assert!(futures_util::poll!(watch.next()).is_pending());
    advance(SILENCE_LIMIT / 2).await;
    a.heal();
    assert!(matches!(next(&mut watch).await, Change::Put(entry) if entry.mod_revision == before + 1));
}

/// The answer is on its way when the line is cut: the write happened, and its caller cannot know.
#[tokio::test(start_paused = true)]
async fn a_cut_loses_answers_and_the_letter_of_a_killed_caller_arrives() {
    let shared = SimulatedStore::new(1);
    let (a, store) = node(&shared, "a");
    a.slow(Duration::from_millis(200));
    {
        let mut killed = store.txn(put(1));
        assert!(futures_util::poll!(&mut killed).is_pending());
    }
    let cut_off = tokio::join!(store.txn(Txn::new().put("/t/b".into(), &1)), async {
        while shared.entries("/t/b").is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        a.cut();
    });
    assert_eq!(cut_off.0.map_err(|error| error.kind()), Err("away"));
    assert_eq!(shared.entries("/t/").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_no_lease_ends_and_with_one_it_has_its_whole_time_again() {
    let shared = SimulatedStore::new(1);
    let (_, store) = node(&shared, "a");
    let lease = store.grant(Duration::from_secs(10)).await.expect("a lease");
    done(&store, Txn::new().put_leased("/t/a".into(), &1, lease)).await;
    sleep(Duration::from_secs(8)).await;
    shared.lose_quorum();
    assert_eq!(store.get("/t/a").await.map_err(|error| error.kind()), Err("away"));
    sleep(Duration::from_secs(60)).await;
    shared.regain_quorum();
    sleep(Duration::from_secs(9)).await;
    assert!(get(&store, "/t/a").await.is_some());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(get(&store, "/t/a").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_proposal_without_a_quorum_is_lost_or_done_later() {
    let mut done_later = 0;
    for seed in 1..=20 {
        let shared = SimulatedStore::new(seed);
        let (_, store) = node(&shared, "a");
        shared.lose_quorum();
        assert_eq!(store.txn(put(1)).await.map_err(|error| error.kind()), Err("away"));
        assert!(shared.entries("/t/").is_empty());
        shared.regain_quorum();
        done_later += shared.entries("/t/").len();
    }
    assert!((1..20).contains(&done_later), "{done_later} of 20");
}

#[tokio::test(start_paused = true)]
async fn writes_are_counted_by_node() {
    let shared = SimulatedStore::new(1);
    let ((a, store), (b, _)) = (node(&shared, "a"), node(&shared, "b"));
    let lease = store.grant(Duration::from_secs(10)).await.expect("a lease");
    done(&store, put(1)).await;
    assert!(!store.txn(put(2).when(absent("/t/a"))).await.expect("an answer").succeeded);
    done(&store, Txn::new()).await;
    store.keep_alive(lease).await.expect("alive");
    store.revoke(lease).await.expect("revoked");
    assert_eq!((a.writes(), a.calls(), b.writes()), (4, 6, 0));
}
