//! Asking the registry what a track points to, once for the whole cluster, and writing down what it said.
//!
//! A version is written by read, resolve, compare-and-swap: what the store held before the registry was asked must still
//! stand when its answer is written, so that no late answer is ever left on top.

use deployer_core::asking::{Question, Setback, Then, then};
use deployer_core::backoff::Backoff;
use deployer_core::image::{Digest, Track};
use deployer_core::plain;
use deployer_core::plan::{Answer, Ownership};
use deployer_core::record::{Record, Source};
use deployer_core::store::Txn;
use deployer_engine::{ResolveError, Resolved};
use deployer_store::StoreError;
use tokio::time::Instant;

use crate::asking::Wait;
use crate::ledger::Ledger;
use crate::look::LookError;
use crate::situation::{Decision, TrackView, unrecorded};
use crate::survey::Survey;
use crate::turn;
use crate::world::World;

/// What came of the wish to ask.
pub enum Asked {
    /// The registry's answer, the digest that it named, and what the store held before it was asked.
    Answered(Answer, Option<Digest>, Ledger),
    /// Another node asks, or what there was to ask about has changed: look again.
    Elsewhere,
}

/// Asks the registry, once for everybody who waits: the other nodes see that this one does.
///
/// # Errors
/// [`StoreError`] if the store does not answer; the registry's failures are answers.
pub async fn ask(world: &World, track: &Track, view: &TrackView) -> Result<Asked, StoreError> {
    let Some(before) = turn::take(world, track, &view.ledger).await? else { return Ok(Asked::Elsewhere) };
    let outcome = world.engine.resolve(track).await;
    let (answer, reason) = classify(world, &before, track, &outcome);
    let of = match answer {
        Answer::Other | Answer::Newest => {
            world.memory().asking.believe(track);
            return Ok(Asked::Answered(answer, outcome.ok().map(|resolved| resolved.digest), before));
        }
        // A later notification says that there is something new to see. Of the rest it says nothing.
        Answer::NotYet | Answer::Older | Answer::Absent | Answer::NeverThere => before.pending_revision(),
        _ => 0,
    };
    let failures = failures(world, &before, track) + 1;
    let mut memory = world.memory();
    let since = before.retry;
    memory.asking.wait(track, Wait { failures, due: Instant::now(), reason, of, since });
    if let Some(turn) = memory.asking.turn(track) {
        turn.failures += 1;
    }
    Ok(Asked::Answered(answer, None, before))
}

/// What the registry's answer means, and what to say of it.
fn classify(
    world: &World,
    before: &Ledger,
    track: &Track,
    outcome: &Result<Resolved, ResolveError>,
) -> (Answer, String) {
    let doubted = world.memory().asking.doubted(track, Instant::now());
    let question = Question {
        record: before.record.as_ref().map(|record| &record.value),
        named: before.pending.as_ref().and_then(|pending| pending.value.digest.as_ref()),
        tries: failures(world, before, track),
        doubted: doubted.as_ref(),
    };
    let answer = match outcome {
        Ok(resolved) => question.weigh(&resolved.digest),
        Err(ResolveError::Absent { .. }) => question.weigh_absence(),
        Err(ResolveError::Denied { .. }) => Answer::Denied,
        Err(_) => Answer::Unavailable,
    };
    let reason = match (answer, outcome) {
        (_, Err(error)) => error.to_string(),
        (Answer::Older, Ok(resolved)) => {
            world.memory().asking.doubt(track, &resolved.digest, Instant::now());
            format!("the tag shows {} again, which is an older version", resolved.digest.short())
        }
        (_, Ok(_)) => "the tag does not show the digest yet that the notification named".to_owned(),
    };
    (answer, reason)
}

/// Failures in a row for the same question, here or elsewhere.
fn failures(world: &World, ledger: &Ledger, track: &Track) -> u32 {
    let pending = ledger.pending_revision();
    let here = ledger.wait(world, track).map_or(0, |wait| wait.failures);
    let elsewhere = ledger.setbacks.iter().filter(|setback| setback.is_of(pending));
    elsewhere.map(|setback| setback.failures).fold(here, u32::max)
}

