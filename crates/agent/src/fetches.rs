//! What the pull stage remembers of digests that it brings here: which are on their way, and which could not be had.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deployer_core::image::{Digest, Track};
use deployer_core::store::Revision;
use tokio::time::Instant;

use crate::retries::{Failed, Retries};

/// The memory.
#[derive(Debug, Default)]
pub struct Fetches {
    failed: Retries<(Track, Digest)>,
    under_way: BTreeMap<Track, String>,
}

impl Fetches {
    /// Notes how far an image of a track has come in, for people.
    pub fn come_in(&mut self, track: &Track, progress: String) {
        self.under_way.insert(track.clone(), progress);
    }

    /// How far an image of a track has come in, if one does.
    pub fn progress(&self, track: &Track) -> Option<&str> {
        self.under_way.get(track).map(String::as_str)
    }

    /// Whether an image of a track is coming in.
    pub fn is_under_way(&self, track: &Track) -> bool {
        self.under_way.contains_key(track)
    }

    /// Notes that nothing comes in for a track any more.
    pub fn end(&mut self, track: &Track) {
        self.under_way.remove(track);
    }

    /// Notes that a digest is here.
    pub fn succeed(&mut self, track: &Track, digest: &Digest) {
        self.failed.forget(&key(track, digest));
    }

    /// Notes that a digest could not be brought here. Gives the time after which it is tried again.
    pub fn fail(&mut self, track: &Track, digest: &Digest, failed: Failed, random: u64) -> Duration {
        self.failed.fail(key(track, digest), failed, random)
    }

    /// Why a digest is not fetched yet, if it is not; a person's last word to go on has this revision.
    pub fn resting(&self, track: &Track, digest: &Digest, retry: Revision, now: Instant) -> Option<&str> {
        self.failed.resting(&key(track, digest), retry, now)
    }

    /// Why another try is not likely to bring a digest here, if so.
    pub fn hopeless(&self, track: &Track, digest: &Digest, retry: Revision) -> Option<&str> {
        self.failed.hopeless(&key(track, digest), retry)
    }

    /// When what failed is fetched again.
    pub fn dues(&self) -> impl Iterator<Item = Instant> {
        self.failed.dues()
    }

    /// Forgets what failed of all tracks but these.
    pub fn retain(&mut self, tracks: &BTreeSet<Track>) {
        self.failed.retain(|(track, _)| tracks.contains(track));
    }
}

fn key(track: &Track, digest: &Digest) -> (Track, Digest) {
    (track.clone(), digest.clone())
}
