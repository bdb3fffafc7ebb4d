//! A node's way to etcd, on which what is read is counted by kind of key: etcd tells how much, this tells of what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::store::{Change, Entry, LeaseId, Listed, Outcome, Range, Revision, Txn};
use deployer_store::etcd::Etcd;
use deployer_store::{Store, StoreError};
use futures_util::stream::{BoxStream, StreamExt as _};

/// Calls, or changes that came, and the bytes of keys and values, by what was done and the kind of key.
pub type Counts = BTreeMap<String, (u64, u64)>;

/// Shared by all nodes.
#[derive(Clone, Default)]
pub struct Counter(Arc<Mutex<Counts>>);

impl Counter {
    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, what: &str, key: &str, bytes: usize) {
        // `/t/locks/c2VydmljZQ/claim/0` is of the kind `locks claim`; of an image's facts the name counts, too.
        let parts: Vec<&str> = key.split('/').collect();
        let kind = parts.get(2).copied().unwrap_or_default();
        let fact = parts.get(4).copied().filter(|_| ["locks", "images"].contains(&kind)).unwrap_or_default();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(format!("{what} {kind} {fact}").trim_end().to_owned()).or_default();
        *count = (count.0 + 1, count.1 + bytes as u64);
    }
}

/// See the module's head.
pub struct Counted {
    /// The way itself.
    pub etcd: Etcd,
    /// Where it is counted.
    pub counter: Counter,
}

fn size(entry: &Entry) -> usize {
    entry.key.len() + entry.value.len()
}

#[async_trait]
impl Store for Counted {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let found = self.etcd.get(key).await?;
        self.counter.count("get", key, found.as_ref().map_or(0, size));
        Ok(found)
    }

    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        let listed = self.etcd.list(prefix).await?;
        self.counter.count("list", prefix, listed.0.iter().map(size).sum());
        Ok(listed)
    }

    async fn ranges(&self, ranges: &[Range]) -> Result<(Vec<Listed>, Revision), StoreError> {
        let listed = self.etcd.ranges(ranges).await?;
        let bytes = listed.0.iter().flat_map(|listed| &listed.entries).map(size).sum();
        self.counter.count("ranges", ranges.first().map_or("", |range| range.prefix()), bytes);
        Ok(listed)
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        use deployer_core::store::Write;
        let of_condition = txn.when.first().map(|compare| compare.key().to_owned());
        let of_write = txn.then.first().map(|write| match write {
            Write::Put(key, ..) | Write::Delete(key) => key.clone(),
        });
        let outcome = self.etcd.txn(txn).await?;
        let what = if outcome.succeeded { "txn" } else { "txn in vain" };
        self.counter.count(what, &of_write.or(of_condition).unwrap_or_default(), 0);
        Ok(outcome)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.etcd.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.etcd.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.etcd.revoke(lease).await
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        self.watch_all(&[(prefix.to_owned(), after)]).await
    }

    async fn watch_all(
        &self,
        prefixes: &[(String, Revision)],
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        prefixes.iter().for_each(|(prefix, _)| self.counter.count("watch", prefix, 0));
        let counter = self.counter.clone();
        let changes = self.etcd.watch_all(prefixes).await?;
        Ok(changes
            .inspect(move |change| match change {
                Ok(Change::Put(entry)) => counter.count("change", &entry.key, size(entry)),
                Ok(Change::Delete(key, _)) => counter.count("change", key, key.len()),
                Err(_) => {}
            })
            .boxed())
    }
}
