//! etcd: members that die, hang, are full, or are too few.

use std::sync::Arc;
use std::time::Duration;

use deployer_core::store::{Change, Compare, Txn};
use deployer_store::etcd::{Etcd, EtcdSettings};
use deployer_store::{Store, StoreError};
use deployer_testkit::{self as testkit, EtcdCluster, EtcdOptions};
use futures_util::join;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::time::{Instant, timeout};

use crate::contract::{Opened, absent, done, get, grant, next, revision_of};
use crate::etcd::{InACluster, nobody};
use crate::outage::{again, counts_through};

/// From the moment a server hangs until a call says so.
const CALL_NOTICES: Duration = Duration::from_secs(11);
/// The same for a watch on which nothing happens.
const WATCH_NOTICES: Duration = Duration::from_secs(20);
/// For a call to a cluster that is well.
const AT_ONCE: Duration = Duration::from_secs(2);

type Changes = BoxStream<'static, Result<Change, StoreError>>;

/// Three members, and a store that begins with the first.
fn three() -> (EtcdCluster, Arc<dyn Store>) {
    let cluster = EtcdCluster::start(3);
    let store = Arc::new(Etcd::new(EtcdSettings { endpoints: cluster.urls(), ..nobody() }));
    (cluster, store)
}

/// The last item of a watch on which nothing else happens.
async fn end_of(changes: &mut Changes) -> StoreError {
    let error =
        timeout(WATCH_NOTICES, changes.next()).await.expect("noticed").expect("an item").expect_err("no change");
    assert!(changes.next().await.is_none(), "an error is the last item");
    error
}

#[tokio::test]
async fn a_frozen_server_is_noticed_by_calls_and_watches_and_healed_from() {
    let opened = InACluster::on(testkit::Etcd::start(), nobody());
    let store = &opened.store;
    let before = done(store, Txn::new().put("/t/a".into(), &1)).await;
    let mut changes = store.watch("/t/", before).await.expect("a watch");
    opened.with_etcd(|etcd| etcd.process().freeze());
    let (told, ended) = join!(timeout(CALL_NOTICES, store.get("/t/a")), end_of(&mut changes));
    assert_eq!(told.expect("noticed").map_err(|error| error.kind()), Err("away"));
    assert_eq!(ended.kind(), "away", "{ended}");
    let opening = timeout(CALL_NOTICES, store.watch("/t/", before)).await.expect("noticed");
    assert_eq!(opening.map(drop).map_err(|error| error.kind()), Err("away"));

    opened.with_etcd(|etcd| etcd.process().thaw());
    again(|| store.get("/t/a")).await;
    let mut changes = store.watch("/t/", before).await.expect("a watch");
    let written = done(store, Txn::new().put("/t/a".into(), &2)).await;
    assert_eq!(revision_of(&next(&mut changes).await), written);
}

