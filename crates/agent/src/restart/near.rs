//! What one whose turn it is has to know before it may go: whether the service can spare its instance, whether everybody
//! takes slots of the same scope, and whether others have the image. Where numbers tell, everybody's words are not read.

use std::collections::{BTreeMap, BTreeSet};

use deployer_core::availability::{Fetched, Instance, Report, Standing, Tally, Wait, may_go_down};
use deployer_core::node::Sign;
use deployer_core::queue::Ticket;
use deployer_core::replacement::Facts;
use deployer_core::store::{Entry, Listed, Range};
use deployer_store::StoreError;

use super::line::{Claims, Line};
use crate::ledger::{Read, readable};
use crate::survey::Survey;
use crate::world::World;

/// What is counted for one whose turn it is, at one revision.
pub struct Near {
    /// The service, but that the own instances are as they are registered, and not yet as the engine shows them.
    tally: Tally,
    /// Whether all living nodes say that they take slots of the same kind of scope.
    is_one_scope: bool,
    /// Whether no other node lives.
    pub is_alone: bool,
    /// Whether a container of another track waits.
    pub others_wait: bool,
}

/// What to ask for it.
pub fn questions(world: &World, facts: &Facts) -> Vec<Range> {
    let (keys, node) = (&world.keys, &world.settings.node);
    let (instances, ups) = (keys.instances(&facts.service), keys.ups(&facts.service));
    vec![
        Range::All(keys.of_node(&instances, node)),
        Range::Count(keys.of_node(&ups, node)),
        Range::Count(instances),
        Range::Count(ups),
        Range::Count(keys.nodes()),
        Range::Count(keys.scopes(world.settings.scope.word())),
        // Rollouts follow each other in line, so the last is another's if anybody behind is.
        Range::LastBefore { prefix: keys.line(&facts.scope), before: keys.end_of_line(&facts.scope), limit: 1 },
    ]
}

impl Near {
    /// Asks for it, after the line was read.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not answer.
    pub async fn read(world: &World, facts: &Facts, line: &Line) -> Result<Self, StoreError> {
        let (found, _) = world.store.ranges(&questions(world, facts)).await?;
        Ok(Self::of(world, facts, &found, line.claims.taken.len()))
    }

    /// What was found.
    pub fn of(world: &World, facts: &Facts, found: &[Listed], claims: usize) -> Self {
        let [own, own_ups, instances, ups, nodes, same_scope, last] =
            [0, 1, 2, 3, 4, 5, 6].map(|number| found.get(number));
        let count = |found: Option<&Listed>| found.map_or(0, |found| found.count);
        let entries = |found: Option<&Listed>| found.map_or_else(Vec::new, |found| found.entries.clone());
        let others = count(instances).saturating_sub(count(own));
        let others_up = count(ups).saturating_sub(count(own_ups));
        let own = entries(own).into_iter().filter_map(|entry| registered(world, entry));
        let own = own.map(|(node, container)| Standing { node, container, is_up: true }).collect();
        let last = entries(last).into_iter().find_map(|entry| readable::<Ticket>(world, entry));
        Self {
            tally: Tally { own, others, others_up, claims: claims as u64 },
            is_one_scope: count(nodes) == count(same_scope),
            is_alone: count(nodes) <= 1,
            others_wait: last.is_some_and(|last| last.value.image != facts.track),
        }
    }

    /// Instances that certainly count.
    pub fn instances(&self) -> usize {
        self.tally.certain()
    }

    /// Puts in what this node's engine shows now.
    pub fn correct(&mut self, world: &World, facts: &Facts, survey: &Survey, claims: &Claims) {
        correct(&mut self.tally.own, world, facts, survey, claims);
    }

    /// Whether the numbers alone let the instance go.
    pub fn lets_go(&self, world: &World, facts: &Facts) -> bool {
        self.tally.lets_go(&world.settings.node, &facts.container, facts.limit)
    }

    /// What is in the way of the instance beside the image, for people: where numbers do not tell, everybody's words do.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not answer.
    pub async fn obstacle(
        &self,
        world: &World,
        facts: &Facts,
        line: &Line,
        survey: &Survey,
    ) -> Result<Option<String>, StoreError> {
        let scope = world.settings.scope.word();
        if !self.is_one_scope
            && let Some(other) = signs(world).await?.into_iter().find(|sign| sign.scope != scope)
        {
            let Sign { node, scope, .. } = other;
            return Ok(Some(format!("waiting for {node} to take slots of the same scope: it has scope = \"{scope}\"")));
        }
        if self.lets_go(world, facts) {
            return Ok(None);
        }
        let mut service = Service::read(world, facts, &line.claims).await?;
        correct(&mut service.standings, world, facts, survey, &line.claims);
        Ok(service.obstacle(world, facts))
    }
}

