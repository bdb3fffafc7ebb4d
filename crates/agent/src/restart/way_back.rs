//! The acts of the way back. It ends with something that serves: the predecessor, or, where somebody removed that one, the
//! candidate, whatever was held against it.

use std::time::Duration;

use deployer_core::gate::Gate;
use deployer_core::record::Opinion;
use deployer_core::replacement::{ANEW_MAX, Event, Failure, Phase, Replacement};
use deployer_engine::{EngineError, if_found};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::acts::{ActError, PAUSE, is_gone, move_tag, name, start, stop, text, wait_for_providers};
use super::meanwhile;
use super::observe::{self, Watched};
use crate::ledger;
use crate::site::Site;
use crate::survey::{Survey, Surveyed};
use crate::world::World;

/// Lines of a failed candidate's log that are kept.
const LAST_WORDS_LINES: u32 = 20;
/// For how long at least a put-back predecessor that ends is started again, before that counts as a control it failed.
const CONTROL_SHORTEST: Duration = Duration::from_secs(10);

fn absent_is_done(outcome: Result<(), EngineError>) -> Result<(), EngineError> {
    if_found(outcome).map(drop)
}

/// Whether somebody removed the predecessor, so that the candidate has to stay, or to be made anew if it is gone as well.
/// What a person removed while it ran was meant to go: nothing is made in its place.
pub async fn nothing_to_go_back_to(world: &World, replacement: &mut Replacement) -> Result<Option<Event>, EngineError> {
    if replacement.reached < Phase::Tagged || !is_gone(world, &replacement.facts.predecessor).await? {
        return Ok(None);
    }
    find_candidate(world, replacement).await?;
    let candidate_exists = match &replacement.candidate {
        Some(candidate) => !is_gone(world, candidate).await?,
        None => false,
    };
    let was_left_stopped = replacement.may_have_stopped_predecessor() && !replacement.was_ended_by_hand();
    let stays = (candidate_exists || was_left_stopped) && !is_remade(world, replacement).await?;
    Ok(stays.then_some(Event::PredecessorGone { candidate_exists }))
}

/// Whether somebody has made another container of the name. What bears no container's name an engine takes for the beginning of an
/// ID, which it may be of several (Docker API, `GET /containers/{id}/json`).
pub async fn is_remade(world: &World, replacement: &Replacement) -> Result<bool, EngineError> {
    let facts = &replacement.facts;
    let holder = match world.engine.container(&facts.container).await {
        Err(EngineError::Refused { status: 400, .. }) => return Ok(false),
        holder => if_found(holder)?,
    };
    let is_others = |id: String| id != facts.predecessor && Some(&id) != replacement.candidate.as_ref();
    Ok(holder.is_some_and(|holder| {
        text(&holder, "/Name").trim_start_matches('/') == facts.container && is_others(text(&holder, "/Id"))
    }))
}

/// Where somebody made another container in the candidate's place while nobody looked, putting the old one back beside it
/// would be one too many.
async fn mind_remade(world: &World, replacement: &mut Replacement) -> Result<(), EngineError> {
    if let Some(candidate) = &replacement.candidate
        && is_gone(world, candidate).await?
        && is_remade(world, replacement).await?
    {
        replacement.failure = Some(Failure::ByHand("somebody made another container of this name".to_owned()));
    }
    Ok(())
}

/// A crash may have come between the creation and the note of its ID.
async fn find_candidate(world: &World, replacement: &mut Replacement) -> Result<(), EngineError> {
    if replacement.candidate.is_none() {
        let candidate = if_found(world.engine.container(&replacement.candidate_name()).await)?;
        replacement.candidate = candidate.map(|candidate| text(&candidate, "/Id"));
    }
    Ok(())
}

/// Its policy goes first: with `always`, an engine that is restarted now would start it again, and it would take the
/// predecessor's port.
pub async fn stop_candidate(site: &Site<'_>, replacement: &mut Replacement) -> Result<(), EngineError> {
    find_candidate(site, replacement).await?;
    let Some(candidate) = replacement.candidate.clone() else { return Ok(()) };
    mind_remade(site, replacement).await?;
    if matches!(replacement.failure, Some(Failure::Candidate(_))) && replacement.last_words.is_empty() {
        let words = site.engine.log_tail(&candidate, LAST_WORDS_LINES).await.unwrap_or_default();
        for line in words.lines() {
            tracing::info!(container = replacement.facts.container, "candidate said: {line}");
        }
        replacement.last_words = words;
    }
    absent_is_done(site.hand.set_restart_policy(&candidate, &json!({"Name": "no"})).await)?;
    absent_is_done(stop(site, replacement, &candidate).await)
}

