//! Waiting for a slot and taking it: the line, the availability of the service, and the barrier before a rollout.

use std::time::Duration;

use deployer_core::record::Verdicts;
use deployer_core::replacement::{Event, Facts, Replacement};
use deployer_core::slot::{self, Claim, ClaimPhase, Entrant, Token};
use deployer_core::store::{Revision, Txn};
use deployer_engine::mirror::Snapshot;
use deployer_store::StoreError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::interest::Interest;
use super::line::{Claims, Line, PLACES_MAX};
use super::near::{Near, is_first, still_fetching};
use super::slot::{claim_of, leave_line, superseded};
use super::waiter::{Here, Patience, Stay, take_ticket};
use crate::claims;
use crate::failpoint;
use crate::ledger::{self, Ledger};
use crate::sign::{self, be_certain};
use crate::world::World;

/// How long the first slot of a rollout waits for every node to have the image; late ones join when they are ready.
const BARRIER: Duration = Duration::from_secs(300);
/// How long a rollout that cannot go on keeps others waiting.
const HEAD: Duration = Duration::from_secs(60);
/// The pause before one that holds a slot looks whether the other replacement of this machine is through.
const TURN_AGAIN: Duration = Duration::from_secs(1);
/// The pause after a transaction that found the world changed, so that many who try do not do so in step.
const CONTENDED: Duration = Duration::from_millis(20);
/// After so many that were refused, not for others who came first it may be, but for the own sign.
const REFUSED_MAX: u32 = 3;

/// How a look at the line ended.
enum Look {
    /// With a slot, or with nothing to wait for any more.
    Ended(Event),
    /// Without; and the revision that was looked at.
    Stays(Stay, Revision),
}

/// Waits for a slot and takes it, unless the grounds go away meanwhile.
pub async fn claim(
    world: &World,
    replacement: &mut Replacement,
    shutdown: &CancellationToken,
) -> Result<Event, StoreError> {
    if failpoint::are_slots_off() {
        return Ok(Event::Done);
    }
    let outcome = wait_in_line(world, replacement, shutdown).await;
    if replacement.token.is_none() {
        world.memory().replacing.leave_turn(&replacement.txn);
        leave_line(world, replacement).await?;
    }
    outcome
}

/// Leaves the line after a wait that broke off. A claim that was taken unnoticed is noted, so that it is given back.
pub async fn leave(world: &World, replacement: &mut Replacement) -> Result<(), StoreError> {
    if replacement.token.is_none() {
        let claims = Claims::read(world, &replacement.facts.scope).await?;
        replacement.token = own_claim(world, replacement, &claims);
        world.memory().replacing.leave_turn(&replacement.txn);
        leave_line(world, replacement).await?;
    }
    Ok(())
}

async fn wait_in_line(
    world: &World,
    replacement: &mut Replacement,
    shutdown: &CancellationToken,
) -> Result<Event, StoreError> {
    let mut patience = Patience::default();
    // Heard from before the first look, so that a slot freed in between is not missed.
    let mut changes = world.mirror.listen();
    loop {
        if shutdown.is_cancelled() || !is_registered(world, shutdown).await {
            return Ok(superseded("shutting down"));
        }
        let (stay, seen) = match look(world, replacement, &mut patience).await? {
            Look::Ended(event) => return Ok(event),
            Look::Stays(stay, seen) => (stay, seen),
        };
        world.memory().replacing.leave_turn(&replacement.txn);
        match stay {
            Stay::Not => {}
            Stay::Moment => tokio::time::sleep(CONTENDED).await,
            Stay::Until(interest, limit) => {
                let again = Instant::now() + limit;
                // Whoever holds a slot already goes on first.
                let due = world.memory().owed.due(&replacement.facts.container);
                let due = due.filter(|_| replacement.token.is_none());
                tokio::select! {
                    biased;
                    () = changes.hear(interest.prefixes(), seen) => {}
                    () = world.turn_over.notified(), if patience.for_the_turn => {}
                    () = gone(world, &replacement.facts), if replacement.token.is_none() => {}
                    () = tokio::time::sleep_until(due.map_or(again, |due| due.min(again))) => {}
                    () = shutdown.cancelled() => {}
                }
            }
        }
    }
}

/// Waits until the container is there no more, or goes by another name. What waits for it counts as an instance for as long, and
/// under both names would make a percentage of the service larger.
async fn gone(world: &World, facts: &Facts) {
    let mut shown = world.engine_mirror.subscribe();
    let is_gone = |now: &Snapshot| {
        let own = now.containers.get(&facts.predecessor);
        now.is_heard().is_ok() && own.is_none_or(|own| own.name != facts.container)
    };
    // The mirror lives as long as this process.
    drop(shown.wait_for(|now| is_gone(now)).await);
}

