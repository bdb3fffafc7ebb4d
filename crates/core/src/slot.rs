//! Slots: the leave to have one instance in transition, as transactions of the store.
//!
//! A lock that hangs on a lease cannot keep two containers from being down at once: its holder can pause between
//! its last check and the stop (`docs/adr/0003`). So the claim has no lease, its create revision is a fencing
//! token, and the last thing before the first visible act is the fence: a compare-and-swap of the claim to
//! `stopping`. A claim past the fence is ended by its own node alone, or by a person. Whether everybody else is up is
//! `availability`'s question; whose turn it is, `queue`'s.

use serde::{Deserialize, Serialize};

use crate::availability::Limit;
use crate::image::{Digest, Track};
use crate::keys::Keys;
use crate::node::Identity;
use crate::store::{Compare, Entry, LeaseId, Revision, Txn};

/// Whose instances wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole cluster: one replacement at a time, whatever it replaces.
    Cluster,
    /// Each service by itself, with as many slots as instances of it may be down.
    Service,
}

impl Scope {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cluster, Self::Service];

    /// The word for it in the configuration, and between nodes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Service => "service",
        }
    }

    /// The name of the scope that an instance of a service belongs to.
    pub fn name(self, service: &str) -> String {
        match self {
            Self::Cluster => "cluster".to_owned(),
            Self::Service => format!("service:{service}"),
        }
    }

    /// How many slots a scope has, where that does not depend on how many instances the service has.
    pub fn slots_known(self, limit: Limit) -> Option<u32> {
        match (self, limit) {
            (Self::Cluster, _) => Some(1),
            (Self::Service, Limit::Count(count)) => Some(count),
            (Self::Service, Limit::Percent(_)) => None,
        }
    }

    /// How many slots a scope has, for a service of so many instances.
    pub fn slots(self, limit: Limit, instances: usize) -> u32 {
        match self {
            Self::Cluster => 1,
            Self::Service => u32::try_from(limit.of(instances)).unwrap_or(u32::MAX),
        }
    }
}

/// How far the holder of a slot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimPhase {
    /// Nothing that others can see has happened.
    Acquired,
    /// Past the fence: the instance may be down.
    Stopping,
}

/// The value of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The holder's node.
    pub node: String,
    /// The holder's process: differs after each start of the daemon.
    pub boot: String,
    /// The replacement.
    pub txn: String,
    /// The track being deployed.
    pub image: Track,
    /// The digest being deployed.
    pub digest: Digest,
    /// The container's name.
    pub container: String,
    /// Before or past the fence.
    pub phase: ClaimPhase,
    /// The boot of the holder's machine; see [`Identity`]. Empty in a claim of a version that did not write it.
    #[serde(default)]
    pub machine: String,
    /// The holder's state directory; see [`Identity`].
    #[serde(default)]
    pub state: String,
    /// Unix seconds, for display only.
    pub at: i64,
}

/// Where a claim lies, and the token that proves it is still the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The scope: whose instances wait for each other.
    pub scope: String,
    /// The slot's number in the scope.
    pub slot: u32,
    /// Create revision of the claim.
    pub fence: Revision,
    /// When it was taken, as the claim says: Unix seconds.
    #[serde(default)]
    pub at: i64,
}

/// What the decision to replace rests on: it must still stand when the claim is taken, and at the fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grounds {
    /// Revision of the track's record.
    pub record: Revision,
    /// The service whose verdict counts.
    pub service: String,
    /// Revision of the digest's verdict; 0: none.
    pub verdict: Revision,
    /// Revision of the track's halt, which was for another version; 0: none.
    #[serde(default)]
    pub halt: Revision,
    /// Revision of the last word to go on, with which trouble that follows is compared. It may change.
    #[serde(default)]
    pub retry: Revision,
}

impl Grounds {
    fn hold(&self, keys: &Keys, claim: &Claim) -> Txn {
        Txn::new()
            .when(Compare::ModRevision(keys.record(&claim.image), self.record))
            .when(Compare::ModRevision(keys.verdict(&self.service, &claim.digest), self.verdict))
            .when(Compare::ModRevision(keys.halt(&claim.image), self.halt))
            .when(Compare::ModRevision(keys.pause(), 0))
    }
}

