//! Where each fact lies in the store. `docs/protocol.md` explains the same layout to people.
//!
//! Names that come from outside are written in URL-safe base64, so that no character of an image or service
//! name can leave its place in a key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::image::{Digest, Track};

/// The keys of one cluster, below one prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// The keys below `prefix`, such as `/deployer`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    /// What every key begins with.
    pub fn all(&self) -> String {
        format!("{}/", self.prefix)
    }

    /// All tracks' facts.
    pub fn images(&self) -> String {
        format!("{}/images/", self.prefix)
    }

    /// What the registry said a track points to.
    pub fn record(&self, track: &Track) -> String {
        format!("{}{}/record", self.images(), text(&track.to_string()))
    }

    /// A notification that is accepted and not yet resolved.
    pub fn pending(&self, track: &Track) -> String {
        format!("{}{}/pending", self.images(), text(&track.to_string()))
    }

    /// A leased mark that the registry was asked within the check period.
    pub fn checked(&self, track: &Track) -> String {
        format!("{}/checked/{}", self.prefix, text(&track.to_string()))
    }

    /// The track that a key below [`Keys::images`] speaks of, and the fact's name.
    pub fn track_of<'a>(&self, key: &'a str) -> Option<(Track, &'a str)> {
        let (encoded, fact) = key.strip_prefix(&self.images())?.split_once('/')?;
        let name = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
        Some((Track::parse(&name).ok()?, fact))
    }

    /// The verdicts of every service.
    pub fn all_verdicts(&self) -> String {
        format!("{}/verdicts/", self.prefix)
    }

    /// All verdicts of a service.
    pub fn verdicts(&self, service: &str) -> String {
        format!("{}{}/", self.all_verdicts(), text(service))
    }

    /// What is thought of a digest for a service.
    pub fn verdict(&self, service: &str, digest: &Digest) -> String {
        format!("{}{}", self.verdicts(service), digest)
    }

    /// All claims and holds of a scope.
    pub fn claims(&self, scope: &str) -> String {
        format!("{}/locks/{}/claim/", self.prefix, text(scope))
    }

    /// All scopes' claims and holds.
    pub fn locks(&self) -> String {
        format!("{}/locks/", self.prefix)
    }

    /// The lease-free claim on a slot.
    pub fn claim(&self, scope: &str, slot: u32) -> String {
        format!("{}{slot}", self.claims(scope))
    }

    /// Scope and slot of a claim's key; `None` for any other key.
    pub fn slot_of(&self, key: &str) -> Option<(String, u32)> {
        let (scope, slot) = key.strip_prefix(&self.locks())?.split_once("/claim/")?;
        let scope = String::from_utf8(URL_SAFE_NO_PAD.decode(scope).ok()?).ok()?;
        Some((scope, slot.parse().ok()?))
    }

    /// The leased sign that a claim's holder lives.
    pub fn hold(&self, scope: &str, slot: u32) -> String {
        format!("{}/locks/{}/hold/{slot}", self.prefix, text(scope))
    }

    /// The instances of a service that are meant to run.
    pub fn instances(&self, service: &str) -> String {
        format!("{}{}/", self.all_instances(), text(service))
    }

    /// The instances of every service.
    pub fn all_instances(&self) -> String {
        format!("{}/instances/", self.prefix)
    }

    /// One instance: a container's name on a node.
    pub fn instance(&self, service: &str, node: &str, container: &str) -> String {
        format!("{}{}/{}", self.instances(service), text(node), text(container))
    }

    /// The leased sign that a node lives.
    pub fn node(&self, node: &str) -> String {
        format!("{}/nodes/{}", self.prefix, text(node))
    }

    /// While this key exists no replacement starts anywhere.
    pub fn pause(&self) -> String {
        format!("{}/pause", self.prefix)
    }
}

fn text(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_is_read_back_from_its_key() {
        let keys = Keys::new("/deployer/");
        let track = Track::parse("registry.example.com:5000/acme/web:1.4.2").expect("a track");
        let record = keys.record(&track);
        assert_eq!(keys.track_of(&record), Some((track, "record")));
        assert_eq!(keys.track_of("/deployer/images/%%%/record"), None);
    }

    #[test]
    fn no_name_leaves_its_place() {
        let keys = Keys::new("/deployer");
        let key = keys.instance("a/../b", "../node", "web");
        assert!(key.starts_with(&keys.all_instances()) && key.matches('/').count() == 5, "{key}");
    }
}
