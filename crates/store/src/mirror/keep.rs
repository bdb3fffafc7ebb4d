//! Keeps the mirror true: lists each prefix, watches it from there, and lists it again after a gap and now and then.

use std::time::Duration;

use deployer_core::backoff::Backoff;
use deployer_core::store::Change;
use futures_util::FutureExt as _;
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Mirror;
use crate::store::StoreError;

/// How often a prefix is listed anew even if no change was missed, against a watch that says nothing and is believed.
const LIST_AGAIN: Duration = Duration::from_secs(600);

/// So much longer at random, in percent, that nodes which began together do not go on together.
const LIST_AGAIN_JITTER: u64 = 20;

impl Mirror {
    /// Keeps what is followed true until it is dropped; from then on everything is read from the store again.
    pub async fn keep(&self) {
        let _kept = Kept::begin(self);
        let mut regions = FuturesUnordered::new();
        loop {
            regions.extend(self.unkept().into_iter().map(|(prefix, alive)| self.keep_one(prefix, alive)));
            tokio::select! {
                biased;
                Some(()) = regions.next() => {}
                () = self.grown.notified() => {}
            }
        }
    }

    /// Prefixes that have come in. Whoever is told of one keeps it.
    fn unkept(&self) -> Vec<(String, watch::Receiver<()>)> {
        let mut state = self.lock();
        let unkept = state.regions.iter_mut().filter(|(_, region)| !region.is_kept);
        let taken = unkept.map(|(prefix, region)| {
            region.is_kept = true;
            (prefix.clone(), region.alive.subscribe())
        });
        taken.collect()
    }

    async fn keep_one(&self, prefix: String, mut alive: watch::Receiver<()>) {
        tokio::select! {
            biased;
            // The region's end is an error of the channel; nothing is ever sent on it.
            _ = alive.changed() => {}
            () = self.keep_for_ever(&prefix) => {}
        }
    }

    async fn keep_for_ever(&self, prefix: &str) {
        let mut failures = 0;
        loop {
            let Err(error) = self.list_and_watch(prefix, &mut failures).await else { continue };
            failures += 1;
            if !matches!(error, StoreError::Compacted(_)) {
                self.note_away(prefix, &error);
            }
            sleep(Backoff::CONNECTION.wait(failures, self.ambient.random())).await;
        }
    }

    /// Ends after a gap, and when it is time for the next list.
    async fn list_and_watch(&self, prefix: &str, failures: &mut u32) -> Result<(), StoreError> {
        let Some(begun) = self.begin(prefix) else { return Ok(()) };
        let (entries, revision) = self.store.list(prefix).await?;
        let revision = self.take_list(prefix, begun, entries, revision);
        let mut changes = self.store.watch(prefix, revision).await?;
        *failures = 0;
        self.note_heard(prefix);
        let jitter = LIST_AGAIN * (self.ambient.random() % (LIST_AGAIN_JITTER + 1)) as u32 / 100;
        let list_again = sleep(LIST_AGAIN + jitter);
        tokio::pin!(list_again);
        loop {
            tokio::select! {
                biased;
                () = &mut list_again => return Ok(()),
                change = changes.next() => match change {
                    Some(change) => self.take_changes(prefix, change?, &mut changes)?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Takes a change together with those that are here already, so that no reader sees half of a transaction.
    fn take_changes(
        &self,
        prefix: &str,
        first: Change,
        changes: &mut BoxStream<'static, Result<Change, StoreError>>,
    ) -> Result<(), StoreError> {
        let mut taken = vec![first];
        let mut error = None;
        while let Some(Some(further)) = changes.next().now_or_never() {
            match further {
                Ok(change) => taken.push(change),
                Err(broken) => {
                    error = Some(broken);
                    break;
                }
            }
        }
        let mut state = self.lock();
        let Some(region) = state.regions.get_mut(prefix) else { return Ok(()) };
        let changed: Vec<_> = taken.into_iter().filter_map(|change| region.change(change)).collect();
        drop(state);
        self.tell(changed);
        error.map_or(Ok(()), Err)
    }

    /// Notes that a prefix is not heard. The first of many that break off together is said.
    fn note_away(&self, prefix: &str, error: &StoreError) {
        let mut state = self.lock();
        let is_first = state.regions.values().all(|region| region.away_since.is_none());
        if let Some(region) = state.regions.get_mut(prefix) {
            region.away_since.get_or_insert_with(Instant::now);
        }
        drop(state);
        self.tell([]);
        if is_first {
            tracing::warn!(error = %error, "the store's changes broke off");
        }
    }

    fn note_heard(&self, prefix: &str) {
        if let Some(region) = self.lock().regions.get_mut(prefix) {
            region.away_since = None;
        }
    }
}

/// Says for as long as it lives that the mirror is kept.
struct Kept<'a>(&'a Mirror);

impl<'a> Kept<'a> {
    fn begin(mirror: &'a Mirror) -> Self {
        mirror.lock().is_kept = true;
        Self(mirror)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_kept = false;
        state.regions.clear();
    }
}
