//! The store before it was opened: recovery works with the engine alone, and whatever asks for more is told to wait.

use std::time::Duration;

use async_trait::async_trait;
use deployer_core::store::{Change, Entry, LeaseId, Listed, Outcome, Range, Revision, Txn};
use futures_util::stream::BoxStream;

use crate::store::{Store, StoreError};

/// A store that is away.
pub struct Unopened;

fn away<T>() -> Result<T, StoreError> {
    Err(StoreError::Away("it was not opened yet".to_owned()))
}

#[async_trait]
impl Store for Unopened {
    async fn get(&self, _: &str) -> Result<Option<Entry>, StoreError> {
        away()
    }

    async fn list(&self, _: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        away()
    }

    async fn ranges(&self, _: &[Range]) -> Result<(Vec<Listed>, Revision), StoreError> {
        away()
    }

    async fn txn(&self, _: Txn) -> Result<Outcome, StoreError> {
        away()
    }

    async fn grant(&self, _: Duration) -> Result<LeaseId, StoreError> {
        away()
    }

    async fn keep_alive(&self, _: LeaseId) -> Result<(), StoreError> {
        away()
    }

    async fn revoke(&self, _: LeaseId) -> Result<(), StoreError> {
        away()
    }

    async fn watch(&self, _: &str, _: Revision) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        away()
    }
}
