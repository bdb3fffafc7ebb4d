//! One act of a replacement, carried out. Each looks before it does: doing it twice is doing it once.

use std::time::Duration;

use deployer_core::gate::Gate;
use deployer_core::policy::{REPLACES, TXN};
use deployer_core::record::Opinion;
use deployer_core::replacement::{Act, Event, Failure, Replacement, is_transitional};
use deployer_engine::mirror::{Thing, nanos};
use deployer_engine::{EngineError, if_found};
use deployer_store::StoreError;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::observe::Watched;
use super::{claim, late, meanwhile, observe, providers, refused, slot, way_back};
use crate::ledger;
use crate::site::Site;
use crate::world::World;

/// Tries to start a candidate whose port is still taken by the one just stopped.
const PORT_TRIES_MAX: u32 = 3;
/// Tries to remove a container that the engine will not give up, such as one with a busy mount.
const REMOVAL_TRIES_MAX: u32 = 5;
/// The pause between such tries.
pub const PAUSE: Duration = Duration::from_secs(1);

/// Times that a candidate is made anew because somebody moved the tag meanwhile. Beyond it: trouble of this machine.
const CREATIONS_MAX: u32 = 3;
/// How long a creation that the engine still works on is waited for. Beyond it: trouble of this machine.
const CREATION_LONGEST: Duration = Duration::from_secs(600);

