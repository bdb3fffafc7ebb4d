//! The end of a node: its containers run on, and are not counted.

use deployer_core::availability::Instance;
use deployer_core::store::{Compare, Txn};
use deployer_store::{StoreError, TXN_OPERATIONS_MAX};

use super::unsaid;
use crate::sign::be_certain;
use crate::words::Said;
use crate::world::World;

/// How often it is tried.
const TRIES_MAX: u32 = 3;

/// Marks this node's instances as not to be counted.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn off(world: &World) -> Result<(), StoreError> {
    let own = own_instances(world).await?;
    let mut outcome = Ok(());
    for _ in 0..TRIES_MAX {
        outcome = say_off(world, &own).await;
        if outcome.is_ok() {
            break;
        }
        world.memory().doubt.arise();
    }
    outcome
}

async fn say_off(world: &World, own: &[(String, Instance)]) -> Result<(), StoreError> {
    let Some((_, sign)) = be_certain(world).await? else { return unsaid(world) };
    let sign = Compare::ModRevision(world.keys.node(&world.settings.node), sign);
    for some in own.chunks(TXN_OPERATIONS_MAX) {
        let txn = some.iter().fold(Txn::new().when(sign.clone()), |txn, (key, instance)| {
            txn.put(key.clone(), &Instance { off: true, ..instance.clone() })
        });
        if !world.store.txn(txn).await?.succeeded {
            return unsaid(world);
        }
    }
    Ok(())
}

/// This node's instances. Those that were not said anew yet stand in the store.
async fn own_instances(world: &World) -> Result<Vec<(String, Instance)>, StoreError> {
    let said = world.memory().speech.words();
    let mut own = Vec::new();
    for (key, said) in said.0.into_iter().filter(|(key, _)| key.starts_with(&world.keys.all_instances())) {
        let instance = match said {
            Said::UNKNOWN => world.store.get(&key).await?.and_then(|entry| serde_json::from_slice(&entry.value).ok()),
            Said::Lasting(value) | Said::Leased(value) => serde_json::from_value(value).ok(),
        };
        own.extend(instance.map(|instance| (key, instance)));
    }
    Ok(own)
}
