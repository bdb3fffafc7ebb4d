//! Claims whose holders are gone, ended where that is allowed: by those who wait for the slot, and by every living node
//! now and then, since nobody may be waiting.

use deployer_core::slot::{self, Claim};
use deployer_core::store::Entry;

use crate::ledger::{Read, readable};
use crate::store::StoreError;
use crate::world::World;

/// Ends the dead claims among these entries, which were listed at one revision with their holds. Whether any ended.
///
/// Before its fence anybody may end the claim of a holder whose hold has gone: it had done nothing. A claim of this very
/// node without a journal was left by a daemon that lost its state, or was killed between the end of a replacement and
/// the release; nobody else is this node, since the state directory is locked and the name is taken.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn end_dead(world: &World, entries: &[Entry]) -> Result<bool, StoreError> {
    let mut has_ended = false;
    for entry in entries {
        let Some((scope, number)) = world.keys.slot_of(&entry.key) else { continue };
        // One that makes no sense is nobody's to end but a person's.
        let claim: Option<Read<Claim>> = readable(world, entry.clone());
        let Some(claim) = claim else { continue };
        let hold = world.keys.hold(&scope, number);
        let is_own = claim.value.node == world.settings.node && claim.value.boot != world.settings.boot;
        let txn = if is_own && !has_journal(world, &claim.value)? {
            Some(slot::remove_unmoved(&world.keys, &scope, number, entry))
        } else {
            slot::reap(&world.keys, &scope, number, entry, entries.iter().any(|entry| entry.key == hold))
        };
        if let Some(txn) = txn
            && world.store.txn(txn).await?.succeeded
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

fn has_journal(world: &World, claim: &Claim) -> Result<bool, StoreError> {
    let journals = world.journals.all().map_err(|error| StoreError::Broken(error.to_string()))?;
    Ok(journals.iter().any(|journal| journal.txn == claim.txn))
}

#[cfg(test)]
mod tests {
    use deployer_core::slot::ClaimPhase;
    use deployer_core::store::Txn;

    use super::*;
    use crate::stand_in::{digest, fixture, track};

    /// Whether the claim of another node, of this phase and with a hold or without, is ended though nobody waits.
    async fn check(phase: ClaimPhase, is_held: bool, expected: bool) {
        let fixture = fixture().await;
        let world = &fixture.world;
        let claim = Claim {
            node: "another".into(),
            boot: "2".into(),
            txn: "00c0ffee".into(),
            image: track(),
            digest: digest('2'),
            container: "web".into(),
            phase,
            at: 0,
        };
        let txn = Txn::new().put(world.keys.claim("cluster", 0), &claim);
        let txn = if is_held { txn.put(world.keys.hold("cluster", 0), &claim.txn) } else { txn };
        world.store.txn(txn).await.expect("stored");
        let (entries, _) = world.store.list(&world.keys.locks()).await.expect("listed");
        assert_eq!(end_dead(world, &entries).await, Ok(expected), "{phase:?}, held: {is_held}");
        let left = world.store.get(&world.keys.claim("cluster", 0)).await.expect("read");
        assert_eq!(left.is_none(), expected);
    }

    #[tokio::test]
    async fn a_dead_holders_claim_ends_before_its_fence_though_nobody_waits() {
        check(ClaimPhase::Acquired, false, true).await;
        check(ClaimPhase::Acquired, true, false).await;
        check(ClaimPhase::Stopping, false, false).await;
    }
}
