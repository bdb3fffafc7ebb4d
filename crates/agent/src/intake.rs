//! From notices to `pending` in the store, many in one write.
//!
//! A request is answered only after a write that began when its notices were in hand, so a notification that got
//! its 202 survives a crash right after. While one write is on its way to the disk, the next batch gathers. Only what some
//! node runs is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deployer_core::image::Track;
use deployer_core::record::Pending;
use deployer_core::store::Txn;
use deployer_store::{StoreError, TXN_OPERATIONS_MAX};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::runs;
use crate::world::World;

/// Requests that wait for the next write. Beyond it a sender waits for a place.
const WAITING_MAX: usize = 4096;

/// Images of hooks that nobody runs and that are named in the log; further ones are passed over in silence.
const STRANGE_MAX: usize = 100;

/// Tracks of which it is asked at once whether some node runs them. The others of a batch wait.
const QUESTIONS_MAX: usize = 8;

/// Notices of one request, and where to say which of their tracks some node runs, once these are durable. Dropped without a
/// word, they are not, and their sender should come back.
pub type Waiting = (Vec<(Track, Pending)>, oneshot::Sender<BTreeSet<Track>>);

/// The one that writes.
pub struct Intake {
    world: Arc<World>,
    queue: mpsc::Receiver<Waiting>,
    /// What was named that no node runs, and stands in the log.
    strange: BTreeSet<Track>,
}

impl Intake {
    /// It, and the way to it.
    pub fn new(world: Arc<World>) -> (mpsc::Sender<Waiting>, Self) {
        let (sender, queue) = mpsc::channel(WAITING_MAX);
        (sender, Self { world, queue, strange: BTreeSet::new() })
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
                    self.take(std::mem::take(&mut batch)).await;
                }
            }
        }
    }

    async fn take(&mut self, batch: Vec<Waiting>) {
        let written = async {
            let ours = self.ours(&batch).await?;
            self.write(&batch, &ours).await?;
            Ok::<_, StoreError>(ours)
        };
        match written.await {
            Ok(ours) => batch.into_iter().for_each(|(named, answer)| {
                named.iter().filter(|(track, _)| !ours.contains(track)).for_each(|(track, _)| self.name_strange(track));
                let of_request = named.into_iter().map(|(track, _)| track).filter(|track| ours.contains(track));
                // A sender that has gone away gets no answer.
                let _ = answer.send(of_request.collect());
            }),
            Err(error) => {
                tracing::warn!(error = %error, hooks = batch.len(), "hooks were refused; their senders should come back");
            }
        }
    }

    /// Says once that nobody runs what a hook named: a registry may go by another name in hooks than in containers.
    fn name_strange(&mut self, track: &Track) {
        if self.strange.len() < STRANGE_MAX && self.strange.insert(track.clone()) {
            let image = track.to_string();
            tracing::info!(image, "a hook names it, and no container runs it under this name (see registry_host)");
        }
    }

    /// The tracks of a batch that some node runs.
    async fn ours(&self, batch: &[Waiting]) -> Result<BTreeSet<Track>, StoreError> {
        let named: BTreeSet<Track> =
            batch.iter().flat_map(|(named, _)| named).map(|(track, _)| track.clone()).collect();
        let world = &self.world;
        let ask = async |track: Track| Ok(runs::is_run(world, &track).await?.then_some(track));
        let asked = stream::iter(named).map(ask).buffer_unordered(QUESTIONS_MAX);
        asked.try_filter_map(async |track| Ok(track)).try_collect().await
    }

    /// Writes each track's last notice anew, so that its revision grows even if its value stays: a resolve that
    /// began before must not drop this one.
    async fn write(&self, batch: &[Waiting], ours: &BTreeSet<Track>) -> Result<(), StoreError> {
        let now = self.world.ambient.now();
        let mut latest: BTreeMap<&Track, Pending> = BTreeMap::new();
        for (track, pending) in batch.iter().flat_map(|(named, _)| named).filter(|(track, _)| ours.contains(track)) {
            latest.insert(track, Pending { at: now, ..pending.clone() });
        }
        let latest: Vec<(&Track, Pending)> = latest.into_iter().collect();
        {
            let mut memory = self.world.memory();
            latest.iter().for_each(|(track, _)| memory.asking.come_in(track));
        }
        for some in latest.chunks(TXN_OPERATIONS_MAX) {
            let keys = &self.world.keys;
            let txn = some.iter().fold(Txn::new(), |txn, (track, pending)| txn.put(keys.pending(track), pending));
            self.world.store.txn(txn).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::concern::Concern;
    use crate::fixture::{fixture, track};

    fn numbered(number: usize) -> Track {
        Track::parse(&format!("registry.test/web:{number}")).expect("a track")
    }

    /// What becomes of a request that names tracks.
    async fn take(world: &Arc<World>, named: impl Iterator<Item = Track>) -> Option<usize> {
        let (_, mut intake) = Intake::new(Arc::clone(world));
        let (answer, answered) = oneshot::channel();
        let named = named.map(|track| (track, Pending { digest: None, at: 0 })).collect();
        intake.take(vec![(named, answer)]).await;
        answered.await.ok().map(|ours| ours.len())
    }

    #[tokio::test]
    async fn what_any_node_runs_is_taken_and_nothing_else() {
        let fixture = fixture().await;
        let world = &fixture.world;
        let is_pending = async || world.store.get(&world.keys.pending(&track())).await.expect("read").is_some();
        assert_eq!(take(world, [track()].into_iter()).await, Some(0));
        assert!(!is_pending().await, "nobody runs it");
        // Told by the node a moment later; what was answered before is not remembered.
        let run = Txn::new().put(world.keys.run(&track(), "gone"), &serde_json::json!({"services": []}));
        world.store.txn(run).await.expect("stored");
        assert_eq!(take(world, [track(), numbered(7)].into_iter()).await, Some(1));
        assert!(is_pending().await);
        world.store.txn(Txn::new().delete(world.keys.run(&track(), "gone"))).await.expect("withdrawn");
        assert_eq!(take(world, [track()].into_iter()).await, Some(0));
        world.follow([(track(), "web".to_owned())].into_iter().collect::<Concern>());
        assert_eq!(take(world, [track()].into_iter()).await, Some(1), "it runs here");
    }

    #[tokio::test]
    async fn versions_b10_a_batch_of_more_tracks_than_a_transaction_takes_is_taken() {
        let fixture = fixture().await;
        let all = 0..2 * TXN_OPERATIONS_MAX + 1;
        fixture.world.follow(all.clone().map(|number| (numbered(number), "web".to_owned())).collect());
        assert_eq!(take(&fixture.world, all.clone().map(numbered)).await, Some(all.len()));
    }

    /// Case PB22: the registry went by another name in its notifications, and nothing said so.
    #[tokio::test]
    async fn case_pb22_what_nobody_runs_is_named_once_and_no_more_than_so_many() {
        let fixture = fixture().await;
        let (_, mut intake) = Intake::new(Arc::clone(&fixture.world));
        for _ in 0..2 {
            for number in 0..2 * STRANGE_MAX {
                let named = vec![(numbered(number), Pending { digest: None, at: 0 })];
                intake.take(vec![(named, oneshot::channel().0)]).await;
            }
        }
        assert_eq!(intake.strange.len(), STRANGE_MAX);
        assert!(intake.strange.contains(&numbered(0)));
    }
}
