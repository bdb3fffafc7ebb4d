//! Whose turn it is to be replaced, among all that wait in a scope.
//!
//! Rollouts follow each other in the order in which their records last changed, so a push that supersedes another goes
//! behind those that wait; one that cannot go on gives way by a deferral. Within a rollout what is down goes first, then
//! what runs the oldest version, so that every node's turn comes however fast pushes are; whoever its own machine holds up
//! goes behind those who can go. A ticket says how its container is now, not how it was when the ticket was drawn.

use serde::{Deserialize, Serialize};

use crate::image::Track;
use crate::store::Revision;

/// A container that waits for a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The node that waits.
    pub node: String,
    /// The container's name there.
    pub container: String,
    /// The track being deployed.
    pub image: Track,
    /// Revision of the track's record on which the decision rests.
    pub record: Revision,
    /// Whether the container is down already.
    pub is_down: bool,
    /// Whether its own machine keeps it from going: the engine is away, or another replacement is under way there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_blocked: bool,
    /// Place in the record of what it runs; 0 if the record does not know it.
    pub runs: u64,
}

impl Ticket {
    /// Its place in the order of turns: text that sorts as the turns come, so that whoever waits finds the one before it
    /// without reading the line. A deferral puts a rollout where the deferral's own revision is. The ticket was drawn by one
    /// who had seen the line at a revision; of two who saw the same, the node's name decides.
    pub fn turn(&self, deferred: Revision, drawn: Revision) -> String {
        let [is_blocked, is_up] = [self.is_blocked, !self.is_down].map(u8::from);
        format!("{:016x}-{is_blocked}-{is_up}-{:016x}-{drawn:016x}", self.record.max(deferred), self.runs)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn track(name: &str) -> Track {
        Track::parse(&format!("ghcr.io/acme/{name}:1")).expect("a track")
    }

    /// `a web 10 up 3`: container, track, record's revision, whether it is up, down or blocked, what it runs; drawn in this
    /// order.
    #[track_caller]
    fn check(tickets: &[&str], deferred: &[(&str, Revision)], expected: &str) {
        let turns = tickets.iter().zip(100..).map(|(words, revision)| {
            let words: Vec<&str> = words.split(' ').collect();
            let ticket = Ticket {
                node: "n".into(),
                container: words[0].into(),
                image: track(words[1]),
                record: words[2].parse().expect("a revision"),
                is_down: words[3] == "down",
                is_blocked: words[3] == "blocked",
                runs: words[4].parse().expect("a seq"),
            };
            let deferral = deferred.iter().find(|(name, _)| *name == words[1]);
            (ticket.turn(deferral.map_or(0, |(_, revision)| *revision), revision), words[0])
        });
        let order: BTreeMap<String, &str> = turns.collect();
        let order: Vec<&str> = order.into_values().collect();
        assert_eq!(order.join(" "), expected);
    }

    #[test]
    fn what_is_down_goes_first_then_what_is_oldest_then_who_came_first() {
        check(&["a web 10 up 3", "b web 10 up 2", "c web 10 down 3", "d web 10 up 2"], &[], "c b d a");
    }

    #[test]
    fn who_is_held_up_by_its_own_machine_goes_behind_those_who_can_go() {
        check(&["a web 10 blocked 1", "b web 10 up 3", "c api 12 up 1"], &[], "b a c");
    }

    #[test]
    fn rollouts_queue_and_a_superseding_push_goes_behind() {
        check(&["a web 10 up 1", "b api 12 down 1"], &[], "a b");
        check(&["a web 14 up 1", "b api 12 up 1"], &[], "b a");
    }

    #[test]
    fn a_rollout_that_cannot_go_on_gives_way() {
        check(&["a web 10 up 1", "b api 12 up 1"], &[("web", 20)], "b a");
        check(&["a web 30 up 1", "b api 12 up 1"], &[("web", 20)], "b a");
    }
}