pub async fn swap_names_back(site: &Site<'_>, replacement: &Replacement) -> Result<(), EngineError> {
    if !replacement.may_have_stopped_predecessor() {
        return Ok(());
    }
    if let Some(candidate) = &replacement.candidate {
        let set_aside = replacement.candidate_name();
        let mut named = name(site, candidate, &set_aside).await;
        if matches!(named, Err(EngineError::Conflict { .. })) {
            // An engine that took too long over the creation has carried it out twice.
            site.hand.remove(&set_aside).await?;
            named = name(site, candidate, &set_aside).await;
        }
        absent_is_done(named)?;
    }
    match name(site, &replacement.facts.predecessor, &replacement.facts.container).await {
        // Somebody made another container of that name: serving under the old name is better than not at all.
        Err(error @ EngineError::Conflict { .. }) => {
            tracing::error!(container = replacement.predecessor_name(), error = %error, "it keeps this name");
            Ok(())
        }
        outcome => absent_is_done(outcome),
    }
}

/// Before the act that disarms it the policy may have been changed by a person, and is still that person's. One that is to go,
/// since somebody made another of the name, would be started beside that one when the machine reboots.
pub async fn rearm(site: &Site<'_>, replacement: &mut Replacement) -> Result<(), EngineError> {
    if replacement.reached < Phase::Created {
        return Ok(());
    }
    // A stop may take long, and whoever could not wait for it has made another meanwhile.
    mind_remade(site, replacement).await?;
    replacement.kept_disarmed = replacement.was_ended_by_hand() && is_remade(site, replacement).await?;
    if replacement.kept_disarmed { Ok(()) } else { give_policy_back(site, replacement).await }
}

pub async fn give_policy_back(site: &Site<'_>, replacement: &Replacement) -> Result<(), EngineError> {
    let facts = &replacement.facts;
    absent_is_done(site.hand.set_restart_policy(&facts.predecessor, &facts.restart_policy).await)
}

/// What a person stopped before the replacement did, or instead of its successor, stays stopped.
pub async fn start_predecessor(site: &Site<'_>, replacement: &mut Replacement) -> Result<(), EngineError> {
    // A stop may take long, and whoever could not wait for it has made another meanwhile.
    mind_remade(site, replacement).await?;
    if !replacement.owes_a_start() {
        return Ok(());
    }
    wait_for_providers(site, &replacement.facts.predecessor).await?;
    start(site, &replacement.facts.predecessor).await
}

/// A tag that no longer names the candidate's image was moved by somebody else since, and is left to them. One that another
/// container here runs by now stays as well: for that one the image is right.
pub async fn move_tag_back(site: &Site<'_>, replacement: &Replacement) -> Result<(), EngineError> {
    if replacement.reached < Phase::Fenced {
        return Ok(());
    }
    let tagged = if_found(site.engine.image(&replacement.facts.track.familiar()).await)?;
    if tagged.is_none_or(|tagged| text(&tagged, "/Id") != replacement.facts.new_image) {
        return Ok(());
    }
    let survey = Survey::of(site).await?;
    let is_other = |seen: &&Surveyed| Some(&seen.summary.id) != replacement.candidate.as_ref();
    let mut others = survey.running(site, &replacement.facts.track).filter(is_other);
    if others.any(|seen| !seen.is_down() && seen.summary.image_id == replacement.facts.new_image) {
        return Ok(());
    }
    absent_is_done(move_tag(site, replacement, replacement.facts.tag_before.as_ref()).await)
}

/// Looks at the predecessor with the candidate's gate. One that ends meanwhile is started again until its time is up: an
/// engine may have died, and some need a second start.
pub async fn observe_predecessor(
    site: &Site<'_>,
    replacement: &mut Replacement,
    shutdown: &CancellationToken,
) -> Result<Event, ActError> {
    if !replacement.owes_a_start() {
        return Ok(Event::Control(true));
    }
    let facts = replacement.facts.clone();
    let limit = Duration::from_millis(facts.gate.timeout_ms.max(facts.gate.stable_ms)).max(CONTROL_SHORTEST);
    let begun = Instant::now();
    let mut anew = 0;
    loop {
        match observe::watch(site, &facts, &facts.predecessor, Gate::new(facts.gate.clone()), shutdown).await {
            Watched::Passed => return Ok(Event::Control(true)),
            Watched::Gone => {
                let gone = nothing_to_go_back_to(site, replacement).await?;
                return Ok(gone.unwrap_or(Event::Control(false)));
            }
            Watched::Stopped => {
                let reason = "the old container was stopped by somebody".to_owned();
                return Ok(Event::Failed(Failure::ByHand(reason)));
            }
            // It is left in what is of no use, as it would have been without a replacement.
            Watched::Deprived | Watched::Unshown(_) => return Ok(Event::Control(false)),
            Watched::Left(why) => return Err(ActError::Left(why)),
            Watched::Anew(_) if anew >= ANEW_MAX => return Ok(Event::Control(false)),
            Watched::Anew(reason) => {
                anew += 1;
                tracing::warn!(container = facts.container, reason, "the put-back container is started again");
                tokio::time::sleep(PAUSE).await;
            }
            Watched::Failed(_) if begun.elapsed() >= limit => return Ok(Event::Control(false)),
            Watched::Failed(_) if runs(site, &facts.predecessor).await? == Some(true) => {
                return Ok(Event::Control(false));
            }
            Watched::Failed(reason) => {
                tracing::warn!(container = facts.container, reason, "the put-back container is started again");
                tokio::time::sleep(PAUSE).await;
            }
        }
        match start(site, &facts.predecessor).await {
            Err(error) if error.is_ambiguous() => return Err(error.into()),
            Err(error) if begun.elapsed() >= limit => {
                tracing::error!(container = facts.container, error = %error, "the put-back container does not start");
                return Ok(Event::Control(false));
            }
            _ => {}
        }
    }
}

