//! The store for those who write: the mirror hears of every write, so that nobody who wrote is shown what was before.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::store::{Change, Entry, LeaseId, Listed, Outcome, Range, Revision, Txn, Write};
use futures_util::stream::BoxStream;

use super::Mirror;
use crate::store::{Store, StoreError};

/// The store behind a mirror. Reads go to the store itself.
pub struct Through(pub Arc<Mirror>);

/// A transaction under way. What becomes of one that is given up nobody knows.
struct UnderWay<'a> {
    mirror: &'a Mirror,
    then: Vec<Write>,
    is_answered: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.then.iter().for_each(|write| self.mirror.doubt(key(write)));
        }
    }
}

impl Mirror {
    /// What a condition speaks of, a key or a prefix, may be other than it seems.
    fn doubt(&self, of: &str) {
        let mut state = self.lock();
        let touches = |region: &str| of.starts_with(region) || region.starts_with(of);
        state.regions.iter_mut().filter(|(region, _)| touches(region)).for_each(|(_, region)| region.doubt());
    }

    fn expect_write(&self, write: &Write, revision: Revision) {
        match write {
            Write::Put(key, ..) => self.expect(key, revision),
            Write::Delete(key) => self.lock().of_key(key).for_each(|region| region.expect_removal(key, revision)),
        }
    }
}

fn key(write: &Write) -> &str {
    match write {
        Write::Put(key, ..) | Write::Delete(key) => key,
    }
}

#[async_trait]
impl Store for Through {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.0.store.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        self.0.store.list(prefix).await
    }

    async fn ranges(&self, ranges: &[Range]) -> Result<(Vec<Listed>, Revision), StoreError> {
        self.0.store.ranges(ranges).await
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        let mut under_way = UnderWay { mirror: &self.0, then: txn.then.clone(), is_answered: false };
        let when = txn.when.clone();
        let outcome = self.0.store.txn(txn).await?;
        under_way.is_answered = true;
        if outcome.succeeded {
            under_way.then.iter().for_each(|write| self.0.expect_write(write, outcome.revision));
        } else {
            // Something is not as the caller saw it: seen so again, it would be tried again for ever.
            when.iter().for_each(|compare| self.0.doubt(compare.key()));
        }
        Ok(outcome)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.0.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.store.revoke(lease).await
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        self.0.store.watch(prefix, after).await
    }

    async fn watch_all(
        &self,
        prefixes: &[(String, Revision)],
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        self.0.store.watch_all(prefixes).await
    }
}
