//! The store: a revisioned key-value map with leases and watches, in the semantics of etcd v3.
//!
//! Two implementations exist: `embedded`, for one machine, and the simulated one of the test kit; etcd joins
//! behind the same trait. The stages know only the trait, and build what they write with `deployer_core`.

use std::time::Duration;

use async_trait::async_trait;
use deployer_core::store::{Change, Entry, LeaseId, Outcome, Revision, Txn};
use futures_util::stream::BoxStream;
use thiserror::Error;

pub mod embedded;

/// Why the store did not do what was asked, by what the caller can do about it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreError {
    /// Not reachable, or no answer in time. A write may have happened: look again.
    #[error("the store does not answer: {0}")]
    Away(String),
    /// The lease has ended, and its keys with it.
    #[error("the lease has ended")]
    LeaseGone,
    /// The changes that a watch asked for are no longer kept: list, and watch from the revision listed.
    #[error("the store no longer has the changes after revision {0}")]
    Compacted(Revision),
    /// The store's file or answer is unusable; somebody must act.
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

/// A store. A transaction is durable before its answer; reads see every write answered before them.
#[async_trait]
pub trait Store: Send + Sync {
    /// One key.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;
    /// All keys below a prefix in order, and the one revision at which they were read.
    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError>;
    /// Makes all writes if all conditions hold.
    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError>;
    /// Begins a lease that lasts `ttl` from each sign of life.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;
    /// Gives a lease its full time again.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;
    /// Ends a lease and removes its keys.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
    /// Every change below a prefix after a revision, without a gap.
    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError>;
}
