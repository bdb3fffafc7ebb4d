//! What the other nodes say: who lives, which containers they run, and who holds or waits for a slot.

use std::collections::{BTreeMap, BTreeSet};

use deployer_agent::ledger::{Read, readable};
use deployer_agent::world::World;
use deployer_core::availability::{Instance, Report};
use deployer_core::image::Track;
use deployer_core::node::Sign;
use deployer_core::queue::Ticket;
use deployer_core::record::Version;
use deployer_core::slot::{Claim, ClaimPhase};
use deployer_core::store::Entry;
use deployer_store::StoreError;

use super::{ClaimStatus, ContainerStatus, NodeStatus, UNREADABLE};

/// The cluster at one moment, as the store has it.
pub struct Elsewhere {
    own: String,
    signs: BTreeMap<String, Sign>,
    /// By key: the service is not in the value.
    instances: Vec<(String, Instance)>,
    reports: BTreeMap<String, Report>,
    claims: Vec<(String, Claim)>,
    /// Slots that are taken, and nobody knows by whom.
    unreadable: Vec<String>,
    waiting: BTreeSet<(String, String)>,
}

impl Elsewhere {
    /// Reads it.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not answer.
    pub async fn read(world: &World) -> Result<Self, StoreError> {
        let keys = &world.keys;
        let (nodes, instances, reports, locks) = (keys.nodes(), keys.all_instances(), keys.all_reports(), keys.locks());
        let store = &world.store;
        let (nodes, instances, reports, locks) =
            tokio::try_join!(store.list(&nodes), store.list(&instances), store.list(&reports), store.list(&locks))?;
        let mut read = Self {
            own: world.settings.node.clone(),
            signs: BTreeMap::new(),
            instances: Vec::new(),
            reports: BTreeMap::new(),
            claims: Vec::new(),
            unreadable: Vec::new(),
            waiting: BTreeSet::new(),
        };
        for entry in nodes.0 {
            let sign: Option<Read<Sign>> = readable(world, entry);
            read.signs.extend(sign.map(|sign| (sign.value.node.clone(), sign.value)));
        }
        for entry in instances.0 {
            let key = entry.key.clone();
            read.instances.extend(readable(world, entry).map(|instance| (key, instance.value)));
        }
        for entry in reports.0 {
            let place = entry.key.strip_prefix(&keys.all_reports()).unwrap_or_default().to_owned();
            read.reports.extend(readable(world, entry).map(|report| (place, report.value)));
        }
        for entry in locks.0 {
            read.lock(world, entry);
        }
        Ok(read)
    }

    fn lock(&mut self, world: &World, entry: Entry) {
        if let Some((scope, slot)) = world.keys.slot_of(&entry.key) {
            let slot = format!("{scope}/{slot}");
            match readable(world, entry) {
                Some(claim) => self.claims.push((slot, claim.value)),
                None => self.unreadable.push(slot),
            }
        } else if world.keys.is_ticket(&entry.key) {
            let ticket: Option<Read<Ticket>> = readable(world, entry);
            self.waiting.extend(ticket.map(|ticket| (ticket.value.node, ticket.value.container)));
        }
    }

    /// The tracks that other nodes run.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.others().map(|(_, instance)| &instance.image)
    }

    /// How many nodes run a track, whether they live or not.
    pub fn nodes_of(&self, track: &Track) -> usize {
        let of_track = self.instances.iter().filter(|(_, instance)| instance.image == *track);
        of_track.map(|(_, instance)| &instance.node).collect::<BTreeSet<_>>().len()
    }

    fn others(&self) -> impl Iterator<Item = &(String, Instance)> {
        self.instances.iter().filter(|(_, instance)| instance.node != self.own)
    }

    /// The containers that other nodes run of a track.
    pub fn containers(
        &self,
        world: &World,
        track: &Track,
        targets: &BTreeMap<String, &Version>,
    ) -> Vec<ContainerStatus> {
        let of_track = self.others().filter(|(_, instance)| instance.image == *track);
        of_track.map(|(key, instance)| self.container(world, key, instance, targets)).collect()
    }

    fn container(
        &self,
        world: &World,
        key: &str,
        instance: &Instance,
        targets: &BTreeMap<String, &Version>,
    ) -> ContainerStatus {
        let service = world.keys.service_of(key).unwrap_or_default();
        let target = targets.get(&service).copied();
        let place = key.strip_prefix(&world.keys.all_instances()).unwrap_or_default();
        let report = self.reports.get(place);
        let (state, reason) = self.state(instance, report, target);
        ContainerStatus {
            node: instance.node.clone(),
            name: instance.container.clone(),
            id: report.map(|report| report.id.clone()).unwrap_or_default(),
            image_id: report.map(|report| report.image_id.clone()).unwrap_or_default(),
            digest: report.and_then(|report| report.digest.as_ref()).map(ToString::to_string),
            state,
            reason,
            row: String::new(),
            refusal: None,
            service,
        }
    }

    /// What a node says is as old as its last look; what it is about to do stands in the store.
    fn state(&self, instance: &Instance, report: Option<&Report>, target: Option<&Version>) -> (String, String) {
        let say = |state: &str, reason: &str| (state.to_owned(), reason.to_owned());
        let is_it = |claim: &Claim| claim.node == instance.node && claim.container == instance.container;
        if !self.signs.contains_key(&instance.node) {
            return match instance.off {
                true => say("unknown", "its node's deployer was stopped"),
                false => say("unknown", &format!("nothing is heard of node {}", instance.node)),
            };
        }
        if self.claims.iter().any(|(_, claim)| is_it(claim)) {
            return say("replacing", "it has its turn");
        }
        let Some(report) = report else { return say("unknown", "its node has not said yet how it is") };
        if self.waiting.contains(&(instance.node.clone(), instance.container.clone())) {
            return say("waiting", "it waits for its turn");
        }
        let is_target = target.is_none_or(|target| report.digest.as_ref() == Some(&target.digest));
        match report.state.as_str() {
            "current" if !is_target => say("stale", "its node is about to look"),
            state => say(state, &report.reason),
        }
    }

    /// Every node that is registered, or has containers that are.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        let mut nodes: BTreeMap<&str, NodeStatus> = BTreeMap::new();
        for (_, instance) in &self.instances {
            let state = if instance.off { "stopped" } else { "away" };
            let node = NodeStatus { name: instance.node.clone(), state: state.to_owned(), ..NodeStatus::default() };
            nodes.insert(&instance.node, node);
        }
        for sign in self.signs.values() {
            let node = NodeStatus {
                name: sign.node.clone(),
                state: "ready".to_owned(),
                version: sign.version.clone(),
                scope: sign.scope.clone(),
                at: Some(sign.at),
            };
            nodes.insert(&sign.node, node);
        }
        nodes.into_values().collect()
    }

    /// The slots that are taken.
    pub fn claims(&self) -> Vec<ClaimStatus> {
        let claim = |(slot, claim): &(String, Claim)| ClaimStatus {
            slot: slot.clone(),
            node: claim.node.clone(),
            container: claim.container.clone(),
            image: claim.image.to_string(),
            phase: if claim.phase == ClaimPhase::Stopping { "stopping" } else { "acquired" }.to_owned(),
            at: claim.at,
        };
        let unreadable = self.unreadable.iter().map(|slot| ClaimStatus {
            slot: slot.clone(),
            node: String::new(),
            container: String::new(),
            image: String::new(),
            phase: UNREADABLE.to_owned(),
            at: 0,
        });
        self.claims.iter().map(claim).chain(unreadable).collect()
    }
}
