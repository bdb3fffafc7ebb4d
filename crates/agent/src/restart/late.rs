//! What an engine may yet do although whoever asked for it has given up: its name for a container, or a start, may come when the
//! replacement is long over, and its journal closed. Noted here, and for the daemon after this one.

use std::time::Duration;

use deployer_core::replacement::Replacement;
use deployer_engine::{EngineError, if_found};
use tokio::time::Instant;

use super::way_back;
use crate::journal::Late;
use crate::world::World;

/// How long after a start was given up its engine may still carry it out: one that stood still finds the call in its socket. What
/// is started later is a person's doing.
const STARTS_WITHIN: Duration = Duration::from_secs(120);

/// Notes that an engine may yet give a container a name that it is not to have any more.
pub fn may_be_renamed(world: &World, id: &str) {
    world.memory().replacing.may_be_renamed_late(id);
    note(world, Late::Rename, id);
}

/// Notes that an engine may yet start a container.
pub fn may_be_started(world: &World, id: &str) {
    world.memory().replacing.may_be_started_late(id, Instant::now() + STARTS_WITHIN);
    note(world, Late::Start, id);
}

fn note(world: &World, late: Late, id: &str) {
    if let Err(error) = world.journals.note_late(late, id, world.ambient.now()) {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "a daemon after this one would not know what the engine may yet do");
    }
}

/// Learns what may come late of what a daemon before this one asked for.
pub fn remember(world: &World) {
    let listed = world.journals.late(Late::Rename).and_then(|names| Ok((names, world.journals.late(Late::Start)?)));
    let (names, starts) = match listed {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "what comes late would not be undone");
            return;
        }
    };
    let (mut memory, now) = (world.memory(), world.ambient.now());
    names.iter().for_each(|(id, _)| memory.replacing.may_be_renamed_late(id));
    for (id, since) in starts {
        // A clock that was put back makes it no longer than it may be.
        let age = Duration::from_secs(now.saturating_sub(since).try_into().unwrap_or_default());
        memory.replacing.may_be_started_late(&id, Instant::now() + STARTS_WITHIN.saturating_sub(age));
    }
}

/// Forgets the containers that are no more.
pub fn forget_gone(world: &World) {
    let snapshot = world.engine_mirror.snapshot();
    let gone = world.memory().replacing.forget_late(|id| !snapshot.containers.contains_key(id));
    for id in gone {
        if let Err(error) = world.journals.forget_late(&id) {
            tracing::warn!(error = &error as &dyn std::error::Error, "a note stays behind");
        }
    }
}

/// Whether a predecessor runs beside its successor by a start of this program that came late. What a person started is theirs, and
/// what alone runs is not taken from anybody.
pub async fn was_started(world: &World, replacement: &Replacement) -> Result<bool, EngineError> {
    let facts = &replacement.facts;
    if !world.memory().replacing.is_started_late(&facts.predecessor) {
        return Ok(false);
    }
    let Some(candidate) = &replacement.candidate else { return Ok(false) };
    let predecessor = if_found(world.engine.container(&facts.predecessor).await)?;
    let is_paused = |container: &serde_json::Value| container.pointer("/State/Paused") == Some(&true.into());
    let runs = predecessor.is_some_and(|it| way_back::process(&it).is_some() && !is_paused(&it));
    Ok(runs && way_back::runs(world, candidate).await? == Some(true))
}
