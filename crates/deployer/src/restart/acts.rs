//! One act of a replacement, carried out. Each looks before it does: doing it twice is doing it once.

use std::time::Duration;

use deployer_core::gate::Gate;
use deployer_core::policy::{REPLACES, TXN};
use deployer_core::record::Opinion;
use deployer_core::replacement::{Act, Event, Failure, Phase, Replacement};
use deployer_core::successor::changeable;
use serde_json::{Value, json};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::{claim, observe, slot};
use crate::engine::EngineError;
use crate::ledger;
use crate::store::StoreError;
use crate::world::World;

/// Tries to start a candidate whose port is still taken by the one just stopped.
const PORT_TRIES_MAX: u32 = 3;
/// Tries to remove a container that the engine will not give up, such as one with a busy mount.
const REMOVAL_TRIES_MAX: u32 = 5;
/// The pause between such tries.
const PAUSE: Duration = Duration::from_secs(1);
/// Lines of a failed candidate's log that are kept.
const LAST_WORDS_LINES: u32 = 20;

/// Refusals in a row after which an act on the way back is given up: about a minute.
pub const REFUSALS_MAX: u32 = 12;

/// Why an act has to be tried again.
#[derive(Debug, Error)]
pub enum ActError {
    /// The engine does not answer, or refuses something that cannot be given up.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Carries out one act.
///
/// # Errors
/// [`ActError`]: nothing is known to have happened; the same act is tried again.
pub async fn carry_out(
    world: &World,
    replacement: &mut Replacement,
    act: Act,
    shutdown: &CancellationToken,
) -> Result<Event, ActError> {
    match act {
        Act::Claim => Ok(claim::claim(world, replacement, shutdown).await?),
        Act::Fence => match changed_meanwhile(world, replacement).await? {
            Some(why) => Ok(Event::Failed(Failure::Superseded(why))),
            None => Ok(slot::fence(world, replacement).await?),
        },
        Act::Release => Ok(slot::release(world, replacement).await?),
        Act::MoveTag => or_back(move_tag(world, replacement, Some(&replacement.facts.new_image.clone())).await),
        Act::Create => or_back(create(world, replacement).await),
        Act::DisarmPredecessor => or_back(set_policy(world, replacement, &json!({"Name": "no"})).await),
        Act::StopPredecessor => or_back(stop(world, replacement, &replacement.facts.predecessor).await),
        Act::SwapNames => or_back(swap_names(world, replacement).await),
        Act::StartCandidate => or_back(start_candidate(world, replacement).await),
        Act::ObserveCandidate => observe_candidate(world, replacement).await,
        Act::Approve => approve(world, replacement).await,
        Act::RemovePredecessor => remove_predecessor(world, replacement).await,
        Act::StopCandidate => stop_candidate(world, replacement).await,
        Act::SwapNamesBack => done(absent_is_done(swap_names_back(world, replacement).await)),
        Act::StartPredecessor => done(absent_is_done(start_predecessor(world, replacement).await)),
        Act::MoveTagBack => done(move_tag_back(world, replacement).await),
        Act::RearmPredecessor => done(rearm(world, replacement).await),
        Act::ObservePredecessor => observe_predecessor(world, replacement).await,
        Act::Condemn => condemn(world, replacement).await,
        Act::RemoveCandidate => done(remove_candidate(world, replacement).await),
    }
}

/// What an act on the way back comes to when the engine goes on refusing it, for a person may have removed or
/// renamed what it needs: trying for ever would hold the slot. `None`: try again. The predecessor's start is never
/// given up: until it runs, nothing serves.
pub fn given_up(replacement: &Replacement, act: Act, error: &ActError, failures: u32) -> Option<Event> {
    let is_refused = matches!(error, ActError::Engine(error) if !error.is_ambiguous());
    let may_end = replacement.phase.is_return() && act != Act::StartPredecessor;
    let is_over = is_refused && failures >= REFUSALS_MAX && may_end;
    is_over.then_some(if act == Act::ObservePredecessor { Event::Control(false) } else { Event::Done })
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

fn absent_is_done(outcome: Result<(), EngineError>) -> Result<(), EngineError> {
    match outcome {
        Err(EngineError::NotFound { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// What a person did to the predecessor while the slot was waited for, which may take long: what was stopped then
/// must not come up again, and a new name is the person's.
async fn changed_meanwhile(world: &World, replacement: &Replacement) -> Result<Option<String>, EngineError> {
    let facts = &replacement.facts;
    let container = match world.engine.container(&facts.predecessor).await {
        Err(EngineError::NotFound { .. }) => return Ok(Some("the container was removed".to_owned())),
        container => container?,
    };
    let is = |field: &str| container.pointer(field).and_then(Value::as_bool).unwrap_or(false);
    let runs = is("/State/Running") && !is("/State/Paused");
    let name = text(&container, "/Name");
    let is_renamed = name.trim_start_matches('/') != facts.container;
    let is_changed = !facts.settings.is_empty() && changeable(&container) != facts.settings;
    Ok(if is_renamed {
        Some(format!("the container is {name} now"))
    } else if is_changed {
        Some("the container's networks or limits were changed".to_owned())
    } else {
        (facts.predecessor_ran && !runs).then(|| "the container was stopped".to_owned())
    })
}

/// The repository's tag, moved and remembered, so that this node does not take its own hand for another's.
async fn move_tag(world: &World, replacement: &Replacement, image: Option<&String>) -> Result<(), EngineError> {
    let track = &replacement.facts.track;
    match image {
        Some(image) => world.engine.tag(image, &track.name().to_string(), track.tag().as_str()).await?,
        None => world.engine.untag(&track.familiar()).await?,
    }
    world.memory().local_tags.insert(track.clone(), image.cloned());
    Ok(())
}

/// A tag that no longer names the candidate's image was moved by somebody else since, and is left to them.
async fn move_tag_back(world: &World, replacement: &Replacement) -> Result<(), EngineError> {
    if replacement.reached < Phase::Fenced {
        return Ok(());
    }
    match world.engine.image(&replacement.facts.track.familiar()).await {
        Ok(tagged) if text(&tagged, "/Id") == replacement.facts.new_image => {}
        Ok(_) | Err(EngineError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    }
    absent_is_done(move_tag(world, replacement, replacement.facts.tag_before.as_ref()).await)
}

/// Creates the candidate, or finds the one that was created before a crash, and makes sure of its image: between
/// the tag and the creation somebody may have moved the tag.
async fn create(world: &World, replacement: &mut Replacement) -> Result<(), EngineError> {
    let name = replacement.candidate_name();
    let facts = &replacement.facts;
    let id = match world.engine.container(&name).await {
        Ok(existing) => text(&existing, "/Id"),
        Err(EngineError::NotFound { .. }) => {
            let mut body = facts.body.clone();
            if let Some(labels) = body.get_mut("Labels").and_then(Value::as_object_mut) {
                labels.insert(TXN.to_owned(), json!(replacement.txn));
                labels.insert(REPLACES.to_owned(), json!(facts.predecessor));
            }
            world.engine.create(&name, &body).await?
        }
        Err(error) => return Err(error),
    };
    replacement.candidate = Some(id.clone());
    let candidate = world.engine.container(&id).await?;
    let image = text(&candidate, "/Image");
    if image != replacement.facts.new_image {
        world.engine.remove(&id).await?;
        return Err(EngineError::Refused {
            what: format!("create container {name}"),
            status: 409,
            message: format!("the tag was moved by somebody: it got image {image}"),
        });
    }
    let attached =
        candidate.pointer("/NetworkSettings/Networks").and_then(Value::as_object).cloned().unwrap_or_default();
    for (network, endpoint) in &replacement.facts.connect {
        if !attached.contains_key(network) {
            world.engine.connect(network, &id, endpoint).await?;
        }
    }
    Ok(())
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

async fn set_policy(world: &World, replacement: &Replacement, policy: &Value) -> Result<(), EngineError> {
    world.engine.set_restart_policy(&replacement.facts.predecessor, policy).await
}

/// Before the act that disarms it the policy may have been changed by a person, and is still that person's.
async fn rearm(world: &World, replacement: &Replacement) -> Result<(), EngineError> {
    if replacement.reached < Phase::Created {
        return Ok(());
    }
    absent_is_done(set_policy(world, replacement, &replacement.facts.restart_policy).await)
}

async fn stop(world: &World, replacement: &Replacement, id: &str) -> Result<(), EngineError> {
    world.engine.stop(id, Duration::from_millis(replacement.facts.grace_ms)).await
}

/// Gives a container a name, unless it has it.
async fn name(world: &World, id: &str, wanted: &str) -> Result<(), EngineError> {
    let container = world.engine.container(id).await?;
    if text(&container, "/Name").trim_start_matches('/') == wanted {
        return Ok(());
    }
    world.engine.rename(id, wanted).await
}

async fn swap_names(world: &World, replacement: &Replacement) -> Result<(), EngineError> {
    name(world, &replacement.facts.predecessor, &replacement.predecessor_name()).await?;
    match &replacement.candidate {
        Some(candidate) => name(world, candidate, &replacement.facts.container).await,
        None => Ok(()),
    }
}

async fn swap_names_back(world: &World, replacement: &Replacement) -> Result<(), EngineError> {
    if !replacement.may_have_stopped_predecessor() {
        return Ok(());
    }
    if let Some(candidate) = &replacement.candidate {
        absent_is_done(name(world, candidate, &replacement.candidate_name()).await)?;
    }
    match name(world, &replacement.facts.predecessor, &replacement.facts.container).await {
        // Somebody made another container of that name: serving under the old name is better than not at all.
        Err(error @ EngineError::Conflict { .. }) => {
            tracing::error!(container = replacement.predecessor_name(), error = %error, "it keeps this name");
            Ok(())
        }
        outcome => absent_is_done(outcome),
    }
}

/// Starts the candidate. A port may be released a moment after its holder stopped.
async fn start_candidate(world: &World, replacement: &Replacement) -> Result<(), EngineError> {
    let Some(candidate) = &replacement.candidate else { return Ok(()) };
    let mut tries = 1;
    loop {
        match world.engine.start(candidate).await {
            Err(EngineError::Refused { message, .. }) if tries < PORT_TRIES_MAX && message.contains("already") => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

async fn observe_candidate(world: &World, replacement: &Replacement) -> Result<Event, ActError> {
    let facts = &replacement.facts;
    let Some(candidate) = &replacement.candidate else {
        return Ok(Event::Failed(Failure::Interrupted("the candidate is unknown".to_owned())));
    };
    let gate = if facts.is_first { Gate::with_monitor(facts.gate.clone()) } else { Gate::new(facts.gate.clone()) };
    Ok(match observe::watch(world, facts, candidate, gate).await? {
        Ok(()) => Event::Done,
        Err(reason) => Event::Failed(Failure::Candidate(reason)),
    })
}

async fn approve(world: &World, replacement: &Replacement) -> Result<Event, ActError> {
    let facts = &replacement.facts;
    if facts.is_first {
        let reason = format!("{} passed the gate", facts.container);
        ledger::write_verdict(world, &facts.service, &facts.digest, Opinion::Good, &reason).await?;
    }
    Ok(Event::Done)
}

/// The predecessor goes, and never its volumes. One that a person started again meanwhile is left to that person;
/// so is one that the engine will not give up, since nothing that serves depends on it.
async fn remove_predecessor(world: &World, replacement: &Replacement) -> Result<Event, ActError> {
    let mut tries = 1;
    loop {
        match world.engine.remove(&replacement.facts.predecessor).await {
            Ok(()) => return Ok(Event::Done),
            Err(error) if error.is_ambiguous() => return Err(error.into()),
            Err(error) if tries == REMOVAL_TRIES_MAX || matches!(error, EngineError::Conflict { .. }) => {
                tracing::warn!(container = replacement.predecessor_name(), error = %error, "the old container stays");
                return Ok(Event::Done);
            }
            Err(_) => tries += 1,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn stop_candidate(world: &World, replacement: &mut Replacement) -> Result<Event, ActError> {
    // A crash may have come between the creation and the note of its ID.
    if replacement.candidate.is_none() {
        match world.engine.container(&replacement.candidate_name()).await {
            Ok(candidate) => replacement.candidate = Some(text(&candidate, "/Id")),
            Err(EngineError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(candidate) = replacement.candidate.clone() {
        if matches!(replacement.failure, Some(Failure::Candidate(_))) {
            let words = world.engine.log_tail(&candidate, LAST_WORDS_LINES).await.unwrap_or_default();
            for line in words.lines() {
                tracing::info!(container = replacement.facts.container, "candidate said: {line}");
            }
            replacement.last_words = words;
        }
        absent_is_done(stop(world, replacement, &candidate).await)?;
    }
    Ok(Event::Done)
}

/// What a person stopped before the replacement did stays stopped.
async fn start_predecessor(world: &World, replacement: &Replacement) -> Result<(), EngineError> {
    if !replacement.may_have_stopped_predecessor() || !replacement.facts.predecessor_ran {
        return Ok(());
    }
    absent_is_done(world.engine.start(&replacement.facts.predecessor).await)
}

async fn observe_predecessor(world: &World, replacement: &Replacement) -> Result<Event, ActError> {
    let facts = &replacement.facts;
    if !replacement.may_have_stopped_predecessor() {
        return Ok(Event::Control(true));
    }
    let outcome = observe::watch(world, facts, &facts.predecessor, Gate::new(facts.gate.clone())).await?;
    Ok(Event::Control(outcome.is_ok()))
}

async fn condemn(world: &World, replacement: &Replacement) -> Result<Event, ActError> {
    let facts = &replacement.facts;
    let (verdicts, _) = ledger::verdicts(world, &facts.service).await?;
    let mut is_good = verdicts.is_good(&facts.digest);
    if let Some(reason) = replacement.charge(is_good) {
        let standing = ledger::write_verdict(world, &facts.service, &facts.digest, Opinion::Bad, reason).await?;
        is_good = standing == Opinion::Good;
    }
    if let Some(reason) = replacement.trouble(is_good) {
        super::note_failed_here(world, replacement, reason);
        // Before the slot is given back, or the next node would try the same.
        ledger::halt(world, &facts.track, facts.seq, reason).await?;
    }
    Ok(Event::Done)
}

async fn remove_candidate(world: &World, replacement: &Replacement) -> Result<(), EngineError> {
    let Some(candidate) = &replacement.candidate else { return Ok(()) };
    // An engine that was restarted meanwhile has started it again, if its restart policy is "always".
    stop(world, replacement, candidate).await?;
    world.engine.remove(candidate).await
}
