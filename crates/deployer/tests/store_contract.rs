//! What every store must do, as one contract. The embedded store runs it here; etcd and the simulated store run the
//! very same when they come.

use std::sync::Arc;
use std::time::Duration;

use deployer::store::embedded::Embedded;
use deployer::store::{Store, StoreError};
use deployer_core::store::{Change, Compare, Entry, Txn, Write};
use futures_util::StreamExt;

fn put(key: &str, value: &str) -> Write {
    Write::Put(key.to_owned(), value.as_bytes().to_vec(), None)
}

fn txn(when: Vec<Compare>, then: Vec<Write>) -> Txn {
    Txn { when, then }
}

async fn value(store: &dyn Store, key: &str) -> Option<Entry> {
    store.get(key).await.expect("the store answers")
}

/// A compare-and-swap that has been overtaken writes nothing.
async fn overtaken_swaps_write_nothing(store: &dyn Store) {
    let first = store.txn(txn(vec![Compare::ModRevision("/a".into(), 0)], vec![put("/a", "1")])).await.expect("a txn");
    assert!(first.succeeded, "an absent key has revision 0");
    let late = store.txn(txn(vec![Compare::ModRevision("/a".into(), 0)], vec![put("/a", "2"), put("/b", "2")])).await;
    assert!(!late.expect("a txn").succeeded);
    assert_eq!(value(store, "/a").await.map(|entry| entry.value), Some(b"1".to_vec()));
    assert_eq!(value(store, "/b").await, None, "none of its writes was made");
    let next = store.txn(txn(vec![Compare::ModRevision("/a".into(), first.revision)], vec![put("/a", "3")])).await;
    let next = next.expect("a txn");
    assert!(next.succeeded && next.revision > first.revision);
    let entry = value(store, "/a").await.expect("it is there");
    assert_eq!((entry.create_revision, entry.mod_revision), (first.revision, next.revision));
}

/// A key that was removed and made again has another create revision: an old fencing token does not fit.
async fn a_new_life_has_a_new_create_revision(store: &dyn Store) {
    let born = store.txn(txn(vec![], vec![put("/c", "1")])).await.expect("a txn").revision;
    store.txn(txn(vec![], vec![Write::Delete("/c".into())])).await.expect("a txn");
    store.txn(txn(vec![], vec![put("/c", "2")])).await.expect("a txn");
    let stale = txn(vec![Compare::CreateRevision("/c".into(), born)], vec![put("/c", "stale")]);
    assert!(!store.txn(stale).await.expect("a txn").succeeded);
}

/// `NoneNewer` notices a key that came after the revision that was read, and not one that merely changed.
async fn newer_keys_are_noticed(store: &dyn Store) {
    store.txn(txn(vec![], vec![put("/d/1", "x")])).await.expect("a txn");
    let (_, seen) = store.list("/d/").await.expect("a list");
    store.txn(txn(vec![], vec![put("/d/1", "changed")])).await.expect("a txn");
    let still = || txn(vec![Compare::NoneNewer("/d/".into(), seen)], vec![put("/e", "x")]);
    assert!(store.txn(still()).await.expect("a txn").succeeded);
    store.txn(txn(vec![], vec![put("/d/2", "x")])).await.expect("a txn");
    assert!(!store.txn(still()).await.expect("a txn").succeeded);
}

/// Of many who swap at once, exactly one wins each round.
async fn one_of_many_wins(store: &Arc<dyn Store>) {
    for round in 0..20 {
        let key = format!("/race/{round}");
        let tries = (0..8).map(|_| {
            let swap = txn(vec![Compare::ModRevision(key.clone(), 0)], vec![put(&key, "mine")]);
            async { store.txn(swap).await.expect("a txn").succeeded }
        });
        let won = futures_util::future::join_all(tries).await;
        assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
    }
}

/// The end of a lease removes its keys, and a watch tells of it; a lease that is kept alive does not end.
async fn a_lease_ends_with_its_keys(store: &dyn Store) {
    let (kept, left) = (
        store.grant(Duration::from_secs(5)).await.expect("a lease"),
        store.grant(Duration::from_secs(5)).await.expect("a lease"),
    );
    let leased = |key: &str, lease| Write::Put(key.to_owned(), b"x".to_vec(), Some(lease));
    store.txn(txn(vec![], vec![leased("/l/kept", kept), leased("/l/left", left)])).await.expect("a txn");
    let (_, revision) = store.list("/l/").await.expect("a list");
    let mut changes = store.watch("/l/", revision).await.expect("a watch");
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        store.keep_alive(kept).await.expect("it lives");
    }
    let change = tokio::time::timeout(Duration::from_secs(10), changes.next()).await.expect("a change in time");
    assert!(matches!(&change, Some(Ok(Change::Delete(key, _))) if key == "/l/left"), "{change:?}");
    assert_eq!(store.keep_alive(left).await, Err(StoreError::LeaseGone));
    let late = store.txn(txn(vec![], vec![leased("/l/late", left)])).await;
    assert_eq!(late, Err(StoreError::LeaseGone));
    assert!(value(store, "/l/kept").await.is_some());
    store.revoke(kept).await.expect("it is ended");
    assert_eq!(value(store, "/l/kept").await, None);
}

