//! Changes of what the store mirror holds as wakes: of the tracks and services of this node, and of the pause.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deployer_core::image::Track;
use deployer_store::mirror::Changed;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::look::Wake;
use crate::world::World;

/// The longest that a node waits with what any of them may ask the registry about: a notification that came in on another
/// one, which asks meanwhile, or a check that is due. It waits some of it, by chance: else all would try for the one turn to
/// ask at the same moment. Once another has the
/// turn there is nothing to try for until it ends. Long enough that a thousand nodes hear of that before most of them try;
/// what is lost by it is lost only where the node that took the notification cannot ask.
const AFTER_OTHERS: Duration = Duration::from_secs(1);

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
        let mut changes = self.world.mirror.listen();
        let mut later: BTreeMap<Track, Instant> = BTreeMap::new();
        loop {
            let due = later.values().min().copied();
            let changed = tokio::select! {
                biased;
                changed = changes.next() => changed,
                () = reached(due) => {
                    let now = Instant::now();
                    let (due, rest): (BTreeMap<_, _>, _) = later.into_iter().partition(|(_, due)| *due <= now);
                    later = rest;
                    for track in due.into_keys() {
                        let _ = self.wakes.send(Wake::Track(track)).await;
                    }
                    continue;
                }
                () = self.wakes.closed() => return,
            };
            if let Some(track) = self.turn_taken(&changed) {
                later.remove(&track);
            }
            let concern = self.world.registered.borrow().clone();
            for wake in concern.iter().flat_map(|concern| concern.wakes(&self.world.keys, &changed)) {
                match wake {
                    Wake::Track(track) if self.is_for_anybody(&changed, &track) => {
                        let random = self.world.ambient.random() % AFTER_OTHERS.as_millis() as u64;
                        later.entry(track).or_insert_with(|| Instant::now() + Duration::from_millis(random));
                    }
                    // Whoever is gone needs no wake.
                    wake => drop(self.wakes.send(wake).await),
                }
            }
        }
    }

    /// The track about which somebody asks the registry from now on. The end of that turn is a wake of its own.
    fn turn_taken(&self, changed: &Changed) -> Option<Track> {
        let Changed::Put(key) = changed else { return None };
        let (track, fact) = self.world.keys.track_of(key)?;
        (fact == "resolver").then_some(track)
    }

    /// Whether a change is one after which any node may ask the registry: a notification that another one has taken, or the
    /// end of the mark that keeps all from a check.
    fn is_for_anybody(&self, changed: &Changed, track: &Track) -> bool {
        let keys = &self.world.keys;
        match changed {
            Changed::Put(key) => **key == *keys.pending(track) && !self.world.memory().asking.has_come_in(track),
            Changed::Deleted(key) => **key == *keys.checked(track),
            Changed::Anything => false,
        }
    }
}

async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use deployer_core::record::Pending;
    use deployer_core::store::Txn;

    use super::*;
    use crate::fixture::{fixture, track};

    /// The wakes of a node that runs the track, while something happens in the store.
    async fn heard(happening: impl AsyncFnOnce(&World, mpsc::Receiver<Wake>)) {
        let fixture = fixture().await;
        let world = &fixture.world;
        world.follow([(track(), "web".to_owned())].into_iter().collect());
        let (sender, wakes) = mpsc::channel(8);
        let watch = StoreWatch { world: Arc::clone(world), wakes: sender };
        let happening = async {
            world.mirror.list(&world.keys.image(&track())).await.expect("followed");
            happening(world, wakes).await;
        };
        tokio::select! {
            () = happening => {}
            () = world.mirror.keep() => {}
            () = watch.run() => {}
        }
    }

    async fn store(world: &World, txn: Txn) {
        world.store.txn(txn).await.expect("stored");
    }

    fn notified(world: &World) -> Txn {
        Txn::new().put(world.keys.pending(&track()), &Pending { digest: None, at: 0 })
    }

    /// A thousand nodes tried for the turn at one moment, and all but one in vain.
    #[tokio::test(start_paused = true)]
    async fn a_notification_is_looked_at_first_where_it_came_in() {
        heard(async |world, mut wakes| {
            let mut notify = async || {
                let begun = Instant::now();
                store(world, notified(world)).await;
                assert_eq!(wakes.recv().await, Some(Wake::Track(track())));
                begun.elapsed()
            };
            world.memory().asking.come_in(&track());
            assert_eq!(notify().await, Duration::ZERO, "it came in here");
            let elsewhere = notify().await;
            assert!(elsewhere > Duration::ZERO && elsewhere <= AFTER_OTHERS, "{elsewhere:?}");
        })
        .await;
    }

    /// A thousand nodes looked, to find that another one asks.
    #[tokio::test(start_paused = true)]
    async fn a_notification_that_another_node_asks_about_is_not_looked_at_until_that_turn_ends() {
        heard(async |world, mut wakes| {
            store(world, notified(world)).await;
            store(world, Txn::new().put(world.keys.resolver(&track()), &"another")).await;
            let early = tokio::time::timeout(2 * AFTER_OTHERS, wakes.recv()).await;
            assert!(early.is_err(), "{early:?}");
            store(world, Txn::new().delete(world.keys.resolver(&track()))).await;
            assert_eq!(wakes.recv().await, Some(Wake::Track(track())));
        })
        .await;
    }
}
