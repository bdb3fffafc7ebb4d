//! What this node tells the others: its instances, how each of them is, and which digests it has.
//!
//! Instances last until the node withdraws them; the rest ends with the node's lease. Only what has changed is written.

mod look_back;
mod off;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deployer_core::availability::{Fetched, Fetching, Instance, Report, Run};
use deployer_core::image::Track;
use deployer_core::plan::{Action, Target};
use deployer_core::replacement::transitional;
use deployer_core::store::{Compare, Entry, LeaseId, Range, Txn};
use deployer_store::{StoreError, TXN_OPERATIONS_MAX};
use serde_json::Value;
use tokio::time::Instant;

use crate::claims;
use crate::ledger::decode;
use crate::replacing::Transition;
use crate::sign::be_certain;
use crate::situation::{Decision, TrackView, state_of};
use crate::speech::Speech;
use crate::survey::Survey;
use crate::words::{Said, Words};
use crate::world::World;

pub use look_back::look_back;
pub use off::off;

/// After what time it is looked at again whether another machine's claim still keeps this one from withdrawing an instance.
const CLAIM_LOOK: Duration = Duration::from_secs(60);

impl Words {
    /// Adds what there is to say of a track.
    pub fn tell(&mut self, world: &World, survey: &Survey, view: &TrackView) {
        let node = &world.settings.node;
        for decision in &view.decisions {
            let container = &decision.container;
            let is_managed = world.settings.manage.includes(&container.summary.labels);
            // What is owed is down and meant to run: unregistered, it would wait for its next replacement for ever.
            let is_owed = world.memory().owed.includes(&container.summary.id);
            if is_managed && (is_owed || container.is_meant_to_run()) {
                let name = &container.summary.name;
                let instance =
                    Instance { node: node.clone(), image: view.track.clone(), container: name.clone(), off: false };
                let report = report(survey, view, decision);
                self.run(world, &view.track, &decision.service);
                self.add(world.keys.instance(&decision.service, node, name), Said::Lasting(json(&instance)));
                self.add(world.keys.report(&decision.service, node, name), Said::Leased(json(&report)));
            }
        }
        self.add(world.keys.fetched_by(&view.track, node), Said::Leased(json(&fetched(view))));
    }

    /// Whether all of it was said already. Which services run here is not looked at: a look at one track sees no replacement
    /// under way, and its instances say the same.
    pub fn is_said(&self, world: &World) -> bool {
        let memory = world.memory();
        let mut said = self.0.iter().filter(|(key, _)| !key.starts_with(&world.keys.all_runs()));
        said.all(|(key, word)| memory.speech.has_said(key, word))
    }

    /// Says again of a container in the middle of its replacement what was said last, where nothing newer is to be said: for
    /// a moment nothing has its name. What the engine shows of it always goes before.
    pub fn repeat(&mut self, world: &World, container: &str, transition: &Transition) {
        let (node, service) = (&world.settings.node, &transition.service);
        let said = [world.keys.instance(service, node, container), world.keys.report(service, node, container)];
        let said = said.map(|key| (key.clone(), world.memory().speech.last(&key).cloned()));
        if matches!(said[0], (_, Some(_))) {
            self.run(world, &transition.track, service);
        }
        for (key, said) in said {
            self.0.extend(said.filter(|_| !self.0.contains_key(&key)).map(|said| (key, said)));
        }
    }

