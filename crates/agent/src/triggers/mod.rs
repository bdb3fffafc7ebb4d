//! Outside events turned into wakes. A wake says "look", never "do".

mod engine_events;
pub mod settling;
mod store_watch;

use std::time::Duration;

use tokio::sync::mpsc;

pub use engine_events::EngineEvents;
pub use store_watch::StoreWatch;

use crate::look::Wake;

/// Wakes everything once a period: what every lost event is healed by.
pub async fn timer(period: Duration, wakes: mpsc::Sender<Wake>) {
    loop {
        tokio::time::sleep(period).await;
        if wakes.send(Wake::All).await.is_err() {
            return;
        }
    }
}
