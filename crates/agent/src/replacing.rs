//! What the restart stage remembers of this machine's containers: whose turn it is to act, which of them are in the middle
//! of their replacement, which could not begin, and what is going on with each, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deployer_core::image::{ImageName, Track};
use tokio::time::Instant;

use crate::retries::{Failed, Retries};

/// A container in the middle of its replacement.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The track it runs.
    pub track: Track,
    /// The service that it is an instance of.
    pub service: String,
}

/// The memory. Containers go by name.
#[derive(Debug, Default)]
pub struct Replacing {
    /// The replacement that has a slot, or is about to take one: one at a time, whatever the scope.
    turn: Option<String>,
    /// For a moment no container has the name of one of these.
    transitions: BTreeMap<String, Transition>,
    unready: Retries<String>,
    doing: BTreeMap<String, String>,
    /// IDs of containers whose renaming was given up without an answer.
    renamed_late: BTreeSet<String>,
    /// IDs of containers of which a start was given up without an answer, and until when it may yet be carried out.
    started_late: BTreeMap<String, Instant>,
}

impl Replacing {
    /// Reserves this machine's turn for a replacement. Gives back whose turn it is instead.
    pub fn take_turn(&mut self, txn: &str) -> Option<String> {
        let holder = self.turn.get_or_insert_with(|| txn.to_owned());
        (holder != txn).then(|| holder.clone())
    }

    /// The replacement that has this machine's turn.
    pub fn whose_turn(&self) -> Option<String> {
        self.turn.clone()
    }

    /// Gives this machine's turn back, if it is this replacement's.
    pub fn leave_turn(&mut self, txn: &str) {
        self.turn.take_if(|holder| holder == txn);
    }

    /// Gives this machine's turn to a replacement that had it when the daemon ended, whoever has it now.
    pub fn resume_turn(&mut self, txn: &str) {
        self.turn = Some(txn.to_owned());
    }

    /// Notes that an engine may yet give a container a name that it is not to have any more.
    pub fn may_be_renamed_late(&mut self, id: &str) {
        self.renamed_late.insert(id.to_owned());
    }

    /// Forgets the containers of which this says that they are no more, and gives them back.
    pub fn forget_late(&mut self, is_gone: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let all = self.renamed_late.iter().chain(self.started_late.keys());
        let gone: BTreeSet<String> = all.filter(|id| is_gone(id)).cloned().collect();
        self.renamed_late.retain(|id| !gone.contains(id));
        self.started_late.retain(|id, _| !gone.contains(id));
        gone
    }

    /// Whether it may have been renamed so.
    pub fn is_renamed_late(&self, id: &str) -> bool {
        self.renamed_late.contains(id)
    }

    /// Notes that an engine may yet start a container that nobody waits for any more, until then.
    pub fn may_be_started_late(&mut self, id: &str, until: Instant) {
        self.started_late.insert(id.to_owned(), until);
    }

    /// Whether it may have done so.
    pub fn is_started_late(&self, id: &str) -> bool {
        self.started_late.get(id).is_some_and(|until| Instant::now() < *until)
    }

    /// Notes that the replacement of a container begins.
    pub fn begin(&mut self, container: &str, transition: Transition) {
        self.transitions.insert(container.to_owned(), transition);
    }

    /// Notes that the replacement of a container is over.
    pub fn end(&mut self, container: &str) {
        self.transitions.remove(container);
    }

    /// The containers in the middle of their replacement.
    pub fn transitions(&self) -> Vec<(String, Transition)> {
        self.transitions.iter().map(|(container, transition)| (container.clone(), transition.clone())).collect()
    }

    /// The tracks of the containers in the middle of their replacement.
    pub fn tracks(&self) -> BTreeSet<Track> {
        self.transitions.values().map(|transition| transition.track.clone()).collect()
    }

    /// How many containers of a track are in the middle of their replacement.
    pub fn count(&self, track: &Track) -> usize {
        self.transitions.values().filter(|transition| transition.track == *track).count()
    }

    /// Whether a container of a repository is in the middle of its replacement.
    pub fn is_any_of(&self, repository: &ImageName) -> bool {
        self.transitions.values().any(|transition| transition.track.name() == repository)
    }

    /// Whether the hand may be at work on a track.
    pub fn is_acting_on(&self, track: &Track) -> bool {
        self.turn.is_some() && self.count(track) > 0
    }

    /// Begins anew with a container that could not be begun with. Gives the failures in a row so far.
    pub fn try_again(&mut self, container: &str) -> u32 {
        self.unready.forget(&container.to_owned())
    }

    /// Notes that the replacement of a container could not begin, and rests for a time.
    pub fn put_off(&mut self, container: &str, reason: String, failures: u32, time: Duration) {
        self.unready.rest(container.to_owned(), Failed { reason, ..Failed::default() }, failures, time);
    }

    /// Whether the replacement of a container rests.
    pub fn rests(&self, container: &str, now: Instant) -> bool {
        self.unready.resting(&container.to_owned(), 0, now).is_some()
    }

    /// When replacements that rest are tried again.
    pub fn dues(&self) -> impl Iterator<Item = Instant> {
        self.unready.dues()
    }

    /// The containers whose replacement was put off and has come due between two moments.
    pub fn came_due(&self, seen: Instant, now: Instant) -> Vec<String> {
        self.unready.came_due(seen, now)
    }

    /// Says what is going on with a container.
    pub fn say(&mut self, container: &str, text: String) {
        self.doing.insert(container.to_owned(), text);
    }

    /// Says that nothing is going on with a container, or why it rests.
    pub fn fall_silent(&mut self, container: &str) {
        match self.unready.reason(&container.to_owned()) {
            Some(reason) => drop(self.doing.insert(container.to_owned(), reason.to_owned())),
            None => drop(self.doing.remove(container)),
        }
    }

    /// What is going on with a container, if anything is.
    pub fn doing(&self, container: &str) -> Option<String> {
        self.doing.get(container).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_is_one_replacements_at_a_time() {
        let mut replacing = Replacing::default();
        assert_eq!(replacing.take_turn("1"), None);
        assert_eq!(replacing.take_turn("1"), None, "it has it");
        assert_eq!(replacing.take_turn("2"), Some("1".into()));
        replacing.leave_turn("2");
        assert_eq!(replacing.whose_turn(), Some("1".into()), "it was not its own");
        replacing.leave_turn("1");
        assert_eq!(replacing.take_turn("2"), None);
        replacing.resume_turn("3");
        assert_eq!(replacing.whose_turn(), Some("3".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_rests_says_why() {
        let (mut replacing, now) = (Replacing::default(), Instant::now());
        replacing.say("web", "waiting for its turn".into());
        replacing.fall_silent("web");
        assert_eq!(replacing.doing("web"), None);
        replacing.put_off("web", "the engine is slow".into(), 2, Duration::from_secs(5));
        replacing.fall_silent("web");
        assert_eq!(replacing.doing("web"), Some("the engine is slow".into()));
        assert!(replacing.rests("web", now));
        assert_eq!(replacing.try_again("web"), 2);
        replacing.fall_silent("web");
        assert_eq!((replacing.doing("web"), replacing.rests("web", now)), (None, false));
    }
}
