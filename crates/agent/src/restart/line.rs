//! The line of those who wait for a slot, as one of them sees it: who holds a slot, and who comes right before. However
//! long the line is, a look at it is one question of the same size.

use std::collections::BTreeMap;

use deployer_core::image::Track;
use deployer_core::queue::Ticket;
use deployer_core::replacement::Facts;
use deployer_core::slot::Claim;
use deployer_core::store::{Entry, Listed, Range, Revision};
use deployer_store::StoreError;

use super::near::{self, Near};
use crate::ledger::{Read, decode, readable};
use crate::world::World;

/// Slots of a scope that are looked for at once. Where there are more, who would get one of them waits for one before.
pub const PLACES_MAX: u32 = 128;
/// Tickets that make no sense and are passed over. Whoever waits behind more of them comes before its turn, which is unfair
/// and no danger.
const PASSED_OVER: u32 = 32;

/// The slots of a scope that are taken.
#[derive(Default)]
pub struct Claims {
    /// By the slot's number, each with the claim as it was written.
    pub taken: BTreeMap<u32, (Entry, Claim)>,
    /// Claims and holds as they were listed, for the ending of dead claims.
    pub entries: Vec<Entry>,
}

impl Claims {
    /// Reads them.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not answer, or holds a claim that makes no sense: nobody knows what is down then.
    pub async fn read(world: &World, scope: &str) -> Result<Self, StoreError> {
        let ranges = [Range::All(world.keys.claims(scope)), Range::All(world.keys.holds(scope))];
        let (found, _) = world.store.ranges(&ranges).await?;
        Self::of(world, found.into_iter().flat_map(|found| found.entries).collect())
    }

    fn of(world: &World, entries: Vec<Entry>) -> Result<Self, StoreError> {
        let mut taken = BTreeMap::new();
        for entry in &entries {
            if let Some((_, slot)) = world.keys.slot_of(&entry.key) {
                let claim: Read<Claim> = decode(entry.clone())?;
                taken.insert(slot, (entry.clone(), claim.value));
            }
        }
        Ok(Self { taken, entries })
    }

    /// Whether somebody is in the middle of replacing this instance.
    pub fn is_claimed(&self, node: &str, container: &str) -> bool {
        self.taken.values().any(|(_, claim)| claim.node == node && claim.container == container)
    }
}

/// A scope at one revision, seen from one place in line.
pub struct Line {
    /// The revision.
    pub revision: Revision,
    /// The slots that are taken.
    pub claims: Claims,
    /// Where a deferral has put the rollout; 0: nowhere.
    pub deferred: Revision,
    /// The own ticket, if one stands, with its key.
    pub own: Option<(String, Ticket)>,
    /// Tickets before it, the nearest first: as many as there may be slots, and at least the nearest. Without an own ticket,
    /// the last of the line. Whoever holds a slot keeps its ticket until it gives the slot back.
    before: Vec<(String, Ticket)>,
    /// What one whose turn it is has to know, if that was asked for.
    pub near: Option<Near>,
}

impl Line {
    /// Reads what there is to know from the place of one that waits, if there are so many slots at most.
    ///
    /// # Errors
    /// Those of [`Claims::read`].
    pub async fn read(world: &World, facts: &Facts, slots: u32, is_near: bool) -> Result<Self, StoreError> {
        // Those who hold slots may be among the tickets before.
        let limit = slots.saturating_mul(2);
        let line = Self::ask(world, facts, limit, is_near).await?;
        match line.hides_others(limit) {
            false => Ok(line.line),
            true => Ok(Self::ask(world, facts, limit.saturating_add(PASSED_OVER), is_near).await?.line),
        }
    }

    async fn ask(world: &World, facts: &Facts, limit: u32, is_near: bool) -> Result<Answer, StoreError> {
        let (keys, scope) = (&world.keys, &facts.scope);
        let own = world.memory().tickets.last(&facts.container);
        let deferral = keys.deferral(scope, &facts.track);
        let before = own.clone().unwrap_or_else(|| keys.end_of_line(scope));
        let mut ranges = vec![
            Range::All(keys.claims(scope)),
            Range::All(keys.holds(scope)),
            Range::All(deferral.clone()),
            Range::All(before.clone()),
            Range::LastBefore { prefix: keys.line(scope), before, limit },
        ];
        if is_near {
            ranges.extend(near::questions(world, facts));
        }
        let (found, revision) = world.store.ranges(&ranges).await?;
        let mut found = found.into_iter();
        let mut next = || found.next().unwrap_or_default().entries;
        let (mut claims, holds) = (next(), next());
        claims.extend(holds);
        // The prefix of a key is that of others, too.
        let exactly = |entries: Vec<Entry>, key: &str| entries.into_iter().find(|entry| entry.key == key);
        let deferred = exactly(next(), &deferral).and_then(|entry| readable::<Track>(world, entry));
        let own = exactly(next(), own.as_deref().unwrap_or_default()).and_then(|entry| ticket(world, entry));
        let tickets = next();
        let asked = tickets.len();
        let is_other = |ticket: &Ticket| ticket.node != world.settings.node || ticket.container != facts.container;
        let before = tickets.into_iter().filter_map(|entry| ticket(world, entry));
        let rest: Vec<Listed> = found.collect();
        let claims = Claims::of(world, claims)?;
        let line = Self {
            revision,
            deferred: deferred.map_or(0, |deferral| deferral.revision),
            own,
            before: before.filter(|(_, ticket)| is_other(ticket)).collect(),
            near: is_near.then(|| Near::of(world, facts, &rest, claims.taken.len())),
            claims,
        };
        Ok(Answer { line, asked })
    }

    /// How many wait before this one, up to the number that was asked for.
    pub fn place(&self) -> usize {
        self.before.iter().filter(|(_, ticket)| !self.claims.is_claimed(&ticket.node, &ticket.container)).count()
    }

    /// The free slot that falls to this place in line, of so many.
    pub fn free_slot(&self, slots: u32) -> Option<u32> {
        let is_free = |slot: &u32| !self.claims.taken.contains_key(slot);
        (0..slots).filter(is_free).nth(self.place())
    }

    /// The ticket right before this place, with its key.
    pub fn nearest(&self) -> Option<&(String, Ticket)> {
        self.before.first()
    }

    /// Whether everybody before this place holds a slot, so that the next one may be this one's.
    pub fn is_next(&self, slots: u32) -> bool {
        self.place() < slots as usize
    }
}

/// A line, and how many tickets were found before the own one.
struct Answer {
    line: Line,
    asked: usize,
}

impl Answer {
    /// Whether so much of what was found makes no sense that there may be others behind it.
    fn hides_others(&self, limit: u32) -> bool {
        self.asked == limit as usize && self.line.before.len() < self.asked
    }
}

fn ticket(world: &World, entry: Entry) -> Option<(String, Ticket)> {
    let key = entry.key.clone();
    readable(world, entry).map(|read: Read<Ticket>| (key, read.value))
}