/// Whether a container's process lives; one that the engine is about to start again does not. `None`: it is gone.
pub async fn runs(world: &World, id: &str) -> Result<Option<bool>, EngineError> {
    let container = if_found(world.engine.container(id).await)?;
    Ok(container.map(|container| process(&container).is_some()))
}

/// The process of an inspected container, by the moment at which it began, if it lives.
pub fn process(container: &Value) -> Option<String> {
    let is = |field: &str| container.pointer(field).and_then(Value::as_bool).unwrap_or(false);
    (is("/State/Running") && !is("/State/Restarting")).then(|| text(container, "/State/StartedAt"))
}

pub async fn condemn(world: &World, replacement: &Replacement) -> Result<(), ActError> {
    let facts = &replacement.facts;
    if replacement.charge(false).is_none() && replacement.trouble(false).is_none() {
        // Nothing is to be said, and so nobody waited for: the store may be away, and the daemon ending.
        return Ok(());
    }
    let (verdicts, _) = ledger::verdicts(world, &facts.service).await?;
    let mut is_good = verdicts.is_good(&facts.digest);
    if let Some(reason) = replacement.charge(is_good) {
        let standing = ledger::write_verdict(world, &facts.service, &facts.digest, Opinion::Bad, reason).await?;
        is_good = standing == Opinion::Good;
        if !is_good {
            return Ok(());
        }
    }
    halt(world, replacement, is_good).await
}

/// Before the slot is given back, or the next node would try the same.
pub async fn halt(world: &World, replacement: &Replacement, is_good: bool) -> Result<(), ActError> {
    let Some(reason) = replacement.trouble(is_good) else { return Ok(()) };
    let what_serves = match (replacement.has_no_way_back, replacement.control) {
        (true, _) => "; the old one was removed by somebody, so the new one stays",
        (false, Some(false)) => "; the old one does not pass the same check",
        (false, _) => "",
    };
    let reason = format!("{reason}{what_serves}");
    super::note_failed_here(world, replacement, &reason);
    ledger::halt(world, &replacement.facts.track, replacement.facts.seq, &reason).await?;
    Ok(())
}

pub async fn remove_candidate(site: &Site<'_>, replacement: &Replacement) -> Result<(), EngineError> {
    let Some(candidate) = &replacement.candidate else { return Ok(()) };
    // An engine may have got to a renaming of the way forward long after it was given up. A person's own name stays.
    let predecessor = if_found(site.engine.container(&replacement.facts.predecessor).await)?;
    if predecessor.and_then(|predecessor| meanwhile::given_name(replacement, &predecessor)).is_none() {
        swap_names_back(site, replacement).await?;
    }
    // An engine that was restarted meanwhile may have started it again.
    stop(site, replacement, candidate).await?;
    site.hand.remove(candidate).await?;
    if !replacement.was_ended_by_hand() {
        return Ok(());
    }
    let stays = !is_remade(site, replacement).await? || stays_since_it_runs(site, replacement).await?;
    // It was to go when its policy would have been given back.
    if stays && replacement.kept_disarmed { give_policy_back(site, replacement).await } else { Ok(()) }
}

/// Removes the old container: whoever made another in the candidate's place has no use for it either. Whether it stays, since
/// somebody has started it.
async fn stays_since_it_runs(site: &Site<'_>, replacement: &Replacement) -> Result<bool, EngineError> {
    match site.hand.remove(&replacement.facts.predecessor).await {
        Err(EngineError::Conflict { .. }) => Ok(true),
        removed => removed.map(|()| false),
    }
}
