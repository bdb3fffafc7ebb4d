//! Containers that have to run, and do not, although their replacement has come to its end: the old one was put back and
//! ends whenever it is started, or the new one stays because nothing else is left. They are started again and again.
//!
//! The slot is given back meanwhile, since starting takes nothing from anybody; the instance counts as down. The journal
//! stays open, so that a restart of the daemon forgets none of them. A further replacement takes the container over.

use std::collections::BTreeMap;

use deployer_core::backoff::Backoff;
use deployer_core::replacement::Replacement;
use tokio::time::Instant;

/// One of them.
struct Debt {
    /// Its journal.
    replacement: Replacement,
    /// Starts in a row after which it did not stay.
    failures: u32,
    /// When it is looked at again; `None` while it is.
    due: Option<Instant>,
    /// What a person was last seen to have done to it.
    heard: Option<String>,
}

/// All of this machine, by the container's name.
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

    /// The names of all, each with the container's ID.
    pub fn all(&self) -> Vec<(String, String)> {
        let owed = self.0.iter().filter_map(|(name, debt)| Some((name.clone(), debt.replacement.owed()?.to_owned())));
        owed.collect()
    }

    /// Notes what a person was seen to have done to what is owed under a name. Whether that is news.
    pub fn hear(&mut self, name: &str, what: String) -> bool {
        self.0.get_mut(name).is_some_and(|debt| debt.heard.replace(what.clone()) != Some(what))
    }

    /// What is owed under a name: the replacement, and the container's ID.
    pub fn of(&self, name: &str) -> Option<(Replacement, String)> {
        let replacement = &self.0.get(name)?.replacement;
        Some((replacement.clone(), replacement.owed()?.to_owned()))
    }

    /// When the next is looked at again, and its name, of those that may be.
    pub fn next(&self, may_be: impl Fn(&String) -> bool) -> Option<(Instant, String)> {
        let free = self.0.iter().filter(|(name, _)| may_be(name));
        free.filter_map(|(name, debt)| Some((debt.due?, name.clone()))).min()
    }

    /// Whether a container of this name is to be looked at again by now.
    pub fn is_due(&self, name: &str, now: Instant) -> bool {
        self.due(name).is_some_and(|due| due <= now)
    }

    /// When a container of this name is looked at again; `None` while it is, or where nothing is owed.
    pub fn due(&self, name: &str) -> Option<Instant> {
        self.0.get(name)?.due
    }

    /// Notes a replacement that has ended and owes a container. The random number keeps machines from trying in step.
    pub fn note(&mut self, mut replacement: Replacement, random: u64) {
        // The slot was given back: what follows holds none.
        replacement.token = None;
        let name = replacement.facts.container.clone();
        let failures = self.0.get(&name).map_or(0, |debt| debt.failures) + 1;
        let due = Some(Instant::now() + Backoff::REGISTRY.wait(failures, random));
        self.0.insert(name, Debt { replacement, failures, due, heard: None });
    }

    /// The replacement of a container that is to be looked at again now.
    pub fn take_due(&mut self, name: &str) -> Option<Replacement> {
        let debt = self.0.get_mut(name)?;
        debt.due.take_if(|due| *due <= Instant::now())?;
        Some(debt.replacement.clone())
    }

    /// Takes what this very replacement owed for paid. One that came after it may have touched nothing.
    pub fn settle(&mut self, replacement: &Replacement) {
        let name = &replacement.facts.container;
        if self.0.get(name).is_some_and(|debt| debt.replacement.txn == replacement.txn) {
            self.0.remove(name);
        }
    }

    /// Hands over to a replacement what another one owed of its container.
    pub fn hand_over(&mut self, to: &Replacement) -> Option<Replacement> {
        let name = &to.facts.container;
        let is_another = self.0.get(name).is_some_and(|debt| debt.replacement.txn != to.txn);
        if is_another { self.forget(name) } else { None }
    }

    /// Gives a container up: nothing is owed any more.
    pub fn forget(&mut self, name: &str) -> Option<Replacement> {
        self.0.remove(name).map(|debt| debt.replacement)
    }
}