    /// Keeps an instance registered that only a replacement's containers stand for, though no journal tells of it: a state
    /// directory that was lost. Without a report it counts as down, until a person has seen to it.
    pub fn keep_unfinished(&mut self, world: &World, survey: &Survey) {
        let names: BTreeSet<&str> =
            survey.unfinished.iter().filter_map(|container| Some(transitional(&container.name)?.0)).collect();
        let said = world.memory().speech.words().0;
        let is_kept = |key: &String| world.keys.container_of(key).is_some_and(|name| names.contains(name.as_str()));
        if said.iter().any(|(key, word)| *word == Said::UNKNOWN && is_kept(key)) {
            // Which track it runs was written by the daemon before this one, and is not known here.
            for (key, word) in said.iter().filter(|(key, _)| key.starts_with(&world.keys.all_runs())) {
                self.0.entry(key.clone()).or_insert_with(|| word.clone());
            }
        }
        for (key, word) in said.into_iter().filter(|(_, word)| matches!(word, Said::Lasting(_))) {
            if is_kept(&key) {
                if let Said::Lasting(value) = &word
                    && let Ok(instance) = serde_json::from_value::<Instance>(value.clone())
                {
                    let service = world.keys.service_of(&key).unwrap_or_default();
                    self.run(world, &instance.image, &service);
                }
                self.0.entry(key).or_insert(word);
            }
        }
    }

    /// Adds that the track runs here, which is why notifications of it are taken, on whichever node they come in.
    fn run(&mut self, world: &World, track: &Track, service: &str) {
        let key = world.keys.run(track, &world.settings.node);
        let mut run = match self.0.get(&key) {
            Some(Said::Lasting(run)) => serde_json::from_value(run.clone()).unwrap_or_default(),
            _ => Run::default(),
        };
        run.services.insert(service.to_owned());
        self.add(key, Said::Lasting(json(&run)));
    }

    /// Adds the index of what lasts, by which the next daemon of this node finds it again without asking for everybody's.
    /// It may name too much, and never too little: it is written with or before whatever it names.
    fn index(&mut self, world: &World, speech: &Speech) {
        let key = world.keys.index(&world.settings.node);
        let standing = speech.last(&key).cloned();
        let named: BTreeSet<String> = match &standing {
            Some(Said::Lasting(named)) => serde_json::from_value(named.clone()).unwrap_or_default(),
            _ => BTreeSet::new(),
        };
        let word = match self.lasting().all(|lasting| *lasting == key || named.contains(lasting)) {
            true => standing,
            false => {
                let all: BTreeSet<&String> =
                    self.lasting().chain(speech.lasting()).filter(|named| **named != key).collect();
                Some(Said::Lasting(json(&all)))
            }
        };
        self.0.extend(word.map(|word| (key, word)));
    }

    fn add(&mut self, key: String, said: Said) {
        self.0.insert(key, said);
    }
}

fn report(survey: &Survey, view: &TrackView, decision: &Decision) -> Report {
    let summary = &decision.container.summary;
    let (state, reason) = state_of(decision);
    Report {
        up: decision.container.is_up(),
        id: summary.id.clone(),
        image_id: summary.image_id.clone(),
        digest: view.digest_of(survey, decision),
        state: state.to_owned(),
        reason,
    }
}

/// What this node says of its containers' targets.
fn fetched(view: &TrackView) -> Fetched {
    let targets = view.decisions.iter().filter_map(|decision| {
        let fetching = match (decision.situation.target, decision.row.action) {
            (Target::Present | Target::Running, _) => Fetching::Here,
            (Target::Absent, Action::Leave) => Fetching::NotWanted(state_of(decision).1),
            (Target::Unavailable, _) => Fetching::Failed(decision.note.clone()),
            (Target::Absent | Target::None, _) => Fetching::UnderWay,
        };
        Some((decision.target.as_ref()?.digest.clone(), fetching))
    });
    Fetched::of(targets)
}

/// Begins anew under a new lease: what hung on the one before is gone, what lasts is still there.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn begin(world: &World) -> Result<(), StoreError> {
    let named = index(world).await?;
    let mut lasting: BTreeSet<String> = world.memory().speech.lasting().cloned().collect();
    match &named {
        Some(named) => lasting.extend(named.iter().cloned()),
        // A node that has never said anything, or whose last daemon left no index.
        None => lasting.extend(find_instances(world).await?),
    }
    let speech = &mut world.memory().speech;
    // Somebody may have removed or changed it meanwhile, so it is said anew, whatever it was.
    speech.begin(lasting);
    if let Some(named) = named {
        speech.read(world.keys.index(&world.settings.node), Said::Lasting(json(&named)));
    }
    Ok(())
}

