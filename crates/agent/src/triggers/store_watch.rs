//! Changes of what the store mirror holds as wakes: of the tracks and services of this node, and of the pause.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::look::Wake;
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
        let mut changes = self.world.mirror.listen();
        loop {
            let changed = tokio::select! {
                biased;
                changed = changes.next() => changed,
                () = self.wakes.closed() => return,
            };
            let concern = self.world.registered.borrow().clone();
            for wake in concern.iter().flat_map(|concern| concern.wakes(&self.world.keys, &changed)) {
                // Whoever is gone needs no wake.
                let _ = self.wakes.send(wake).await;
            }
        }
    }
}
