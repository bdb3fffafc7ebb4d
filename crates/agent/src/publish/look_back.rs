//! Whether what was said still stands. A store that was restored from a snapshot has forgotten what was said since, and
//! shows what was withdrawn since.

use std::collections::{BTreeMap, BTreeSet};

use deployer_core::store::Range;
use deployer_store::{StoreError, TXN_OPERATIONS_MAX};
use serde_json::Value;

use super::index;
use crate::speech::Speech;
use crate::words::Said;
use crate::world::World;

/// Looks at everything that stands in this node's name, in one request for each hundred and some places, and asks for a
/// look around that says or withdraws anew what is not as it was said. Whether anything is not.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn look_back(world: &World) -> Result<bool, StoreError> {
    let _saying = world.saying.lock().await;
    let speech = world.memory().speech.clone();
    let stands = standing(world, &speech).await?;
    let is_as_said = |key: &&String| match (speech.last(key), stands.get(*key)) {
        (Some(Said::Lasting(said) | Said::Leased(said)), Some(stands)) => said.is_null() || said == stands,
        (said, stands) => said.is_none() && stands.is_none(),
    };
    let otherwise: BTreeSet<String> =
        speech.keys().into_iter().chain(stands.keys()).filter(|key| !is_as_said(key)).cloned().collect();
    let count = otherwise.len();
    if world.memory().speech.doubt(otherwise) {
        tracing::warn!("{count} keys of this node are not in the store as it left them; they are written anew");
    }
    if world.memory().speech.is_any_unanswered() {
        world.bell.notify_one();
    }
    Ok(count > 0)
}

/// What stands under the keys that this node uses, and below its share of every service.
async fn standing(world: &World, speech: &Speech) -> Result<BTreeMap<String, Value>, StoreError> {
    let (keys, node) = (&world.keys, &world.settings.node);
    let named = index(world).await?.unwrap_or_default();
    let used: BTreeSet<&String> = speech.keys().into_iter().chain(&named).collect();
    let services: BTreeSet<String> = used.iter().filter_map(|key| keys.service_of(key)).collect();
    let shares: Vec<String> = services
        .iter()
        .flat_map(|service| [keys.instances(service), keys.reports(service), keys.ups(service)])
        .map(|below| keys.of_node(&below, node))
        .collect();
    let alone = used.iter().filter(|key| !shares.iter().any(|share| key.starts_with(share)));
    let places: Vec<&String> = shares.iter().chain(alone.copied()).collect();
    let mut stands = BTreeMap::new();
    for some in places.chunks(TXN_OPERATIONS_MAX) {
        let ranges: Vec<Range> = some.iter().map(|place| Range::All((*place).clone())).collect();
        for (place, listed) in some.iter().zip(world.store.ranges(&ranges).await?.0) {
            let is_here = |key: &String| place.ends_with('/') || key == *place;
            let found = listed.entries.into_iter().filter(|entry| is_here(&entry.key));
            stands.extend(found.map(|entry| (entry.key, serde_json::from_slice(&entry.value).unwrap_or_default())));
        }
    }
    Ok(stands)
}