/// Leaves the registry in peace after an answer that was of no use, and the turn to another node if it may fare better.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn set_back(
    world: &World,
    track: &Track,
    before: &Ledger,
    answer: Answer,
    backoff: Backoff,
    and: Txn,
) -> Result<(), StoreError> {
    let random = world.ambient.random();
    let (wait, time, failures_in_turn) = {
        let Some(wait) = before.wait(world, track) else { return Ok(()) };
        let mut memory = world.memory();
        let time = backoff.wait(wait.failures, random);
        let wait = Wait { due: Instant::now() + time, ..wait };
        memory.asking.wait(track, wait.clone());
        (wait, time, memory.asking.turn(track).map_or(0, |turn| turn.failures))
    };
    world.account.tell("registry", track, format!("{}; asking again in {:.1} s", wait.reason, time.as_secs_f64()));
    if then(answer, failures_in_turn) == Then::Keep {
        return Ok(());
    }
    let Wait { failures, of, .. } = wait;
    let (node, reason) = (world.settings.node.clone(), plain::words(&wait.reason));
    let setback = Setback { node, reason, failures, of, at: world.ambient.now() };
    // It ends before this node asks again, so that another one comes first.
    turn::leave(world, track, before, &setback, backoff.wait(failures, 0), and).await
}

/// Drops a notification of a tag that nobody finds.
///
/// # Errors
/// [`LookError`] if the store does not answer.
pub async fn give_up(world: &World, survey: &Survey, view: &TrackView, before: &Ledger) -> Result<(), LookError> {
    let track = &view.track;
    mark_checked(world, before, track).await;
    survey.accept_tag(world, track);
    let dropping = before.dropping_pending(world, track, Txn::new());
    if before.pending.is_some() {
        world.account.tell("hook", track, "dropped: nobody finds the tag that it speaks of".to_owned());
    }
    Ok(set_back(world, track, before, Answer::NeverThere, Backoff::REGISTRY, dropping).await?)
}

/// The mark that keeps everybody from asking again within the check period.
async fn mark_checked(world: &World, before: &Ledger, track: &Track) {
    let Some(period) = world.settings.registry_check.filter(|_| !before.is_checked) else { return };
    let mark = async {
        let lease = world.store.grant(period).await?;
        world.store.txn(Txn::new().put_leased(world.keys.checked(track), &world.settings.node, lease)).await
    };
    if let Err(error) = mark.await {
        tracing::warn!(error = %error, "the registry may be asked again sooner than needed");
    }
}

/// What made this node want to ask.
pub fn why(view: &TrackView) -> Source {
    let is_moved = view.decisions.iter().any(|decision| decision.row.name == "moved_by_hand");
    match &view.ledger.pending {
        Some(_) => Source::Hook,
        None if is_moved => Source::LocalTag,
        None => Source::Check,
    }
}

/// Writes a new version, if nothing newer came in since the registry was asked.
pub async fn advance(
    world: &World,
    survey: &Survey,
    view: &TrackView,
    before: &Ledger,
    digest: Digest,
    source: Source,
) -> Result<(), LookError> {
    let now = world.ambient.now();
    let record = match &before.record {
        Some(record) => record.value.advanced(digest.clone(), source, now),
        None => Record::adopt(running_digest(survey, view, &digest).as_ref(), &digest, source, now),
    };
    // The mark comes first: a turn that ends without it would be taken again at once, by everybody.
    mark_checked(world, before, &view.track).await;
    if before.write_record(world, &view.track, &record).await? {
        world.memory().asking.end_turn(&view.track);
        hear(world, view);
        survey.accept_tag(world, &view.track);
        let seq = record.newest().map_or(0, |newest| newest.seq);
        world.account.tell("record", &view.track, format!("version {seq} is {}", digest.short()));
    }
    Ok(())
}

/// What is adopted when a track is first seen: a digest that a managed container runs now; the registry's own if it is
/// among several. What somebody tries out beside it, or has left behind, is nothing to go back to.
fn running_digest(survey: &Survey, view: &TrackView, registry: &Digest) -> Option<Digest> {
    let is_ours = |decision: &&Decision| decision.situation.ownership == Ownership::Managed;
    let running = view.decisions.iter().filter(is_ours).filter(|decision| decision.container.is_meant_to_run());
    let digests: Vec<Digest> =
        running.flat_map(|decision| survey.digests_of(&view.track, &decision.container.summary.image_id)).collect();
    digests.iter().find(|digest| *digest == registry).or(digests.first()).cloned()
}

/// Drops the notification that was served: the registry has nothing newer.
pub async fn settle(world: &World, survey: &Survey, view: &TrackView, before: &Ledger) -> Result<(), LookError> {
    let track = &view.track;
    mark_checked(world, before, track).await;
    if !before.settle(world, track).await? {
        return Ok(());
    }
    world.memory().asking.end_turn(track);
    hear(world, view);
    survey.accept_tag(world, track);
    if before.pending.is_some() {
        world.account.tell("hook", track, "the registry has nothing newer".to_owned());
    }
    Ok(())
}

/// Notes that the registry has answered although containers run what the record does not know.
fn hear(world: &World, view: &TrackView) {
    for decision in &view.decisions {
        if let Some(digest) = unrecorded(world, &view.ledger, &view.track, &decision.container) {
            world.memory().asking.hear(&view.track, digest);
        }
    }
}
