//! The store's changes as wakes: lists, then watches from there; after a gap it lists again.

use std::sync::Arc;

use deployer_core::backoff::Backoff;
use deployer_core::store::{Change, Revision};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::store::StoreError;
use crate::update::Wake;
use crate::world::World;

/// The trigger.
pub struct StoreWatch {
    /// What the stages share.
    pub world: Arc<World>,
    /// Where wakes go.
    pub wakes: mpsc::Sender<Wake>,
}

impl StoreWatch {
    /// Works until the update stage is gone.
    pub async fn run(self) {
        let mut failures = 0;
        while !self.wakes.is_closed() {
            if let Err(error) = self.watch().await {
                tracing::warn!(error = %error, "the store's changes broke off");
            }
            failures += 1;
            tokio::time::sleep(Backoff::CONNECTION.wait(failures, self.world.ambient.random())).await;
        }
    }

    async fn watch(&self) -> Result<(), StoreError> {
        let revision: Revision = self.world.store.list(&self.world.keys.images()).await?.1;
        let mut changes = self.world.store.watch(&self.world.keys.all(), revision).await?;
        let _ = self.wakes.send(Wake::All).await;
        while let Some(change) = changes.next().await {
            if let Some(wake) = self.wake(&change?) {
                let _ = self.wakes.send(wake).await;
            }
        }
        Ok(())
    }

    /// Claims, holds and signs of life of others change nothing that this node would decide.
    fn wake(&self, change: &Change) -> Option<Wake> {
        let keys = &self.world.keys;
        let (key, is_put) = match change {
            Change::Put(entry) => (entry.key.as_str(), true),
            Change::Delete(key, _) => (key.as_str(), false),
        };
        match keys.track_of(key) {
            // A notification that was served is followed by a look anyway.
            Some((_, "pending")) if !is_put => None,
            Some((track, _)) => Some(Wake::Track(track)),
            None => {
                let concerns_all = key == keys.pause() || key.starts_with(&keys.all_verdicts());
                concerns_all.then_some(Wake::All)
            }
        }
    }
}
