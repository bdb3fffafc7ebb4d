//! This node's sign of life in the store: one lease, on which hangs everything that ends with this daemon.
//!
//! The lease is kept alive for as long as the store grants it. If it ends, because this process stood still or the store
//! was cut off for too long, all that hung on it is gone, and is said anew under the next.

use std::time::Duration;

use deployer_core::backoff::Backoff;
use deployer_core::node::{Claimant, Sign, claimant};
use deployer_core::slot::Scope;
use deployer_core::store::{Compare, Entry, LeaseId, Range, Txn};
use deployer_store::StoreError;
use tokio::time::Instant;

use crate::claims;
use crate::ledger::{Read, decode};
use crate::publish;
use crate::sign::be_certain;
use crate::turn;
use crate::world::{Presence, World};

/// How long others believe that this node lives after its last sign.
pub const LEASE: Duration = Duration::from_secs(30);
/// The pause between two signs. Three may be lost.
const SIGN: Duration = Duration::from_secs(7);
/// The shortest pause between two looks for claims of dead holders, of which those who wait for the slot are rid at once. It
/// is lengthened by chance up to twice as long.
const DEAD_CLAIMS: Duration = Duration::from_secs(60);
/// Of so many of these looks one is at every ticket, too: one of this node's own that nobody waits with keeps all behind it
/// waiting, and others cannot tell.
const TICKETS_EVERY: u32 = 16;
/// The pause between two looks at a sign that another daemon left under this node's name.
const TWIN: Duration = Duration::from_secs(1);
/// How long the end of the daemon may take to tell the others. They find out by themselves, half a minute later.
const FAREWELL: Duration = Duration::from_secs(5);

/// Registers this node and keeps it registered for as long as this is polled: beyond a shutdown's beginning, until what is
/// past its fence has come to its end. With the lease would go the reports, and what says that the claim's holder lives.
pub async fn run(world: &World) {
    let mut failures = 0;
    loop {
        match register(world).await {
            Ok(Some(lease)) => {
                failures = 0;
                keep(world, lease).await;
            }
            Ok(None) => tokio::time::sleep(TWIN).await,
            Err(error) => {
                failures += 1;
                absent(world, error.to_string());
                tokio::time::sleep(Backoff::CONNECTION.wait(failures, world.ambient.random())).await;
            }
        }
    }
}

fn absent(world: &World, trouble: String) {
    let said = world.presence.borrow().trouble.as_ref() == Some(&trouble);
    if !said {
        tracing::warn!("not registered: {trouble}");
    }
    world.presence.send_replace(Presence { lease: None, trouble: Some(trouble) });
}

/// Takes this node's name, unless a daemon that may be another's bears it.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn register(world: &World) -> Result<Option<LeaseId>, StoreError> {
    let settings = &world.settings;
    let key = world.keys.node(&settings.node);
    let left: Option<Read<Sign>> = world.store.get(&key).await?.map(decode).transpose()?;
    if claimant(left.as_ref().map(|left| &left.value), &settings.identity) == Claimant::Stranger {
        let node = &settings.node;
        absent(
            world,
            format!("another daemon is registered as node {node}; waiting until it is gone (one name each: --node)"),
        );
        return Ok(None);
    }
    let lease = world.store.grant(LEASE).await?;
    let sign = Sign {
        node: settings.node.clone(),
        boot: settings.identity.boot.clone(),
        state: settings.identity.state.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scope: settings.scope.word().to_owned(),
        lease: lease.0,
        at: world.ambient.now(),
    };
    let seen = left.as_ref().map_or(0, |left| left.revision);
    let txn = Txn::new().when(Compare::ModRevision(key.clone(), seen)).put_leased(key, &sign, lease);
    let txn = txn.put_leased(world.keys.scope_of(&sign.scope, &sign.node), &true, lease);
    let outcome = world.store.txn(txn).await?;
    if !outcome.succeeded {
        world.store.revoke(lease).await?;
        return Ok(None);
    }
    if let Some(left) = left {
        // What the daemon before this one said is over, and need not outlast it.
        world.store.revoke(LeaseId(left.value.lease)).await?;
    }
    publish::begin(world).await?;
    world.presence.send_replace(Presence { lease: Some((lease, outcome.revision)), trouble: None });
    end_dead_claims(world).await?;
    tracing::info!(node = settings.node, "registered in the store");
    world.bell.notify_one();
    Ok(Some(lease))
}

async fn end_dead_claims(world: &World) -> Result<(), StoreError> {
    let (entries, _) = world.store.list(&world.keys.locks()).await?;
    claims::end_dead(world, &entries).await.map(drop)
}

/// The same now and then, without the tickets of everybody who waits in the one line of a cluster.
async fn end_dead_claims_again(world: &World) -> Result<(), StoreError> {
    let keys = &world.keys;
    let Scope::Cluster = world.settings.scope else { return end_dead_claims(world).await };
    let scope = Scope::Cluster.name("");
    let ranges = [Range::All(keys.claims(&scope)), Range::All(keys.holds(&scope))];
    let (listed, _) = world.store.ranges(&ranges).await?;
    let entries: Vec<Entry> = listed.into_iter().flat_map(|listed| listed.entries).collect();
    claims::end_dead(world, &entries).await.map(drop)
}

