//! The restart stage: replaces one container at a time, under a slot, and puts the old one back if need be.
//!
//! It is the only place that stops a container. `prefetch` writes down everything that a replacement needs
//! and `carry` takes over;
//! `acts` carries out one act, and asks what was done `meanwhile`; `observe` is the gate's eye; `claim` waits in `line` (as `waiter`) for the leave to act
//! until it may go (`near`), `slot` fences it and gives it back; `stage` has one job for each container at a time.

mod acts;
mod baseline;
mod carry;
mod claim;
mod fault;
mod interest;
mod lacking;
mod late;
mod line;
mod meanwhile;
mod mounted;
mod near;
mod observe;
mod owing;
mod prefetch;
mod providers;
mod recovery;
mod refused;
mod slot;
mod stage;
mod unready;
mod waiter;
mod way_back;

use std::time::Duration;

use deployer_core::backoff::Backoff;
use deployer_core::plan::{Action, Answer};
use deployer_core::replacement::{Act, Event, Failure, Phase, Replacement};
use deployer_core::trouble::Trouble;
use deployer_engine::mirror::Thing;
use tokio_util::sync::CancellationToken;

use crate::failpoint;
use crate::fault::caught;
use crate::keep;
use crate::look::LookError;
use crate::replacing::Transition;
use crate::site::Site;
use crate::situation::{Decision, TrackView};
use crate::supervision::Supervisors;
use crate::survey::Survey;
use crate::world::World;

pub use carry::refusal;
pub use recovery::{Left, recover_with_engine};
pub use stage::Restart;

/// The pause before a look that failed is repeated.
const RETRY: Duration = Duration::from_secs(5);

