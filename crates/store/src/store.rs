//! What the stages ask of a store: the trait, its errors, and the limits of a transaction.
//!
//! The store is a revisioned map with the semantics of etcd v3, so that one machine and a cluster run the same
//! code: the embedded store (`embedded`) and etcd differ in how far away they are, not in what they promise.
//! This module knows keys and values as text and bytes only; what they mean is `deployer_core`'s business.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::store::{Change, Entry, LeaseId, Listed, Outcome, Range, Revision, Txn, Write};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use thiserror::Error;

/// Conditions, and likewise writes, in one transaction, and ranges in one question; beyond it they are refused before they
/// are sent. etcd's own default (`--max-txn-ops`).
pub const TXN_OPERATIONS_MAX: usize = 128;

/// Bytes of keys and values in one transaction; beyond it the transaction is refused before it is sent. Below
/// etcd's default of 1.5 MiB for the whole request (`--max-request-bytes`).
pub const TXN_BYTES_MAX: usize = 1024 * 1024;

/// Why a call to the store did not do what was asked, by what the caller can do about it. The text names the
/// store's file or address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Not reachable, or no answer in time. A write may have happened: read, and try again later.
    #[error("the store does not answer: {0}")]
    Away(String),
    /// The lease has ended, and its keys with it. What was done under it is over: grant another.
    #[error("the lease has ended")]
    LeaseGone,
    /// The changes that a watch asked for are forgotten up to this revision, or it read them too slowly: list,
    /// and watch from the list's revision.
    #[error("the store has forgotten the changes up to revision {0}")]
    Compacted(Revision),
    /// A person must act: the disk is full, the file is damaged or not ours, access is refused, a limit is
    /// passed. A write that met this may have happened.
    #[error("the store is unusable: {0}")]
    Broken(String),
}

impl StoreError {
    /// A fixed word for metrics and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::LeaseGone => "lease_gone",
            Self::Compacted(_) => "compacted",
            Self::Broken(_) => "broken",
        }
    }
}

/// A revisioned key-value store with leases and watches.
///
/// Every call may fail with [`StoreError::Away`] or [`StoreError::Broken`]; only further errors are named
/// below. A prefix is plain text: `/a` covers `/ab` as well, and the empty prefix covers every key.
#[async_trait]
pub trait Store: Send + Sync {
    /// The key's entry, if it exists.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// All entries below a prefix, sorted by key, and the one revision at which they are all true.
    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError>;

    /// What lies in several ranges, in their order, all of it true at one revision.
    async fn ranges(&self, ranges: &[Range]) -> Result<(Vec<Listed>, Revision), StoreError>;

    /// Makes all writes at one new revision if all conditions hold, else nothing. Durable before it returns.
    /// A transaction that writes nothing does not advance the revision; a `Put` without a lease detaches the
    /// key from the one it had.
    ///
    /// # Errors
    /// [`StoreError::LeaseGone`] if it would put a key under a lease that has ended: nothing is written.
    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError>;

    /// A new lease, which ends when it was not kept alive for `ttl`. Stores round it up to whole seconds or to
    /// their own minimum (etcd: about 2 s).
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Begins the lease's time anew.
    ///
    /// # Errors
    /// [`StoreError::LeaseGone`] if it has ended.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends the lease and removes its keys, as one revision. One that has ended is fine.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Every change below a prefix with a revision above `after`, in order and without a gap; those of one
    /// revision follow each other. The end of a lease shows as the removal of its keys. The stream ends only
    /// after an error, which is its last item.
    ///
    /// # Errors
    /// [`StoreError::Compacted`], from the call or as the stream's last item, if changes above `after` are
    /// forgotten or the reader fell too far behind.
    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError>;

    /// The changes below several prefixes, each above a revision of its own, as one stream. What lies below one of them comes
    /// in order and without a gap; of two that do not overlap either may come first.
    ///
    /// # Errors
    /// Those of [`Store::watch`]. One that breaks off breaks off all.
    async fn watch_all(
        &self,
        prefixes: &[(String, Revision)],
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        let mut all = Vec::new();
        for (prefix, after) in prefixes {
            all.push(self.watch(prefix, *after).await?);
        }
        let until_an_error = stream::unfold(Some(stream::select_all(all)), |all| async {
            let mut all = all?;
            let item = all.next().await?;
            let goes_on = item.is_ok();
            Some((item, goes_on.then_some(all)))
        });
        Ok(until_an_error.boxed())
    }
}

/// Why a question is refused whatever the store holds, if so.
pub fn flaw_of_ranges(ranges: &[Range]) -> Option<String> {
    (ranges.len() > TXN_OPERATIONS_MAX).then(|| format!("a question may have {TXN_OPERATIONS_MAX} ranges"))
}

/// What is wrong with a transaction whatever the store holds, if anything. Whoever implements [`Store`] asks before
/// it begins, so that no store accepts what another would refuse.
pub fn flaw(txn: &Txn) -> Option<String> {
    if txn.when.len().max(txn.then.len()) > TXN_OPERATIONS_MAX {
        return Some(format!("a transaction may have {TXN_OPERATIONS_MAX} conditions and writes each"));
    }
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    for write in &txn.then {
        let (key, size) = match write {
            Write::Put(key, value, _) => (key, value.len()),
            Write::Delete(key) => (key, 0),
        };
        bytes += key.len() + size;
        if key.is_empty() {
            return Some("a transaction writes an empty key".to_owned());
        }
        if !seen.insert(key) {
            return Some(format!("a transaction writes {key} twice"));
        }
    }
    (bytes > TXN_BYTES_MAX).then(|| format!("a transaction of {bytes} bytes is larger than {TXN_BYTES_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_flaw(txn: Txn, expected: Option<&str>) {
        let found = flaw(&txn);
        match expected {
            None => assert_eq!(found, None),
            Some(word) => assert!(found.as_ref().is_some_and(|found| found.contains(word)), "{found:?}"),
        }
    }

    #[test]
    fn a_transaction_that_no_store_could_make_is_refused() {
        let key = |number: usize| format!("/k/{number}");
        let many = |count: usize| (0..count).fold(Txn::new(), |txn, number| txn.put(key(number), &number));
        check_flaw(Txn::new(), None);
        check_flaw(many(TXN_OPERATIONS_MAX), None);
        check_flaw(many(TXN_OPERATIONS_MAX + 1), Some("128"));
        check_flaw(Txn::new().put(key(1), &1).delete(key(1)), Some("/k/1 twice"));
        check_flaw(Txn::new().delete(String::new()), Some("empty key"));
        check_flaw(Txn::new().put(key(1), &"x".repeat(TXN_BYTES_MAX)), Some("larger"));
    }
}