/// Why an act has to be tried again.
#[derive(Debug, Error)]
pub enum ActError {
    /// The engine does not answer, or refuses something that cannot be given up.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody knows when what is waited for comes, and the daemon ends.
    #[error("not seen to its end: {0}")]
    Left(&'static str),
}

/// Carries out one act.
///
/// # Errors
/// [`ActError`]: nothing is known to have happened; the same act is tried again.
pub async fn carry_out(
    site: &Site<'_>,
    replacement: &mut Replacement,
    act: Act,
    shutdown: &CancellationToken,
) -> Result<Event, ActError> {
    if act.goes_back()
        && let Some(gone) = way_back::nothing_to_go_back_to(site, replacement).await?
    {
        return Ok(gone);
    }
    match act {
        Act::Claim => Ok(claim::claim(site, replacement, shutdown).await?),
        Act::Fence => match meanwhile::changed(site, replacement).await? {
            Some(why) => Ok(Event::Failed(Failure::Superseded(why))),
            None => Ok(slot::fence(site, replacement).await?),
        },
        Act::Release => match meanwhile::was_ended_unheard(site, replacement).await? {
            true => Ok(Event::Anew("its engine ended it before the slot was given back".to_owned())),
            false => Ok(slot::release(site, replacement).await?),
        },
        Act::MoveTag => or_back(move_tag_on(site, replacement).await),
        Act::Create => or_back(create(site, replacement).await),
        Act::DisarmPredecessor => or_back(disarm_predecessor(site, replacement).await),
        Act::StopPredecessor => or_back(stop(site, replacement, &replacement.facts.predecessor).await),
        Act::SwapNames => swap_names(site, replacement).await,
        Act::StartCandidate => start_candidate(site, replacement).await,
        Act::ObserveCandidate => observe_candidate(site, replacement, shutdown).await,
        Act::Approve => approve(site, replacement).await,
        Act::RemovePredecessor => remove_predecessor(site, replacement).await,
        Act::StopCandidate => done(way_back::stop_candidate(site, replacement).await),
        Act::SwapNamesBack => done(way_back::swap_names_back(site, replacement).await),
        Act::RearmPredecessor => done(way_back::rearm(site, replacement).await),
        Act::StartPredecessor => done(way_back::start_predecessor(site, replacement).await),
        Act::MoveTagBack => done(way_back::move_tag_back(site, replacement).await),
        Act::ObservePredecessor => way_back::observe_predecessor(site, replacement, shutdown).await,
        Act::Condemn => way_back::condemn(site, replacement).await.map(|()| Event::Done),
        Act::RemoveCandidate => done(way_back::remove_candidate(site, replacement).await),
    }
}

fn done(outcome: Result<(), EngineError>) -> Result<Event, ActError> {
    outcome.map(|()| Event::Done).map_err(ActError::Engine)
}

/// On the way forward a refusal means going back, and no answer means looking again. What is not there any more,
/// image or container, was removed by somebody meanwhile: that is nobody's failure, and is decided anew.
fn or_back(outcome: Result<(), EngineError>) -> Result<Event, ActError> {
    match outcome {
        Ok(()) => Ok(Event::Done),
        Err(error) if error.is_ambiguous() => Err(error.into()),
        Err(error @ EngineError::NotFound { .. }) => Ok(Event::Failed(Failure::Superseded(error.to_string()))),
        Err(error) => Ok(Event::Failed(Failure::Node(error.to_string()))),
    }
}

/// Whether a container is not there any more. An engine answers 404 for other things that are missing, too, such as the
/// network of a container that is started: so the container itself is asked for.
pub async fn is_gone(world: &World, id: &str) -> Result<bool, EngineError> {
    Ok(if_found(world.engine.container(id).await)?.is_none())
}

/// The repository's tag, moved and remembered, so that this node does not take its own hand for another's.
pub async fn move_tag(site: &Site<'_>, replacement: &Replacement, image: Option<&String>) -> Result<(), EngineError> {
    let track = &replacement.facts.track;
    let moved = match image {
        Some(image) => site.hand.tag(image, &track.name().to_string(), track.tag().as_str()).await,
        None => site.hand.untag(&track.familiar()).await,
    };
    site.engine_mirror.acted_on(Thing::Image(track.familiar()));
    moved?;
    site.memory().tags.set(track, image.cloned());
    Ok(())
}

/// Moves the tag to the candidate's image, and notes where it pointed: since the decision, which may be long ago, somebody
/// may have moved it.
async fn move_tag_on(site: &Site<'_>, replacement: &mut Replacement) -> Result<(), EngineError> {
    let facts = &mut replacement.facts;
    let tagged = if_found(site.engine.image(&facts.track.familiar()).await)?.map(|image| text(&image, "/Id"));
    if tagged.as_ref() != Some(&facts.new_image) {
        facts.tag_before = tagged;
    }
    move_tag(site, replacement, Some(&replacement.facts.new_image.clone())).await
}

/// Creates the candidate, or finds the one that was created before a crash, and makes sure of its image: between
/// the tag and the creation somebody may have moved the tag, which is then moved again.
async fn create(site: &Site<'_>, replacement: &mut Replacement) -> Result<(), EngineError> {
    let mut tries = 1;
    let candidate = loop {
        let id = create_once(site, replacement).await?;
        let candidate = site.engine.container(&id).await?;
        let image = text(&candidate, "/Image");
        if image == replacement.facts.new_image {
            break candidate;
        }
        site.hand.remove(&id).await?;
        replacement.candidate = None;
        if tries == CREATIONS_MAX {
            return Err(EngineError::Refused {
                what: format!("create container {}", replacement.candidate_name()),
                status: 409,
                message: format!("the tag is moved by somebody time and again: it got image {image}"),
            });
        }
        tries += 1;
        move_tag(site, replacement, Some(&replacement.facts.new_image.clone())).await?;
    };
    let id = text(&candidate, "/Id");
    let attached =
        candidate.pointer("/NetworkSettings/Networks").and_then(Value::as_object).cloned().unwrap_or_default();
    for (network, endpoint) in &replacement.facts.connect {
        if !attached.contains_key(network) {
            site.hand.connect(network, &id, endpoint).await?;
        }
    }
    Ok(())
}

/// The candidate's ID. A creation whose answer was lost may go on in the engine for minutes, on a slow disk: until then
/// nothing is found under the name, and the name is taken all the same.
async fn create_once(site: &Site<'_>, replacement: &mut Replacement) -> Result<String, EngineError> {
    let name = replacement.candidate_name();
    let begun = Instant::now();
    loop {
        if let Some(existing) = if_found(site.engine.container(&name).await)? {
            let id = text(&existing, "/Id");
            replacement.candidate = Some(id.clone());
            return Ok(id);
        }
        let facts = &replacement.facts;
        let mut body = facts.body.clone();
        if let Some(labels) = body.get_mut("Labels").and_then(Value::as_object_mut) {
            labels.insert(TXN.to_owned(), json!(replacement.txn));
            labels.insert(REPLACES.to_owned(), json!(facts.predecessor));
        }
        match site.hand.create(&name, &body).await {
            Ok(id) => {
                replacement.candidate = Some(id.clone());
                return Ok(id);
            }
            Err(EngineError::Conflict { .. }) if begun.elapsed() < CREATION_LONGEST => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

pub fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Stops a container, and says that it was nobody else.
pub async fn stop(site: &Site<'_>, replacement: &Replacement, id: &str) -> Result<(), EngineError> {
    if let Some(container) = if_found(site.engine.container(id).await)? {
        site.engine_mirror.ends(id, nanos(&text(&container, "/State/StartedAt")));
    }
    let stopped = site.hand.stop(id, Duration::from_millis(replacement.facts.grace_ms)).await;
    if stopped.as_ref().is_err_and(EngineError::is_ambiguous) {
        site.engine_mirror.may_end_late(id);
    }
    stopped
}

/// Starts a container.
pub async fn start(site: &Site<'_>, id: &str) -> Result<(), EngineError> {
    let started = site.hand.start(id).await;
    if started.as_ref().is_err_and(EngineError::is_ambiguous) {
        late::may_be_started(site, id);
    }
    started
}

/// Gives a container a name, unless it has it.
pub async fn name(site: &Site<'_>, id: &str, wanted: &str) -> Result<(), EngineError> {
    let container = site.engine.container(id).await?;
    if text(&container, "/Name").trim_start_matches('/') == wanted {
        return Ok(());
    }
    let renamed = site.hand.rename(id, wanted).await;
    // Its own name may come as late as it likes.
    if is_transitional(wanted) && renamed.as_ref().is_err_and(EngineError::is_ambiguous) {
        late::may_be_renamed(site, id);
    }
    renamed
}

async fn swap_names(site: &Site<'_>, replacement: &Replacement) -> Result<Event, ActError> {
    let given = name(site, &replacement.facts.predecessor, &replacement.predecessor_name()).await;
    let given = if replacement.has_no_way_back { if_found(given).map(drop) } else { given };
    // A restart that somebody had begun before the stop has brought it up again meanwhile.
    if way_back::runs(site, &replacement.facts.predecessor).await? == Some(true) {
        stop(site, replacement, &replacement.facts.predecessor).await?;
    }
    let (Ok(()), Some(candidate)) = (&given, &replacement.candidate) else { return or_back(given) };
    match name(site, candidate, &replacement.facts.container).await {
        // A container that somebody made meanwhile has the name; it is not for us to take it away.
        Err(error @ EngineError::Conflict { .. }) if replacement.has_no_way_back => {
            Ok(Event::Failed(Failure::Superseded(error.to_string())))
        }
        outcome => or_back(outcome),
    }
}

/// What is not there any more needs no policy where there is no way back to it.
async fn disarm_predecessor(site: &Site<'_>, replacement: &Replacement) -> Result<(), EngineError> {
    let disarmed = site.hand.set_restart_policy(&replacement.facts.predecessor, &json!({"Name": "no"})).await;
    if replacement.has_no_way_back { if_found(disarmed).map(drop) } else { disarmed }
}

/// Starts the candidate. A port may be released a moment after its holder stopped.
async fn start_candidate(site: &Site<'_>, replacement: &Replacement) -> Result<Event, ActError> {
    let Some(candidate) = &replacement.candidate else { return Ok(Event::Done) };
    if replacement.has_no_way_back {
        // It stays, and may have been stopped on a way back that turned out to lead nowhere.
        let armed = site.hand.set_restart_policy(candidate, &replacement.facts.restart_policy).await;
        match if_found(armed) {
            Err(error) if error.is_ambiguous() => return Err(error.into()),
            Err(error) => tracing::warn!(error = %error, "the new container keeps the restart policy `no`"),
            Ok(_) => {}
        }
    }
    if let Some(failure) = replacement.failure.clone().filter(|_| replacement.was_ended_by_hand()) {
        return Ok(Event::Failed(failure));
    }
    wait_for_providers(site, candidate).await?;
    let mut tries = 1;
    loop {
        match start(site, candidate).await {
            Err(EngineError::Refused { message, .. }) if tries < PORT_TRIES_MAX && message.contains("already") => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            // Something that it needs is missing, and would be the next time.
            Err(error @ EngineError::NotFound { .. }) if !is_gone(site, candidate).await? => {
                return Ok(Event::Failed(Failure::Node(error.to_string())));
            }
            // It runs, and somebody has paused it since: a daemon before this one had started it.
            Err(EngineError::Conflict { .. }) if is_paused(site, candidate).await? => return Ok(Event::Done),
            outcome => return or_back(outcome),
        }
    }
}

/// Waits for what a container uses, if that is about to run.
pub async fn wait_for_providers(world: &World, id: &str) -> Result<(), EngineError> {
    if let Some(container) = if_found(world.engine.container(id).await)? {
        providers::wait_for_all(world, &container).await;
    }
    Ok(())
}

async fn is_paused(world: &World, id: &str) -> Result<bool, EngineError> {
    let container = if_found(world.engine.container(id).await)?;
    Ok(container.is_some_and(|container| container.pointer("/State/Paused").and_then(Value::as_bool) == Some(true)))
}

async fn observe_candidate(
    world: &World,
    replacement: &Replacement,
    shutdown: &CancellationToken,
) -> Result<Event, ActError> {
    let facts = &replacement.facts;
    let Some(candidate) = &replacement.candidate else {
        return Ok(Event::Failed(Failure::Interrupted("the candidate is unknown".to_owned())));
    };
    let gate = if facts.is_first { Gate::with_monitor(facts.gate.clone()) } else { Gate::new(facts.gate.clone()) };
    Ok(match observe::watch(world, facts, candidate, gate, shutdown).await {
        Watched::Passed => Event::Done,
        Watched::Failed(reason) => Event::Failed(Failure::Candidate(reason)),
        Watched::Gone => Event::Failed(Failure::ByHand("the new container was removed by somebody".to_owned())),
        Watched::Stopped => Event::Failed(Failure::ByHand("the new container was stopped by somebody".to_owned())),
        Watched::Deprived => {
            Event::Failed(Failure::Interrupted("what it uses of another container changed".to_owned()))
        }
        Watched::Anew(why) => Event::Anew(why.to_owned()),
        Watched::Unshown(reason) => Event::Failed(Failure::Node(reason)),
        Watched::Left(why) => return Err(ActError::Left(why)),
    })
}

async fn approve(world: &World, replacement: &Replacement) -> Result<Event, ActError> {
    let facts = &replacement.facts;
    match meanwhile::ended(world, replacement).await {
        Ok(Some(failure)) => return Ok(Event::Failed(failure)),
        Ok(None) => {}
        // It has passed, and nobody can tell that it has ended since.
        Err(error) if refused::is_unshown(world, &error).await => {
            tracing::warn!(container = facts.container, error = %error, "good, though it is not shown any more");
        }
        Err(error) => return Err(error.into()),
    }
    if replacement.failure.is_some() {
        // It stays because there is nothing else, which is no reason to call it good.
        way_back::halt(world, replacement, false).await?;
    } else if facts.is_first {
        let reason = format!("{} passed the gate", facts.container);
        ledger::write_verdict(world, &facts.service, &facts.digest, Opinion::Good, &reason).await?;
    }
    Ok(Event::Done)
}

/// The predecessor goes, and never its volumes. One that a person started again meanwhile is left to that person;
/// so is one that the engine will not give up, since nothing that serves depends on it.
async fn remove_predecessor(site: &Site<'_>, replacement: &Replacement) -> Result<Event, ActError> {
    let mut tries = 1;
    loop {
        let removed = site.hand.remove(&replacement.facts.predecessor).await;
        let Err(error) = removed else { return Ok(Event::Done) };
        if error.is_ambiguous() {
            return Err(error.into());
        }
        let is_ours = late::was_started(site, replacement).await?;
        let is_over = tries == REMOVAL_TRIES_MAX || (matches!(error, EngineError::Conflict { .. }) && !is_ours);
        // A stop that is refused is one try more; one without an answer, another act.
        let stopped =
            if is_ours && !is_over { stop(site, replacement, &replacement.facts.predecessor).await } else { Ok(()) };
        if let Err(error) = stopped
            && error.is_ambiguous()
        {
            return Err(error.into());
        }
        if is_over {
            tracing::warn!(container = replacement.predecessor_name(), error = %error, "the old container stays");
            return Ok(Event::Done);
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
}
