//! Waiting for a slot and taking it: the line, the availability of the service, and the barrier before a rollout.

use std::time::Duration;

use deployer_core::mutation;
use deployer_core::node::Sign;
use deployer_core::queue::{TICKETS_MAX, Ticket};
use deployer_core::record::Verdicts;
use deployer_core::replacement::{Event, Facts, Replacement};
use deployer_core::slot::{self, Claim, ClaimPhase, Entrant, Token};
use deployer_core::store::{Revision, Txn};
use deployer_engine::EngineError;
use deployer_store::StoreError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::line::{Interest, Line, Service, signs, still_fetching};
use super::slot::{claim_of, leave_turn, superseded, take_turn, whose_turn};
use crate::claims;
use crate::failpoint;
use crate::ledger::{self, Ledger};
use crate::survey::Survey;
use crate::world::World;

/// How long the first slot of a rollout waits for every node to have the image; late ones join when they are ready.
const BARRIER: Duration = Duration::from_secs(300);
/// How long a rollout that cannot go on keeps others waiting.
const HEAD: Duration = Duration::from_secs(60);
/// The longest pause between two looks of one whose turn it is, should a change have been missed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The same for one with others before it, lengthened by chance up to twice as long: hundreds may wait in a line.
const LOOK_BEHIND: Duration = Duration::from_secs(120);
/// The pause before one that holds a slot looks whether the other replacement of this machine is through.
const TURN_AGAIN: Duration = Duration::from_secs(1);
/// The pause after a transaction that found the world changed, so that many who try do not do so in step.
const CONTENDED: Duration = Duration::from_millis(20);

/// What a waiter remembers from look to look.
#[derive(Default)]
struct Patience {
    /// Since when other nodes are waited for to have the image.
    fetching: Option<Instant>,
    /// Since when it would be this one's turn, and something else is in the way.
    blocked: Option<Instant>,
}

/// How a look at the line ended.
enum Look {
    /// With a slot, or with nothing to wait for any more.
    Ended(Event),
    /// Without; and the revision that was looked at.
    Stays(Stay, Revision),
}

/// How a look at the line ended without a slot.
enum Stay {
    /// Look again after a change of these keys, or after this time.
    Until(Interest, Duration),
    /// Look again in a moment.
    Moment,
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
        leave_line(world, replacement).await?;
    }
    outcome
}

/// Leaves the line after a wait that broke off. A claim that was taken unnoticed is noted, so that it is given back.
pub async fn leave(world: &World, replacement: &mut Replacement) -> Result<(), StoreError> {
    if replacement.token.is_none() {
        let line = Line::read(world, &replacement.facts.scope).await?;
        replacement.token = own_claim(world, replacement, &line);
        leave_line(world, replacement).await?;
    }
    Ok(())
}

/// The ticket of one who does not wait any more would keep the others waiting; it ends with the lease at the latest.
async fn leave_line(world: &World, replacement: &Replacement) -> Result<(), StoreError> {
    leave_turn(world, &replacement.txn);
    let facts = &replacement.facts;
    let ticket = world.keys.ticket(&facts.scope, &world.settings.node, &facts.container);
    world.store.txn(Txn::new().delete(ticket)).await.map(drop)
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
        leave_turn(world, &replacement.txn);
        match stay {
            Stay::Moment => tokio::time::sleep(CONTENDED).await,
            Stay::Until(interest, limit) => {
                tokio::select! {
                    biased;
                    () = changes.hear(interest.prefixes(), seen) => {}
                    () = tokio::time::sleep(limit) => {}
                    () = shutdown.cancelled() => {}
                }
            }
        }
    }
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
    // Side by side: a slot stands free for as long as this takes.
    let facts = &mut replacement.facts;
    let (line, ledger, (verdicts, revisions)) = tokio::try_join!(
        Line::read(world, &facts.scope),
        Ledger::read(world, &facts.track),
        ledger::verdicts(world, &facts.service),
    )?;
    let lost = lost_grounds(world, facts, &ledger, &verdicts);
    if lost.is_none() {
        facts.grounds = ledger::grounds(&ledger, &facts.service, &facts.digest, &revisions);
        facts.is_first &= !verdicts.is_good(&facts.digest);
    }
    if let Some(token) = own_claim(world, replacement, &line) {
        replacement.token = Some(token);
        return match take_turn(world, &replacement.txn) {
            None => Ok(Look::Ended(Event::Done)),
            // Held already, and not to be used before the other on this machine is through.
            Some(_) => Ok(Look::Stays(Stay::Until(Interest::of_nothing(), TURN_AGAIN), line.revision)),
        };
    }
    if let Some(gone) = lost {
        return Ok(Look::Ended(superseded(&gone)));
    }
    Ok(match try_claim(world, replacement, &line, patience).await? {
        Ok(token) => {
            replacement.token = Some(token);
            Look::Ended(Event::Done)
        }
        Err(stay) => Look::Stays(stay, line.revision),
    })
}

