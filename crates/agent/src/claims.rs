//! Claims whose holders are gone, ended where that is allowed: by those who wait for the slot, and by every living node
//! now and then, since nobody may be waiting.

use std::collections::BTreeSet;

use deployer_core::queue::Ticket;
use deployer_core::slot::{self, Claim, Finder, Traces};
use deployer_core::store::{Compare, Entry, Txn};
use deployer_store::StoreError;

use crate::ledger::{Read, readable};
use crate::world::{Settings, World};

/// Ends the dead claims among these entries, whose holds were listed at the same revision or a later one: a claim that has
/// moved on since is not ended. Whether any ended. A daemon that is not registered ends none: another may bear its name.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn end_dead(world: &World, entries: &[Entry]) -> Result<bool, StoreError> {
    let Some((_, sign)) = world.presence.borrow().lease else { return Ok(false) };
    let settings = &world.settings;
    let finder = Finder { node: &settings.node, identity: &settings.identity, sign };
    let mut has_ended = false;
    for entry in entries {
        if is_forgotten_ticket(world, entry) {
            let is_same = Compare::ModRevision(entry.key.clone(), entry.mod_revision);
            has_ended |= world.store.txn(Txn::new().when(is_same).delete(entry.key.clone())).await?.succeeded;
        }
        let Some((scope, number)) = world.keys.slot_of(&entry.key) else { continue };
        // One that makes no sense is nobody's to end but a person's.
        let claim: Option<Read<Claim>> = readable(world, entry.clone());
        let Some(claim) = claim else { continue };
        let hold = world.keys.hold(&scope, number);
        let has_hold = entries.iter().any(|entry| entry.key == hold);
        let traces = Traces { has_hold, has_journal: has_journal(world, &claim.value)? };
        if slot::is_dead(&claim.value, &finder, traces)
            && world.store.txn(slot::reap(&world.keys, &scope, number, entry, &finder)).await?.succeeded
        {
            tracing::warn!(
                slot = format!("{scope}/{number}"),
                node = claim.value.node,
                "a dead holder's claim was ended"
            );
            has_ended = true;
        }
    }
    Ok(has_ended)
}

/// The containers of this node's name that a daemon of another machine or state directory has claimed. They are not
/// this daemon's to withdraw: until such a claim has ended, what it holds counts as down. `None`: there is a claim that makes
/// no sense, and it may hold any of them.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn held_by_twins(world: &World) -> Result<Option<BTreeSet<String>>, StoreError> {
    let Settings { node, identity, .. } = &world.settings;
    let mut held = BTreeSet::new();
    for entry in world.store.list(&world.keys.locks()).await?.0 {
        if world.keys.slot_of(&entry.key).is_some() {
            let claim: Option<Read<Claim>> = readable(world, entry);
            let Some(Read { value: claim, .. }) = claim else { return Ok(None) };
            let is_ours = claim.machine == identity.boot && claim.state == identity.state;
            if claim.node == *node && !is_ours {
                held.insert(claim.container);
            }
        }
    }
    Ok(Some(held))
}

/// Whether this is a ticket of this node that nobody here waits with: it came back with a store that was restored, and would
/// keep its place for as long as this node lives.
fn is_forgotten_ticket(world: &World, entry: &Entry) -> bool {
    if !world.keys.is_ticket_of(&entry.key, &world.settings.node) {
        return false;
    }
    let ticket: Option<Read<Ticket>> = readable(world, entry.clone());
    ticket.is_some_and(|Read { value, .. }| !world.memory().tickets.all(&value.container).contains(&entry.key))
}

/// Whether this daemon is at work under the claim, or a journal says that one before it was.
fn has_journal(world: &World, claim: &Claim) -> Result<bool, StoreError> {
    if world.memory().replacing.whose_turn().as_ref() == Some(&claim.txn) {
        return Ok(true);
    }
    let journals = world.journals.all().map_err(|error| StoreError::Broken(error.to_string()))?;
    Ok(journals.iter().any(|journal| journal.txn == claim.txn && journal.may_hold_slot()))
}

#[cfg(test)]
mod tests {
    use deployer_core::replacement::{Phase, Replacement};
    use deployer_core::slot::ClaimPhase;

