//! What a replacement still owes at its end, and how it is paid; see [`crate::owed`].

use std::collections::BTreeSet;

use deployer_core::policy::TXN;
use deployer_core::replacement::{Replacement, transitional};

use super::{observe, recovery, way_back};
use crate::site::Site;
use crate::survey::Survey;
use crate::world::World;

/// Whether a replacement that has come to its end still owes a container; then it is noted as such. An engine that does
/// not answer is asked again later.
pub async fn is_left_owing(world: &World, replacement: &Replacement) -> bool {
    let is_down = match replacement.owed() {
        None => false,
        Some(id) => !matches!(way_back::runs(world, id).await, Ok(Some(true) | None)),
    };
    let random = world.ambient.random();
    let owed = &mut world.memory().owed;
    if is_down {
        owed.note(replacement.clone(), random);
    } else {
        owed.settle(replacement);
    }
    is_down
}

/// The replacement of a container that is due, set to where it goes on.
pub async fn due(site: &Site<'_>, name: &str) -> Option<Replacement> {
    let mut replacement = site.memory().owed.take_due(name)?;
    if let Some(id) = replacement.owed()
        && let Ok(true) = observe::was_ended_by_hand(site, id).await
    {
        tracing::info!(container = name, "stopped by somebody: it is not started again");
        hand_over(site, name).await;
        return None;
    }
    recovery::settle(site, &mut replacement).await;
    Some(replacement)
}

/// Removes candidates that were created and never started, and that no journal knows of: an engine can go on creating one
/// long after whoever asked was told that it failed. What runs, or has run, is left to a person.
pub async fn sweep(site: &Site<'_>) {
    let (Ok(survey), Ok(journals)) = (Survey::of(site).await, site.journals.all()) else { return };
    let known: BTreeSet<String> = journals.into_iter().map(|journal| journal.txn).collect();
    for container in survey.unfinished.iter().filter(|container| container.state == "created") {
        let txn = transitional(&container.name).map(|(_, txn)| txn.to_owned());
        // Another daemon may share this engine, and have a journal of its own for what it just created.
        let is_ours = site.settings.manage.includes(&container.labels) && container.labels.get(TXN) == txn.as_ref();
        if is_ours && txn.is_some_and(|txn| !known.contains(&txn)) {
            tracing::warn!(container = container.name, "a candidate that nobody waits for is removed");
            if let Err(error) = site.hand.remove(&container.id).await {
                tracing::warn!(container = container.name, error = %error, "it stays behind");
            }
        }
    }
}

/// Hands a container over to a further replacement, which is past its fence: what the one before left is removed.
pub async fn hand_over(site: &Site<'_>, name: &str) {
    let Some(before) = site.memory().owed.forget(name) else { return };
    if let Some(candidate) = before.candidate.as_ref().filter(|candidate| before.owed() != Some(candidate.as_str()))
        && let Err(error) = site.hand.remove(candidate).await
    {
        tracing::warn!(container = name, error = %error, "a failed candidate stays behind");
    }
    if let Err(error) = site.journals.close(&before.txn) {
        tracing::error!(error = &error as &dyn std::error::Error, "a journal stays behind");
    }
}