/// Where and for whom a slot is to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrant {
    /// The scope.
    pub scope: String,
    /// The slot that was seen free.
    pub slot: u32,
    /// The revision at which the scope's claims were read, before the availability of the service was.
    pub seen: Revision,
    /// The node's lease.
    pub lease: LeaseId,
    /// Revision of the node's sign, which goes with its lease.
    pub sign: Revision,
}

/// Takes a free slot, if the grounds still stand, the node is registered, and nobody in the scope has claimed since the
/// availability of the service was read. The ticket stays until the slot is given back, so that the next in line hears of
/// that.
pub fn acquire(keys: &Keys, entrant: &Entrant, claim: &Claim, grounds: &Grounds) -> Txn {
    let Entrant { scope, slot, seen, lease, sign } = entrant;
    grounds
        .hold(keys, claim)
        .when(Compare::ModRevision(keys.node(&claim.node), *sign))
        .when(Compare::ModRevision(keys.claim(scope, *slot), 0))
        .when(Compare::NoneNewer(keys.claims(scope), *seen))
        .put(keys.claim(scope, *slot), claim)
        .put_leased(keys.hold(scope, *slot), &claim.txn, *lease)
}

/// The fence: `claim` is the one that was taken. After it succeeds the holder may act; if it fails, nothing was or will be done.
/// In a store that was restored another's claim may have come into being at the same revision, so that it takes both.
pub fn fence(keys: &Keys, token: &Token, claim: &Claim, grounds: &Grounds) -> Txn {
    let stopping = Claim { phase: ClaimPhase::Stopping, ..claim.clone() };
    grounds
        .hold(keys, claim)
        .when(Compare::CreateRevision(keys.claim(&token.scope, token.slot), token.fence))
        .when_holds(keys.claim(&token.scope, token.slot), claim)
        .put(keys.claim(&token.scope, token.slot), &stopping)
}

/// Gives a slot back, if it is still held under this token by a claim that was seen to be the holder's own, as it was written.
/// Repeating it is harmless.
pub fn release_if_held(keys: &Keys, token: &Token, own: Vec<u8>) -> Txn {
    Txn::new()
        .when(Compare::Value(keys.claim(&token.scope, token.slot), own))
        .when(Compare::CreateRevision(keys.claim(&token.scope, token.slot), token.fence))
        .delete(keys.claim(&token.scope, token.slot))
        .delete(keys.hold(&token.scope, token.slot))
}

/// A registered daemon that comes upon a claim. Who is not registered ends nothing: it may be a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finder<'a> {
    /// Its node's name.
    pub node: &'a str,
    /// By what it is told from every other, a twin included.
    pub identity: &'a Identity,
    /// Revision of its node's sign.
    pub sign: Revision,
}

/// What a claim's holder left beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The hold, which ends with the holder's lease.
    pub has_hold: bool,
    /// A journal in the finder's state directory, or a replacement that the finder itself carries out.
    pub has_journal: bool,
}

/// Whether a claim is certainly dead. Before its fence it is when the holder is gone, which had done nothing visible.
/// Past it only its own state directory knows, on the same boot of the same machine: one daemon at a time locks it, and
/// the journal is there before the claim and until after it, so one without a journal was left by a daemon before this
/// one, or came back with a store that was restored. A copied directory or a name given twice proves nothing: what is past
/// the fence then is a person's to end.
pub fn is_dead(claim: &Claim, finder: &Finder, traces: Traces) -> bool {
    let is_same = claim.machine == finder.identity.boot && claim.state == finder.identity.state;
    let is_own = is_same && claim.node == finder.node;
    is_own && !traces.has_journal || claim.phase == ClaimPhase::Acquired && !traces.has_hold
}

/// Ends a claim that was found dead, if neither it nor the finder's sign has moved since.
pub fn reap(keys: &Keys, scope: &str, slot: u32, entry: &Entry, finder: &Finder) -> Txn {
    remove_unmoved(keys, scope, slot, entry).when(Compare::ModRevision(keys.node(finder.node), finder.sign))
}

/// Ends any claim, if it has not moved since a person looked at it.
pub fn remove_unmoved(keys: &Keys, scope: &str, slot: u32, entry: &Entry) -> Txn {
    Txn::new()
        .when(Compare::ModRevision(entry.key.clone(), entry.mod_revision))
        .delete(entry.key.clone())
        .delete(keys.hold(scope, slot))
}

#[cfg(test)]
mod tests;
