//! Asking the registry what a track points to, once for the whole cluster, and writing down what it said.
//!
//! A version is written by read, resolve, compare-and-swap: what the store held before the registry was asked must still
//! stand when its answer is written, so that no late answer is ever left on top.

use deployer_core::backoff::Backoff;
use deployer_core::image::{Digest, Track};
use deployer_core::plan::Answer;
use deployer_core::record::{Record, Source};
use deployer_core::store::{Compare, Txn};
use tokio::time::Instant;

use super::LookError;
use super::around::try_again;
use crate::engine::ResolveError;
use crate::ledger::{Ledger, Read, Resolver};
use crate::situation::TrackView;
use crate::store::StoreError;
use crate::survey::Survey;
use crate::world::{Retry, World};

/// Times that a registry is asked for a digest that a notification named and the tag never shows: about two
/// minutes. After that the notification counts as overtaken by a later push.
const NOT_YET_MAX: u32 = 6;

/// What came of the wish to ask.
pub enum Asked {
    /// The registry's answer, the digest that it named, and what the store held before it was asked.
    Answered(Answer, Option<Digest>, Ledger),
    /// Another node asks, or what there was to ask about has changed: look again.
    Elsewhere,
}

/// Asks the registry, once for everybody who waits: the other nodes see that this one does. While a failing registry is
/// left in peace the turn is kept, so that the others do not take theirs; a refusal may be this node's alone.
///
/// # Errors
/// [`StoreError`] if the store does not answer; the registry's failures are answers.
pub async fn ask(world: &World, track: &Track, view: &TrackView) -> Result<Asked, StoreError> {
    let Some(before) = take_turn(world, track, view).await? else { return Ok(Asked::Elsewhere) };
    let outcome = world.engine.resolve(track).await;
    let (answer, reason) = match &outcome {
        Ok(resolved) => (classify(world, &before, track, &resolved.digest), String::new()),
        Err(error @ ResolveError::Absent { .. }) => (Answer::Absent, error.to_string()),
        Err(error @ ResolveError::Denied { .. }) => (Answer::Denied, error.to_string()),
        Err(error) => (Answer::Unavailable, error.to_string()),
    };
    match answer {
        Answer::Absent | Answer::Denied => {
            note_trouble(world, track, &reason);
            world.store.txn(Txn::new().delete(world.keys.resolver(track))).await?;
            world.memory().asking.remove(track);
        }
        Answer::Unavailable => note_trouble(world, track, &reason),
        Answer::NotYet => {
            note_trouble(world, track, "the tag does not show the digest yet that the notification named")
        }
        _ => drop(world.memory().asked.remove(track)),
    }
    Ok(Asked::Answered(answer, outcome.ok().map(|resolved| resolved.digest), before))
}

/// Takes the turn to ask, if nobody has it and what is to be asked about still stands. Gives back the facts as they were
/// then, the turn included.
async fn take_turn(world: &World, track: &Track, view: &TrackView) -> Result<Option<Ledger>, StoreError> {
    let ledger = &view.ledger;
    if ledger.is_asking(world) {
        return Ok(Some(ledger.clone()));
    }
    let Some((lease, _)) = world.presence.borrow().lease else { return Ok(None) };
    let keys = &world.keys;
    let here = Resolver::here(world);
    let txn = Txn::new()
        .when(Compare::ModRevision(keys.resolver(track), ledger.no_resolver_revision()))
        .when(Compare::ModRevision(keys.record(track), ledger.record_revision()))
        .put_leased(keys.resolver(track), &here, lease);
    // The check that another node has made since is not made again.
    let txn = if ledger.is_checked { txn } else { txn.when(Compare::ModRevision(keys.checked(track), 0)) };
    let outcome = world.store.txn(txn).await?;
    if !outcome.succeeded {
        return Ok(None);
    }
    world.memory().asking.insert(track.clone());
    Ok(Some(Ledger { resolver: Some(Read { value: here, revision: outcome.revision }), ..ledger.clone() }))
}

/// What the registry's digest means for the record. A digest that a notification named and that is no longer
/// under the tag was overtaken if the record knows it, or if the tag never showed it.
fn classify(world: &World, before: &Ledger, track: &Track, digest: &Digest) -> Answer {
    let record = before.record.as_ref().map(|record| &record.value);
    if record.and_then(Record::newest).map(|newest| &newest.digest) != Some(digest) {
        return Answer::Other;
    }
    let named = before.pending.as_ref().and_then(|pending| pending.value.digest.as_ref());
    let is_known = |named: &Digest| record.is_some_and(|r| r.history().iter().any(|v| v.digest == *named));
    let tries = world.memory().asked.get(track).map_or(0, |retry| retry.failures);
    match named {
        Some(named) if named != digest && !is_known(named) && tries < NOT_YET_MAX => Answer::NotYet,
        _ => Answer::Newest,
    }
}

fn note_trouble(world: &World, track: &Track, reason: &str) {
    let mut memory = world.memory();
    let failures = memory.asked.get(track).map_or(0, |retry| retry.failures) + 1;
    memory
        .asked
        .insert(track.clone(), Retry { failures, due: Instant::now(), reason: reason.to_owned(), is_hopeless: false });
}

/// Notes when the registry is asked again.
pub fn ask_again(world: &World, view: &TrackView, backoff: Backoff) {
    let random = world.ambient.random();
    let mut memory = world.memory();
    let Some(retry) = memory.asked.get_mut(&view.track) else { return };
    let wait = backoff.wait(retry.failures, random);
    retry.due = Instant::now() + wait;
    let text = format!("{}; asking again in {} s", retry.reason, wait.as_secs());
    drop(memory);
    world.account.tell("registry", &view.track, text);
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
        world.memory().asking.remove(&view.track);
        accept_tag(world, survey, &view.track);
        let seq = record.newest().map_or(0, |newest| newest.seq);
        world.account.tell("record", &view.track, format!("version {seq} is {}", digest.short()));
    }
    Ok(())
}

/// The digest that containers of the track run now; the registry's own if it is among several.
fn running_digest(survey: &Survey, view: &TrackView, registry: &Digest) -> Option<Digest> {
    let image = &view.decisions.first()?.container.summary.image_id;
    let digests = survey.digests_of(&view.track, image);
    digests.iter().find(|digest| *digest == registry).or(digests.first()).cloned()
}

/// Drops the notification that was served: the registry has nothing newer.
pub async fn settle(world: &World, survey: &Survey, view: &TrackView, before: &Ledger) -> Result<(), LookError> {
    let track = &view.track;
    mark_checked(world, before, track).await;
    if !before.settle(world, track).await? {
        return Ok(());
    }
    world.memory().asking.remove(track);
    accept_tag(world, survey, track);
    if before.pending.is_some() {
        // A new push says: go on where a rollout was halted.
        try_again(world, view);
        world.account.tell("hook", track, "the registry has nothing newer".to_owned());
    }
    Ok(())
}

/// Takes the local tag as it is, once the registry was asked about its move.
fn accept_tag(world: &World, survey: &Survey, track: &Track) {
    let id = survey.image_under(track).map(|image| image.id.clone());
    world.memory().local_tags.insert(track.clone(), id);
}