    use super::*;
    use crate::fixture::{digest, fixture, replacement, track};

    /// A claim of `node machine folder`.
    fn claim([node, machine, state]: [&str; 3], phase: ClaimPhase) -> Claim {
        Claim {
            node: node.into(),
            boot: "1".into(),
            txn: replacement().txn,
            image: track(),
            digest: digest(2),
            container: "web".into(),
            phase,
            machine: machine.into(),
            state: state.into(),
            at: 0,
        }
    }

    /// Whether the claim of another node, of this phase and with a hold or without, is ended though nobody waits.
    async fn check(phase: ClaimPhase, is_held: bool, expected: bool) {
        let fixture = fixture().await;
        let world = &fixture.world;
        let claim = claim(["another", "elsewhere", "other"], phase);
        let txn = Txn::new().put(world.keys.claim("cluster", 0), &claim);
        let txn = if is_held { txn.put(world.keys.hold("cluster", 0), &claim.txn) } else { txn };
        world.store.txn(txn).await.expect("stored");
        let (entries, _) = world.store.list(&world.keys.locks()).await.expect("listed");
        assert_eq!(end_dead(world, &entries).await, Ok(expected), "{phase:?}, held: {is_held}");
        let left = world.store.get(&world.keys.claim("cluster", 0)).await.expect("read");
        assert_eq!(left.is_none(), expected);
    }

    #[tokio::test]
    async fn a_ticket_that_came_back_with_a_restored_store_is_taken_out_by_its_own_node() {
        let fixture = fixture().await;
        let world = &fixture.world;
        let ticket = |node: &str, container: &str| {
            let key = world.keys.ticket("cluster", "0", node, container);
            let (node, container) = (node.to_owned(), container.to_owned());
            (key, Ticket { node, container, image: track(), record: 0, is_down: false, is_blocked: false, runs: 1 })
        };
        let all = [("a", "forgotten"), ("a", "waits"), ("b", "another")].map(|(node, name)| ticket(node, name));
        let txn = all.iter().fold(Txn::new(), |txn, (key, value)| txn.put(key.clone(), value));
        world.store.txn(txn).await.expect("stored");
        let [_, (waits, _), (another, _)] = all;
        world.memory().tickets.draw("waits", &waits);
        let (entries, _) = world.store.list(&world.keys.locks()).await.expect("listed");
        assert_eq!(end_dead(world, &entries).await, Ok(true));
        let (left, _) = world.store.list(&world.keys.locks()).await.expect("listed");
        let left: BTreeSet<String> = left.into_iter().map(|entry| entry.key).collect();
        assert_eq!(left, [waits, another].into());
    }

    /// It was past its fence, and neither its own daemon nor another ended it for as long as that daemon lived.
    #[tokio::test]
    async fn a_claim_that_came_back_with_a_restored_store_is_ended_by_the_daemon_that_had_given_it_back() {
        let fixture = fixture().await;
        let world = &fixture.world;
        let held = replacement();
        let claim = claim(["a", "machine", "folder"], ClaimPhase::Stopping);
        let txn = Txn::new().put(world.keys.claim("cluster", 0), &claim).put(world.keys.hold("cluster", 0), &claim.txn);
        world.store.txn(txn).await.expect("restored");
        let (entries, _) = world.store.list(&world.keys.locks()).await.expect("listed");

        world.memory().replacing.take_turn(&held.txn);
        assert_eq!(end_dead(world, &entries).await, Ok(false), "it acts under it");
        world.memory().replacing.leave_turn(&held.txn);
        world.journals.write(&held).expect("written");
        assert_eq!(end_dead(world, &entries).await, Ok(false), "its journal is open");
        let owing = Replacement { phase: Phase::Returned, ..held };
        world.journals.write(&owing).expect("written");
        assert_eq!(end_dead(world, &entries).await, Ok(true));
        assert!(world.store.list(&world.keys.locks()).await.expect("listed").0.is_empty());
    }

    #[tokio::test]
    async fn a_dead_holders_claim_ends_before_its_fence_though_nobody_waits() {
        check(ClaimPhase::Acquired, false, true).await;
        check(ClaimPhase::Acquired, true, false).await;
        check(ClaimPhase::Stopping, false, false).await;
    }
}
