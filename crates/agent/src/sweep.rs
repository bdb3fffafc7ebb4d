//! Once a day one node sweeps out what the store holds of what is no more.

use std::time::Duration;

use deployer_core::leftovers;
use deployer_core::store::{Compare, Txn};
use deployer_store::StoreError;
use tokio::time::Instant;

use crate::world::World;

/// The time between two sweeps of a cluster: the lease of the mark that the last one left.
const PERIOD: Duration = Duration::from_secs(24 * 3600);
/// The time between two looks of a node whether it is time.
const LOOK: Duration = Duration::from_secs(3600);

/// Sweeps if it is time and no other node does.
///
/// # Errors
/// [`StoreError`] if the store does not answer; what is left goes with a later sweep.
pub async fn sweep_if_due(world: &World) -> Result<(), StoreError> {
    let now = Instant::now();
    if !world.memory().looks.begin_sweep(now, LOOK) {
        return Ok(());
    }
    let key = world.keys.swept();
    if world.store.get(&key).await?.is_some() {
        return Ok(());
    }
    let lease = world.store.grant(PERIOD).await?;
    let txn = Txn::new().when(Compare::ModRevision(key.clone(), 0)).put_leased(key, &world.settings.node, lease);
    if !world.store.txn(txn).await?.succeeded {
        return world.store.revoke(lease).await;
    }
    sweep(world).await
}

async fn sweep(world: &World) -> Result<(), StoreError> {
    let (keys, store) = (&world.keys, &world.store);
    // Instances first: one that is registered after this makes a removal fail.
    let instances = store.list(&keys.all_instances()).await?;
    let (verdicts, images, locks) = (keys.all_verdicts(), keys.images(), keys.locks());
    // Verdicts before the records that may know their digests.
    let verdicts = store.list(&verdicts).await?;
    let (images, locks) = tokio::try_join!(store.list(&images), store.list(&locks))?;
    let found = leftovers::Store {
        instances: (&instances.0, instances.1),
        images: (&images.0, images.1),
        verdicts: &verdicts.0,
        locks: &locks.0,
    };
    for txn in leftovers::sweep(keys, &found) {
        store.txn(txn).await?;
    }
    Ok(())
}
