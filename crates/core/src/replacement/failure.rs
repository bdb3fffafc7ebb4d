//! Why a replacement goes back, and what follows from that: who has to run, who is to blame, and whether others should try.

use serde::{Deserialize, Serialize};

use super::{ANEW_MAX, Phase, Replacement};

/// Why a replacement goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "reason", rename_all = "snake_case")]
pub enum Failure {
    /// The grounds changed before the fence: a newer push, a verdict, a pause, somebody else's claim.
    Superseded(String),
    /// The daemon was gone while the predecessor still served; it is tried again.
    Interrupted(String),
    /// The engine refused to create or start the candidate, or to do something on the way there.
    Node(String),
    /// The candidate's process ran, and exited, went unhealthy, or missed its gate.
    Candidate(String),
    /// A person stopped or removed what was looked at: nobody's failure, and nothing is started against that will.
    ByHand(String),
}

impl Failure {
    /// What was seen, for people.
    pub fn reason(&self) -> &str {
        match self {
            Self::Superseded(reason)
            | Self::Interrupted(reason)
            | Self::Node(reason)
            | Self::Candidate(reason)
            | Self::ByHand(reason) => reason,
        }
    }
}

impl Replacement {
    /// The container that has to run once the replacement is over, and may not: the put-back predecessor, which may not have
    /// passed, or have been ended by an engine while the store was waited for; or the candidate that stays because there is
    /// nothing else. Whoever ends a replacement looks there first.
    pub fn owed(&self) -> Option<&str> {
        let is_back = self.phase == Phase::Returned && self.control.is_some() && self.owes_a_start();
        let stays = self.phase == Phase::Done && self.stays_for_want_of_another();
        match (is_back, stays) {
            (true, _) => Some(&self.facts.predecessor),
            (_, true) => self.candidate.as_deref(),
            _ => None,
        }
    }

    /// Whether nothing is left of what has to run but this journal: somebody removed both containers, and the engine refused to
    /// make one from it. Whoever removed its image or network as well has no use for it.
    pub fn owes_a_creation(&self) -> bool {
        let was_refused = matches!(self.failure, Some(Failure::Node(_)));
        self.phase == Phase::Done && self.has_no_way_back && was_refused && self.candidate.is_none()
    }

    /// Whether a candidate that failed stays, since there is nothing else, and nobody ended it.
    fn stays_for_want_of_another(&self) -> bool {
        self.has_no_way_back && self.failure.is_some() && !self.was_ended_by_hand()
    }

    /// The container that it is there for alone by now: what it owes, or has been seen to owe and just tries again. Its slot was
    /// given back before.
    pub fn looked_after(&self) -> Option<&str> {
        let is_tried = !self.may_hold_slot() && !self.phase.is_final();
        match self.phase.is_return() {
            true if is_tried && self.control.is_some() && self.owes_a_start() => Some(&self.facts.predecessor),
            false if is_tried && self.stays_for_want_of_another() => self.candidate.as_deref(),
            _ => self.owed(),
        }
    }

    /// Whether a slot may be held for it. What is only owed still has given that back.
    pub fn may_hold_slot(&self) -> bool {
        !self.phase.is_final() && (self.token.is_some() || !self.phase.is_past_fence())
    }

    /// Whether the candidate may be started anew once more.
    pub fn may_begin_anew(&self) -> bool {
        self.anew < ANEW_MAX
    }

    /// Whether the predecessor may have been stopped by this replacement.
    pub fn may_have_stopped_predecessor(&self) -> bool {
        self.reached >= Phase::PolicyOff
    }

    /// Whether it must go on even if its journal cannot be written: whatever serves may be down. So it is on all of the
    /// way back.
    pub fn may_serve_nobody(&self) -> bool {
        self.phase >= Phase::Stopped || self.has_no_way_back
    }

    /// Whether the way back has to start the predecessor: this replacement may have stopped it, or has taken it over from one
    /// that owed it; it was meant to run, and no person has meanwhile ended what took its place.
    pub fn owes_a_start(&self) -> bool {
        let was_taken_over = self.facts.predecessor_was_owed && self.reached >= Phase::Fenced;
        (was_taken_over || self.may_have_stopped_predecessor())
            && self.facts.predecessor_ran
            && !self.was_ended_by_hand()
    }

    /// Whether a person ended the candidate.
    pub fn was_ended_by_hand(&self) -> bool {
        matches!(self.failure, Some(Failure::ByHand(_)))
    }

    /// Why the rollout must go no further although nobody holds anything against the digest; `None`: no reason.
    ///
    /// Trouble of this machine may well meet the next one, too, and a candidate that fails where its predecessor fails
    /// as well proves nothing but that something is wrong.
    pub fn trouble(&self, is_known_good: bool) -> Option<&str> {
        match &self.failure {
            _ if self.was_judged => None,
            Some(Failure::Node(reason)) => Some(reason),
            Some(Failure::Candidate(reason)) if self.charge(is_known_good).is_none() => Some(reason),
            _ => None,
        }
    }

    /// What to hold against the digest once the way back has looked at the predecessor; `None`: nothing.
    ///
    /// Bad only if the candidate's process ran and failed, the predecessor passes the same gate now, and the
    /// digest was never good for this service. Anything else is this machine's trouble. Said once, while the slot is held: what
    /// is owed, and passes later, may have lacked a database as its candidate did.
    pub fn charge(&self, is_known_good: bool) -> Option<&str> {
        match &self.failure {
            Some(Failure::Candidate(reason)) if self.control == Some(true) && !is_known_good && !self.was_judged => {
                Some(reason)
            }
            _ => None,
        }
    }
}
