//! What was done to the containers of a replacement while it waited: for its slot, or for the store to take its verdict.

use deployer_core::deed::Doing;
use deployer_core::replacement::{Failure, Phase, Replacement, predecessor_name, transitional};
use deployer_core::successor::changeable;
use deployer_engine::EngineError;
use serde_json::Value;

use super::acts::text;
use super::{observe, providers, refused, way_back};
use crate::world::World;

/// What a person did to the predecessor while the slot was waited for, which may take long: what was stopped then
/// must not come up again, and a new name is the person's.
pub async fn changed(world: &World, replacement: &Replacement) -> Result<Option<String>, EngineError> {
    let facts = &replacement.facts;
    let container = match world.engine.container(&facts.predecessor).await {
        Err(EngineError::NotFound { .. }) => return Ok(Some("the container was removed".to_owned())),
        container => container?,
    };
    let is = |field: &str| container.pointer(field).and_then(Value::as_bool).unwrap_or(false);
    let is_paused = is("/State/Paused");
    let runs = is("/State/Running") && !is_paused;
    let name = text(&container, "/Name");
    let is_renamed = name.trim_start_matches('/') != facts.container;
    let is_changed = !facts.settings.is_empty() && changeable(&container) != facts.settings;
    // One that is owed may have been down then, or have been started and stopped since.
    let is_down = facts.predecessor_ran && !runs;
    let is_stopped = is_down
        && (is_paused || !facts.predecessor_was_owed || observe::was_ended_by_hand(world, &facts.predecessor).await?);
    // Neither the successor nor this one could be started.
    let unmet = providers::unmet(world, &container).filter(|_| runs);
    Ok(if unmet.is_some() {
        unmet
    } else if is_renamed {
        Some(format!("the container is {name} now"))
    } else if is_changed {
        Some("the container's networks or limits were changed".to_owned())
    } else {
        is_stopped.then(|| "the container was stopped".to_owned())
    })
}

/// The name that a person has given to a container of a replacement.
pub fn given_name(replacement: &Replacement, container: &Value) -> Option<String> {
    let name = text(container, "/Name").trim_start_matches('/').to_owned();
    let ours = [replacement.facts.container.clone(), replacement.predecessor_name(), replacement.candidate_name()];
    // An older replacement's may come late.
    let is_older = transitional(&name)
        .is_some_and(|(of, txn)| of == replacement.facts.container && name == predecessor_name(of, txn));
    (!ours.contains(&name) && !is_older).then_some(name)
}

/// Whether the candidate ended after it had passed its gate: the store may have been away since, and until the verdict is
/// written there is an old one to go back to.
pub async fn ended(world: &World, replacement: &Replacement) -> Result<Option<Failure>, EngineError> {
    let Some(candidate) = replacement.candidate.as_ref().filter(|_| replacement.failure.is_none()) else {
        return Ok(None);
    };
    Ok(match way_back::runs(world, candidate).await? {
        Some(true) => None,
        None => Some(Failure::ByHand("the new container was removed by somebody".to_owned())),
        Some(false) => Some(match observe::whose_end(world, candidate).await? {
            Doing::Own => Failure::Candidate("ended after it had passed the gate".to_owned()),
            Doing::Unknown => Failure::Interrupted("the new container ended unheard".to_owned()),
            Doing::Ending | Doing::Ended | Doing::Restarted => {
                Failure::ByHand("the new container was stopped by somebody".to_owned())
            }
        }),
    })
}

/// Whether the candidate has passed, and is down by no doing of its own: the store may have been away for long, and until the
/// slot is given back what was stopped for it is owed.
pub async fn was_ended_unheard(world: &World, replacement: &Replacement) -> Result<bool, EngineError> {
    let has_passed = replacement.phase == Phase::Judged && replacement.failure.is_none();
    let Some(candidate) = replacement.candidate.as_ref().filter(|_| has_passed && replacement.may_begin_anew()) else {
        return Ok(false);
    };
    let looked = async {
        let is_down = way_back::runs(world, candidate).await? == Some(false);
        Ok(is_down && observe::whose_end(world, candidate).await? == Doing::Unknown)
    };
    match looked.await {
        // Refused whenever it is asked, it is no reason to keep the slot.
        Err(error) if refused::is_unshown(world, &error).await => Ok(false),
        outcome => outcome,
    }
}
