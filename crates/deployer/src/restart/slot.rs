//! Taking, fencing and giving back the leave to replace: the slot protocol carried out over the store.

use std::time::Duration;

use deployer_core::replacement::{Event, Failure, Replacement};
use deployer_core::slot::{self, Claim, ClaimPhase, Token};
use deployer_core::store::{Entry, LeaseId};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::POLL;
use crate::failpoint;
use crate::ledger::{self, Ledger, Read, decode};
use crate::store::StoreError;
use crate::survey::Survey;
use crate::world::World;

/// How long a hold outlasts its holder's last sign of life.
const HOLD: Duration = Duration::from_secs(30);
/// How many instances of a service may be down together.
const MAX_UNAVAILABLE: usize = 1;
/// The only slot of the scope.
const SLOT: u32 = 0;

/// Waits for the slot and takes it, unless the grounds go away meanwhile.
pub async fn claim(
    world: &World,
    replacement: &mut Replacement,
    shutdown: &CancellationToken,
) -> Result<Event, StoreError> {
    if failpoint::are_slots_off() {
        return Ok(Event::Done);
    }
    let lease = world.store.grant(HOLD).await?;
    let scope = replacement.facts.scope.clone();
    loop {
        // The watch begins before the try, so that a slot freed in between is not missed.
        let (_, revision) = world.store.list(&world.keys.claims(&scope)).await?;
        let mut changes = world.store.watch(&world.keys.locks(), revision).await?;
        if shutdown.is_cancelled() {
            return Ok(superseded("shutting down"));
        }
        if let Some(gone) = lost_grounds(world, replacement).await? {
            return Ok(Event::Failed(Failure::Superseded(gone)));
        }
        if try_claim(world, replacement, lease, revision).await? {
            return Ok(Event::Done);
        }
        world.store.keep_alive(lease).await?;
        tokio::select! {
            _ = changes.next() => {}
            () = tokio::time::sleep(POLL) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn try_claim(
    world: &World,
    replacement: &mut Replacement,
    lease: LeaseId,
    revision: u64,
) -> Result<bool, StoreError> {
    let facts = &replacement.facts;
    if let Some(entry) = world.store.get(&world.keys.claim(&facts.scope, SLOT)).await? {
        // A claim whose answer was lost is ours all the same; waited for, it would be waited for for ever.
        let holder: Read<Claim> = decode(entry.clone())?;
        if holder.value.txn == replacement.txn && holder.value.boot == world.settings.boot {
            replacement.token = Some(Token { scope: facts.scope.clone(), slot: SLOT, fence: entry.create_revision });
            return Ok(true);
        }
        return if is_left_behind(world, &entry)? {
            world.store.txn(slot::remove_unmoved(&world.keys, &facts.scope, SLOT, &entry)).await?;
            Ok(false)
        } else {
            wait_in_line(world, replacement, &entry)
        };
    }
    if !is_available(world, replacement).await {
        return Ok(false);
    }
    let claim = claim_of(world, replacement, ClaimPhase::Acquired);
    let txn = slot::acquire(&world.keys, &facts.scope, SLOT, &claim, &facts.grounds, revision, lease);
    let outcome = world.store.txn(txn).await?;
    if outcome.succeeded {
        replacement.token = Some(Token { scope: facts.scope.clone(), slot: SLOT, fence: outcome.revision });
    }
    Ok(outcome.succeeded)
}

/// A claim of this node whose journal does not exist was left by a daemon that lost its state, or was killed
/// between the end of the replacement and the release. Nobody else is this node: the state directory is locked.
fn is_left_behind(world: &World, entry: &Entry) -> Result<bool, StoreError> {
    let claim: Read<Claim> = decode(entry.clone())?;
    let is_ours = claim.value.node == world.settings.node && claim.value.boot != world.settings.boot;
    let journals = world.journals.all().map_err(|error| StoreError::Broken(error.to_string()))?;
    Ok(is_ours && !journals.iter().any(|journal| journal.txn == claim.value.txn))
}

fn wait_in_line(world: &World, replacement: &Replacement, entry: &Entry) -> Result<bool, StoreError> {
    let holder: Read<Claim> = decode(entry.clone())?;
    let text = format!("waiting for {} on {}", holder.value.container, holder.value.node);
    world.memory().replacing.insert(replacement.facts.container.clone(), text);
    Ok(false)
}

/// Whether one more instance of the service may go down.
async fn is_available(world: &World, replacement: &Replacement) -> bool {
    let facts = &replacement.facts;
    let Ok(survey) = Survey::take(world).await else { return false };
    let instances = survey.running(world, &facts.track).filter(|c| c.service(&facts.track) == facts.service);
    let mut down = 0;
    let mut is_down_already = false;
    for instance in instances.filter(|instance| instance.is_meant_to_run()) {
        let status = &instance.summary.status;
        let is_up = instance.summary.state == "running" && !status.contains("unhealthy");
        down += usize::from(!is_up);
        is_down_already |= !is_up && instance.summary.id == facts.predecessor;
    }
    slot::may_go_down(down, MAX_UNAVAILABLE, is_down_already)
}

/// Passes the fence, or finds that the grounds are gone.
pub async fn fence(world: &World, replacement: &Replacement) -> Result<Event, StoreError> {
    if failpoint::are_slots_off() {
        return Ok(Event::Done);
    }
    let Some(token) = &replacement.token else { return Ok(superseded("the claim was never taken")) };
    let claim = claim_of(world, replacement, ClaimPhase::Acquired);
    let txn = slot::fence(&world.keys, token, &claim, &replacement.facts.grounds);
    let outcome = world.store.txn(txn).await?;
    Ok(if outcome.succeeded { Event::Done } else { superseded("something newer came in before the fence") })
}

/// Gives the slot back, if it is still held.
pub async fn release(world: &World, replacement: &Replacement) -> Result<Event, StoreError> {
    if let Some(token) = &replacement.token {
        world.store.txn(slot::release_if_held(&world.keys, token)).await?;
    }
    Ok(Event::Done)
}

fn claim_of(world: &World, replacement: &Replacement, phase: ClaimPhase) -> Claim {
    let facts = &replacement.facts;
    Claim {
        node: world.settings.node.clone(),
        boot: world.settings.boot.clone(),
        txn: replacement.txn.clone(),
        image: facts.track.clone(),
        digest: facts.digest.clone(),
        container: facts.container.clone(),
        phase,
        at: world.ambient.now(),
    }
}

/// Why there is nothing to wait for any more, if so.
async fn lost_grounds(world: &World, replacement: &Replacement) -> Result<Option<String>, StoreError> {
    let facts = &replacement.facts;
    let ledger = Ledger::read(world, &facts.track).await?;
    let (_, revisions) = ledger::verdicts(world, &facts.service).await?;
    let grounds = ledger::grounds(ledger.record_revision(), &facts.service, &facts.digest, &revisions);
    if ledger.is_paused {
        return Ok(Some("the cluster was paused".to_owned()));
    }
    Ok((grounds != facts.grounds).then(|| "a newer decision stands".to_owned()))
}

fn superseded(why: &str) -> Event {
    Event::Failed(Failure::Superseded(why.to_owned()))
}
