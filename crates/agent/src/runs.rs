//! Which tracks some node runs, live or not: whose a notification is, and whom a person may speak of.

use std::collections::BTreeSet;

use deployer_core::availability::Run;
use deployer_core::image::Track;
use deployer_core::store::{Compare, Entry, Txn};
use deployer_store::StoreError;

use crate::world::World;

/// Whether some node runs a track. What runs here is known; of what does not the store is asked each time, since one that
/// has begun to run elsewhere a moment ago must not lose its first notification. The answer is one bit, however many run it.
///
/// # Errors
/// [`StoreError`] if the store has to be asked and does not answer.
pub async fn is_run(world: &World, track: &Track) -> Result<bool, StoreError> {
    if world.registered.borrow().as_ref().is_some_and(|concern| concern.contains(track)) {
        return Ok(true);
    }
    let none = Txn::new().when(Compare::NoneNewer(world.keys.runs(track), 0));
    Ok(!world.store.txn(none).await?.succeeded)
}

/// The services that a track's instances belong to, on whichever node.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn services(world: &World, track: &Track) -> Result<BTreeSet<String>, StoreError> {
    let (entries, _) = world.store.list(&world.keys.runs(track)).await?;
    // Whoever wrote what makes no sense says it anew after its next start.
    let runs = entries.iter().filter_map(|entry| serde_json::from_slice::<Run>(&entry.value).ok());
    Ok(runs.flat_map(|run| run.services).collect())
}

/// The tracks of which some node runs an instance of one of these services.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn tracks_of(world: &World, services: &BTreeSet<String>) -> Result<BTreeSet<Track>, StoreError> {
    let (entries, _) = world.store.list(&world.keys.all_runs()).await?;
    let is_of_them = |entry: &&Entry| {
        let run = serde_json::from_slice::<Run>(&entry.value).unwrap_or_default();
        !run.services.is_disjoint(services)
    };
    Ok(entries.iter().filter(is_of_them).filter_map(|entry| world.keys.run_track(&entry.key)).collect())
}

/// All tracks that some node runs, for a person who named another one.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn tracks(world: &World) -> Result<BTreeSet<Track>, StoreError> {
    let (entries, _) = world.store.list(&world.keys.all_runs()).await?;
    Ok(entries.iter().filter_map(|entry| world.keys.run_track(&entry.key)).collect())
}
