//! What one who waits for a slot wants to hear of, so that a change wakes those whom it concerns and not all.

use deployer_core::keys::Keys;
use deployer_core::replacement::Facts;
use deployer_core::slot::Scope;

/// The keys after whose change a waiter looks again.
pub struct Interest(Vec<String>);

impl Interest {
    /// One whose turn it is waits for slots, for others to be up, and for their scopes.
    pub fn of_the_first(keys: &Keys, facts: &Facts, node: &str) -> Self {
        let mut interest = Self::of_the_next(keys, facts, node);
        // Who lives: a sign is written anew now and then, which is no news.
        interest.0.extend(Scope::ALL.map(|scope| keys.scopes(scope.word())));
        interest.0.extend([keys.instances(&facts.service), keys.reports(&facts.service)]);
        interest
    }

    /// One whose turn it is waits for a node to have the image, or to be gone.
    pub fn of_one_late(keys: &Keys, facts: &Facts, node: &str, late: &str) -> Self {
        let mut interest = Self::of_the_next(keys, facts, node);
        interest.0.extend([keys.node(late), keys.fetched_by(&facts.track, late)]);
        interest
    }

    /// One who gets the next slot waits for that alone.
    pub fn of_the_next(keys: &Keys, facts: &Facts, node: &str) -> Self {
        let mut interest = Self::of_everybody(keys, facts, node);
        interest.0.extend([keys.claims(&facts.scope), keys.holds(&facts.scope)]);
        interest
    }

    /// Anybody else waits for the one before alone, by its ticket, so that a slot that is given back wakes one node.
    pub fn of_one_behind(keys: &Keys, facts: &Facts, node: &str, before: &str) -> Self {
        let mut interest = Self::of_everybody(keys, facts, node);
        interest.0.push(before.to_owned());
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
            keys.deferral(&facts.scope, &facts.track),
            keys.report(&facts.service, node, &facts.container),
        ])
    }

    /// What they begin with.
    pub fn prefixes(&self) -> &[String] {
        &self.0
    }
}
