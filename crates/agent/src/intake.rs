//! From notices to `pending` in the store, many in one write.
//!
//! A request is answered only after a write that began when its notices were in hand, so a notification that got
//! its 202 survives a crash right after. While one write is on its way to the disk, the next batch gathers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deployer_core::image::Track;
use deployer_core::record::Pending;
use deployer_core::store::Txn;
use deployer_store::TXN_OPERATIONS_MAX;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// Requests that wait for the next write. Beyond it a sender waits for a place.
const WAITING_MAX: usize = 4096;

/// Notices of one request, and where to say that they are durable. Dropped without a word, they are not, and their sender
/// should come back.
pub type Waiting = (Vec<(Track, Pending)>, oneshot::Sender<()>);

/// The one that writes.
pub struct Intake {
    world: Arc<World>,
    queue: mpsc::Receiver<Waiting>,
}

impl Intake {
    /// It, and the way to it.
    pub fn new(world: Arc<World>) -> (mpsc::Sender<Waiting>, Self) {
        let (sender, queue) = mpsc::channel(WAITING_MAX);
        (sender, Self { world, queue })
    }

    /// Works until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                count = self.queue.recv_many(&mut batch, WAITING_MAX) => {
                    if count == 0 {
                        return;
                    }
                    self.write(std::mem::take(&mut batch)).await;
                }
            }
        }
    }

    /// Writes each track's last notice anew, so that its revision grows even if its value stays: a resolve that
    /// began before must not drop this one. As many transactions as it takes: a request is answered when all of its own
    /// were written.
    async fn write(&self, batch: Vec<Waiting>) {
        let now = self.world.ambient.now();
        let mut latest: BTreeMap<&Track, Pending> = BTreeMap::new();
        for (track, pending) in batch.iter().flat_map(|(ours, _)| ours) {
            latest.insert(track, Pending { at: now, ..pending.clone() });
        }
        let latest: Vec<(&Track, Pending)> = latest.into_iter().collect();
        let mut written: BTreeSet<Track> = BTreeSet::new();
        for some in latest.chunks(TXN_OPERATIONS_MAX) {
            let put = |txn: Txn, (track, pending): &(&Track, Pending)| txn.put(self.world.keys.pending(track), pending);
            match self.world.store.txn(some.iter().fold(Txn::new(), put)).await {
                Ok(_) => written.extend(some.iter().map(|(track, _)| (*track).clone())),
                Err(error) => tracing::warn!(error = %error, "hooks were refused; their senders should come back"),
            }
        }
        for (ours, answer) in batch {
            if ours.iter().all(|(track, _)| written.contains(track)) {
                // A sender that has gone away gets no answer.
                let _ = answer.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::fixture;

    #[tokio::test]
    async fn a_hook_that_speaks_of_more_tracks_than_a_transaction_holds_is_taken() {
        let fixture = fixture().await;
        let (queue, intake) = Intake::new(Arc::clone(&fixture.world));
        let track = |n| Track::parse(&format!("registry.test/web-{n}:1")).expect("a track");
        let notices: Vec<_> = (0..300).map(|n| (track(n), Pending { digest: None, at: 0 })).collect();
        let (answer, written) = oneshot::channel();
        queue.send((notices, answer)).await.expect("a place");
        drop(queue);
        intake.run(CancellationToken::new()).await;
        assert_eq!(written.await, Ok(()));
        let keys = &fixture.world.keys;
        let (entries, _) = fixture.world.store.list(&keys.images()).await.expect("listed");
        assert_eq!(entries.len(), 300);
    }
}
