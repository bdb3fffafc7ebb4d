//! The part of the contract that is about answers and servers that go missing.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deployer_core::store::{Change, Compare, Outcome, Revision, Txn};
use deployer_store::{Store, StoreError};
use futures_util::stream::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::contract::{LIMIT, Opened, check_entry, done, get, next, number, revision_of};

/// Between two attempts at a store that is away.
const PAUSE: Duration = Duration::from_millis(20);

pub async fn a_write_whose_answer_is_lost_is_made_once(opened: &impl Opened) {
    let store = opened.store();
    let before = done(store, Txn::new().put("/t/a".into(), &1)).await;
    let mut watch = store.watch("/t/", before).await.expect("a watch");
    let unmoved = Compare::ModRevision("/t/a".into(), before);
    let write = Txn::new().when(unmoved).put("/t/a".into(), &2).put("/t/b".into(), &2);
    opened.lose_answer(write.clone()).await;

    check_entry(get(store, "/t/a").await, "2", before, before + 1);
    let seen = [next(&mut watch).await, next(&mut watch).await];
    assert!(seen.iter().all(|change| revision_of(change) == before + 1), "{seen:?}");
    let refused = Outcome { succeeded: false, revision: before + 1 };
    assert_eq!(store.txn(write).await, Ok(refused), "whoever tries again finds it done");
}

pub async fn a_watch_taken_up_again_after_a_restart_has_no_gap(opened: &impl Opened) {
    counts_through(opened.store(), opened.restart()).await;
}

/// Counts up through a disturbance and follows the count by watches, without a gap.
pub async fn counts_through(store: &Arc<dyn Store>, disturbance: impl Future<Output = ()>) {
    const WRITES: u64 = 100;
    let first = done(store, Txn::new().put("/t/n".into(), &0)).await;
    let (progress, mut seen) = watch::channel(first);
    let mut tasks = JoinSet::new();
    tasks.spawn(count_to(WRITES, Arc::clone(store)));
    tasks.spawn(follow(first, first + WRITES, Arc::clone(store), progress));
    let third = first + WRITES / 3;
    timeout(LIMIT, seen.wait_for(|seen| *seen >= third)).await.expect("in time").expect("it reads");
    disturbance.await;
    timeout(2 * LIMIT, tasks.join_all()).await.expect("both go on after it");
}

/// Counts up, one transaction a number. What was written although the store was away is seen at the next read.
async fn count_to(last: u64, store: Arc<dyn Store>) {
    loop {
        let found = again(|| store.get("/t/n")).await.expect("the key stays");
        if number(&found) == last {
            return;
        }
        let unmoved = Compare::ModRevision("/t/n".into(), found.mod_revision);
        let written = store.txn(Txn::new().when(unmoved).put("/t/n".into(), &(number(&found) + 1))).await;
        assert!(written.as_ref().map_or_else(|error| error.kind() == "away", |_| true), "{written:?}");
    }
}

/// Reads every change of the count, each from one watch or the next.
async fn follow(first: Revision, last: Revision, store: Arc<dyn Store>, progress: watch::Sender<Revision>) {
    let mut seen = first;
    while seen < last {
        let mut changes = again(|| store.watch("/t/", seen)).await;
        while let Some(change) = changes.next().await {
            match change {
                Ok(Change::Put(entry)) => {
                    assert_eq!((entry.mod_revision, number(&entry)), (seen + 1, seen + 1 - first));
                    seen = entry.mod_revision;
                    progress.send_replace(seen);
                    if seen == last {
                        return;
                    }
                }
                Ok(Change::Delete(key, revision)) => panic!("nobody removed {key} at {revision}"),
                Err(error) => assert_eq!(error.kind(), "away", "{error}"),
            }
        }
    }
}

/// Asks until the store is not away, within the limit of everything.
pub async fn again<T, F: Future<Output = Result<T, StoreError>>>(ask: impl Fn() -> F) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        match ask().await {
            Err(StoreError::Away(_)) if Instant::now() < deadline => sleep(PAUSE).await,
            outcome => return outcome.unwrap_or_else(|error| panic!("{error}")),
        }
    }
}
