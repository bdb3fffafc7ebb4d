//! The turn to ask the registry for the whole cluster, taken and given back.
//!
//! It hangs on a lease of its own, so that it ends however its holder fares: one that lives and gets no further with it,
//! whose engine died or whose containers became somebody else's, would otherwise keep every push of the track waiting.

use std::time::Duration;

use deployer_core::asking::{Setback, TERM};
use deployer_core::image::Track;
use deployer_core::store::{Compare, Txn};

use crate::ledger::{Ledger, Read, Resolver};
use crate::world::World;
use deployer_store::StoreError;

/// Takes the turn to ask, if nobody has it and what is to be asked about still stands, or begins its term anew. Gives back
/// the facts as they were then, the turn included.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn take(world: &World, track: &Track, ledger: &Ledger) -> Result<Option<Ledger>, StoreError> {
    if world.presence.borrow().lease.is_none() {
        return Ok(None);
    }
    let (keys, here) = (&world.keys, Resolver::here(world));
    let revision = ledger.resolver_revision();
    // Before the turn and not after it: whatever is written under it is sent to everybody who follows the track.
    let term = world.store.grant(TERM).await?;
    let is_held = Compare::ModRevision(keys.resolver(track), revision);
    let mut txn = Txn::new().when(is_held).put_leased(keys.resolver(track), &here, term);
    if !ledger.is_asking(world) {
        txn = txn
            .when(Compare::ModRevision(keys.record(track), ledger.record_revision()))
            .when(Compare::NoneNewer(keys.setbacks(track), ledger.seen));
        // The check that another node has made since is not made again.
        if !ledger.is_checked {
            txn = txn.when(Compare::ModRevision(keys.checked(track), 0));
        }
        // Its answer may be lost, so it is noted before.
        world.memory().asking.begin_turn(track);
    }
    let outcome = world.store.txn(txn).await?;
    if !outcome.succeeded {
        world.memory().asking.end_turn(track);
        // One that is not taken back ends by itself.
        let _ = world.store.revoke(term).await;
        return Ok(None);
    }
    let mut memory = world.memory();
    memory.asking.begin_turn(track);
    if let Some(turn) = memory.asking.turn(track) {
        turn.revision = outcome.revision;
    }
    Ok(Some(Ledger { resolver: Some(Read { value: here, revision: outcome.revision }), ..ledger.clone() }))
}

/// Gives the turn to others, who see for so long what this node met. One that was lost meanwhile leaves nothing.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn leave(
    world: &World,
    track: &Track,
    before: &Ledger,
    setback: &Setback,
    time: Duration,
    and: Txn,
) -> Result<(), StoreError> {
    let keys = &world.keys;
    let revision = before.resolver_revision();
    let lease = world.store.grant(time).await?;
    let txn = and
        .when(Compare::ModRevision(keys.resolver(track), revision))
        .put_leased(keys.setback(track, &setback.node), setback, lease)
        .delete(keys.resolver(track));
    world.store.txn(txn).await?;
    world.memory().asking.end_turn(track);
    Ok(())
}

/// Gives back every turn of this node but those of these tracks, as far as the store can be asked: its engine is not heard,
/// its last container of a track is gone, or its daemon ends.
pub async fn give_back(world: &World, but: impl Fn(&Track) -> bool) {
    let turns = world.memory().asking.turns();
    for (track, turn) in turns.into_iter().filter(|(track, _)| !but(track)) {
        match give_back_one(world, &track, turn.revision).await {
            Ok(()) => world.memory().asking.end_turn(&track),
            Err(error) => tracing::debug!(image = %track, error = %error, "a turn ends by itself"),
        }
    }
}

/// One that may have been taken although the answer was lost is looked for.
async fn give_back_one(world: &World, track: &Track, revision: u64) -> Result<(), StoreError> {
    let mut revision = revision;
    if revision == 0 {
        let ledger = Ledger::read(world, track).await?;
        revision = ledger.resolver.filter(|resolver| resolver.value == Resolver::here(world)).map_or(0, |r| r.revision);
    }
    if revision != 0 {
        let key = world.keys.resolver(track);
        world.store.txn(Txn::new().when(Compare::ModRevision(key.clone(), revision)).delete(key)).await?;
    }
    Ok(())
}