/// What there is to do for a container: a replacement that is under way, or else whatever is decided now.
async fn work(site: &Site<'_>, container: &str, left: Option<Left>, shutdown: &CancellationToken) {
    let left = match left {
        Some(left) => Some(left),
        None => {
            owing::mind_persons(site, container).await;
            owing::due(site, container).await.map(Left::from)
        }
    };
    if let Some(left) = left {
        return carry_through(site, left, shutdown).await;
    }
    if let Err(error) = replace(site, container, shutdown).await {
        tracing::warn!(container, error = &error as &dyn std::error::Error, "replace again later");
        // The end of this job rings the bell, which leads here again.
        tokio::select! {
            biased;
            () = tokio::time::sleep(RETRY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Decides again, and replaces the container if that is still what should be done.
async fn replace(site: &Site<'_>, container: &str, shutdown: &CancellationToken) -> Result<(), LookError> {
    let failures = site.memory().replacing.try_again(container) + 1;
    // The look at the machine blocks, and comes second so that the engine works meanwhile.
    let (survey, supervisors) = tokio::join!(Survey::of(site), async { Supervisors::look(&site.settings.root) });
    let survey = survey?;
    let found = survey.containers.iter().find(|seen| seen.summary.name == container);
    let Some(track) = found.and_then(crate::survey::Surveyed::track) else { return Ok(()) };
    let view = TrackView::of(site, &survey, &track, Answer::NotAsked).await?;
    let stale =
        |decision: &&Decision| decision.container.summary.name == container && decision.row.action == Action::Replace;
    let Some(decision) = view.decisions.iter().find(stale) else { return Ok(()) };
    let found = match caught(prefetch::prefetch(site, &survey, &supervisors, &view, decision)).await {
        Ok(found) => found,
        Err(fault) => {
            leave_alone(site, decision, Trouble::Failed(fault.to_string()));
            return Ok(());
        }
    };
    match found {
        Ok(facts) => {
            let replacement = Replacement::new(site.ambient.hex(8), facts);
            carry_through(site, replacement.into(), shutdown).await;
            Ok(())
        }
        Err(error) if error.may_pass(failures) => {
            unready::note(site, container, &error, failures);
            Ok(())
        }
        Err(error) => {
            leave_alone(site, decision, error.trouble());
            Ok(())
        }
    }
}

/// Notes that a version cannot be deployed to a container of this machine until somebody does something.
fn leave_alone(world: &World, decision: &Decision, trouble: Trouble) {
    let name = &decision.container.summary.name;
    let (Some(target), Some(grounds)) = (&decision.target, &decision.grounds) else { return };
    let text = format!("left as it is: {}", trouble.reason());
    if !world.meet(&decision.container.summary.id, trouble, target.seq, grounds.retry) {
        return;
    }
    let track = decision.container.track();
    let image = track.as_ref().map(ToString::to_string).unwrap_or_default();
    world.account.tell_of("trouble", &image, name, None, text);
}

/// Carries a replacement through to its end, in this machine's turn.
async fn carry_through(site: &Site<'_>, mut left: Left, shutdown: &CancellationToken) {
    slot::resume_turn(site, &left.replacement);
    let (txn, facts) = (left.replacement.txn.clone(), &left.replacement.facts);
    let transition = Transition { track: facts.track.clone(), service: facts.service.clone() };
    site.memory().replacing.begin(&facts.container, transition);
    if left.is_taken_up || recovery::take_up(site, &mut left.replacement, shutdown).await {
        take_steps(site, left.replacement, shutdown).await;
    }
    site.memory().replacing.leave_turn(&txn);
}

/// Writes the journal before every act.
async fn take_steps(site: &Site<'_>, mut replacement: Replacement, shutdown: &CancellationToken) {
    let mut failures = 0;
    while let Some((act, _)) = replacement.phase.next() {
        if owing::is_taken(site, &replacement).await {
            return;
        }
        if let Err(error) = site.journals.write(&replacement) {
            if replacement.may_serve_nobody() {
                tracing::error!(error = &error as &dyn std::error::Error, "the journal cannot be written; going on");
            } else if replacement.phase.is_past_fence() {
                // Nothing was stopped yet, and going back is free: going on, a crash would leave it down for good.
                let failed = Event::Failed(Failure::Node(error.to_string()));
                give_up(site, &mut replacement, failed, &error);
                continue;
            } else {
                note_failed_here(site, &replacement, &error.to_string());
                abandon(site, &replacement, shutdown).await;
                return;
            }
        } else if replacement.reached >= Phase::Fenced {
            // Not before it is written down that this one owes it from now on.
            owing::take_over(site, &replacement).await;
        }
        failpoint::reached(&site.settings.state_dir, replacement.phase).await;
        let event = match act {
            Act::Claim if shutdown.is_cancelled() => Ok(Event::Failed(Failure::Superseded("shutting down".into()))),
            _ => fault::step(site, &mut replacement, act, shutdown).await,
        };
        for id in [Some(&replacement.facts.predecessor), replacement.candidate.as_ref()].into_iter().flatten() {
            site.engine_mirror.acted_on(Thing::Container(id.clone()));
        }
        match event {
            Ok(event) => {
                failures = 0;
                tell(site, &replacement, act, &event);
                if let Err(error) = replacement.apply(event) {
                    tracing::error!(error = %error, txn = replacement.txn, "replacement halted");
                    return;
                }
            }
            Err(error) => {
                failures += 1;
                if let Some(event) = error.given_up(site, &replacement, act, failures).await {
                    failures = 0;
                    refused::do_blindly(site, &replacement, act).await;
                    give_up(site, &mut replacement, event, &error);
                    continue;
                }
                let is_hopeless = error.is_left() || error.is_fault() || failures >= refused::REFUSALS_MAX;
                if shutdown.is_cancelled() && is_hopeless {
                    tracing::error!(error = %error, txn = replacement.txn, "left to the next start");
                    return;
                }
                let stuck = format!("{} in phase {}: {error}", replacement.txn, replacement.phase.word());
                site.memory().replacing.say(&replacement.facts.container, format!("stuck: {stuck}"));
                let wait = error.wait(failures, site.ambient.random());
                tracing::warn!(error = %error, txn = replacement.txn, "tried again in {wait:?}");
                // A wait after faults of our own may be long: the next start goes on sooner.
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(wait) => {}
                    () = shutdown.cancelled(), if error.is_fault() => {}
                }
            }
        }
    }
    failpoint::reached(&site.settings.state_dir, replacement.phase).await;
    finish(site, &replacement, shutdown).await;
}

/// Ends a replacement that has touched nothing. Its claim would keep everybody waiting until the next start.
async fn abandon(world: &World, replacement: &Replacement, shutdown: &CancellationToken) {
    let mut failures = 0;
    // Of a claim that this daemon still stands behind nobody else can rid the others.
    while let Err(error) = slot::release(world, replacement).await {
        failures += 1;
        tracing::error!(error = %error, txn = replacement.txn, "the slot could not be given back");
        tokio::select! {
            biased;
            () = tokio::time::sleep(Backoff::CONNECTION.wait(failures, world.ambient.random())) => {}
            () = shutdown.cancelled() => break,
        }
    }
    if let Err(error) = world.journals.close(&replacement.txn) {
        tracing::error!(error = &error as &dyn std::error::Error, "a journal stays behind");
    }
}

/// Goes on without an act that the engine refuses for good, and says so.
fn give_up(world: &World, replacement: &mut Replacement, event: Event, error: &dyn std::error::Error) {
    let facts = &replacement.facts;
    let text = format!("given up: {error}; see to it by hand");
    world.account.tell_of("trouble", &facts.track, &facts.container, Some(replacement.phase.word()), text);
    if let Err(error) = replacement.apply(event) {
        tracing::error!(error = %error, txn = replacement.txn, "an act given up");
    }
}

/// The end of a replacement: the journal goes last.
async fn finish(site: &Site<'_>, replacement: &Replacement, shutdown: &CancellationToken) {
    let facts = &replacement.facts;
    if owing::is_left_owing(site, replacement, shutdown).await {
        // The slot was given back: what follows holds none, after a restart either.
        if let Err(error) = site.journals.write(&Replacement { token: None, ..replacement.clone() }) {
            tracing::error!(error = &error as &dyn std::error::Error, "the journal of what is owed is not the newest");
        }
        return;
    }
    if let Err(error) = site.journals.close(&replacement.txn) {
        tracing::error!(error = &error as &dyn std::error::Error, "a finished journal stays behind");
    }
    owing::sweep(site).await;
    if let Err(error) = keep::tidy(site, site.hand, &facts.track).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "images are tidied after the next replacement");
    }
}

/// Notes that a version cannot be deployed to a container of this machine until somebody says go on.
fn note_failed_here(world: &World, replacement: &Replacement, reason: &str) {
    let facts = &replacement.facts;
    world.meet(&facts.predecessor, Trouble::Failed(reason.to_owned()), facts.seq, facts.grounds.retry);
}

fn tell(world: &World, replacement: &Replacement, act: Act, event: &Event) {
    let facts = &replacement.facts;
    let digest = facts.digest.short();
    let text = match (act, event) {
        (Act::Claim, Event::Done) => format!("taking its turn to become {digest}"),
        (Act::Create, Event::Done) => "candidate created".to_owned(),
        (Act::StopPredecessor, Event::Done) => "old one stopped".to_owned(),
        (Act::StartCandidate, Event::Done) => "candidate started, at the gate".to_owned(),
        (Act::ObserveCandidate, Event::Done) => "candidate passed the gate".to_owned(),
        (Act::RemovePredecessor, Event::Done) if replacement.failure.is_none() => format!("now runs {digest}"),
        (Act::RemovePredecessor, Event::Done) => format!("{digest} stays, though it failed: nothing else is left"),
        (Act::StartPredecessor, Event::Done) if replacement.owes_a_start() => "old one started again".to_owned(),
        (Act::Condemn, Event::Done) => match (replacement.charge(false), replacement.control) {
            (Some(reason), _) => format!("{digest} is bad: {reason}; the old one serves"),
            (None, Some(false)) => format!("{digest} was not deployed; the old one does not pass the same check"),
            (None, _) if replacement.was_ended_by_hand() => format!("{digest} was not deployed; left stopped"),
            (None, _) => format!("{digest} was not deployed; the old one serves"),
        },
        (_, Event::PredecessorGone { .. }) => "the old one was removed by somebody; the new one stays".to_owned(),
        (_, Event::Anew(why)) => format!("{why}; the new one begins anew"),
        (_, Event::Failed(failure)) => format!("going back: {}", failure.reason()),
        _ => return,
    };
    let phase = replacement.phase.next().map_or(replacement.phase, |(_, next)| next);
    let phase = if matches!(event, Event::Failed(_)) { Phase::Returning } else { phase };
    world.memory().replacing.say(&facts.container, text.clone());
    world.account.tell_of("replace", &facts.track, &facts.container, Some(phase.word()), text);
}

#[cfg(test)]
mod tests;
