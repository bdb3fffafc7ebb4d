//! Containers whose replacement could not begin for a reason that may pass, and when each is tried again.
//!
//! They rest outside of the stage's jobs, whose number is limited, for ever longer: what the engine could not answer it
//! may have worked hard for.

use deployer_core::backoff::Backoff;
use tokio::time::Instant;

use super::prefetch::PrefetchError;
use crate::world::{Retry, World};

/// Begins anew. Gives back the failures in a row so far.
pub fn take(world: &World, container: &str) -> u32 {
    world.memory().unready.remove(container).map_or(0, |retry| retry.failures)
}

/// Notes that there were so many failures in a row.
pub fn note(world: &World, container: &str, error: &PrefetchError, failures: u32) {
    let wait = Backoff::REGISTRY.wait(failures, world.ambient.random());
    let reason = format!("waiting for the engine: {error}; trying again in {} s", wait.as_secs());
    tracing::warn!(container, "{reason}");
    let retry = Retry { failures, due: Instant::now() + wait, reason, is_hopeless: false, since: 0 };
    world.memory().unready.insert(container.to_owned(), retry);
}

/// Whether the container is not to be tried yet. What is owed to it waits for no further replacement.
pub fn rests(world: &World, container: &str, now: Instant) -> bool {
    let memory = world.memory();
    !memory.owed.is_due(container, now) && memory.unready.get(container).is_some_and(|retry| retry.due > now)
}

/// The containers that have come due between two moments.
pub fn due(world: &World, seen: Instant, now: Instant) -> Vec<String> {
    let memory = world.memory();
    let due = memory.unready.iter().filter(|(_, retry)| retry.due > seen && retry.due <= now);
    due.map(|(container, _)| container.clone()).collect()
}

/// Waits until the next one is due.
pub async fn next(world: &World, now: Instant) {
    let next = world.memory().unready.values().map(|retry| retry.due).filter(|due| *due > now).min();
    match next {
        Some(next) => tokio::time::sleep_until(next).await,
        None => std::future::pending().await,
    }
}

/// What is said of a container when its job has ended.
pub fn say(world: &World, container: &str) {
    let mut memory = world.memory();
    match memory.unready.get(container).map(|retry| retry.reason.clone()) {
        Some(reason) => drop(memory.replacing.insert(container.to_owned(), reason)),
        None => drop(memory.replacing.remove(container)),
    }
}
