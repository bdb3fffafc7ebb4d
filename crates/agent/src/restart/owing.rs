//! What a replacement still owes at its end, and how it is paid; see [`crate::owed`].

use std::collections::BTreeSet;
use std::time::Duration;

use deployer_core::policy::{REPLACES, TXN};
use deployer_core::replacement::{Phase, Replacement, predecessor_name, transitional};
use deployer_engine::{EngineError, if_found};
use tokio_util::sync::CancellationToken;

use super::recovery::Unshown;
use super::{late, meanwhile, observe, recovery, way_back};
use crate::site::Site;
use crate::survey::Survey;
use crate::world::World;

/// How long what did not pass has to live on before nothing more is owed. Its engine may start it a few times by itself, and it
/// lives for a moment each time; one that lives so long is started again by its policy as if for the first time (Docker, restart
/// policies).
const LIVES_ON: Duration = Duration::from_secs(10);

/// Whether a replacement that has come to its end still owes a container; then it is noted as such. An engine that does
/// not answer is asked again later.
pub async fn is_left_owing(world: &World, replacement: &Replacement, shutdown: &CancellationToken) -> bool {
    let is_down = match replacement.owed() {
        // Somebody may have made another one meanwhile.
        None if replacement.owes_a_creation() => !matches!(way_back::is_remade(world, replacement).await, Ok(true)),
        None => false,
        // What the control was of says nothing of a candidate that stays since nothing else is left.
        Some(id) if replacement.phase == Phase::Returned && replacement.control == Some(true) => {
            !matches!(way_back::runs(world, id).await, Ok(Some(true) | None))
        }
        Some(id) => !lives_on(world, id, shutdown).await,
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

/// Whether a container's process lives for some time more, or the container is nobody's to start any more, since it is gone.
async fn lives_on(world: &World, id: &str, shutdown: &CancellationToken) -> bool {
    let look = async || if_found(world.engine.container(id).await).map(|found| found.map(|it| way_back::process(&it)));
    let before = match look().await {
        Ok(Some(Some(process))) => process,
        Ok(None) => return true,
        Ok(Some(None)) | Err(_) => return false,
    };
    tokio::select! {
        biased;
        // The daemon after this one looks again.
        () = shutdown.cancelled() => return false,
        () = tokio::time::sleep(LIVES_ON) => {}
    }
    match look().await {
        Ok(None) => true,
        Ok(Some(after)) => after == Some(before),
        Err(_) => false,
    }
}

/// Gives up what is owed where a person has stopped or renamed the container: it is that person's from then on, due or not.
pub async fn mind_persons(site: &Site<'_>, name: &str) {
    let Some((replacement, id)) = site.memory().owed.of(name) else { return };
    if was_stopped_for_good(site, &id).await {
        tracing::info!(container = name, "stopped by somebody: it is not started again");
        leave(site, name).await;
    } else if let Ok(Some(new)) = named_by_hand(site, &replacement, &id).await {
        tracing::info!(container = name, new, "renamed by somebody: it is left to them");
        leave(site, name).await;
    }
}

/// Whether a person has given a name of their own to what this replacement is there for alone, while it is being brought up:
/// then it is theirs, and the replacement at its end.
pub async fn is_taken(site: &Site<'_>, replacement: &Replacement) -> bool {
    let Some(id) = replacement.looked_after() else { return false };
    let Ok(Some(new)) = named_by_hand(site, replacement, id).await else { return false };
    tracing::info!(container = replacement.facts.container, new, "renamed by somebody: it is left to them");
    site.memory().owed.forget(&replacement.facts.container);
    recovery::let_go(site, replacement).await;
    true
}

/// The replacement of a container that is due, set to where it goes on. One that the engine does not show is due again later.
pub async fn due(site: &Site<'_>, name: &str) -> Option<Replacement> {
    let mut replacement = site.memory().owed.take_due(name)?;
    if let Err(error) = recovery::settle(site, &mut replacement, Unshown::IsDown).await {
        tracing::warn!(container = name, error = %error, "what is owed is looked at again later");
        let random = site.ambient.random();
        site.memory().owed.note(replacement, random);
        return None;
    }
    Some(replacement)
}

/// Whether somebody stopped it, and did not restart it: that is told as a stop first.
async fn was_stopped_for_good(site: &Site<'_>, id: &str) -> bool {
    if !matches!(observe::was_ended_by_hand(site, id).await, Ok(true)) {
        return false;
    }
    tokio::time::sleep(observe::SECOND_LOOK).await;
    matches!(observe::was_ended_by_hand(site, id).await, Ok(true))
}

/// The name that a person has given to what is owed. Another replacement may be at work on it under that one.
async fn named_by_hand(site: &Site<'_>, replacement: &Replacement, id: &str) -> Result<Option<String>, EngineError> {
    let Some(container) = if_found(site.engine.container(id).await)? else { return Ok(None) };
    Ok(meanwhile::given_name(replacement, &container))
}

/// Undoes what an engine carried out long after whoever asked was told that it failed, and no journal knows of: removes
/// candidates that were created and never started, and gives what runs under a predecessor's name its own again. Anything
/// else that has run is left to a person.
pub async fn sweep(site: &Site<'_>) {
    let (Ok(survey), Ok(journals)) = (Survey::of(site).await, site.journals.all()) else { return };
    late::forget_gone(site);
    let known: BTreeSet<String> = journals.into_iter().map(|journal| journal.txn).collect();
    // Another daemon may share this engine, and have journals of its own.
    let ours = survey.unfinished.iter().filter(|container| site.settings.manage.includes(&container.labels));
    for container in ours {
        let Some((name, txn)) = transitional(&container.name).filter(|(_, txn)| !known.contains(*txn)) else {
            continue;
        };
        let is_candidate = container.labels.get(TXN).is_some_and(|made_by| made_by == txn);
        // Nobody else may be judged by a name: a person may have given it.
        let is_nameless = survey.named(name).is_none()
            && container.name == predecessor_name(name, txn)
            && site.memory().replacing.is_renamed_late(&container.id);
        let undone = match container.state.as_str() {
            // Where nothing runs, it is all that tells of a replacement whose journal was lost.
            "created" if is_candidate && is_served(&survey, name, container.labels.get(REPLACES)) => {
                tracing::warn!(container = container.name, "a candidate that nobody waits for is removed");
                site.hand.remove(&container.id).await
            }
            "running" if is_nameless => {
                tracing::warn!(
                    container = container.name,
                    "renamed after its replacement had ended: it is {name} again"
                );
                site.hand.rename(&container.id, name).await
            }
            _ => Ok(()),
        };
        if let Err(error) = undone {
            tracing::warn!(container = container.name, error = %error, "it stays as it is");
        }
    }
}

/// Whether what a candidate was to replace is not down, whatever its name, or another bears the name since, and is not.
fn is_served(survey: &Survey, name: &str, predecessor: Option<&String>) -> bool {
    let is_of_it = |id: &String, of: &str| Some(id) == predecessor || of == name;
    survey.containers.iter().any(|seen| is_of_it(&seen.summary.id, &seen.summary.name) && !seen.is_down())
}

/// Takes a container over from the replacement before this one, which is past its fence: what that one left is removed.
pub async fn take_over(site: &Site<'_>, replacement: &Replacement) {
    let before = site.memory().owed.hand_over(replacement);
    if let Some(before) = before {
        recovery::let_go(site, &before).await;
    }
}

/// Leaves a container to a person: what its replacement left is removed.
async fn leave(site: &Site<'_>, name: &str) {
    let before = site.memory().owed.forget(name);
    if let Some(before) = before {
        recovery::let_go(site, &before).await;
    }
}
