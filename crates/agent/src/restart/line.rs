//! The line of those who wait for a slot: who holds one, who is before whom, and what the first still has to wait for.

use std::collections::{BTreeMap, BTreeSet};

use deployer_core::availability::{Fetched, Instance, Report, Standing, Wait, may_go_down};
use deployer_core::image::Track;
use deployer_core::keys::Keys;
use deployer_core::node::Sign;
use deployer_core::queue::{Drawn, Ticket, in_order};
use deployer_core::replacement::Facts;
use deployer_core::slot::Claim;
use deployer_core::store::{Entry, Revision};
use deployer_store::StoreError;

use crate::ledger::{Read, decode, readable};
use crate::survey::{Survey, Surveyed};
use crate::world::World;

/// A scope at one revision.
pub struct Line {
    /// The revision.
    pub revision: Revision,
    /// The slots that are taken, with the claim as it was written.
    pub claims: BTreeMap<u32, (Entry, Claim)>,
    /// All of it as it was listed, for the ending of dead claims.
    pub entries: Vec<Entry>,
    /// Those who wait, in the order of their turns.
    pub waiting: Vec<Drawn>,
}

impl Line {
    /// Reads a scope.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not answer, or holds a claim that makes no sense: nobody knows what is down then.
    pub async fn read(world: &World, scope: &str) -> Result<Self, StoreError> {
        let keys = &world.keys;
        let (entries, revision) = world.store.list(&keys.scope(scope)).await?;
        let mut line = Self { revision, claims: BTreeMap::new(), entries: entries.clone(), waiting: Vec::new() };
        let (mut tickets, mut deferrals) = (Vec::new(), BTreeMap::new());
        for entry in entries {
            if let Some((_, slot)) = keys.slot_of(&entry.key) {
                let claim: Read<Claim> = decode(entry.clone())?;
                line.claims.insert(slot, (entry, claim.value));
            } else if entry.key.starts_with(&keys.queue(scope)) {
                let revision = entry.create_revision;
                tickets.extend(readable(world, entry).map(|read| Drawn { ticket: read.value, revision }));
            } else if entry.key.starts_with(&keys.deferrals(scope)) {
                let deferral: Option<Read<Track>> = readable(world, entry);
                deferrals.extend(deferral.map(|deferral| (deferral.value, deferral.revision)));
            }
        }
        line.waiting = in_order(tickets, &deferrals);
        Ok(line)
    }

    /// Whether somebody is in the middle of replacing this instance.
    pub fn is_claimed(&self, node: &str, container: &str) -> bool {
        self.claims.values().any(|(_, claim)| claim.node == node && claim.container == container)
    }

    /// Where a container of a node stands in the line, if it has a ticket.
    pub fn place(&self, node: &str, container: &str) -> Option<usize> {
        self.waiting.iter().position(|drawn| drawn.ticket.node == node && drawn.ticket.container == container)
    }
}

/// A service as the cluster sees it.
pub struct Service {
    /// Its registered instances.
    pub standings: Vec<Standing>,
    /// What the living nodes say of them.
    reports: Vec<Report>,
}

impl Service {
    /// Reads a service. The claims must have been read before: an instance that is claimed after that makes the
    /// transaction fail, one that is released after that only looks worse than it is.
    pub async fn read(world: &World, facts: &Facts, line: &Line) -> Result<Self, StoreError> {
        let keys = &world.keys;
        let (instances, reports) = (keys.instances(&facts.service), keys.reports(&facts.service));
        let (instances, reports) = tokio::try_join!(world.store.list(&instances), world.store.list(&reports))?;
        let mut reported = BTreeMap::new();
        for entry in reports.0 {
            let place = entry.key.strip_prefix(&keys.reports(&facts.service)).unwrap_or_default().to_owned();
            let report: Option<Read<Report>> = readable(world, entry);
            reported.extend(report.map(|report| (place, report.value)));
        }
        let mut standings = Vec::new();
        for entry in instances.0 {
            let place = entry.key.strip_prefix(&keys.instances(&facts.service)).unwrap_or_default().to_owned();
            let key = entry.key.clone();
            let read = readable(world, entry).map(|read: Read<Instance>| read.value);
            let read = read.map(|instance| (instance.node, instance.container, instance.off));
            // Whose it is stands in the key, too, and that may well run: it counts as its node says, and without a word
            // of that as down.
            let known = read.or_else(|| keys.instance_of(&key).map(|(node, container)| (node, container, false)));
            let Some((node, container, off)) = known else { continue };
            let is_claimed = line.is_claimed(&node, &container);
            let is_up = !is_claimed && reported.get(&place).is_some_and(|report| report.up);
            if !off {
                standings.push(Standing { node, container, is_up });
            }
        }
        Ok(Self { standings, reports: reported.into_values().collect() })
    }

