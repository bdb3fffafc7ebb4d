//! Keeps the mirror true: lists what is followed, watches all of it on one stream from there, and lists it again after a gap
//! and now and then.

use std::sync::atomic::Ordering;
use std::time::Duration;

use deployer_core::backoff::Backoff;
use deployer_core::store::{Change, Range, Revision};
use futures_util::FutureExt as _;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::time::{Instant, sleep};

use super::Mirror;
use super::region::Begun;
use crate::store::{StoreError, TXN_OPERATIONS_MAX};

/// How often everything is listed anew even if no change was missed, against a watch that says nothing and is believed.
const LIST_AGAIN: Duration = Duration::from_secs(600);

/// So much longer at random, in percent, that nodes which began together do not go on together.
const LIST_AGAIN_JITTER: u64 = 20;

impl Mirror {
    /// Keeps what is followed true until it is dropped; from then on everything is read from the store again.
    pub async fn keep(&self) {
        let _kept = Kept::begin(self);
        let mut failures = 0;
        let mut list_again = self.next_list();
        loop {
            let Err(error) = self.list_and_watch(&mut failures, &mut list_again).await else { continue };
            failures += 1;
            self.breaks.fetch_add(1, Ordering::Relaxed);
            // What has changed since nobody knows.
            self.lock().regions.values_mut().for_each(|region| region.is_due = true);
            if !matches!(error, StoreError::Compacted(_)) {
                self.note_away(&error);
            }
            sleep(Backoff::CONNECTION.wait(failures, self.ambient.random())).await;
        }
    }

    fn next_list(&self) -> Instant {
        let jitter = LIST_AGAIN * (self.ambient.random() % (LIST_AGAIN_JITTER + 1)) as u32 / 100;
        Instant::now() + LIST_AGAIN + jitter
    }

    /// Ends when more is followed, after a gap, and when it is time for the next list.
    async fn list_and_watch(&self, failures: &mut u32, list_again: &mut Instant) -> Result<(), StoreError> {
        if *list_again <= Instant::now() {
            *list_again = self.next_list();
            self.lock().regions.values_mut().for_each(|region| region.is_due = true);
        }
        self.list_what_is_due().await?;
        let watched = self.outermost();
        if watched.is_empty() {
            self.grown.notified().await;
            return Ok(());
        }
        let mut changes = self.store.watch_all(&watched).await?;
        *failures = 0;
        self.lock().regions.values_mut().for_each(|region| region.away_since = None);
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(*list_again) => return Ok(()),
                change = changes.next() => match change {
                    Some(change) => self.take_changes(change?, &mut changes)?,
                    None => return Err(StoreError::Away("the watch ended".to_owned())),
                },
                () = self.grown.notified() => return Ok(()),
            }
        }
    }

    async fn list_what_is_due(&self) -> Result<(), StoreError> {
        let due: Vec<(String, Begun)> = {
            let state = self.lock();
            let due = state.regions.iter().filter(|(_, region)| region.is_due);
            due.map(|(prefix, region)| (prefix.clone(), region.begin())).collect()
        };
        for some in due.chunks(TXN_OPERATIONS_MAX) {
            let ranges: Vec<Range> = some.iter().map(|(prefix, _)| Range::All(prefix.clone())).collect();
            let (listed, revision) = self.store.ranges(&ranges).await?;
            for ((prefix, begun), listed) in some.iter().zip(listed) {
                self.take_list(prefix, *begun, listed.entries, revision);
            }
        }
        Ok(())
    }

    /// The prefixes that do not lie in another one, each with the revision from which all that lies in it is watched. So each
    /// change comes once, and those of every region in order.
    fn outermost(&self) -> Vec<(String, Revision)> {
        let mut outermost: Vec<(String, Revision)> = Vec::new();
        for (prefix, region) in &self.lock().regions {
            // One that came in a moment ago is listed first.
            let Some(revision) = region.revision() else { continue };
            match outermost.last_mut().filter(|(outer, _)| prefix.starts_with(outer.as_str())) {
                Some((_, after)) => *after = revision.min(*after),
                None => outermost.push((prefix.clone(), revision)),
            }
        }
        outermost
    }

    /// Takes a change together with those that are here already, so that no reader sees half of a transaction.
    fn take_changes(
        &self,
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
        let mut changed = Vec::new();
        for change in taken {
            let key = change.key().to_owned();
            // Regions that overlap tell of it once.
            let told: Vec<_> = state.of_key(&key).filter_map(|region| region.change(change.clone())).collect();
            changed.extend(told.into_iter().next());
        }
        drop(state);
        self.tell(changed);
        error.map_or(Ok(()), Err)
    }

    /// Notes that nothing is heard. The first time is said.
    fn note_away(&self, error: &StoreError) {
        let mut state = self.lock();
        let is_first = state.regions.values().all(|region| region.away_since.is_none());
        for region in state.regions.values_mut() {
            region.away_since.get_or_insert_with(Instant::now);
        }
        drop(state);
        self.tell([]);
        if is_first {
            tracing::warn!(error = %error, "the store's changes broke off");
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
