//! The mirror while its store fails it.

use std::sync::Arc;
use std::time::Duration;

use deployer_core::store::Txn;
use deployer_simulated::store::{Fault, Handle, SILENCE_LIMIT, SimulatedStore};
use deployer_store::Store;
use deployer_testkit as testkit;
use tokio::time::{Instant, sleep, timeout};

use crate::contract::{LIMIT, done};
use crate::etcd::{InACluster, nobody};
use crate::mirror::{Mirrored, check_equal, listed, mirrored};
use crate::outage::again;

/// A simulated store, one node's way to it, and a mirror behind that.
async fn simulated() -> (SimulatedStore, Handle, Arc<dyn Store>, Mirrored) {
    let shared = SimulatedStore::new(1);
    let line = shared.handle("a");
    line.slow(Duration::from_millis(20));
    let mirrored = mirrored(&(Arc::new(shared.handle("a")) as Arc<dyn Store>), &["/t/"]);
    let other: Arc<dyn Store> = Arc::new(shared.handle("b"));
    done(&other, Txn::new().put("/t/a".into(), &1)).await;
    listed(&mirrored.mirror, &["/t/"]).await;
    check_equal(&mirrored.mirror, &other, "/t/", 2, "/t/a").await;
    // Until its watch is open.
    sleep(Duration::from_secs(1)).await;
    (shared, line, other, mirrored)
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_it_shows_what_it_saw_last_and_since_when() {
    let (shared, _, other, Mirrored { mirror, _keeping, .. }) = simulated().await;
    let before = mirror.list("/t/").await.expect("read");
    shared.lose_quorum();
    let lost_at = Instant::now();
    sleep(2 * SILENCE_LIMIT).await;
    assert_eq!(mirror.list("/t/").await, Ok(before), "no reader's error");
    let since = mirror.truth("/t/").and_then(|truth| truth.away_since).expect("nothing is heard");
    assert!(since > lost_at && since <= lost_at + SILENCE_LIMIT + Duration::from_secs(1));
    assert_eq!(mirror.list("/u/").await.map_err(|error| error.kind()), Err("away"), "what it does not hold");
    shared.regain_quorum();
    let revision = done(&other, Txn::new().put("/t/a".into(), &2)).await;
    check_equal(&mirror, &other, "/t/", revision, "/t/a").await;
    sleep(Duration::from_secs(30)).await;
    assert!(mirror.truth("/t/").is_some_and(|truth| truth.away_since.is_none()));
}

/// One who waited for the ticket before it, while a member of etcd stood still and a slot was given back, waited for minutes.
#[tokio::test(start_paused = true)]
async fn what_changes_while_the_watch_of_a_waiter_is_broken_off_is_heard() {
    let (shared, _, other, Mirrored { mirror, _keeping, .. }) = simulated().await;
    let now = done(&other, Txn::new().put("/u/ticket".into(), &1)).await;
    let mut listener = mirror.listen();
    let changes = async {
        sleep(Duration::from_secs(1)).await;
        shared.lose_quorum();
        sleep(3 * SILENCE_LIMIT).await;
        shared.regain_quorum();
        done(&other, Txn::new().delete("/u/ticket".into())).await;
    };
    let prefixes = ["/u/".to_owned()];
    let (heard, ()) = tokio::join!(timeout(Duration::from_secs(60), listener.hear(&prefixes, now)), changes);
    heard.expect("heard");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_known_before_the_first_list_and_the_store_is_asked() {
    let shared = SimulatedStore::new(1);
    shared.lose_quorum();
    let Mirrored { mirror, _keeping, .. } = mirrored(&(Arc::new(shared.handle("a")) as Arc<dyn Store>), &["/t/"]);
    assert_eq!(mirror.list("/t/").await.map_err(|error| error.kind()), Err("away"));
    assert_eq!(mirror.truth("/t/"), None);
    shared.regain_quorum();
    listed(&mirror, &["/t/"]).await;
}

/// The writer is told nothing, and must not take the view from before its write for what came of it.
#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_or_given_up_is_looked_for() {
    let (_shared, line, _, Mirrored { mirror, through, _keeping }) = simulated().await;
    line.fail(1, Fault::Lost);
    let told = through.txn(Txn::new().put("/t/b".into(), &1)).await;
    assert_eq!(told.map_err(|error| error.kind()), Err("away"));
    assert!(mirror.get("/t/b").await.expect("read").is_some());
    let given_up = timeout(Duration::from_millis(1), through.txn(Txn::new().put("/t/c".into(), &1))).await;
    assert!(given_up.is_err());
    let before = line.calls();
    sleep(Duration::from_millis(30)).await;
    assert!(mirror.get("/t/c").await.expect("read").is_some());
    assert_eq!(line.calls(), before + 1, "the store was asked, once");
    mirror.list("/t/").await.expect("read");
    assert_eq!(line.calls(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_day_costs_a_list_every_ten_minutes() {
    let (_shared, line, _, Mirrored { mirror, _keeping, .. }) = simulated().await;
    let (before, mut listener) = (line.calls(), mirror.listen());
    let heard = timeout(Duration::from_secs(24 * 3600), listener.next()).await;
    assert!(heard.is_err(), "nothing has changed");
    // A list and a watch.
    let rounds = (line.calls() - before) / 2;
    assert!((120..=144).contains(&rounds), "{rounds}");
}

#[tokio::test(start_paused = true)]
async fn a_store_restored_to_an_earlier_revision_is_believed() {
    let (shared, _, other, Mirrored { mirror, through, _keeping }) = simulated().await;
    let snapshot = shared.snapshot();
    for number in 0..20 {
        done(&through, Txn::new().put(format!("/t/{number}"), &1).delete("/t/a".into())).await;
    }
    assert_eq!(mirror.list("/t/").await.expect("read").0.len(), 20);
    shared.restore(&snapshot);
    let mut listener = mirror.listen();
    let revision = done(&other, Txn::new().put("/t/b".into(), &1)).await;
    timeout(LIMIT, listener.next()).await.expect("what is gone is heard of");
    check_equal(&mirror, &other, "/t/", revision, "/t/b").await;
    assert_eq!(mirror.list("/t/").await.expect("read").0.len(), 2);
    let written = done(&through, Txn::new().put("/t/a".into(), &2)).await;
    assert_eq!(mirror.get("/t/a").await.expect("read").map(|entry| entry.mod_revision), Some(written));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_etcd_that_lost_its_data_is_believed() {
    let opened = InACluster::on(testkit::Etcd::start(), nobody());
    let store = &opened.store;
    let Mirrored { mirror, through, _keeping } = mirrored(store, &["/t/"]);
    for number in 0..20 {
        done(&through, Txn::new().put(format!("/t/{number}"), &1)).await;
    }
    assert_eq!(mirror.list("/t/").await.expect("read").0.len(), 20);
    opened.with_etcd(testkit::Etcd::restart_empty);
    again(|| store.txn(Txn::new().put("/t/new".into(), &1))).await;
    let is_believed = async {
        while again(|| mirror.list("/t/")).await.0.len() != 1 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, is_believed).await.expect("in time");
}
