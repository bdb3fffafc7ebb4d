//! The store's changes as wakes: lists, then watches from there; after a gap it lists again.

use std::sync::Arc;
use std::time::Duration;

use deployer_core::availability::Instance;
use deployer_core::backoff::Backoff;
use deployer_core::image::Track;
use deployer_core::store::{Change, Entry};
use deployer_store::StoreError;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::look::Wake;
use crate::publish;
use crate::world::{Changed, World};

/// How often everything is listed anew even if no change was missed, against a watch that says nothing and is believed.
const LIST_AGAIN: Duration = Duration::from_secs(600);

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
            match self.watch().await {
                Ok(()) => {
                    failures = 0;
                    continue;
                }
                Err(error) => tracing::warn!(error = %error, "the store's changes broke off"),
            }
            failures += 1;
            tokio::time::sleep(Backoff::CONNECTION.wait(failures, self.world.ambient.random())).await;
        }
    }

    async fn watch(&self) -> Result<(), StoreError> {
        let keys = &self.world.keys;
        let (entries, revision) = self.world.store.list(&keys.all_instances()).await?;
        let mut changes = self.world.store.watch(&keys.all(), revision).await?;
        self.world.instances.send_replace(Some(entries.into_iter().filter_map(instance).collect()));
        self.all_may_have_changed().await;
        let list_again = tokio::time::sleep(LIST_AGAIN);
        tokio::pin!(list_again);
        loop {
            tokio::select! {
                biased;
                () = &mut list_again => return Ok(()),
                change = changes.next() => match change {
                    Some(change) => self.take(change?).await,
                    None => return Ok(()),
                },
            }
        }
    }

    async fn all_may_have_changed(&self) {
        publish::refresh_registered(&self.world);
        // Nobody may be listening, which is no error.
        let _ = self.world.changes.send(Changed::Anything);
        let _ = self.wakes.send(Wake::All).await;
    }

    async fn take(&self, change: Change) {
        let wake = self.wake(&change);
        let key = match change {
            Change::Put(entry) => {
                let key = entry.key.clone();
                self.mirror(&key, instance(entry));
                key
            }
            Change::Delete(key, _) => {
                self.mirror(&key, None);
                key
            }
        };
        let _ = self.world.changes.send(Changed::Key(key.into()));
        if let Some(wake) = wake {
            let _ = self.wakes.send(wake).await;
        }
    }

    /// Keeps every node's instances at hand: whose a notification is has to be known at once.
    fn mirror(&self, key: &str, instance: Option<(String, Instance)>) {
        if !key.starts_with(&self.world.keys.all_instances()) {
            return;
        }
        self.world.instances.send_modify(|all| {
            let all = all.get_or_insert_default();
            match instance {
                Some((key, instance)) => drop(all.insert(key, instance)),
                None => drop(all.remove(key)),
            }
        });
        publish::refresh_registered(&self.world);
    }

    /// Claims, holds and signs of life of others change nothing that this node would decide.
    fn wake(&self, change: &Change) -> Option<Wake> {
        let keys = &self.world.keys;
        let (key, is_put) = match change {
            Change::Put(entry) => (entry.key.as_str(), true),
            Change::Delete(key, _) => (key.as_str(), false),
        };
        match keys.track_of(key) {
            // A notification that was served is followed by a look anyway; one who asks will tell.
            Some((_, "pending")) if !is_put => None,
            Some((_, "resolver")) if is_put => None,
            // Who leaves a setback leaves the turn as well, which is what the others wait for.
            Some((_, fact)) if is_put && fact.starts_with("setback/") => None,
            Some((track, _)) => self.is_here(&track).then_some(Wake::Track(track)),
            None => {
                // A mark that ends is a check that is due; the timer alone would find it up to an hour later.
                let due = keys.checked_track(key).filter(|track| !is_put && self.is_here(track));
                let concerns_all = key == keys.pause() || key.starts_with(&keys.all_verdicts());
                due.map(Wake::Track).or(concerns_all.then_some(Wake::All))
            }
        }
    }

    /// Whether a track may run here. Where nothing of it does, a look would find nothing.
    fn is_here(&self, track: &Track) -> bool {
        let memory = self.world.memory();
        let is_replaced = memory.transitions.values().any(|transition| transition.track == *track);
        is_replaced || memory.tracks.as_ref().is_none_or(|tracks| tracks.contains(track))
    }
}

/// An entry below the instances' prefix. One that makes no sense is nobody's.
fn instance(entry: Entry) -> Option<(String, Instance)> {
    let instance = serde_json::from_slice(&entry.value).ok()?;
    Some((entry.key, instance))
}
