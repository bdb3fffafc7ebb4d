//! What the update stage remembers of its looks: for what it was rung, what panicked, and when it last thought of
//! sweeping.

use std::collections::BTreeSet;
use std::time::Duration;

use deployer_core::image::Track;
use tokio::time::Instant;

use crate::retries::{Failed, Retries};

/// The memory. A key is a track, or `None`: everything.
#[derive(Debug, Default)]
pub struct Looks {
    rung: BTreeSet<Track>,
    faults: Retries<Option<Track>>,
    swept: Option<Instant>,
    again: Option<Instant>,
}

impl Looks {
    /// Notes that a track should be looked at.
    pub fn ring(&mut self, track: Track) {
        self.rung.insert(track);
    }

    /// The tracks for which the bell was rung since this was asked last.
    pub fn take_rung(&mut self) -> BTreeSet<Track> {
        std::mem::take(&mut self.rung)
    }

    /// Whether the bell was rung for a track that nobody has looked at yet.
    pub fn is_rung(&self) -> bool {
        !self.rung.is_empty()
    }

    /// Notes that a look or a pull panicked. Gives the time for which its key rests.
    pub fn note_fault(&mut self, key: Option<Track>, reason: String, random: u64) -> Duration {
        self.faults.fail(key, Failed { reason, ..Failed::default() }, random)
    }

    /// Whether a look panicked so lately that it is not repeated yet.
    pub fn rests(&self, key: &Option<Track>, now: Instant) -> bool {
        self.faults.resting(key, 0, now).is_some()
    }

    /// With what the last look panicked, if it did.
    pub fn fault(&self, key: &Option<Track>) -> Option<String> {
        self.faults.reason(key).map(ToOwned::to_owned)
    }

    /// Notes that a look came to its end.
    pub fn end(&mut self, key: &Option<Track>) {
        self.faults.forget(key);
    }

    /// Notes that everything is to be looked at again at a moment, though nothing may have changed here.
    pub fn look_again(&mut self, at: Instant) {
        self.again = Some(at);
    }

    /// When what panicked, or was put off, is looked at again.
    pub fn dues(&self) -> impl Iterator<Item = Instant> {
        self.faults.dues().chain(self.again)
    }

    /// What panicked and has come due between two moments.
    pub fn came_due(&self, seen: Instant, now: Instant) -> Vec<Option<Track>> {
        self.faults.came_due(seen, now)
    }

    /// Begins a sweep, unless the last began less than this time ago. Whether it did.
    pub fn begin_sweep(&mut self, now: Instant, after: Duration) -> bool {
        let is_time = self.swept.is_none_or(|swept| now.duration_since(swept) >= after);
        if is_time {
            self.swept = Some(now);
        }
        is_time
    }

    /// Forgets all tracks but these.
    pub fn retain(&mut self, tracks: &BTreeSet<Track>) {
        self.faults.retain(|track| track.as_ref().is_none_or(|track| tracks.contains(track)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_begins_once_in_a_while() {
        let (mut looks, begun, hour) = (Looks::default(), Instant::now(), Duration::from_secs(3600));
        for (minutes, expected) in [(0, true), (1, false), (59, false), (60, true), (119, false), (200, true)] {
            let now = begun + Duration::from_secs(60 * minutes);
            assert_eq!(looks.begin_sweep(now, hour), expected, "{minutes}");
        }
    }
}