/// Waits until this node is registered: before, nothing that it could do in line would count. `false`: it is ending.
async fn is_registered(world: &World, shutdown: &CancellationToken) -> bool {
    let mut presence = world.presence.subscribe();
    tokio::select! {
        biased;
        registered = presence.wait_for(|presence| presence.lease.is_some()) => registered.is_ok(),
        () = shutdown.cancelled() => false,
    }
}

/// One look at the line, and the try to take a slot if it is one's turn.
async fn look(world: &World, replacement: &mut Replacement, patience: &mut Patience) -> Result<Look, StoreError> {
    let facts = &replacement.facts;
    let slots = world.settings.scope.slots_known(facts.limit).unwrap_or(PLACES_MAX).min(PLACES_MAX);
    // Side by side: a slot stands free for as long as this takes.
    let (line, ledger, (verdicts, revisions)) = tokio::try_join!(
        Line::read(world, facts, slots, patience.is_next),
        Ledger::read(world, &facts.track),
        ledger::verdicts(world, &facts.service),
    )?;
    let seen = line.revision;
    let facts = &mut replacement.facts;
    let lost = lost_grounds(world, facts, &ledger, &verdicts);
    if lost.is_none() {
        facts.grounds = ledger::grounds(&ledger, &facts.service, &facts.digest, &revisions);
        facts.is_first &= !verdicts.is_good(&facts.digest);
    }
    if let Some(token) = own_claim(world, replacement, &line.claims) {
        replacement.token = Some(token);
        return match world.memory().replacing.take_turn(&replacement.txn) {
            None => Ok(Look::Ended(Event::Done)),
            // Held already, and not to be used before the other on this machine is through.
            Some(_) => Ok(Look::Stays(Stay::Until(Interest::of_nothing(), TURN_AGAIN), seen)),
        };
    }
    let container = &replacement.facts.container;
    if world.memory().owed.is_due(container, Instant::now()) {
        // The end of this job leads to its start, and to another replacement after that.
        return Ok(Look::Ended(superseded("what is owed here is started first")));
    }
    let here = Here::look(world, &replacement.facts).await;
    patience.for_the_turn = here.in_the_way.is_some();
    if let Some(gone) = lost.or_else(|| here.is_gone.then(|| "the container is gone, or has another name".to_owned())) {
        return Ok(Look::Ended(superseded(&gone)));
    }
    Ok(match try_claim(world, replacement, line, slots, patience, here).await? {
        Ok(token) => {
            replacement.token = Some(token);
            Look::Ended(Event::Done)
        }
        Err(stay) => Look::Stays(stay, seen),
    })
}

/// A claim whose answer was lost is ours all the same; waited for, it would be waited for for ever.
fn own_claim(world: &World, replacement: &Replacement, claims: &Claims) -> Option<Token> {
    let is_own = |claim: &Claim| claim.txn == replacement.txn && claim.boot == world.settings.boot;
    let (slot, (entry, claim)) = claims.taken.iter().find(|(_, (_, claim))| is_own(claim))?;
    let scope = replacement.facts.scope.clone();
    Some(Token { scope, slot: *slot, fence: entry.create_revision, at: claim.at })
}

async fn try_claim(
    world: &World,
    replacement: &Replacement,
    mut line: Line,
    slots: u32,
    patience: &mut Patience,
    here: Here,
) -> Result<Result<Token, Stay>, StoreError> {
    let facts = &replacement.facts;
    if claims::end_dead(world, &line.claims.entries).await? {
        return Ok(Err(Stay::Moment));
    }
    patience.is_next = line.is_next(slots);
    patience.came = patience.came.or(Some(line.revision));
    let near = line.near.take();
    // One that certainly has others before it reads no more than the line.
    let near = match line.free_slot(slots) {
        None => None,
        Some(_) if near.is_some() => near,
        Some(_) => Some(Near::read(world, facts, &line).await?),
    };
    let slots = near.as_ref().map_or(slots, |near| world.settings.scope.slots(facts.limit, near.instances()));
    let (Some(mut near), Some(slot)) = (near, line.free_slot(slots)) else {
        patience.blocked = None;
        say_for_whom(world, facts, &line, slots);
        return take_ticket(world, facts, &line, slots, patience, &here, false).await.map(Err);
    };
    if let Ok(survey) = &here.survey {
        near.correct(world, facts, survey, &line.claims);
    }
    // Of many who come at once one reads everybody's words, and that has a ticket.
    let reads_all = facts.is_first || !near.lets_go(world, facts);
    if line.own.is_none() && reads_all && !near.is_alone {
        return take_ticket(world, facts, &line, slots, patience, &here, false).await.map(Err);
    }
    if let Some(obstacle) = obstacle(world, replacement, &line, &near, &here, patience).await? {
        say(world, facts, obstacle);
        give_way(world, facts, near.others_wait, patience).await?;
        return take_ticket(world, facts, &line, slots, patience, &here, true).await.map(Err);
    }
    let Some((lease, sign)) = be_certain(world).await? else { return Ok(Err(Stay::Moment)) };
    let entrant = Entrant { scope: facts.scope.clone(), slot, seen: line.revision, lease, sign };
    let at = world.ambient.now();
    let claim = claim_of(world, replacement, ClaimPhase::Acquired, at);
    let outcome = world.store.txn(slot::acquire(&world.keys, &entrant, &claim, &facts.grounds)).await;
    match outcome {
        Ok(outcome) if outcome.succeeded => Ok(Ok(Token { scope: entrant.scope, slot, fence: outcome.revision, at })),
        Ok(_) => {
            patience.refused += 1;
            if patience.refused.is_multiple_of(REFUSED_MAX) {
                sign::ask(world).await?;
            }
            Ok(Err(Stay::Moment))
        }
        Err(StoreError::LeaseGone) => Ok(Err(Stay::Moment)),
        Err(error) => {
            world.memory().doubt.arise();
            Err(error)
        }
    }
}

