//! Containers that have to run, and do not, although their replacement has come to its end: the old one was put back and
//! ends whenever it is started, or the new one stays because nothing else is left. They are started again and again.
//!
//! The slot is given back meanwhile, since starting takes nothing from anybody; the instance counts as down. The journal
//! stays open, so that a restart of the daemon forgets none of them. A further replacement takes the container over.

use std::collections::BTreeMap;

use deployer_core::backoff::Backoff;
use deployer_core::replacement::Replacement;
use tokio::time::Instant;

use super::{recovery, way_back};
use crate::world::World;

/// One of them.
struct Debt {
    /// Its journal.
    replacement: Replacement,
    /// Starts in a row after which it did not stay.
    failures: u32,
    /// When it is looked at again; `None` while it is.
    due: Option<Instant>,
}

/// All of this machine, by name.
#[derive(Default)]
pub struct Owed(BTreeMap<String, Debt>);

impl Owed {
    /// Whether this very container has to run, whatever state the engine shows.
    pub fn includes(&self, id: &str) -> bool {
        self.0.values().any(|debt| debt.replacement.owed() == Some(id))
    }

    /// Whether a container of this name is looked after here.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// When the next is looked at again, and its name.
    pub fn next(&self) -> Option<(Instant, String)> {
        self.0.iter().filter_map(|(name, debt)| Some((debt.due?, name.clone()))).min()
    }

    fn note(&mut self, mut replacement: Replacement, random: u64) {
        // The slot was given back: what follows holds none.
        replacement.token = None;
        let name = replacement.facts.container.clone();
        let failures = self.0.get(&name).map_or(0, |debt| debt.failures) + 1;
        let due = Some(Instant::now() + Backoff::REGISTRY.wait(failures, random));
        self.0.insert(name, Debt { replacement, failures, due });
    }
}

/// Whether a replacement that has come to its end still owes a container; then it is noted as such. An engine that does
/// not answer is asked again later.
pub async fn is_left_owing(world: &World, replacement: &Replacement) -> bool {
    let is_down = match replacement.owed() {
        None => false,
        Some(id) => !matches!(way_back::runs(world, id).await, Ok(Some(true) | None)),
    };
    let random = world.ambient.random();
    let owed = &mut world.memory().owed;
    if is_down {
        owed.note(replacement.clone(), random);
    } else {
        owed.0.remove(&replacement.facts.container);
    }
    is_down
}

/// The replacement of a container that is due, set to where it goes on.
pub async fn due(world: &World, name: &str) -> Option<Replacement> {
    let mut replacement = {
        let mut memory = world.memory();
        let debt = memory.owed.0.get_mut(name)?;
        debt.due.take_if(|due| *due <= Instant::now())?;
        debt.replacement.clone()
    };
    recovery::settle(world, &mut replacement).await;
    Some(replacement)
}

/// Hands a container over to a further replacement, which is past its fence: what the one before left is removed.
pub async fn hand_over(world: &World, name: &str) {
    let Some(debt) = world.memory().owed.0.remove(name) else { return };
    let Replacement { txn, candidate, .. } = &debt.replacement;
    if let Some(candidate) = candidate.as_ref().filter(|candidate| debt.replacement.owed() != Some(candidate.as_str()))
        && let Err(error) = world.engine.remove(candidate).await
    {
        tracing::warn!(container = name, error = %error, "a failed candidate stays behind");
    }
    if let Err(error) = world.journals.close(txn) {
        tracing::error!(error = &error as &dyn std::error::Error, "a journal stays behind");
    }
}
