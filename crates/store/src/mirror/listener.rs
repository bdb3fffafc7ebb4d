//! Changes, told to whoever listens.

use std::sync::Arc;

use deployer_core::backoff::Backoff;
use deployer_core::store::Revision;
use futures_util::stream::StreamExt;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::sleep;

use super::{Changed, Mirror};
use crate::store::StoreError;

/// One who listens. What it is told of can be read from the mirror by then.
pub struct Listener {
    mirror: Arc<Mirror>,
    changes: broadcast::Receiver<Changed>,
}

impl Listener {
    pub(super) fn new(mirror: Arc<Mirror>, changes: broadcast::Receiver<Changed>) -> Self {
        Self { mirror, changes }
    }

    /// The next change of what the mirror holds.
    pub async fn next(&mut self) -> Changed {
        match self.changes.recv().await {
            Ok(changed) => changed,
            Err(RecvError::Lagged(_)) => Changed::Anything,
            // The mirror that this listener holds keeps the channel open.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Waits for a change below one of these prefixes. Of what the mirror holds every change since this listener came is
    /// heard; the rest has a watch of its own for as long as this waits, from a revision on.
    pub async fn hear(&mut self, prefixes: &[String], after: Revision) {
        let (held, others): (Vec<&String>, Vec<&String>) = prefixes.iter().partition(|prefix| self.holds(prefix));
        let mirror = Arc::clone(&self.mirror);
        let others: Vec<(String, Revision)> = others.into_iter().map(|prefix| (prefix.clone(), after)).collect();
        tokio::select! {
            biased;
            () = self.hear_held(&held) => {}
            () = changed(&mirror, &others), if !others.is_empty() => {}
        }
    }

    fn holds(&self, prefix: &str) -> bool {
        self.mirror.lock().holding(prefix).is_some()
    }

    async fn hear_held(&mut self, prefixes: &[&String]) {
        loop {
            match self.next().await {
                Changed::Anything => return,
                Changed::Put(key) | Changed::Deleted(key) => {
                    if prefixes.iter().any(|prefix| key.starts_with(prefix.as_str())) {
                        return;
                    }
                }
            }
        }
    }
}

/// Waits until something below one of these prefixes changes, or may have. A watch that breaks off is taken up again where it
/// began: what a slot's end tells may have come in just then, and whoever waits would look again only minutes later.
async fn changed(mirror: &Mirror, prefixes: &[(String, Revision)]) {
    let mut failures = 0;
    loop {
        let told = match mirror.store.watch_all(prefixes).await {
            Ok(mut changes) => changes.next().await.unwrap_or_else(|| Err(StoreError::Away(String::new()))).map(drop),
            Err(error) => Err(error),
        };
        let Err(StoreError::Away(_) | StoreError::Broken(_) | StoreError::LeaseGone) = told else { return };
        failures += 1;
        sleep(Backoff::CONNECTION.wait(failures, mirror.ambient.random())).await;
    }
}
