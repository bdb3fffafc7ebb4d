//! From notices to `pending` in the store, many in one write.
//!
//! A request is answered only after a write that began when its notices were in hand, so a notification that got
//! its 202 survives a crash right after. While one write is on its way to the disk, the next batch gathers.

use std::collections::BTreeMap;
use std::sync::Arc;

use deployer_core::image::Track;
use deployer_core::record::Pending;
use deployer_core::store::Txn;
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
    /// began before must not drop this one.
    async fn write(&self, batch: Vec<Waiting>) {
        let now = self.world.ambient.now();
        let mut latest: BTreeMap<&Track, Pending> = BTreeMap::new();
        for (track, pending) in batch.iter().flat_map(|(ours, _)| ours) {
            latest.insert(track, Pending { at: now, ..pending.clone() });
        }
        let txn =
            latest.iter().fold(Txn::new(), |txn, (track, pending)| txn.put(self.world.keys.pending(track), pending));
        if let Err(error) = self.world.store.txn(txn).await {
            tracing::warn!(error = %error, hooks = batch.len(), "hooks were refused; their senders should come back");
            return;
        }
        for (_, answer) in batch {
            // A sender that has gone away gets no answer.
            let _ = answer.send(());
        }
    }
}