/// Node and container of an instance that counts. Whose it is stands in the key, too, and one that makes no sense may well
/// run: it counts as its node says, and without a word of that as down.
fn registered(world: &World, entry: Entry) -> Option<(String, String)> {
    let key = entry.key.clone();
    match readable(world, entry).map(|read: Read<Instance>| read.value) {
        Some(instance) => (!instance.off).then_some((instance.node, instance.container)),
        None => world.keys.instance_of(&key),
    }
}

/// Puts in what this node's engine shows now: of its own instances a node believes nothing else, since its reports may be
/// older, or gone with a lease. The one that is to go down must be down to go before its turn; on the others somebody counts.
fn correct(standings: &mut [Standing], world: &World, facts: &Facts, survey: &Survey, claims: &Claims) {
    let node = &world.settings.node;
    for standing in standings.iter_mut().filter(|standing| standing.node == *node) {
        let is_it = standing.container == facts.container;
        let is_up =
            survey.named(&standing.container).is_some_and(|seen| if is_it { !seen.is_down() } else { seen.is_up() });
        standing.is_up = is_up && !claims.is_claimed(node, &standing.container);
    }
}

/// A service as the cluster sees it.
struct Service {
    /// Its registered instances.
    standings: Vec<Standing>,
}

impl Service {
    /// Reads a service. The claims must have been read before: an instance that is claimed after that makes the
    /// transaction fail, one that is released after that only looks worse than it is.
    async fn read(world: &World, facts: &Facts, claims: &Claims) -> Result<Self, StoreError> {
        let keys = &world.keys;
        let (instances, reports) = (keys.instances(&facts.service), keys.reports(&facts.service));
        let (instances, reports) = tokio::try_join!(world.store.list(&instances), world.store.list(&reports))?;
        let mut reported = BTreeMap::new();
        for entry in reports.0 {
            let place = entry.key.strip_prefix(&keys.reports(&facts.service)).unwrap_or_default().to_owned();
            let report: Option<Read<Report>> = readable(world, entry);
            reported.extend(report.map(|report| (place, report.value.up)));
        }
        let mut standings = Vec::new();
        for entry in instances.0 {
            let place = entry.key.strip_prefix(&keys.instances(&facts.service)).unwrap_or_default().to_owned();
            let Some((node, container)) = registered(world, entry) else { continue };
            let is_up = !claims.is_claimed(&node, &container) && reported.get(&place) == Some(&true);
            standings.push(Standing { node, container, is_up });
        }
        Ok(Self { standings })
    }

    /// Why the instance may not go down now, if so, for people.
    fn obstacle(&self, world: &World, facts: &Facts) -> Option<String> {
        match may_go_down(&self.standings, &world.settings.node, &facts.container, facts.limit) {
            Ok(()) => None,
            Err(Wait::NotRegistered) => Some("waiting for this node to be registered".to_owned()),
            Err(Wait::OthersDown(down)) => Some(format!("waiting for {} on {} to be up", down.container, down.node)),
        }
    }
}

/// Whether no instance runs the digest yet, so that the rollout is to begin.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn is_first(world: &World, facts: &Facts) -> Result<bool, StoreError> {
    let (reports, _) = world.store.list(&world.keys.reports(&facts.service)).await?;
    let mut reports = reports.into_iter().filter_map(|entry| readable::<Report>(world, entry));
    Ok(!reports.any(|report| report.value.digest.as_ref() == Some(&facts.digest)))
}

/// The nodes that live.
async fn signs(world: &World) -> Result<Vec<Sign>, StoreError> {
    let entries = world.store.list(&world.keys.nodes()).await?.0;
    Ok(entries.into_iter().filter_map(|entry| readable(world, entry)).map(|read| read.value).collect())
}

/// A living node that runs the track and has not said whether it has the digest; the first slot waits for it, so that
/// versions are mixed for no longer than the replacements take.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn still_fetching(world: &World, facts: &Facts) -> Result<Option<String>, StoreError> {
    let running = world.store.list(&world.keys.runs(&facts.track)).await?.0;
    let running: BTreeSet<&str> = running.iter().map(|entry| entry.key.as_str()).collect();
    let runs = |sign: &Sign| running.contains(world.keys.run(&facts.track, &sign.node).as_str());
    let mut said = BTreeSet::new();
    for entry in world.store.list(&world.keys.fetched(&facts.track)).await?.0 {
        let key = entry.key.clone();
        let fetched: Option<Read<Fetched>> = readable(world, entry);
        said.extend(fetched.filter(|fetched| fetched.value.speaks_of(&facts.digest)).map(|_| key));
    }
    let has_said = |sign: &Sign| said.contains(&world.keys.fetched_by(&facts.track, &sign.node));
    let is_late = |sign: &Sign| sign.node != world.settings.node && runs(sign) && !has_said(sign);
    Ok(signs(world).await?.into_iter().find(is_late).map(|sign| sign.node))
}
