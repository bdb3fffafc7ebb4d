//! Word that something has changed, to all who wait for it, in the order in which they began to. Tokio's own `watch` wakes
//! its receivers in an order drawn by chance, and a seed of the simulated cluster would not make the same storm twice.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// How often something has changed.
#[derive(Default)]
pub struct News {
    count: AtomicU64,
    bell: Notify,
}

impl News {
    /// Tells that something has changed.
    pub fn tell(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bell.notify_waiters();
    }

    /// How much has been told.
    pub fn told(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until more has been told.
    pub async fn beyond(&self, told: u64) {
        loop {
            let rung = self.bell.notified();
            if self.told() != told {
                return;
            }
            rung.await;
        }
    }
}