    /// Puts in what this node's engine shows now: of its own instances a node believes nothing else, since its reports may be
    /// older, or gone with a lease.
    pub fn correct(&mut self, world: &World, survey: &Survey, line: &Line) {
        let node = &world.settings.node;
        for standing in self.standings.iter_mut().filter(|standing| standing.node == *node) {
            let is_up = survey.named(&standing.container).is_some_and(Surveyed::is_up);
            standing.is_up = is_up && !line.is_claimed(node, &standing.container);
        }
    }

    /// Why the instance may not go down now, if so, for people.
    pub fn obstacle(&self, world: &World, facts: &Facts) -> Option<String> {
        match may_go_down(&self.standings, &world.settings.node, &facts.container, facts.limit) {
            Ok(()) => None,
            Err(Wait::NotRegistered) => Some("waiting for this node to be registered".to_owned()),
            Err(Wait::OthersDown(down)) => Some(format!("waiting for {} on {} to be up", down.container, down.node)),
        }
    }

    /// Whether no instance runs the digest yet, so that the rollout is to begin.
    pub fn is_first(&self, facts: &Facts) -> bool {
        !self.reports.iter().any(|report| report.digest.as_ref() == Some(&facts.digest))
    }
}

/// The nodes that live.
pub async fn signs(world: &World) -> Result<Vec<Sign>, StoreError> {
    let entries = world.store.list(&world.keys.nodes()).await?.0;
    Ok(entries.into_iter().filter_map(|entry| readable(world, entry)).map(|read| read.value).collect())
}

/// A living node that runs the track and has not said whether it has the digest; the first slot waits for it, so that
/// versions are mixed for no longer than the replacements take.
pub async fn still_fetching(world: &World, facts: &Facts, signs: &[Sign]) -> Result<Option<String>, StoreError> {
    let running = world.store.list(&world.keys.runs(&facts.track)).await?.0;
    let running: BTreeSet<&str> = running.iter().map(|entry| entry.key.as_str()).collect();
    let runs = |sign: &&Sign| running.contains(world.keys.run(&facts.track, &sign.node).as_str());
    let mut said = BTreeSet::new();
    for entry in world.store.list(&world.keys.fetched(&facts.track)).await?.0 {
        let key = entry.key.clone();
        let fetched: Option<Read<Fetched>> = readable(world, entry);
        said.extend(fetched.filter(|fetched| fetched.value.speaks_of(&facts.digest)).map(|_| key));
    }
    let has_said = |sign: &&Sign| said.contains(&world.keys.fetched_by(&facts.track, &sign.node));
    let is_other = |sign: &&Sign| sign.node != world.settings.node;
    Ok(signs.iter().filter(is_other).filter(runs).find(|sign| !has_said(sign)).map(|sign| sign.node.clone()))
}

/// The keys after whose change a waiter looks again.
pub struct Interest(Vec<String>);

impl Interest {
    /// One whose turn it is waits for slots, for others to be up, and for their pulls.
    pub fn of_the_first(keys: &Keys, facts: &Facts, node: &str) -> Self {
        let mut interest = Self::of_everybody(keys, facts, node);
        interest.0.extend([keys.claims(&facts.scope), keys.holds(&facts.scope), keys.nodes()]);
        interest.0.extend([keys.instances(&facts.service), keys.reports(&facts.service), keys.fetched(&facts.track)]);
        interest
    }

    /// Anybody else waits for the one before alone, so that a slot that is given back wakes one node and not all.
    pub fn of_one_behind(keys: &Keys, facts: &Facts, node: &str, before: &Ticket) -> Self {
        let mut interest = Self::of_everybody(keys, facts, node);
        interest.0.push(keys.ticket(&facts.scope, &before.node, &before.container));
        interest
    }

    /// One that waits for something else looks again after its time alone.
    pub fn of_nothing() -> Self {
        Self(Vec::new())
    }

    /// What takes away the grounds of a wait, and what changes the order; the report of the instance itself, since its ticket
    /// says whether it is down.
    fn of_everybody(keys: &Keys, facts: &Facts, node: &str) -> Self {
        let verdicts = keys.verdicts(&facts.service);
        Self(vec![
            keys.record(&facts.track),
            keys.halt(&facts.track),
            verdicts,
            keys.pause(),
            keys.deferrals(&facts.scope),
            keys.report(&facts.service, node, &facts.container),
        ])
    }

    /// What they begin with.
    pub fn prefixes(&self) -> &[String] {
        &self.0
    }
}
