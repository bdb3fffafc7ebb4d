//! The troubles of this machine: what kept a version from one of its containers, and which rollouts this daemon halted for
//! such a reason.

use std::collections::{BTreeMap, BTreeSet};

use deployer_core::backoff::Backoff;
use deployer_core::image::Track;
use deployer_core::store::Revision;
use deployer_core::trouble::{Met, Trouble};
use tokio::time::Instant;

/// The memory.
#[derive(Debug, Default)]
pub struct Troubles {
    /// The last trouble of containers by their IDs, and when a refused one is looked at again. A container that a person
    /// makes anew has a new ID, and may well be without what was in the way.
    met: BTreeMap<String, (Met, Option<Instant>)>,
    /// A halt of this node that is not in here was left by the daemon before.
    halted: BTreeMap<Track, u64>,
}

impl Troubles {
    /// Notes that the version of a place met trouble at a container, when a person's last word to go on had this revision.
    /// Whether that is news.
    pub fn meet(&mut self, container_id: &str, trouble: Trouble, seq: u64, since: Revision, random: u64) -> bool {
        let before = self.met.get(container_id).map(|(met, _)| met);
        let met = Met::again(before, trouble, seq, since);
        let is_refused = matches!(met.trouble, Trouble::Refused(_));
        let due = is_refused.then(|| Instant::now() + Backoff::REFUSAL.wait(met.failures, random));
        let is_news = met.failures == 1;
        self.met.insert(container_id.to_owned(), (met, due));
        is_news
    }

    /// The trouble that keeps a container from the version of a place, if any does.
    pub fn standing(&self, container_id: &str, seq: u64, retry: Revision) -> Option<&Trouble> {
        let (met, due) = self.met.get(container_id)?;
        let is_due = due.is_some_and(|due| due <= Instant::now());
        met.stands(seq, retry, is_due).then_some(&met.trouble)
    }

    /// Whatever containers here met last, standing or not.
    pub fn all(&self) -> Vec<Trouble> {
        self.met.values().map(|(met, _)| met.trouble.clone()).collect()
    }

    /// When containers that were refused are looked at again.
    pub fn dues(&self) -> impl Iterator<Item = Instant> {
        self.met.values().filter_map(|(_, due)| *due)
    }

    /// Notes that this daemon stands behind the halt of a version.
    pub fn halt(&mut self, track: &Track, seq: u64) {
        self.halted.insert(track.clone(), seq);
    }

    /// Whether this daemon stands behind the halt of a version.
    pub fn has_halted(&self, track: &Track, seq: u64) -> bool {
        self.halted.get(track) == Some(&seq)
    }

    /// Forgets all tracks and containers but these.
    pub fn retain(&mut self, tracks: &BTreeSet<Track>, container_ids: &BTreeSet<&str>) {
        self.halted.retain(|track, _| tracks.contains(track));
        self.met.retain(|id, _| container_ids.contains(id.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_container_is_looked_at_again_ever_more_rarely_and_a_failed_one_is_not() {
        let (refused, failed) = (Trouble::Refused("leant on".into()), Trouble::Failed("disk full".into()));
        let mut troubles = Troubles::default();
        // What is met, whether that is news, and in how many seconds the container is looked at again.
        for (trouble, is_news, due) in [
            (&refused, true, Some(60)),
            (&refused, false, Some(120)),
            (&failed, true, None),
            (&failed, false, None),
            (&refused, true, Some(60)),
        ] {
            assert_eq!(troubles.meet("old", trouble.clone(), 3, 0, 0), is_news, "{trouble:?}");
            assert_eq!(troubles.dues().next(), due.map(|due| Instant::now() + Duration::from_secs(due)), "{trouble:?}");
            assert_eq!(troubles.standing("old", 3, 0), Some(trouble));
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(troubles.standing("old", 3, 0), None, "its cause may have gone");
        assert_eq!(troubles.all(), [refused]);
    }
}