async fn find_instances(world: &World) -> Result<Vec<String>, StoreError> {
    let all = world.store.list(&world.keys.all_instances()).await?.0;
    let is_own = |entry: &Entry| {
        serde_json::from_slice(&entry.value).is_ok_and(|instance: Instance| instance.node == world.settings.node)
    };
    Ok(all.into_iter().filter(is_own).map(|entry| entry.key).collect())
}

/// Writes what is new in these words, and withdraws what is not in them any more. They are of a look that began when so
/// much had been spoken: where a replacement has ended since, they are older than what it said, and another look is asked for.
///
/// # Errors
/// [`StoreError`]; what was written is remembered, the rest is written the next time.
pub async fn publish(world: &World, words: &Words, spoken: u64) -> Result<(), StoreError> {
    let _saying = world.saying.lock().await;
    if world.memory().speech.spoken() != spoken {
        world.bell.notify_one();
        return Ok(());
    }
    say(world, words).await
}

async fn say(world: &World, words: &Words) -> Result<(), StoreError> {
    let Some((lease, sign)) = be_certain(world).await? else { return unsaid(world) };
    let sign = Compare::ModRevision(world.keys.node(&world.settings.node), sign);
    let index = world.keys.index(&world.settings.node);
    let mut indexed = words.clone();
    indexed.index(world, &world.memory().speech);
    let is_changed = |word: &Said| !world.memory().speech.has_said(&index, word);
    let mut words = words.clone();
    if indexed.0.get(&index).is_some_and(is_changed) {
        words.0.extend(not_to_be_forgotten(world, &words).await?);
    }
    let speech = world.memory().speech.clone();
    words.index(world, &speech);
    words.mark_ups(&world.keys);
    let gone = speech.keys().into_iter().filter(|key| !words.0.contains_key(*key));
    let gone: Vec<String> = ours(world, gone.cloned().collect()).await?;
    let gone = gone.into_iter().map(|key| (key, None));
    let new = words.0.iter().filter(|(key, word)| **word != Said::UNKNOWN && !speech.has_said(key, word));
    let mut changes: Vec<(String, Option<Said>)> =
        gone.chain(new.map(|(key, word)| (key.clone(), Some(word.clone())))).collect();
    let ups = world.keys.all_ups();
    // In this order no more is ever counted as up than there is.
    changes.sort_by_key(|(key, word)| match (key.starts_with(&ups), word) {
        _ if *key == index => 0,
        (true, None) => 1,
        (false, _) => 2,
        (true, Some(_)) => 3,
    });
    for some in changes.chunks(TXN_OPERATIONS_MAX) {
        let txn = some.iter().fold(Txn::new().when(sign.clone()), |txn, (key, word)| match word {
            None => txn.delete(key.clone()),
            Some(Said::Lasting(value)) => txn.put(key.clone(), value),
            Some(Said::Leased(value)) => txn.put_leased(key.clone(), value, lease),
        });
        world.memory().speech.try_to_say(some);
        let outcome = world.store.txn(txn).await;
        if !outcome.as_ref().is_ok_and(|outcome| outcome.succeeded) {
            world.memory().doubt.arise();
            outcome?;
            return unsaid(world);
        }
        world.memory().speech.be_answered(some);
    }
    Ok(())
}

/// Another sign stands in the store, or this node's at another revision: what was to be said is said later.
fn unsaid(world: &World) -> Result<(), StoreError> {
    // Registering rings the bell, which leads to a look that says it.
    let is_registered = world.presence.borrow().lease.is_some();
    if is_registered { Err(StoreError::Away("this node's sign has just changed".to_owned())) } else { Ok(()) }
}