/// Gives signs until the lease has ended. A store that does not answer may still keep the lease.
async fn keep(world: &World, lease: LeaseId) {
    let mut rounds = Rounds::begin(world);
    loop {
        tokio::time::sleep(SIGN).await;
        match world.store.keep_alive(lease).await {
            Ok(()) => {}
            Err(StoreError::LeaseGone) => {
                absent(world, "the lease has ended; it is granted anew".to_owned());
                return;
            }
            Err(error) => {
                trouble(world, Some(error.to_string()));
                continue;
            }
        }
        // What takes longer is given up until after the next sign, or the lease would end meanwhile.
        match tokio::time::timeout(SIGN, rounds.go(world, lease)).await {
            Ok(Ok(true)) => trouble(world, None),
            Ok(Ok(false)) => {
                absent(world, "the sign of this node is not in the store any more; it is written anew".to_owned());
                return;
            }
            Ok(Err(error)) => trouble(world, Some(error.to_string())),
            Err(_) => trouble(world, Some("the store is slow".to_owned())),
        }
    }
}

/// What is looked at between two signs, now and then.
struct Rounds {
    /// Breaks and restorations of the store's mirror that were looked into.
    breaks: u64,
    restorations: u64,
    /// When claims of dead holders are looked for again, and how often they were.
    dead: Instant,
    looks: u32,
}

impl Rounds {
    fn begin(world: &World) -> Self {
        Self {
            breaks: world.mirror.breaks(),
            restorations: world.mirror.restorations(),
            dead: Instant::now() + dead_claims_after(world),
            looks: 0,
        }
    }

    /// Does what there is to do. `false`: the store does not know this daemon.
    async fn go(&mut self, world: &World, lease: LeaseId) -> Result<bool, StoreError> {
        let breaks = world.mirror.breaks();
        if breaks != self.breaks || world.memory().doubt.is_left() {
            if !look_back(world, lease).await? {
                return Ok(false);
            }
            self.breaks = breaks;
        }
        let restorations = world.mirror.restorations();
        if restorations != self.restorations {
            // What was withdrawn since the snapshot stands there again.
            end_dead_claims(world).await?;
            self.restorations = restorations;
        }
        if self.dead <= Instant::now() {
            (self.dead, self.looks) = (Instant::now() + dead_claims_after(world), self.looks.wrapping_add(1));
            // Where nobody waits for a slot, nobody else would end what its holder left.
            match self.looks % TICKETS_EVERY {
                0 => end_dead_claims(world).await?,
                _ => end_dead_claims_again(world).await?,
            }
        }
        Ok(true)
    }
}

/// Looks whether the store is still the one that was spoken to: it may have been restored from a snapshot. `false`: it does
/// not know this daemon, whose lease it keeps all the same.
async fn look_back(world: &World, lease: LeaseId) -> Result<bool, StoreError> {
    if !find_sign(world, lease).await? {
        return Ok(false);
    }
    be_certain(world).await?;
    // What came back of what was said has come back of what was claimed.
    if publish::look_back(world).await? {
        end_dead_claims(world).await?;
    }
    Ok(true)
}

/// Takes the sign's revision as it stands: what is said hangs on it, and an older one may stand again. `false`: there is none
/// under this lease.
async fn find_sign(world: &World, lease: LeaseId) -> Result<bool, StoreError> {
    let _signing = world.signing.lock().await;
    let before = world.presence.borrow().lease;
    let sign: Option<Read<Sign>> =
        world.store.get(&world.keys.node(&world.settings.node)).await?.map(decode).transpose()?;
    let Some(sign) = sign.filter(|sign| sign.value.lease == lease.0) else { return Ok(false) };
    world.presence.send_if_modified(|presence| {
        let stands = Some((lease, sign.revision));
        presence.lease == before && std::mem::replace(&mut presence.lease, stands) != stands
    });
    Ok(true)
}

/// At random, so that of many nodes one looks soon and all of them seldom.
fn dead_claims_after(world: &World) -> Duration {
    DEAD_CLAIMS.mul_f64(1.0 + (world.ambient.random() % 1000) as f64 / 1000.0)
}

fn trouble(world: &World, trouble: Option<String>) {
    world.presence.send_if_modified(|presence| {
        let is_news = presence.trouble != trouble;
        if let (true, Some(trouble)) = (is_news, &trouble) {
            tracing::warn!("the store is away; nothing new starts: {trouble}");
        }
        presence.trouble = trouble;
        is_news
    });
}

/// Why a daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// A person stopped it, and knows that nobody looks after its containers: they run on, and are not counted.
    Daemon,
    /// The whole machine goes down, and its containers with it: they stay counted, as down, until it is back or forgotten.
    Machine,
}

/// Tells the others that this node is off.
pub async fn leave(world: &World, why: Farewell) {
    let lease = world.presence.borrow().lease;
    let Some((lease, _)) = lease else {
        tracing::warn!("the others were not told that this node is off: it is not registered");
        return;
    };
    let farewell = async {
        turn::give_back(world, |_| false).await;
        if why == Farewell::Daemon {
            publish::off(world).await?;
        }
        world.store.revoke(lease).await
    };
    match tokio::time::timeout(FAREWELL, farewell).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = %error, "the others were not told that this node is off"),
        Err(_) => tracing::warn!("the others were not told that this node is off: the store is away"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::fixture;

    /// Nothing was claimed any more: every claim hung on a sign that was not in the store.
    #[tokio::test]
    async fn what_is_claimed_hangs_on_the_sign_that_stands_in_a_restored_store() {
        let fixture = fixture().await;
        let world = &fixture.world;
        let (lease, _) = world.presence.borrow().lease.expect("registered");
        let key = world.keys.node("a");
        let sign: Read<Sign> = decode(world.store.get(&key).await.expect("read").expect("a sign")).expect("readable");
        let stands = world.store.txn(Txn::new().put_leased(key.clone(), &sign.value, lease)).await.expect("restored");
        assert_eq!(look_back(world, lease).await, Ok(true));
        assert_eq!(world.presence.borrow().lease, Some((lease, stands.revision)));
        world.store.txn(Txn::new().delete(key)).await.expect("restored");
        assert_eq!(look_back(world, lease).await, Ok(false), "it registers anew");
    }
}