#[tokio::test]
async fn a_store_without_a_server_waits_for_it() {
    let mut etcd = testkit::Etcd::start();
    etcd.process().kill_9();
    let opened = InACluster::on(etcd, nobody());
    let error = timeout(AT_ONCE, opened.store.get("/t/a")).await.expect("at once").expect_err("nobody is there");
    let text = error.to_string();
    assert!(text.contains(&opened.settings.endpoints[0]) && text.contains("Connection refused"), "{text}");
    assert_eq!(error.kind(), "away");
    opened.restart().await;
    assert_eq!(get(&opened.store, "/t/a").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_count_goes_on_when_the_leader_is_killed() {
    let (mut cluster, store) = three();
    counts_through(&store, async {
        let leader = cluster.leader();
        cluster.member(leader).process().kill_9();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_count_goes_on_when_each_member_restarts_in_turn() {
    let (mut cluster, store) = three();
    counts_through(&store, async {
        for index in 0..3 {
            cluster.member(index).restart();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_hangs_is_left_for_another() {
    let (mut cluster, store) = three();
    let before = done(&store, Txn::new().put("/t/a".into(), &1)).await;
    let mut changes = store.watch("/t/", before).await.expect("a watch");
    cluster.member(0).process().freeze();
    let told = timeout(CALL_NOTICES, store.get("/t/a")).await.expect("noticed");
    assert_eq!(told.map_err(|error| error.kind()), Err("away"));
    // It may have been the leader.
    again(|| store.get("/t/a")).await;
    let begun = Instant::now();
    let written = done(&store, Txn::new().when(absent("/t/b")).put("/t/b".into(), &1)).await;
    assert!(begun.elapsed() < AT_ONCE, "calls go to another member");
    assert_eq!(end_of(&mut changes).await.kind(), "away");
    let mut changes = store.watch("/t/", before).await.expect("a watch on another member");
    assert_eq!(revision_of(&next(&mut changes).await), written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_quorum_nothing_is_promised() {
    let (mut cluster, store) = three();
    let before = done(&store, Txn::new().put("/t/a".into(), &1)).await;
    let mut changes = store.watch("/t/", before).await.expect("a watch");
    for index in [1, 2] {
        cluster.member(index).process().freeze();
    }
    // The member that lives could tell what it knew, and is asked before it knows that it is alone.
    let condition = Txn::new().when(absent("/t/b"));
    let (read, listed, compared) =
        join!(store.get("/t/a"), store.list("/t/"), store.txn(condition.when(absent("/t/c"))));
    for told in [read.map(drop), listed.map(drop), compared.map(drop)] {
        assert_eq!(told.map_err(|error| error.kind()), Err("away"));
    }
    let ended = end_of(&mut changes).await;
    assert_eq!(ended.kind(), "away", "{ended}");
    for index in [1, 2] {
        cluster.member(index).process().thaw();
    }
    again(|| store.get("/t/a")).await;
    // The members may vote once more: a write of which nobody knows is made again, and counts once.
    let write = || store.txn(Txn::new().when(Compare::ModRevision("/t/a".into(), before)).put("/t/a".into(), &2));
    again(write).await;
    assert_eq!(again(|| store.get("/t/a")).await.map(|entry| entry.mod_revision), Some(before + 1));
}

#[tokio::test]
async fn a_full_store_says_so_and_is_used_again_when_there_is_room() {
    let arguments = vec!["--quota-backend-bytes=4194304".to_owned()];
    let etcd = testkit::Etcd::start_with(&EtcdOptions { arguments, ..EtcdOptions::default() });
    let opened = InACluster::on(etcd, nobody());
    let store = &opened.store;
    let lease = grant(store).await;
    let value = "x".repeat(1_000_000);
    let mut written = 0;
    let error = loop {
        match store.txn(Txn::new().put(format!("/t/{written}"), &value)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), "broken");
    assert!(error.to_string().contains("etcdctl alarm disarm"), "{error}");
    assert_eq!(store.grant(Duration::from_secs(60)).await.map_err(|error| error.kind()), Err("broken"));
    assert!(get(store, "/t/0").await.is_some(), "reads go on");
    store.keep_alive(lease).await.expect("so do leases");
    let emptied = (0..written).fold(Txn::new(), |txn, number| txn.delete(format!("/t/{number}")));
    done(store, emptied).await;

    opened.forget().await;
    opened.with_etcd(|etcd| etcd.control(["defrag"]));
    opened.with_etcd(|etcd| etcd.control(["alarm", "disarm"]));
    done(store, Txn::new().put("/t/a".into(), &1)).await;
}

#[tokio::test]
async fn what_is_larger_than_a_usual_answer_arrives() {
    let opened = InACluster::on(testkit::Etcd::start(), nobody());
    let store = &opened.store;
    let before = store.list("/t/").await.expect("a list").1;
    for number in 0..6 {
        done(store, Txn::new().put(format!("/t/{number}"), &"x".repeat(1_000_000))).await;
    }
    assert_eq!(store.list("/t/").await.expect("a list").0.len(), 6);
    let mut changes = store.watch("/t/", before).await.expect("a watch");
    for number in 1..=6 {
        assert_eq!(revision_of(&next(&mut changes).await), before + number);
    }
}
