//! Slots: the leave to have one instance in transition, as transactions of the store.
//!
//! A lock that hangs on a lease cannot keep two containers from being down at once: its holder can pause between
//! its last check and the stop (`docs/adr/0003`). So the claim has no lease, its create revision is a fencing
//! token, and the last thing before the first visible act is the fence: a compare-and-swap of the claim to
//! `stopping`. A claim past the fence is ended by its own node alone, or by a person.

use serde::{Deserialize, Serialize};

use crate::image::{Digest, Track};
use crate::keys::Keys;
use crate::store::{Compare, Entry, LeaseId, Revision, Txn};

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
}

impl Grounds {
    fn hold(&self, keys: &Keys, claim: &Claim) -> Txn {
        Txn::new()
            .when(Compare::ModRevision(keys.record(&claim.image), self.record))
            .when(Compare::ModRevision(keys.verdict(&self.service, &claim.digest), self.verdict))
            .when(Compare::ModRevision(keys.pause(), 0))
    }
}

/// Takes a free slot, if the grounds still stand and nobody in the scope has claimed since `seen`, the revision
/// at which the availability of the service was read.
pub fn acquire(
    keys: &Keys,
    scope: &str,
    slot: u32,
    claim: &Claim,
    grounds: &Grounds,
    seen: Revision,
    lease: LeaseId,
) -> Txn {
    grounds
        .hold(keys, claim)
        .when(Compare::ModRevision(keys.claim(scope, slot), 0))
        .when(Compare::NoneNewer(keys.claims(scope), seen))
        .put(keys.claim(scope, slot), claim)
        .put_leased(keys.hold(scope, slot), &claim.txn, lease)
}

/// The fence. After it succeeds the holder may act; if it fails, nothing was or will be done.
pub fn fence(keys: &Keys, token: &Token, claim: &Claim, grounds: &Grounds) -> Txn {
    let stopping = Claim { phase: ClaimPhase::Stopping, ..claim.clone() };
    grounds
        .hold(keys, claim)
        .when(Compare::CreateRevision(keys.claim(&token.scope, token.slot), token.fence))
        .put(keys.claim(&token.scope, token.slot), &stopping)
}

/// Gives a slot back, if it is still held under this token. Repeating it is harmless.
pub fn release_if_held(keys: &Keys, token: &Token) -> Txn {
    Txn::new()
        .when(Compare::CreateRevision(keys.claim(&token.scope, token.slot), token.fence))
        .delete(keys.claim(&token.scope, token.slot))
        .delete(keys.hold(&token.scope, token.slot))
}

/// Ends the claim of a holder that is gone, if it had done nothing visible and has not moved since it was read.
/// `None` where that is not allowed: past the fence only the claim's own node or a person may end it.
pub fn reap(keys: &Keys, scope: &str, slot: u32, entry: &Entry, holder_lives: bool) -> Option<Txn> {
    let claim: Claim = serde_json::from_slice(&entry.value).ok()?;
    let may_end = !holder_lives && claim.phase == ClaimPhase::Acquired;
    may_end.then(|| remove_unmoved(keys, scope, slot, entry))
}

/// Ends any claim, if it has not moved since a person looked at it.
pub fn remove_unmoved(keys: &Keys, scope: &str, slot: u32, entry: &Entry) -> Txn {
    Txn::new()
        .when(Compare::ModRevision(entry.key.clone(), entry.mod_revision))
        .delete(entry.key.clone())
        .delete(keys.hold(scope, slot))
}

/// Whether one more instance of a service may go down: `down` of its instances are down or claimed already.
/// What is down already may always be replaced.
pub fn may_go_down(down: usize, max_unavailable: usize, is_down_already: bool) -> bool {
    is_down_already || down < max_unavailable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(phase: ClaimPhase) -> (Keys, Entry) {
        let keys = Keys::new("/deployer");
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).expect("a digest");
        let claim = Claim {
            node: "a".into(),
            boot: "1".into(),
            txn: "00c0ffee".into(),
            image: Track::parse("ghcr.io/acme/web:1").expect("a track"),
            digest,
            container: "web".into(),
            phase,
            at: 0,
        };
        let value = serde_json::to_vec(&claim).expect("plain");
        let entry = Entry { key: keys.claim("all", 0), value, create_revision: 7, mod_revision: 9 };
        (keys, entry)
    }

    #[test]
    fn only_a_dead_holder_before_the_fence_is_reaped() {
        let reaped = |phase, lives| {
            let (keys, entry) = entry(phase);
            reap(&keys, "all", 0, &entry, lives).is_some()
        };
        assert!(reaped(ClaimPhase::Acquired, false));
        assert!(!reaped(ClaimPhase::Acquired, true));
        assert!(!reaped(ClaimPhase::Stopping, false), "past the fence no timer ends a claim");
    }

    #[test]
    fn reaping_compares_the_very_claim_that_was_read() {
        let (keys, entry) = entry(ClaimPhase::Acquired);
        let txn = reap(&keys, "all", 0, &entry, false).expect("reaped");
        assert_eq!(txn.when, [Compare::ModRevision(entry.key.clone(), 9)]);
    }

    #[test]
    fn availability_counts_what_is_down_but_never_blocks_healing() {
        assert!(may_go_down(0, 1, false) && !may_go_down(1, 1, false) && may_go_down(3, 1, true));
    }
}
