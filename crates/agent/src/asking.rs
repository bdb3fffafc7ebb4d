//! What this node remembers of asking the registry: its turns, how long it leaves a registry in peace, and what it was told
//! and does not believe yet. All of it is found out again after a restart.

use std::collections::{BTreeMap, BTreeSet};

use deployer_core::asking::SECOND_THOUGHT;
use deployer_core::image::{Digest, Track};
use deployer_core::store::Revision;
use tokio::time::Instant;

/// How long a registry that gave no answer of use is left in peace by this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Failures in a row for the same question, whichever node asked.
    pub failures: u32,
    /// When this node may ask again.
    pub due: Instant,
    /// What was seen, for people.
    pub reason: String,
    /// Revision of the notification that it was about, which a later one ends; 0: whatever is asked.
    pub of: Revision,
    /// Revision of the last word of a person to go on, when it began: a later one ends it.
    pub since: Revision,
}

/// A turn to ask for the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Revision of its key; 0 until it is known to have been taken.
    pub revision: Revision,
    /// Failures in it.
    pub failures: u32,
}

/// The memory.
#[derive(Debug, Default)]
pub struct Asking {
    waits: BTreeMap<Track, Wait>,
    turns: BTreeMap<Track, Turn>,
    doubted: BTreeMap<Track, (Digest, Instant)>,
    heard: BTreeSet<(Track, Digest)>,
    lost: BTreeSet<Track>,
    came_in: BTreeSet<Track>,
}

impl Asking {
    /// Leaves the registry of a track in peace.
    pub fn wait(&mut self, track: &Track, wait: Wait) {
        self.waits.insert(track.clone(), wait);
    }

    /// How the registry of a track is left in peace, as far as that holds for the notification of this revision and after
    /// a person's last word of that one.
    pub fn waiting(&self, track: &Track, pending: Revision, retry: Revision) -> Option<&Wait> {
        let is_of_it = |wait: &&Wait| wait.of == 0 || wait.of == pending;
        self.waits.get(track).filter(is_of_it).filter(|wait| wait.since == retry)
    }

    /// When the registry of a track may be asked again.
    pub fn dues(&self) -> impl Iterator<Item = Instant> {
        self.waits.values().map(|wait| wait.due)
    }

    /// Notes a turn, before it is taken: whether it was may stay unknown.
    pub fn begin_turn(&mut self, track: &Track) {
        self.turns.entry(track.clone()).or_insert(Turn { revision: 0, failures: 0 });
    }

    /// A turn of this node.
    pub fn turn(&mut self, track: &Track) -> Option<&mut Turn> {
        self.turns.get_mut(track)
    }

    /// Every turn of this node.
    pub fn turns(&self) -> Vec<(Track, Turn)> {
        self.turns.iter().map(|(track, turn)| (track.clone(), *turn)).collect()
    }

    /// Forgets a turn that is over.
    pub fn end_turn(&mut self, track: &Track) {
        self.turns.remove(track);
    }

    /// Does not believe a digest under a tag yet. One that was doubted before keeps its time.
    pub fn doubt(&mut self, track: &Track, digest: &Digest, now: Instant) {
        let doubted = self.doubted.get(track).filter(|(doubted, _)| doubted == digest);
        if doubted.is_none() {
            self.doubted.insert(track.clone(), (digest.clone(), now));
        }
    }

    /// The digest that was not believed, if that was long enough ago.
    pub fn doubted(&self, track: &Track, now: Instant) -> Option<Digest> {
        let (digest, since) = self.doubted.get(track)?;
        (now.duration_since(*since) >= SECOND_THOUGHT).then(|| digest.clone())
    }

    /// Believes what the registry said.
    pub fn believe(&mut self, track: &Track) {
        self.doubted.remove(track);
        self.lost.remove(track);
        self.waits.remove(track);
    }

    /// Notes that the registry was asked although a container runs a digest that the record does not know.
    pub fn hear(&mut self, track: &Track, digest: Digest) {
        self.heard.insert((track.clone(), digest));
    }

    /// Whether the registry was asked for the sake of such a digest.
    pub fn has_heard(&self, track: &Track, digest: &Digest) -> bool {
        self.heard.contains(&(track.clone(), digest.clone()))
    }

    /// Notes that the registry did not have a track's target any more.
    pub fn lose(&mut self, track: &Track) {
        self.lost.insert(track.clone());
    }

    /// Whether the registry should be asked because of that.
    pub fn is_lost(&self, track: &Track) -> bool {
        self.lost.contains(track)
    }

    /// Notes that a notification came in on this node, before it is written.
    pub fn come_in(&mut self, track: &Track) {
        self.came_in.insert(track.clone());
    }

    /// Whether the notification that was written a moment ago came in here.
    pub fn has_come_in(&mut self, track: &Track) -> bool {
        self.came_in.remove(track)
    }

    /// Forgets all tracks but these. Turns are given back first.
    pub fn retain(&mut self, tracks: &BTreeSet<Track>) {
        self.waits.retain(|track, _| tracks.contains(track));
        self.doubted.retain(|track, _| tracks.contains(track));
        self.heard.retain(|(track, _)| tracks.contains(track));
        self.lost.retain(|track| tracks.contains(track));
        self.came_in.retain(|track| tracks.contains(track));
    }
}