/// A claim whose answer was lost is ours all the same; waited for, it would be waited for for ever.
fn own_claim(world: &World, replacement: &Replacement, line: &Line) -> Option<Token> {
    let is_own = |claim: &Claim| claim.txn == replacement.txn && claim.boot == world.settings.boot;
    let (slot, (entry, _)) = line.claims.iter().find(|(_, (_, claim))| is_own(claim))?;
    Some(Token { scope: replacement.facts.scope.clone(), slot: *slot, fence: entry.create_revision })
}

async fn try_claim(
    world: &World,
    replacement: &Replacement,
    line: &Line,
    patience: &mut Patience,
) -> Result<Result<Token, Stay>, StoreError> {
    let facts = &replacement.facts;
    if claims::end_dead(world, &line.entries).await? {
        return Ok(Err(Stay::Moment));
    }
    let here = Here::look(world, facts).await;
    let place = line.place(&world.settings.node, &facts.container);
    // One that certainly has others before it reads no more than the line.
    if let Some(slots) = world.settings.scope.slots_known(facts.limit)
        && free_slot(line, slots, place).is_none()
    {
        patience.blocked = None;
        say_for_whom(world, facts, line, place);
        return take_ticket(world, facts, line, place, slots, &here, false).await;
    }
    let (service, signs) = tokio::join!(Service::read(world, facts, line), signs(world));
    let (mut service, signs) = (service?, signs?);
    if let Ok(survey) = &here.survey {
        service.correct(world, survey, line);
    }
    let slots = world.settings.scope.slots(facts.limit, service.standings.len());
    let Some(slot) = free_slot(line, slots, place) else {
        patience.blocked = None;
        say_for_whom(world, facts, line, place);
        return take_ticket(world, facts, line, place, slots, &here, false).await;
    };
    if let Some(obstacle) = obstacle(world, replacement, &service, &signs, &here, patience).await? {
        say(world, facts, obstacle);
        give_way(world, facts, line, patience).await?;
        return take_ticket(world, facts, line, place, slots, &here, true).await;
    }
    let Some((lease, sign)) = world.presence.borrow().lease else { return Ok(Err(Stay::Moment)) };
    let entrant = Entrant { scope: facts.scope.clone(), slot, seen: line.revision, lease, sign };
    let claim = claim_of(world, replacement, ClaimPhase::Acquired);
    let outcome = world.store.txn(slot::acquire(&world.keys, &entrant, &claim, &facts.grounds)).await;
    match outcome {
        Ok(outcome) if outcome.succeeded => Ok(Ok(Token { scope: entrant.scope, slot, fence: outcome.revision })),
        Ok(_) | Err(StoreError::LeaseGone) => Ok(Err(Stay::Moment)),
        Err(error) => Err(error),
    }
}

/// The free slot that falls to one at this place in line; without a place one comes behind all that wait.
fn free_slot(line: &Line, slots: u32, place: Option<usize>) -> Option<u32> {
    let is_free = |slot: &u32| !line.claims.contains_key(slot) || mutation::is("lock_ignored");
    (0..slots).filter(is_free).nth(place.unwrap_or(line.waiting.len()))
}

/// What this machine's own engine says of the container that waits: nobody else knows it better or sooner.
struct Here {
    survey: Result<Survey, EngineError>,
    is_down: bool,
    /// What on this machine keeps it from going, for people.
    in_the_way: Option<String>,
}

impl Here {
    async fn look(world: &World, facts: &Facts) -> Self {
        let survey = Survey::of(world).await;
        let own = survey.as_ref().ok().and_then(|survey| survey.named(&facts.container));
        let is_down = own.is_some_and(|seen| !seen.is_up());
        let in_the_way = match &survey {
            Err(_) => Some("waiting for the engine".to_owned()),
            Ok(_) => whose_turn(world).map(|other| format!("waiting for replacement {other} on this machine")),
        };
        Self { survey, is_down, in_the_way }
    }
}

