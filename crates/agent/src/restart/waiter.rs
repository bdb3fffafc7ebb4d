//! One that waits in line: what it remembers from look to look, what its own machine shows of it, and its ticket.

use std::time::Duration;

use deployer_core::queue::Ticket;
use deployer_core::replacement::Facts;
use deployer_core::store::{Compare, Revision, Txn};
use deployer_engine::EngineError;
use deployer_store::StoreError;
use tokio::time::Instant;

use super::interest::Interest;
use super::line::Line;
use crate::sign::be_certain;
use crate::survey::{Survey, Surveyed};
use crate::world::World;

/// The longest pause between two looks of one whose turn it is, should a change have been missed.
pub const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The same for one with others before it, lengthened by chance up to twice as long: hundreds may wait in a line.
const LOOK_BEHIND: Duration = Duration::from_secs(120);

/// What a waiter remembers from look to look.
#[derive(Default)]
pub struct Patience {
    /// Since when other nodes are waited for to have the image.
    pub fetching: Option<Instant>,
    /// The one of them that is waited for now.
    pub late: Option<String>,
    /// Since when it would be this one's turn, and something else is in the way.
    pub blocked: Option<Instant>,
    /// The line's revision at which it came, which is its place among equals.
    pub came: Option<Revision>,
    /// How often a slot that seemed free was not given.
    pub refused: u32,
    /// Whether the next slot may be this one's.
    pub is_next: bool,
    /// Whether this machine has to come free first.
    pub for_the_turn: bool,
}

/// How a look at the line ended without a slot.
pub enum Stay {
    /// Look again after a change of these keys, or after this time.
    Until(Interest, Duration),
    /// Look again in a moment.
    Moment,
    /// Look again at once: what has changed is the own ticket.
    Not,
}

/// What this machine's own engine says of the container that waits: nobody else knows it better or sooner.
pub struct Here {
    /// All that it shows.
    pub survey: Result<Survey, EngineError>,
    is_down: bool,
    /// Whether there is nothing left to be replaced: no instance of this name will ever be counted.
    pub is_gone: bool,
    /// What on this machine keeps it from going, for people.
    pub in_the_way: Option<String>,
}

impl Here {
    /// A look at it.
    pub async fn look(world: &World, facts: &Facts) -> Self {
        let survey = Survey::of(world).await;
        let own = survey.as_ref().ok().and_then(|survey| survey.named(&facts.container));
        let is_down = own.is_some_and(Surveyed::is_down);
        let is_gone = survey.is_ok() && own.is_none_or(|seen| seen.summary.id != facts.predecessor);
        let turn = world.memory().replacing.whose_turn();
        let in_the_way = match &survey {
            Err(_) => Some("waiting for the engine".to_owned()),
            Ok(_) => turn.map(|other| format!("waiting for replacement {other} on this machine")),
        };
        Self { survey, is_down, is_gone, in_the_way }
    }
}

/// Draws a ticket if there is none yet, or another one if it does not say any more how the container is, and says what to
/// wait for.
///
/// # Errors
/// [`StoreError`] if the store does not answer: whether the ticket was drawn is in doubt then.
pub async fn take_ticket(
    world: &World,
    facts: &Facts,
    line: &Line,
    slots: u32,
    patience: &Patience,
    here: &Here,
    is_its_turn: bool,
) -> Result<Stay, StoreError> {
    let keys = &world.keys;
    // One that has gone behind the others for its machine's sake stays there until the machine is free.
    let was_blocked = line.own.as_ref().is_some_and(|(_, ticket)| ticket.is_blocked);
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
    let turn = ticket.turn(line.deferred, patience.came.unwrap_or(line.revision));
    let key = keys.ticket(&facts.scope, &turn, &ticket.node, &ticket.container);
    if line.own.as_ref().is_none_or(|(own, drawn)| *own != key || *drawn != ticket) {
        let Some((lease, sign)) = be_certain(world).await? else { return Ok(Stay::Moment) };
        let before = world.memory().tickets.draw(&facts.container, &key);
        let txn = Txn::new().when(Compare::ModRevision(keys.node(&ticket.node), sign));
        let txn = before.into_iter().fold(txn, Txn::delete).put_leased(key, &ticket, lease);
        return match world.store.txn(txn).await {
            Ok(outcome) if !outcome.succeeded => {
                // The sign is not the one that is known here.
                world.memory().doubt.arise();
                Ok(Stay::Moment)
            }
            // The line has changed by this ticket: look where it stands.
            Ok(_) => {
                world.memory().tickets.drawn(&facts.container);
                Ok(Stay::Not)
            }
            Err(StoreError::LeaseGone) => Ok(Stay::Moment),
            Err(error) => {
                world.memory().doubt.arise();
                Err(error)
            }
        };
    }
    let node = &ticket.node;
    if let Some(late) = &patience.late {
        return Ok(Stay::Until(Interest::of_one_late(keys, facts, node, late), LOOK_AGAIN));
    }
    if is_its_turn || is_blocked {
        return Ok(Stay::Until(Interest::of_the_first(keys, facts, node), LOOK_AGAIN));
    }
    // As many are woken by a slot as there are slots, the only one's next by the ticket that goes with it; each of the
    // others by the one before.
    let is_next = line.is_next(slots);
    Ok(match line.nearest() {
        Some((before, _)) if !is_next || slots == 1 => {
            let behind = LOOK_BEHIND.mul_f64(1.0 + (world.ambient.random() % 1000) as f64 / 1000.0);
            let limit = if is_next { LOOK_AGAIN } else { behind };
            Stay::Until(Interest::of_one_behind(keys, facts, node, before), limit)
        }
        _ => Stay::Until(Interest::of_the_next(keys, facts, node), LOOK_AGAIN),
    })
}
