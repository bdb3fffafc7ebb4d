//! From notices to `pending` in the store, many in one write.
//!
//! A request is answered only after a write that began when its notices were in hand, so a notification that got
//! its 202 survives a crash right after. While one write is on its way to the disk, the next batch gathers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deployer_core::image::Track;
use deployer_core::record::Pending;
use deployer_core::store::Txn;
use deployer_core::webhook::Notice;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::presence::Presence;
use crate::store::StoreError;
use crate::world::World;

/// Requests that wait for the next write. Beyond it a sender waits for a place.
const WAITING_MAX: usize = 4096;

/// The way in, shared by all requests.
#[derive(Clone)]
pub struct Sink {
    queue: mpsc::Sender<Waiting>,
    registered: watch::Receiver<Option<BTreeSet<Track>>>,
    presence: watch::Receiver<Presence>,
}

struct Waiting {
    ours: Vec<(Track, Pending)>,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// What became of a request's notices.
pub struct Accepted {
    /// Written.
    pub ours: Vec<String>,
    /// Nobody runs these: nothing was stored.
    pub others: usize,
}

/// The notices cannot be made durable now; the sender should come back.
pub struct Refused;

impl Sink {
    /// Why hooks cannot be taken now, if so, in fixed words: anybody may ask, and the store's own words name addresses,
    /// keys and nodes.
    pub fn trouble(&self) -> Option<&'static str> {
        let presence = self.presence.borrow();
        match (&presence.trouble, presence.lease) {
            (Some(_), None) => Some("this node is not registered in the store"),
            (Some(_), Some(_)) => Some("the store does not answer"),
            (None, _) => self.registered.borrow().is_none().then_some("the engine or the store was not heard yet"),
        }
    }

    /// Makes the notices that concern this cluster durable.
    pub async fn take(&self, notices: Vec<Notice>) -> Result<Accepted, Refused> {
        let (ours, others) = self.sort(notices).ok_or(Refused)?;
        let names = ours.iter().map(|(track, _)| track.to_string()).collect();
        if !ours.is_empty() {
            let (answer, written) = oneshot::channel();
            self.queue.send(Waiting { ours, answer }).await.map_err(|_| Refused)?;
            written.await.map_err(|_| Refused)?.map_err(|_| Refused)?;
        }
        Ok(Accepted { ours: names, others })
    }

    fn sort(&self, notices: Vec<Notice>) -> Option<(Vec<(Track, Pending)>, usize)> {
        let registered = self.registered.borrow();
        let registered = registered.as_ref()?;
        let total = notices.len();
        let ours: Vec<(Track, Pending)> = notices
            .into_iter()
            .map(|notice| (Track::new(notice.name, notice.tag), Pending { digest: notice.digest, at: 0 }))
            .filter(|(track, _)| registered.contains(track))
            .collect();
        let others = total - ours.len();
        Some((ours, others))
    }
}

/// The one that writes.
pub struct Intake {
    world: Arc<World>,
    queue: mpsc::Receiver<Waiting>,
}

impl Intake {
    /// Both ends.
    pub fn new(world: Arc<World>) -> (Sink, Self) {
        let (sender, queue) = mpsc::channel(WAITING_MAX);
        let (registered, presence) = (world.registered.subscribe(), world.presence.subscribe());
        (Sink { queue: sender, registered, presence }, Self { world, queue })
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
        for (track, pending) in batch.iter().flat_map(|waiting| &waiting.ours) {
            latest.insert(track, Pending { at: now, ..pending.clone() });
        }
        let txn =
            latest.iter().fold(Txn::new(), |txn, (track, pending)| txn.put(self.world.keys.pending(track), pending));
        let outcome = self.world.store.txn(txn).await.map(drop);
        if let Err(error) = &outcome {
            tracing::warn!(error = %error, hooks = batch.len(), "hooks were refused; their senders should come back");
        }
        for waiting in batch {
            // A sender that has gone away gets no answer.
            let _ = waiting.answer.send(outcome.clone());
        }
    }
}
