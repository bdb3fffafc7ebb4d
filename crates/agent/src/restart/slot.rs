//! Fencing a slot and giving it back: the rest of the slot protocol, carried out over the store.

use deployer_core::availability::Report;
use deployer_core::mutation;
use deployer_core::replacement::{Event, Failure, Phase, Replacement};
use deployer_core::slot::{self, Claim, ClaimPhase, Token};
use deployer_store::StoreError;

use super::line::Line;
use crate::failpoint;
use crate::publish;
use crate::world::World;

/// Passes the fence, or finds that the grounds are gone.
pub async fn fence(world: &World, replacement: &Replacement) -> Result<Event, StoreError> {
    if failpoint::are_slots_off() {
        return Ok(Event::Done);
    }
    let Some(token) = &replacement.token else { return Ok(superseded("the claim was never taken")) };
    if mutation::is("fence_skipped") {
        return Ok(Event::Done);
    }
    let claim = claim_of(world, replacement, ClaimPhase::Acquired);
    let txn = slot::fence(&world.keys, token, &claim, &replacement.facts.grounds);
    let outcome = world.store.txn(txn).await?;
    if outcome.succeeded || is_past_fence(world, replacement, token).await? {
        return Ok(Event::Done);
    }
    Ok(superseded("something newer came in before the fence"))
}

/// Whether an earlier try passed the fence although its answer was lost.
async fn is_past_fence(world: &World, replacement: &Replacement, token: &Token) -> Result<bool, StoreError> {
    let line = Line::read(world, &token.scope).await?;
    let is_past = |claim: &Claim| claim.txn == replacement.txn && claim.phase == ClaimPhase::Stopping;
    Ok(line
        .claims
        .get(&token.slot)
        .is_some_and(|(entry, claim)| entry.create_revision == token.fence && is_past(claim)))
}

/// Gives the slot back, if it is still held, and says in the same breath how the instance is: the next to go down must
/// not be one whose others only seem to be up.
pub async fn release(world: &World, replacement: &Replacement) -> Result<Event, StoreError> {
    let Some(token) = &replacement.token else { return Ok(Event::Done) };
    let facts = &replacement.facts;
    // Before the others hear of it: one that waits on this machine looks as soon as the slot is free.
    leave_turn(world, &replacement.txn);
    let _saying = world.saying.lock().await;
    let release = || slot::release_if_held(&world.keys, token);
    let key = world.keys.report(&facts.service, &world.settings.node, &facts.container);
    let lease = world.presence.borrow().lease;
    if let (Some(report), Some((lease, _))) = (report_after(world, replacement, &key), lease) {
        match world.store.txn(release().put_leased(key.clone(), &report, lease)).await {
            Ok(outcome) if outcome.succeeded => publish::note(world, &key, &report),
            Ok(_) => {}
            Err(StoreError::LeaseGone) => drop(world.store.txn(release()).await?),
            Err(error) => return Err(error),
        }
    } else {
        world.store.txn(release()).await?;
    }
    Ok(Event::Done)
}

fn report_after(world: &World, replacement: &Replacement, key: &str) -> Option<Report> {
    let facts = &replacement.facts;
    let last = publish::last_report(world, key)?;
    Some(if replacement.phase == Phase::Judged {
        Report {
            up: true,
            id: replacement.candidate.clone().unwrap_or_default(),
            image_id: facts.new_image.clone(),
            digest: Some(facts.digest.clone()),
            state: "current".to_owned(),
            reason: String::new(),
        }
    } else {
        Report { up: last.up && replacement.control != Some(false), ..last }
    })
}

/// A claim of this replacement.
pub fn claim_of(world: &World, replacement: &Replacement, phase: ClaimPhase) -> Claim {
    let facts = &replacement.facts;
    Claim {
        node: world.settings.node.clone(),
        boot: world.settings.boot.clone(),
        txn: replacement.txn.clone(),
        image: facts.track.clone(),
        digest: facts.digest.clone(),
        container: facts.container.clone(),
        phase,
        machine: world.settings.identity.boot.clone(),
        state: world.settings.identity.state.clone(),
        at: world.ambient.now(),
    }
}

/// Reserves this machine's turn: one replacement at a time, whatever the scope. Gives back whose turn it is instead.
pub fn take_turn(world: &World, txn: &str) -> Option<String> {
    let mut memory = world.memory();
    let holder = memory.on_slot.get_or_insert_with(|| txn.to_owned());
    (holder != txn).then(|| holder.clone())
}

/// The replacement that has this machine's turn.
pub fn whose_turn(world: &World) -> Option<String> {
    world.memory().on_slot.clone()
}

/// Gives this machine's turn back, if it is this replacement's.
pub fn leave_turn(world: &World, txn: &str) {
    world.memory().on_slot.take_if(|holder| holder == txn);
}

/// Takes this machine's turn for a replacement that a daemon before this one began.
pub fn resume_turn(world: &World, replacement: &Replacement) {
    if replacement.token.is_some() && replacement.phase.holds_slot() {
        world.memory().on_slot = Some(replacement.txn.clone());
    }
}

/// The end of a replacement whose grounds are gone.
pub fn superseded(why: &str) -> Event {
    Event::Failed(Failure::Superseded(why.to_owned()))
}
