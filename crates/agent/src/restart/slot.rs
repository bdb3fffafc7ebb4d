//! Fencing a slot and giving it back: the rest of the slot protocol, carried out over the store.

use deployer_core::availability::Report;
use deployer_core::replacement::{Event, Failure, Phase, Replacement};
use deployer_core::slot::{self, Claim, ClaimPhase, Token};
use deployer_core::store::{Entry, Txn};
use deployer_store::StoreError;

use super::line::Claims;
use crate::failpoint;
use crate::publish;
use crate::sign::be_certain;
use crate::survey::{Survey, Surveyed};
use crate::world::World;

/// Passes the fence, or finds that the grounds are gone.
pub async fn fence(world: &World, replacement: &Replacement) -> Result<Event, StoreError> {
    if failpoint::are_slots_off() {
        return Ok(Event::Done);
    }
    let Some(token) = &replacement.token else { return Ok(superseded("the claim was never taken")) };
    let claim = claim_of(world, replacement, ClaimPhase::Acquired, token.at);
    let txn = slot::fence(&world.keys, token, &claim, &replacement.facts.grounds);
    let outcome = world.store.txn(txn).await?;
    if outcome.succeeded || is_past_fence(world, replacement, token).await? {
        return Ok(Event::Done);
    }
    Ok(superseded("something newer came in before the fence"))
}

/// Whether an earlier try passed the fence although its answer was lost.
async fn is_past_fence(world: &World, replacement: &Replacement, token: &Token) -> Result<bool, StoreError> {
    let claims = Claims::read(world, &token.scope).await?;
    let is_past = |claim: &Claim| claim.txn == replacement.txn && claim.phase == ClaimPhase::Stopping;
    Ok(claims
        .taken
        .get(&token.slot)
        .is_some_and(|(entry, claim)| entry.create_revision == token.fence && is_past(claim)))
}

/// Gives the slot back, if it is still held, and says in the same breath how the instance is: the next to go down must
/// not be one whose others only seem to be up.
pub async fn release(world: &World, replacement: &Replacement) -> Result<Event, StoreError> {
    let Some(token) = &replacement.token else {
        // One that has waited and gives up has its place in line all the same.
        leave_line(world, replacement).await?;
        return Ok(Event::Done);
    };
    let facts = &replacement.facts;
    // The gate was passed a while ago: since then it may have ended, and its engine may have died.
    let survey = Survey::of(world).await;
    let is_up = survey.is_ok_and(|survey| survey.named(&facts.container).is_some_and(Surveyed::is_up));
    be_certain(world).await?;
    // Before the others hear of it: one that waits on this machine looks as soon as the slot is free.
    world.leave_turn(&replacement.txn);
    let _saying = world.saying.lock().await;
    let tickets = world.memory().tickets.all(&facts.container);
    let Some(own) = own_claim(world, replacement, token).await? else {
        leave_line(world, replacement).await?;
        return Ok(Event::Done);
    };
    let release = || tickets.iter().cloned().fold(slot::release_if_held(&world.keys, token, own.clone()), Txn::delete);
    let key = world.keys.report(&facts.service, &world.settings.node, &facts.container);
    let lease = world.presence.borrow().lease;
    let outcome = if let (Some(report), Some((lease, _))) = (report_after(world, replacement, &key, is_up), lease) {
        publish::doubt(world, &key);
        match world.store.txn(publish::say_too(world, release(), &key, &report, lease)).await {
            Ok(outcome) if outcome.succeeded => {
                publish::note(world, &key, &report);
                outcome
            }
            Ok(outcome) => outcome,
            Err(StoreError::LeaseGone) => world.store.txn(release()).await?,
            Err(error) => return Err(error),
        }
    } else {
        world.store.txn(release()).await?
    };
    if outcome.succeeded {
        world.memory().tickets.forget(&facts.container);
    } else {
        // The slot was not its own any more, and nobody is to wait for its ticket either.
        leave_line(world, replacement).await?;
    }
    Ok(Event::Done)
}

/// The claim that is held under a token, as it was written; `None` if it is not this replacement's. Its revision alone does not
/// tell: in a store that was restored another's may have come into being at the same one.
async fn own_claim(world: &World, replacement: &Replacement, token: &Token) -> Result<Option<Vec<u8>>, StoreError> {
    let found = world.store.get(&world.keys.claim(&token.scope, token.slot)).await?;
    let is_own =
        |entry: &Entry| serde_json::from_slice::<Claim>(&entry.value).is_ok_and(|it| it.txn == replacement.txn);
    Ok(found.filter(is_own).map(|entry| entry.value))
}

/// The ticket of one who does not wait any more would keep the others waiting; it ends with the lease at the latest.
pub async fn leave_line(world: &World, replacement: &Replacement) -> Result<(), StoreError> {
    let container = &replacement.facts.container;
    let tickets = world.memory().tickets.all(container);
    if !tickets.is_empty() {
        be_certain(world).await?;
        world.store.txn(tickets.into_iter().fold(Txn::new(), Txn::delete)).await?;
        world.memory().tickets.forget(container);
    }
    Ok(())
}

fn report_after(world: &World, replacement: &Replacement, key: &str, is_up: bool) -> Option<Report> {
    let facts = &replacement.facts;
    let last = publish::last_report(world, key)?;
    Some(if replacement.phase == Phase::Judged {
        Report {
            up: is_up,
            id: replacement.candidate.clone().unwrap_or_default(),
            image_id: facts.new_image.clone(),
            digest: Some(facts.digest.clone()),
            state: "current".to_owned(),
            reason: String::new(),
        }
    } else {
        Report { up: is_up && replacement.control != Some(false), ..last }
    })
}

/// A claim of this replacement, taken at a moment (Unix seconds).
pub fn claim_of(world: &World, replacement: &Replacement, phase: ClaimPhase, at: i64) -> Claim {
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
        at,
    }
}

/// Takes this machine's turn for a replacement that a daemon before this one began.
pub fn resume_turn(world: &World, replacement: &Replacement) {
    if replacement.token.is_some() && replacement.phase.holds_slot() {
        world.memory().replacing.resume_turn(&replacement.txn);
    }
}

/// The end of a replacement whose grounds are gone.
pub fn superseded(why: &str) -> Event {
    Event::Failed(Failure::Superseded(why.to_owned()))
}