/// What the one whose turn it is has to wait for all the same, for people.
async fn obstacle(
    world: &World,
    replacement: &Replacement,
    service: &Service,
    signs: &[Sign],
    here: &Here,
    patience: &mut Patience,
) -> Result<Option<String>, StoreError> {
    let facts = &replacement.facts;
    if let Some(in_the_way) = &here.in_the_way {
        return Ok(Some(in_the_way.clone()));
    }
    if let Some(other) = take_turn(world, &replacement.txn) {
        return Ok(Some(format!("waiting for replacement {other} on this machine")));
    }
    let scope = world.settings.scope.word();
    if let Some(other) = signs.iter().find(|sign| sign.scope != scope) {
        let text =
            format!("waiting for {} to take slots of the same scope: it has scope = \"{}\"", other.node, other.scope);
        return Ok(Some(text));
    }
    if let Some(obstacle) = service.obstacle(world, facts) {
        return Ok(Some(obstacle));
    }
    if !service.is_first(facts) {
        return Ok(None);
    }
    let since = *patience.fetching.get_or_insert_with(Instant::now);
    let late = still_fetching(world, facts, signs).await?.filter(|_| since.elapsed() < BARRIER);
    Ok(late.map(|node| format!("waiting for {node} to have the image")))
}

/// Draws a ticket if there is none yet, or mends one that no longer says how the container is, and says what to wait for.
async fn take_ticket(
    world: &World,
    facts: &Facts,
    line: &Line,
    place: Option<usize>,
    slots: u32,
    here: &Here,
    is_its_turn: bool,
) -> Result<Result<Token, Stay>, StoreError> {
    let keys = &world.keys;
    let Some((lease, _)) = world.presence.borrow().lease else { return Ok(Err(Stay::Moment)) };
    let drawn = place.and_then(|place| line.waiting.get(place));
    // One that has gone behind the others for its machine's sake stays there until the machine is free.
    let was_blocked = drawn.is_some_and(|drawn| drawn.ticket.is_blocked);
    let is_blocked = here.in_the_way.is_some() && (is_its_turn || was_blocked || here.survey.is_err());
    let ticket = Ticket {
        node: world.settings.node.clone(),
        container: facts.container.clone(),
        image: facts.track.clone(),
        record: facts.grounds.record,
        is_down: here.is_down,
        is_blocked,
        runs: facts.runs,
    };
    let is_full = line.waiting.len() >= TICKETS_MAX && !ticket.is_down;
    if drawn.is_none() && is_full {
        return Ok(Err(Stay::Until(Interest::of_the_first(keys, facts, &ticket.node), LOOK_AGAIN)));
    }
    if drawn.is_none_or(|drawn| drawn.ticket != ticket) {
        let key = keys.ticket(&facts.scope, &ticket.node, &ticket.container);
        return match world.store.txn(Txn::new().put_leased(key, &ticket, lease)).await {
            // The line has changed by this ticket: look where it stands.
            Ok(_) | Err(StoreError::LeaseGone) => Ok(Err(Stay::Moment)),
            Err(error) => Err(error),
        };
    }
    // As many are woken by a slot as there are slots; each of the others by the one before.
    let place = place.unwrap_or_default();
    let before = line.waiting.get(place.wrapping_sub(1)).filter(|_| place >= slots as usize && !is_blocked);
    Ok(Err(match before {
        Some(before) => {
            let limit = LOOK_BEHIND.mul_f64(1.0 + (world.ambient.random() % 1000) as f64 / 1000.0);
            Stay::Until(Interest::of_one_behind(keys, facts, &ticket.node, &before.ticket), limit)
        }
        None => Stay::Until(Interest::of_the_first(keys, facts, &ticket.node), LOOK_AGAIN),
    }))
}

/// Lets other rollouts go first if this one has not been able to go on for long.
async fn give_way(world: &World, facts: &Facts, line: &Line, patience: &mut Patience) -> Result<(), StoreError> {
    let since = *patience.blocked.get_or_insert_with(Instant::now);
    let others_wait = line.waiting.iter().any(|drawn| drawn.ticket.image != facts.track);
    if others_wait && since.elapsed() >= HEAD {
        patience.blocked = None;
        let key = world.keys.deferral(&facts.scope, &facts.track);
        world.store.txn(Txn::new().put(key, &facts.track)).await?;
        world.account.tell("queue", &facts.track, "gives way to others that wait".to_owned());
    }
    Ok(())
}

fn say_for_whom(world: &World, facts: &Facts, line: &Line, place: Option<usize>) {
    let before = place.unwrap_or(line.waiting.len());
    let holder = line.claims.values().next().map(|(_, claim)| format!("{} on {}", claim.container, claim.node));
    let text = match (holder, before) {
        (Some(holder), 0) => format!("waiting for {holder}"),
        (Some(holder), before) => format!("waiting for {holder}, and {before} more before this"),
        (None, before) => format!("waiting for {before} more before this"),
    };
    say(world, facts, text);
}

fn say(world: &World, facts: &Facts, text: String) {
    world.memory().replacing.insert(facts.container.clone(), text);
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
