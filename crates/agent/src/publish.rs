//! What this node tells the others: its instances, how each of them is, and which digests it has.
//!
//! Instances last until the node withdraws them; the rest ends with the node's lease. Only what has changed is written.

use std::collections::BTreeSet;

use deployer_core::availability::{Fetched, Instance, Report};
use deployer_core::image::Track;
use deployer_core::plan::Target;
use deployer_core::replacement::transitional;
use deployer_core::store::{LeaseId, Txn};
use deployer_store::{StoreError, TXN_OPERATIONS_MAX};
use serde_json::Value;

use crate::claims;
use crate::ledger::{Read, readable};
use crate::situation::{Decision, TrackView, state_of};
use crate::survey::Survey;
use crate::words::{Said, Words};
use crate::world::World;

impl Words {
    /// Adds what there is to say of a track.
    pub fn tell(&mut self, world: &World, survey: &Survey, view: &TrackView) {
        let node = &world.settings.node;
        for decision in &view.decisions {
            let container = &decision.container;
            let is_managed = world.settings.manage.includes(&container.summary.labels);
            if is_managed && container.is_meant_to_run() {
                let name = &container.summary.name;
                let instance =
                    Instance { node: node.clone(), image: view.track.clone(), container: name.clone(), off: false };
                let report = report(world, survey, view, decision);
                self.add(world.keys.instance(&decision.service, node, name), Said::Lasting(json(&instance)));
                self.add(world.keys.report(&decision.service, node, name), Said::Leased(json(&report)));
            }
        }
        self.add(world.keys.fetched_by(&view.track, node), Said::Leased(json(&fetched(view))));
    }

    /// Whether all of it was said already.
    pub fn is_said(&self, world: &World) -> bool {
        let memory = world.memory();
        self.0.iter().all(|(key, word)| memory.said.0.get(key) == Some(word))
    }

    /// Says again of a container in the middle of its replacement what was said last, where nothing newer is to be said: for
    /// a moment nothing has its name. What the engine shows of it always goes before.
    pub fn repeat(&mut self, world: &World, service: &str, container: &str) {
        let node = &world.settings.node;
        let memory = world.memory();
        for key in [world.keys.instance(service, node, container), world.keys.report(service, node, container)] {
            if let Some(said) = memory.said.0.get(&key) {
                self.0.entry(key).or_insert_with(|| said.clone());
            }
        }
    }

    /// Keeps an instance registered that only a replacement's containers stand for, though no journal tells of it: a state
    /// directory that was lost. Without a report it counts as down, until a person has seen to it.
    pub fn keep_unfinished(&mut self, world: &World, survey: &Survey) {
        let names: BTreeSet<&str> =
            survey.unfinished.iter().filter_map(|container| Some(transitional(&container.name)?.0)).collect();
        let said = world.memory().said.0.clone();
        for (key, word) in said.into_iter().filter(|(_, word)| matches!(word, Said::Lasting(_))) {
            if world.keys.container_of(&key).is_some_and(|name| names.contains(name.as_str())) {
                self.0.entry(key).or_insert(word);
            }
        }
    }

    fn add(&mut self, key: String, said: Said) {
        self.0.insert(key, said);
    }
}

fn report(world: &World, survey: &Survey, view: &TrackView, decision: &Decision) -> Report {
    let summary = &decision.container.summary;
    let (state, reason) = state_of(world, view, decision);
    Report {
        up: decision.container.is_up(),
        id: summary.id.clone(),
        image_id: summary.image_id.clone(),
        digest: survey.digests_of(&view.track, &summary.image_id).first().cloned(),
        state: state.to_owned(),
        reason,
    }
}

/// A target is here, or cannot be had; while it is on its way nothing is said.
fn fetched(view: &TrackView) -> Fetched {
    let mut fetched = Fetched::default();
    for decision in &view.decisions {
        let Some(target) = &decision.target else { continue };
        match decision.situation.target {
            Target::Present | Target::Running => drop(fetched.here.insert(target.digest.clone())),
            Target::Unavailable => fetched.trouble.push((target.digest.clone(), decision.note.clone())),
            Target::None | Target::Absent => {}
        }
    }
    fetched
}

/// Begins anew under a new lease: what hung on the one before is gone, what lasts is still there.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn begin(world: &World) -> Result<(), StoreError> {
    let lasting = own_instances(world).await?;
    let said = lasting.into_iter().map(|(key, instance)| (key, Said::Lasting(json(&instance)))).collect();
    world.memory().said = Words(said);
    Ok(())
}

