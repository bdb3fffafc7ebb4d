//! A look at everything: tells the other nodes of what is here, and names the tracks for which something is to be done.

use std::collections::BTreeSet;

use deployer_core::image::Track;
use deployer_core::plan::{Action, Answer};
use deployer_core::store::{Compare, Txn};
use deployer_store::StoreError;

use super::verify;
use crate::ledger;
use crate::look::LookError;
use crate::publish;
use crate::situation::TrackView;
use crate::survey::Survey;
use crate::turn;
use crate::words::Words;
use crate::world::World;

/// Looks at everything here, tells the others of it, and names the tracks for which something is to be done.
pub async fn look_around(world: &World) -> Result<Vec<Track>, LookError> {
    let Some((lease, _)) = world.presence.borrow().lease else {
        // Registering rings the bell, which leads here again.
        return Ok(Vec::new());
    };
    let survey = Survey::of(world).await?;
    verify::forget(world, &survey);
    let mut words = Words::default();
    let mut busy = Vec::new();
    let tracks: BTreeSet<Track> = survey.tracks(world).into_keys().collect();
    for track in &tracks {
        remember_tag(world, &survey, track);
        let view = TrackView::of(world, &survey, track, Answer::NotAsked).await?;
        if view.decisions.iter().any(|decision| decision.row.action != Action::Leave) || mind_halt(world, &view).await?
        {
            busy.push(track.clone());
        }
        words.tell(world, &survey, &view);
    }
    let transitions = world.memory().transitions.clone();
    for (container, transition) in &transitions {
        words.repeat(world, &transition.service, container);
    }
    words.keep_unfinished(world, &survey);
    publish::publish(world, &words, lease).await?;
    // Where the last container of a track is gone others ask for it.
    turn::give_back(world, |track| tracks.contains(track)).await;
    let before = world.memory().tracks.replace(tracks.clone());
    // What changed of a track while it was not known to be here has woken nobody.
    busy.extend(before.iter().flat_map(|before| tracks.difference(before).cloned()));
    publish::refresh_registered(world);
    Ok(busy)
}

/// Halts the rollout of a version that met trouble here, or ends this node's halt when the trouble is over. A halt that is
/// gone although this node's trouble is not was lifted by a person: then it is tried again here, and `true` given back.
async fn mind_halt(world: &World, view: &TrackView) -> Result<bool, StoreError> {
    let track = &view.track;
    let trouble = view.decisions.iter().find_map(|decision| {
        let reason = decision.trouble(world, track)?;
        Some((decision.target.as_ref()?.seq, reason))
    });
    let halted = world.memory().halted.get(track).copied();
    match (trouble, halted, &view.ledger.halt) {
        (Some((seq, _)), Some(halted), halt) if halted == seq && halt.is_none() => {
            try_again(world, view);
            Ok(true)
        }
        (Some((seq, reason)), _, _) => {
            ledger::halt(world, track, seq, &reason).await?;
            Ok(false)
        }
        (None, _, Some(halt)) if halt.value.node == world.settings.node => {
            let key = world.keys.halt(track);
            let txn = Txn::new().when(Compare::ModRevision(key.clone(), halt.revision)).delete(key);
            world.store.txn(txn).await?;
            world.memory().halted.remove(track);
            Ok(false)
        }
        (None, _, _) => {
            world.memory().halted.remove(track);
            Ok(false)
        }
    }
}

/// Forgets what failed here, so that it is tried again.
pub fn try_again(world: &World, view: &TrackView) {
    let ids: BTreeSet<&String> = view.decisions.iter().map(|decision| &decision.container.summary.id).collect();
    let names: BTreeSet<&String> = view.decisions.iter().map(|decision| &decision.container.summary.name).collect();
    let mut memory = world.memory();
    memory.unready.retain(|name, _| !names.contains(name));
    memory.failed_here.retain(|(id, _), _| !ids.contains(id));
    memory.pulls.retain(|(pulled, _), _| *pulled != view.track);
    memory.unverified.retain(|(name, _), _| name != view.track.name());
    memory.asking.wait_no_more(&view.track);
    memory.halted.remove(&view.track);
}

/// Takes the local tag as seen when a track is first looked at.
pub fn remember_tag(world: &World, survey: &Survey, track: &Track) {
    let id = survey.image_under(track).map(|image| image.id.clone());
    world.memory().local_tags.entry(track.clone()).or_insert(id);
}