/// What the one whose turn it is has to wait for all the same, for people.
async fn obstacle(
    world: &World,
    replacement: &Replacement,
    line: &Line,
    near: &Near,
    here: &Here,
    patience: &mut Patience,
) -> Result<Option<String>, StoreError> {
    let facts = &replacement.facts;
    patience.late = None;
    let survey = match (&here.in_the_way, &here.survey) {
        (None, Ok(survey)) => survey,
        (in_the_way, _) => return Ok(in_the_way.clone()),
    };
    if let Some(other) = world.memory().replacing.take_turn(&replacement.txn) {
        patience.for_the_turn = true;
        return Ok(Some(format!("waiting for replacement {other} on this machine")));
    }
    if let Some(obstacle) = near.obstacle(world, facts, line, survey).await? {
        return Ok(Some(obstacle));
    }
    // What was found good has been run, and what nobody had run when this one's turn came nobody runs now.
    if !facts.is_first || patience.fetching.is_none() && !is_first(world, facts).await? {
        return Ok(None);
    }
    let since = *patience.fetching.get_or_insert_with(Instant::now);
    patience.late = still_fetching(world, facts).await?.filter(|_| since.elapsed() < BARRIER);
    Ok(patience.late.as_ref().map(|node| format!("waiting for {node} to have the image")))
}

/// Lets other rollouts go first if this one has not been able to go on for long.
async fn give_way(world: &World, facts: &Facts, others_wait: bool, patience: &mut Patience) -> Result<(), StoreError> {
    let since = *patience.blocked.get_or_insert_with(Instant::now);
    if others_wait && since.elapsed() >= HEAD {
        patience.blocked = None;
        let key = world.keys.deferral(&facts.scope, &facts.track);
        world.store.txn(Txn::new().put(key, &facts.track)).await?;
        world.account.tell("queue", &facts.track, "gives way to others that wait".to_owned());
    }
    Ok(())
}

fn say_for_whom(world: &World, facts: &Facts, line: &Line, slots: u32) {
    let holder = line.claims.taken.values().next().map(|(_, claim)| format!("{} on {}", claim.container, claim.node));
    let before = line.nearest().filter(|_| !line.is_next(slots));
    let before = before.map(|(_, ticket)| format!("{} on {}", ticket.container, ticket.node));
    let text = match (holder, before) {
        (Some(holder), Some(before)) => format!("waiting for {holder}, and {before} comes right before this"),
        (Some(before), None) | (None, Some(before)) => format!("waiting for {before}"),
        (None, None) => "waiting for its turn".to_owned(),
    };
    say(world, facts, text);
}

fn say(world: &World, facts: &Facts, text: String) {
    world.memory().replacing.say(&facts.container, text);
}

/// Why there is nothing to wait for any more, if so. That the digest was found good meanwhile, or a halt of another
/// version ended, takes no ground away.
fn lost_grounds(world: &World, facts: &Facts, ledger: &Ledger, verdicts: &Verdicts) -> Option<String> {
    if ledger.is_paused {
        return Some("the cluster was paused".to_owned());
    }
    if ledger.record_revision() != facts.grounds.record || verdicts.is_bad(&facts.digest) {
        return Some("a newer decision stands".to_owned());
    }
    let halt = ledger.standing_halt(world, &facts.track, facts.seq)?;
    Some(format!("halted by trouble on {}: {}", halt.node, halt.reason))
}

#[cfg(test)]
mod tests;