async fn own_instances(world: &World) -> Result<Vec<(String, Instance)>, StoreError> {
    let mut own = Vec::new();
    for entry in world.store.list(&world.keys.all_instances()).await?.0 {
        let key = entry.key.clone();
        let read: Option<Read<Instance>> = readable(world, entry);
        own.extend(read.filter(|read| read.value.node == world.settings.node).map(|read| (key, read.value)));
    }
    Ok(own)
}

/// Writes what is new in these words, and withdraws what is not in them any more.
///
/// # Errors
/// [`StoreError`]; what was written is remembered, the rest is written the next time.
pub async fn publish(world: &World, words: &Words, lease: LeaseId) -> Result<(), StoreError> {
    let said = world.memory().said.clone();
    let gone = said.0.keys().filter(|key| !words.0.contains_key(*key));
    let gone: Vec<String> = ours(world, gone.cloned().collect()).await?;
    let gone = gone.into_iter().map(|key| (key, None));
    let new = words.0.iter().filter(|(key, word)| said.0.get(*key) != Some(word));
    let changes: Vec<(String, Option<Said>)> =
        gone.chain(new.map(|(key, word)| (key.clone(), Some(word.clone())))).collect();
    for some in changes.chunks(TXN_OPERATIONS_MAX) {
        let txn = some.iter().fold(Txn::new(), |txn, (key, word)| match word {
            None => txn.delete(key.clone()),
            Some(Said::Lasting(value)) => txn.put(key.clone(), value),
            Some(Said::Leased(value)) => txn.put_leased(key.clone(), value, lease),
        });
        world.store.txn(txn).await?;
        let mut memory = world.memory();
        for (key, word) in some.iter().cloned() {
            match word {
                Some(word) => drop(memory.said.0.insert(key, word)),
                None => drop(memory.said.0.remove(&key)),
            }
        }
    }
    Ok(())
}

/// Those of these keys that this daemon may withdraw.
async fn ours(world: &World, mut gone: Vec<String>) -> Result<Vec<String>, StoreError> {
    if gone.iter().any(|key| key.starts_with(&world.keys.all_instances())) {
        let held = claims::held_by_twins(world).await?;
        let is_held = |container: String| held.as_ref().is_none_or(|held| held.contains(&container));
        gone.retain(|key| !world.keys.container_of(key).is_some_and(is_held));
    }
    Ok(gone)
}

/// Says of every instance here that it is not up: the engine is not heard, and nobody else can know what runs.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn engine_is_away(world: &World, lease: LeaseId) -> Result<(), StoreError> {
    let mut words = world.memory().said.clone();
    for (_, said) in words.0.iter_mut().filter(|(key, _)| key.starts_with(&world.keys.all_reports())) {
        if let Said::Leased(report) = said {
            report["up"] = Value::Bool(false);
            report["reason"] = Value::String("its engine does not answer".to_owned());
        }
    }
    publish(world, &words, lease).await
}

/// How an instance is after its replacement, for the transaction that gives the slot back: its place is not given on
/// before the others can see that it is up.
pub fn note(world: &World, key: &str, report: &Report) {
    world.memory().said.0.insert(key.to_owned(), Said::Leased(json(report)));
}

/// What was said last of an instance.
pub fn last_report(world: &World, key: &str) -> Option<Report> {
    match world.memory().said.0.get(key) {
        Some(Said::Leased(value)) => serde_json::from_value(value.clone()).ok(),
        _ => None,
    }
}

/// Marks this node's instances as not to be counted.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn off(world: &World) -> Result<(), StoreError> {
    for some in own_instances(world).await?.chunks(TXN_OPERATIONS_MAX) {
        let txn = some
            .iter()
            .fold(Txn::new(), |txn, (key, instance)| txn.put(key.clone(), &Instance { off: true, ..instance.clone() }));
        world.store.txn(txn).await?;
    }
    Ok(())
}

/// The tracks that some node runs, as far as is known here.
pub fn refresh_registered(world: &World) {
    let (own, transitions) = {
        let memory = world.memory();
        (memory.tracks.clone(), memory.transitions.values().map(|t| t.track.clone()).collect::<Vec<Track>>())
    };
    let elsewhere =
        world.instances.borrow().as_ref().map(|all| all.values().map(|i| i.image.clone()).collect::<Vec<_>>());
    // Until both were listed once nobody knows whose a notification is.
    let (Some(own), Some(elsewhere)) = (own, elsewhere) else { return };
    let all = own.into_iter().chain(transitions).chain(elsewhere).collect();
    world.registered.send_if_modified(|registered| {
        let is_news = registered.as_ref() != Some(&all);
        *registered = Some(all);
        is_news
    });
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("a value of the protocol is a plain map")
}
