//! What failed and is tried again, each time later than before. Stages keep one of these for each kind of thing they try.

use std::collections::BTreeMap;
use std::time::Duration;

use deployer_core::backoff::Backoff;
use deployer_core::store::Revision;
use tokio::time::Instant;

/// How something failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// What was seen, for people.
    pub reason: String,
    /// Whether only a person or a new push will change the outcome.
    pub is_hopeless: bool,
    /// Revision of the last word of a person to go on, when it failed: a later one ends it. 0: there was none, or none
    /// matters.
    pub since: Revision,
}

#[derive(Debug)]
struct Retry {
    failed: Failed,
    failures: u32,
    due: Instant,
}

/// What failed, by key.
#[derive(Debug)]
pub struct Retries<K>(BTreeMap<K, Retry>);

impl<K> Default for Retries<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Retries<K> {
    /// Notes that something failed, once more if it did before and no person has spoken since. Gives the time that it
    /// rests for; the random number keeps machines from trying in step.
    pub fn fail(&mut self, key: K, failed: Failed, random: u64) -> Duration {
        let failures = self.failures(&key, failed.since) + 1;
        let time = Backoff::REGISTRY.wait(failures, random);
        self.rest(key, failed, failures, time);
        time
    }

    /// Leaves something in peace for a time, after so many failures in a row.
    pub fn rest(&mut self, key: K, failed: Failed, failures: u32, time: Duration) {
        self.0.insert(key, Retry { failed, failures, due: Instant::now() + time });
    }

    /// Failures in a row since a person's last word, which has this revision.
    pub fn failures(&self, key: &K, since: Revision) -> u32 {
        self.standing(key, since).map_or(0, |retry| retry.failures)
    }

    /// Why it is not tried at this time, if it is not; a person's last word has this revision.
    pub fn resting(&self, key: &K, since: Revision, now: Instant) -> Option<&str> {
        self.standing(key, since).filter(|retry| retry.due > now).map(|retry| retry.failed.reason.as_str())
    }

    /// Why another try is not likely to end otherwise, if so; a person's last word has this revision.
    pub fn hopeless(&self, key: &K, since: Revision) -> Option<&str> {
        self.standing(key, since).filter(|retry| retry.failed.is_hopeless).map(|retry| retry.failed.reason.as_str())
    }

    /// What was seen when it failed last, whether it rests or is being tried.
    pub fn reason(&self, key: &K) -> Option<&str> {
        self.0.get(key).map(|retry| retry.failed.reason.as_str())
    }

    /// When each is due.
    pub fn dues(&self) -> impl Iterator<Item = Instant> {
        self.0.values().map(|retry| retry.due)
    }

    /// When each is due that may end otherwise by itself.
    pub fn dues_with_hope(&self) -> impl Iterator<Item = Instant> {
        self.0.values().filter(|retry| !retry.failed.is_hopeless).map(|retry| retry.due)
    }

    /// What has come due between two moments.
    pub fn came_due(&self, seen: Instant, now: Instant) -> Vec<K> {
        let due = self.0.iter().filter(|(_, retry)| retry.due > seen && retry.due <= now);
        due.map(|(key, _)| key.clone()).collect()
    }

    /// Forgets that it failed. Gives the failures in a row.
    pub fn forget(&mut self, key: &K) -> u32 {
        self.0.remove(key).map_or(0, |retry| retry.failures)
    }

    /// Forgets all but these.
    pub fn retain(&mut self, is_kept: impl Fn(&K) -> bool) {
        self.0.retain(|key, _| is_kept(key));
    }

    fn standing(&self, key: &K, since: Revision) -> Option<&Retry> {
        self.0.get(key).filter(|retry| retry.failed.since == since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_count_until_a_person_speaks() {
        let (mut retries, begun) = (Retries::default(), Instant::now());
        // What was failed with, the word of a person that stood then, and the time for which it rests.
        for (since, seconds) in [(0, 5), (0, 10), (0, 20), (7, 5), (7, 10), (9, 5)] {
            let failed = Failed { reason: "away".into(), is_hopeless: false, since };
            assert_eq!(retries.fail("web", failed, 0), Duration::from_secs(seconds), "{since}");
        }
        let later = begun + Duration::from_secs(5);
        for (since, now, expected) in [(9, begun, Some("away")), (9, later, None), (7, begun, None)] {
            assert_eq!(retries.resting(&"web", since, now), expected, "{since} {now:?}");
        }
        assert_eq!(retries.forget(&"web"), 1);
        assert_eq!((retries.reason(&"web"), retries.failures(&"web", 9)), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn each_comes_due_once() {
        let (mut retries, begun) = (Retries::default(), Instant::now());
        retries.rest("web", Failed::default(), 1, Duration::from_secs(5));
        retries.rest("api", Failed { is_hopeless: true, ..Failed::default() }, 1, Duration::from_secs(9));
        let at = |seconds| begun + Duration::from_secs(seconds);
        for (seen, now, expected) in [(0, 4, vec![]), (4, 5, vec!["web"]), (5, 8, vec![]), (4, 9, vec!["api", "web"])] {
            assert_eq!(retries.came_due(at(seen), at(now)), expected, "{seen} {now}");
        }
        assert_eq!((retries.dues().count(), retries.dues_with_hope().count()), (2, 1));
        assert_eq!((retries.hopeless(&"web", 0), retries.hopeless(&"api", 0)), (None, Some("")));
        retries.retain(|key| *key == "api");
        assert_eq!(retries.dues_with_hope().count(), 0);
    }
}