/// What the index names and nobody here knows: a store that was restored brings back what was withdrawn since. Written over,
/// it would stand for ever. It stays until the next look, which is asked for, has something to say of it, or withdraws it.
async fn not_to_be_forgotten(world: &World, words: &Words) -> Result<BTreeMap<String, Said>, StoreError> {
    let named = index(world).await?.unwrap_or_default();
    let unknown = |key: &String| !words.0.contains_key(key) && !world.memory().speech.keys().contains(key);
    let unknown: Vec<String> = named.into_iter().filter(unknown).collect();
    // Most of them were withdrawn, and are named no more from now on.
    let mut forgotten = BTreeMap::new();
    for some in unknown.chunks(TXN_OPERATIONS_MAX) {
        let ranges: Vec<Range> = some.iter().cloned().map(Range::All).collect();
        let standing = world.store.ranges(&ranges).await?.0.into_iter().flat_map(|listed| listed.entries);
        let named = standing.filter(|entry| some.contains(&entry.key));
        forgotten.extend(named.map(|entry| (entry.key, Said::UNKNOWN)));
    }
    if !forgotten.is_empty() {
        let speech = &mut world.memory().speech;
        forgotten.iter().for_each(|(key, word)| speech.read(key.clone(), word.clone()));
        world.bell.notify_one();
    }
    Ok(forgotten)
}

/// What the index of this node names, if there is one.
async fn index(world: &World) -> Result<Option<BTreeSet<String>>, StoreError> {
    let entry = world.store.get(&world.keys.index(&world.settings.node)).await?;
    Ok(entry.and_then(|entry| Some(decode(entry).ok()?.value)))
}

/// Those of these keys that this daemon may withdraw.
async fn ours(world: &World, mut gone: Vec<String>) -> Result<Vec<String>, StoreError> {
    if gone.iter().any(|key| key.starts_with(&world.keys.all_instances())) {
        let held = claims::held_by_twins(world).await?;
        let is_held = |key: &String| {
            let container = world.keys.container_of(key);
            container.is_some_and(|container| held.as_ref().is_none_or(|held| held.contains(&container)))
        };
        if gone.iter().any(is_held) {
            // Nobody here hears of the end of such a claim, and until then the others wait for what is not there.
            world.memory().looks.look_again(Instant::now() + CLAIM_LOOK);
        }
        gone.retain(|key| !is_held(key));
    }
    Ok(gone)
}

/// Says of every instance here that it is not up: the engine is not heard, and nobody else can know what runs.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn engine_is_away(world: &World) -> Result<(), StoreError> {
    let _saying = world.saying.lock().await;
    let mut words = world.memory().speech.words();
    for (_, said) in words.0.iter_mut().filter(|(key, _)| key.starts_with(&world.keys.all_reports())) {
        if let Said::Leased(report) = said {
            report["up"] = Value::Bool(false);
            report["reason"] = Value::String("its engine does not answer".to_owned());
        }
    }
    say(world, &words).await
}

/// Adds how an instance is after its replacement to the transaction that gives the slot back: its place is not given on
/// before the others can see that it is up.
pub fn say_too(world: &World, txn: Txn, key: &str, report: &Report, lease: LeaseId) -> Txn {
    let txn = txn.put_leased(key.to_owned(), report, lease);
    match world.keys.up_of_report(key) {
        Some(mark) if report.up => txn.put_leased(mark, &true, lease),
        Some(mark) => txn.delete(mark),
        None => txn,
    }
}

/// Notes that this is about to be said of an instance: whether it was nobody knows before the answer.
pub fn doubt(world: &World, key: &str) {
    let marked = world.keys.up_of_report(key);
    let speech = &mut world.memory().speech;
    speech.doubt(marked.into_iter().chain([key.to_owned()]).collect());
    speech.lower(key);
}

/// Notes that this was said.
pub fn note(world: &World, key: &str, report: &Report) {
    world.memory().speech.note(&world.keys, key, Said::Leased(json(report)));
}

/// What was said last of an instance.
pub fn last_report(world: &World, key: &str) -> Option<Report> {
    match world.memory().speech.last(key) {
        Some(Said::Leased(value)) => serde_json::from_value(value.clone()).ok(),
        _ => None,
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("a value of the protocol is a plain map")
}

#[cfg(test)]
mod tests;
