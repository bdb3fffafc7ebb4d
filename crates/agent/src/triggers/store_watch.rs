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

/// The longest that a node waits with a notification that came in on another one, which asks the registry meanwhile. It
/// waits some of it, by chance: else all nodes would try for the one turn to ask at the same moment.
const AFTER_OTHERS: Duration = Duration::from_millis(200);

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
            let concern = self.world.registered.borrow().clone();
            for wake in concern.iter().flat_map(|concern| concern.wakes(&self.world.keys, &changed)) {
                match wake {
                    Wake::Track(track) if self.came_in_elsewhere(&changed, &track) => {
                        let random = self.world.ambient.random() % AFTER_OTHERS.as_millis() as u64;
                        later.entry(track).or_insert_with(|| Instant::now() + Duration::from_millis(random));
                    }
                    // Whoever is gone needs no wake.
                    wake => drop(self.wakes.send(wake).await),
                }
            }
        }
    }

    /// Whether a change is a notification that another node has taken.
    fn came_in_elsewhere(&self, changed: &Changed, track: &Track) -> bool {
        let pending = self.world.keys.pending(track);
        let is_notification = matches!(changed, Changed::Put(key) if **key == *pending);
        is_notification && !self.world.memory().asking.has_come_in(track)
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
    use crate::stand_in::{fixture, track};

    /// A thousand nodes tried for the turn at one moment, and all but one in vain.
    #[tokio::test(start_paused = true)]
    async fn a_notification_is_looked_at_first_where_it_came_in() {
        let fixture = fixture().await;
        let world = &fixture.world;
        world.follow([(track(), "web".to_owned())].into_iter().collect());
        let (sender, mut wakes) = mpsc::channel(8);
        let watch = StoreWatch { world: Arc::clone(world), wakes: sender };
        let pending = Pending { digest: None, at: 0 };
        let notify = async || {
            let begun = Instant::now();
            let txn = Txn::new().put(world.keys.pending(&track()), &pending);
            world.store.txn(txn).await.expect("stored");
            assert_eq!(wakes.recv().await, Some(Wake::Track(track())));
            begun.elapsed()
        };
        let notifications = async {
            world.mirror.list(&world.keys.image(&track())).await.expect("followed");
            let mut notify = notify;
            world.memory().asking.come_in(&track());
            assert_eq!(notify().await, Duration::ZERO, "it came in here");
            let elsewhere = notify().await;
            assert!(elsewhere > Duration::ZERO && elsewhere <= AFTER_OTHERS, "{elsewhere:?}");
        };
        tokio::select! {
            () = notifications => {}
            () = world.mirror.keep() => {}
            () = watch.run() => {}
        }
    }
}