/// A watch from a revision sees every change after it, once and in order, while writes go on.
async fn a_watch_has_no_gap(store: &dyn Store) {
    let (_, revision) = store.list("/w/").await.expect("a list");
    for i in 0..50 {
        store.txn(txn(vec![], vec![put("/w/x", &i.to_string())])).await.expect("a txn");
    }
    let mut changes = store.watch("/w/", revision).await.expect("a watch");
    for i in 50..100 {
        store.txn(txn(vec![], vec![put("/w/x", &i.to_string()), put("/other", "x")])).await.expect("a txn");
    }
    for i in 0..100 {
        let change = tokio::time::timeout(Duration::from_secs(10), changes.next()).await.expect("a change in time");
        let Some(Ok(Change::Put(entry))) = change else { panic!("change {i} is {change:?}") };
        assert_eq!(entry.value, i.to_string().into_bytes());
    }
}

/// A list has one revision, in order of the keys, and only what lies below the prefix.
async fn a_list_is_of_one_moment(store: &dyn Store) {
    let written = store.txn(txn(vec![], vec![put("/p/b", "2"), put("/p/a", "1"), put("/pq", "x")])).await;
    let (entries, revision) = store.list("/p/").await.expect("a list");
    let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!((keys.as_slice(), revision), (&["/p/a", "/p/b"][..], written.expect("a txn").revision));
}

/// Everything, in one go.
async fn contract(store: Arc<dyn Store>) {
    overtaken_swaps_write_nothing(&*store).await;
    a_new_life_has_a_new_create_revision(&*store).await;
    newer_keys_are_noticed(&*store).await;
    one_of_many_wins(&store).await;
    a_watch_has_no_gap(&*store).await;
    a_list_is_of_one_moment(&*store).await;
    a_lease_ends_with_its_keys(&*store).await;
}

#[tokio::test(start_paused = true)]
async fn the_embedded_store_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Embedded::open(&folder.path().join("store.redb")).expect("a new store"));
    let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    tokio::select! {
        () = contract(shared) => {}
        () = store.run() => unreachable!("it runs until dropped"),
    }
}

#[tokio::test]
async fn the_embedded_store_has_everything_after_it_was_opened_again_but_what_was_leased() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let last = {
        let store = Embedded::open(&path).expect("a new store");
        let lease = store.grant(Duration::from_secs(60)).await.expect("a lease");
        store.txn(txn(vec![], vec![put("/kept", "1"), put("/gone", "1")])).await.expect("a txn");
        store.txn(txn(vec![], vec![Write::Put("/leased".into(), b"x".to_vec(), Some(lease))])).await.expect("a txn");
        store.txn(txn(vec![], vec![Write::Delete("/gone".into()), put("/kept", "2")])).await.expect("a txn").revision
    };
    let store = Embedded::open(&path).expect("the same store");
    assert_eq!(
        value(&store, "/kept").await.map(|entry| (entry.value, entry.mod_revision)),
        Some((b"2".to_vec(), last))
    );
    assert_eq!((value(&store, "/gone").await, value(&store, "/leased").await), (None, None));
    let outcome = store.txn(txn(vec![], vec![put("/next", "x")])).await.expect("a txn");
    assert!(outcome.revision > last, "revisions go on");
    assert!(matches!(store.watch("/", 1).await, Err(StoreError::Compacted(1))), "what was before is no longer kept");
}

#[test]
fn a_file_that_is_no_store_is_refused_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    std::fs::write(&path, "this is not a store, but somebody's notes, and must stay as it is").expect("a file");
    let Err(error) = Embedded::open(&path) else { panic!("it was taken for a store") };
    let text = error.to_string();
    assert!(text.contains("store.redb") && text.contains("move it away"), "{text}");
    assert!(std::fs::read_to_string(&path).expect("still there").contains("somebody's notes"));
}
