//! On what everything hangs that is said in this node's name: the revision of its sign.
//!
//! A store may get to a writing that was not answered long after everybody has given it up, and would put back what was said
//! since. So after one the sign is written anew before anything else is said.

use deployer_core::store::{Compare, LeaseId, Revision, Txn};
use deployer_store::StoreError;
use serde_json::Value;

use crate::world::World;

/// Makes sure that nothing is written any more that was to be written before. Gives the lease, and the revision of the sign
/// on which everything hangs from now on, if this node is registered.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn be_certain(world: &World) -> Result<Option<(LeaseId, Revision)>, StoreError> {
    // One at a time: of two answers the older may come last.
    let _signing = world.signing.lock().await;
    let (before, arisen) = (world.presence.borrow().lease, world.memory().doubt.arisen());
    let Some((lease, sign)) = before else {
        // Whoever registers anew writes the sign anew.
        world.memory().doubt.settle(arisen);
        return Ok(None);
    };
    if !world.memory().doubt.is_left() {
        return Ok(Some((lease, sign)));
    }
    let key = world.keys.node(&world.settings.node);
    let Some(entry) = world.store.get(&key).await? else { return Ok(None) };
    let Ok(own) = serde_json::from_slice::<Value>(&entry.value) else { return Ok(None) };
    // The revision is what the store shows: of this very writing, too, one may not be told.
    let seen = Compare::ModRevision(key.clone(), entry.mod_revision);
    if own.get("lease").and_then(Value::as_i64) != Some(lease.0) {
        return Ok(None);
    }
    let outcome = world.store.txn(Txn::new().when(seen).put_leased(key, &own, lease)).await?;
    if !outcome.succeeded {
        return Ok(None);
    }
    world.memory().doubt.settle(arisen);
    let now = Some((lease, outcome.revision));
    // Whoever has registered anew meanwhile has written a sign of its own.
    let is_same = world.presence.send_if_modified(|presence| {
        let is_same = presence.lease == before;
        if is_same {
            presence.lease = now;
        }
        is_same
    });
    Ok(now.filter(|_| is_same))
}

/// Asks the store whether this node's sign has the revision that is known here, after something that hangs on it was refused.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn ask(world: &World) -> Result<(), StoreError> {
    let stands = world.store.get(&world.keys.node(&world.settings.node)).await?.map(|entry| entry.mod_revision);
    if world.presence.borrow().lease.is_some_and(|(_, sign)| stands != Some(sign)) {
        world.memory().doubt.arise();
    }
    Ok(())
}
