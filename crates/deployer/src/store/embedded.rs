//! The store of a single machine: a redb file below the state directory, mirrored in memory.
//!
//! Reads never touch the disk; a transaction is on the disk before it is answered. Leases, and the keys that
//! hang on them, live in memory only: their holder is this very process, and they end with it. The file may be
//! opened by one process at a time, which the lock of the state directory already sees to.

mod file;
mod memory;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::store::{Change, Entry, LeaseId, Outcome, Revision, Txn, Write};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::{Store, StoreError};
use file::File;
use memory::Memory;

/// Transactions that a slow watcher may lag behind before it has to list again.
const LAG_MAX: usize = 4096;

/// An opened store.
pub struct Embedded {
    inner: Mutex<Inner>,
    changes: broadcast::Sender<(Revision, Vec<Change>)>,
}

struct Inner {
    file: File,
    memory: Memory,
}

impl Embedded {
    /// Opens the store, or makes a new one.
    ///
    /// # Errors
    /// [`StoreError::Broken`] if the file is another program's, damaged, or of a newer form; the text names it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (file, entries, revision) = File::open(path)?;
        let inner = Inner { file, memory: Memory::new(entries, revision) };
        Ok(Self { inner: Mutex::new(inner), changes: broadcast::channel(LAG_MAX).0 })
    }

    /// Ends leases when their time is over, until dropped.
    pub async fn run(&self) {
        /// How late the end of a lease may be noticed by watchers.
        const TICK: Duration = Duration::from_millis(500);
        loop {
            tokio::time::sleep(TICK).await;
            drop(self.lock());
        }
    }

    /// The state, with every lease that is over ended.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = inner.memory.end_leases(Instant::now());
        self.publish(inner.memory.revision(), ended);
        inner
    }

    /// Tells watchers. Called under the lock, so that they see transactions in order.
    fn publish(&self, revision: Revision, changes: Vec<Change>) {
        if !changes.is_empty() {
            // No watcher is no mistake.
            let _ = self.changes.send((revision, changes));
        }
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.lock().memory.get(key))
    }

    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        let inner = self.lock();
        Ok((inner.memory.list(prefix), inner.memory.revision()))
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        let mut inner = self.lock();
        let revision = inner.memory.revision();
        if !txn.when.iter().all(|compare| inner.memory.holds(compare)) {
            return Ok(Outcome { succeeded: false, revision });
        }
        let leases = txn.then.iter().filter_map(|write| match write {
            Write::Put(_, _, lease) => *lease,
            Write::Delete(_) => None,
        });
        if !leases.into_iter().all(|lease| inner.memory.has_lease(lease)) {
            return Err(StoreError::LeaseGone);
        }
        let prepared = inner.memory.prepare(&txn.then);
        if prepared.is_empty() {
            return Ok(Outcome { succeeded: true, revision });
        }
        inner.file.commit(&prepared, revision + 1)?;
        let changes = inner.memory.apply(prepared);
        self.publish(revision + 1, changes);
        Ok(Outcome { succeeded: true, revision: revision + 1 })
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        Ok(self.lock().memory.grant(ttl, Instant::now()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        if self.lock().memory.keep_alive(lease, Instant::now()) { Ok(()) } else { Err(StoreError::LeaseGone) }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let ended = inner.memory.revoke(lease);
        self.publish(inner.memory.revision(), ended);
        Ok(())
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        let (past, receiver) = {
            let inner = self.lock();
            let past = inner.memory.since(after).ok_or(StoreError::Compacted(after))?;
            (past, self.changes.subscribe())
        };
        let prefix = prefix.to_owned();
        let to_come = futures_util::stream::unfold(Some(receiver), |receiver| async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Ok((_, changes)) => Some((changes.into_iter().map(Ok).collect::<Vec<_>>(), Some(receiver))),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((vec![Err(StoreError::Compacted(0))], None)),
                Err(broadcast::error::RecvError::Closed) => {
                    Some((vec![Err(StoreError::Away("the store was closed".to_owned()))], None))
                }
            }
        });
        let all = futures_util::stream::iter(past.into_iter().map(Ok))
            .chain(to_come.flat_map(futures_util::stream::iter))
            .filter(move |change| std::future::ready(concerns(change, &prefix)));
        Ok(all.boxed())
    }
}

fn concerns(change: &Result<Change, StoreError>, prefix: &str) -> bool {
    match change {
        Ok(Change::Put(entry)) => entry.key.starts_with(prefix),
        Ok(Change::Delete(key, _)) => key.starts_with(prefix),
        Err(_) => true,
    }
}
