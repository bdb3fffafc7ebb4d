//! Containers whose replacement could not begin for a reason that may pass, and when each is tried again.
//!
//! They rest outside of the stage's jobs, whose number is limited, for ever longer: what the engine could not answer it
//! may have worked hard for.

use deployer_core::backoff::Backoff;
use tokio::time::Instant;

use super::prefetch::PrefetchError;
use crate::world::World;

/// Notes that there were so many failures in a row.
pub fn note(world: &World, container: &str, error: &PrefetchError, failures: u32) {
    let wait = Backoff::REGISTRY.wait(failures, world.ambient.random());
    let reason = format!("waiting for the engine: {error}; trying again in {} s", wait.as_secs());
    tracing::warn!(container, "{reason}");
    world.memory().replacing.put_off(container, reason, failures, wait);
}

/// Whether the container is not to be tried yet. What is owed to it waits for no further replacement.
pub fn rests(world: &World, container: &str, now: Instant) -> bool {
    let memory = world.memory();
    !memory.owed.is_due(container, now) && memory.replacing.rests(container, now)
}

/// Waits until the next one is due.
pub async fn next(world: &World, now: Instant) {
    let next = world.memory().replacing.dues().filter(|due| *due > now).min();
    match next {
        Some(next) => tokio::time::sleep_until(next).await,
        None => std::future::pending().await,
    }
}
