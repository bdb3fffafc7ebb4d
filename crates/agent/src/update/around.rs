//! A look at everything: tells the other nodes of what is here, and names the tracks for which something is to be done.

use std::collections::BTreeSet;

use deployer_core::deed::{Doing, Process, doing};
use deployer_core::image::Track;
use deployer_core::plan::{Action, Answer};
use deployer_core::store::{Compare, Txn};
use deployer_engine::mirror::nanos;
use deployer_store::StoreError;

use super::verify;
use crate::concern::Concern;
use crate::ledger;
use crate::look::LookError;
use crate::publish;
use crate::situation::TrackView;
use crate::survey::Survey;
use crate::sweep::sweep_if_due;
use crate::turn;
use crate::words::Words;
use crate::world::World;

/// Looks at everything here, tells the others of it, and names the tracks for which something is to be done.
pub async fn look_around(world: &World) -> Result<Vec<Track>, LookError> {
    if world.presence.borrow().lease.is_none() {
        // Registering rings the bell, which leads here again.
        return Ok(Vec::new());
    }
    let spoken = world.memory().speech.spoken();
    let survey = Survey::of(world).await?;
    verify::forget(world, &survey);
    world.follow(concern(world, &survey));
    let mut words = Words::default();
    let mut busy = Vec::new();
    let tracks: BTreeSet<Track> = survey.tracks(world).into_keys().collect();
    for track in &tracks {
        remember_tag(world, &survey, track);
        let view = TrackView::of(world, &survey, track, Answer::NotAsked).await?;
        mind_halt(world, &view).await?;
        if let Some(revision) = view.ledger.left {
            // Somebody found no instance of it. It is here, running or not.
            let key = world.keys.left(track);
            world.store.txn(Txn::new().when(Compare::ModRevision(key.clone(), revision)).delete(key)).await?;
        }
        if view.decisions.iter().any(|decision| decision.row.action != Action::Leave) {
            busy.push(track.clone());
        }
        words.tell(world, &survey, &view);
    }
    let transitions = world.memory().replacing.transitions();
    for (container, transition) in &transitions {
        words.repeat(world, container, transition);
    }
    words.keep_unfinished(world, &survey);
    publish::publish(world, &words, spoken).await?;
    // Where the last container of a track is gone others ask for it.
    turn::give_back(world, |track| tracks.contains(track)).await;
    let container_ids = survey.containers.iter().map(|container| container.summary.id.as_str()).collect();
    {
        let mut memory = world.memory();
        let replaced = memory.replacing.tracks();
        memory.retain(&tracks.union(&replaced).cloned().collect(), &container_ids);
    }
    sweep_if_due(world).await?;
    Ok(busy)
}

/// The names under which something is owed that a person has stopped or renamed. It is that person's at once: its next start
/// may be minutes away, and a daemon that began until then would know nothing of it.
pub async fn taken_by_persons(world: &World) -> Result<Vec<String>, LookError> {
    let owed = world.memory().owed.all();
    if owed.is_empty() {
        return Ok(Vec::new());
    }
    let survey = Survey::of(world).await?;
    let taken = |name: &String, id: &String| {
        let mut containers = survey.containers.iter().map(|seen| &seen.summary);
        let seen = containers.find(|seen| seen.id == *id)?;
        let deeds = world.engine_mirror.deeds(id, nanos(&seen.started_at));
        let is_ended = !matches!(seen.state.as_str(), "running" | "restarting" | "paused");
        let is_stopped = is_ended && doing(&deeds, true, Process::Ended) == Doing::Ended;
        (is_stopped || seen.name != *name).then(|| format!("{} {} {is_stopped}", seen.name, seen.started_at))
    };
    let names = owed.into_iter().filter(|(name, id)| {
        // Said once: what the restart stage makes of it leads to another look.
        taken(name, id).is_some_and(|what| world.memory().owed.hear(name, what))
    });
    Ok(names.map(|(name, _)| name).collect())
}

/// The tracks of managed containers, with the services of every container that names one of them. A container in the
/// middle of its replacement may go by no name.
fn concern(world: &World, survey: &Survey) -> Concern {
    let tracks = survey.tracks(world);
    let here = survey.containers.iter().filter_map(|container| {
        let track = container.track().filter(|track| tracks.contains_key(track))?;
        Some((track.clone(), container.service(&track)))
    });
    let transitions = world.memory().replacing.transitions();
    let replaced = transitions.into_iter().map(|(_, transition)| (transition.track, transition.service));
    here.chain(replaced).collect()
}

/// Halts the rollout of a version that met trouble here, or ends this node's halt when the trouble is over.
async fn mind_halt(world: &World, view: &TrackView) -> Result<(), StoreError> {
    let track = &view.track;
    let trouble = view.decisions.iter().find_map(|decision| {
        let reason = decision.trouble.as_ref()?;
        Some((decision.target.as_ref()?.seq, reason))
    });
    match (trouble, &view.ledger.halt) {
        (Some((seq, reason)), _) => ledger::halt(world, track, seq, reason).await,
        (None, Some(halt)) if halt.value.node == world.settings.node => {
            let key = world.keys.halt(track);
            let txn = Txn::new().when(Compare::ModRevision(key.clone(), halt.revision)).delete(key);
            world.store.txn(txn).await.map(drop)
        }
        (None, _) => Ok(()),
    }
}

/// Takes the local tag as seen when a track is first looked at.
pub fn remember_tag(world: &World, survey: &Survey, track: &Track) {
    let id = survey.image_under(track).map(|image| image.id.clone());
    world.memory().tags.meet(track, id);
}
