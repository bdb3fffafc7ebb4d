//! One container replaced on one node, as a state machine.
//!
//! A [`Phase`] says what has been reached; its [`Act`] is what comes next. The phase is written durably to the
//! journal before the act is carried out, so after a crash at any moment the act may or may not have happened:
//! every act looks before it does, and doing it twice is doing it once. From each phase before the verdict there
//! is a way back, which ends with the predecessor under its name.

mod journal;
mod recovery;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::mutation;

pub use journal::{FORM, Facts, Replacement, is_transitional, transitional};
pub use recovery::{Seen, recover};

/// How far a replacement has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The image is here, the request is written, everything it needs was found.
    Prefetched,
    /// A slot is held.
    Claimed,
    /// The fence was passed: others may see what comes now.
    Fenced,
    /// The repository tag points to the new image on this machine.
    Tagged,
    /// The candidate exists and has never run.
    Created,
    /// The engine will not bring the predecessor back by itself.
    PolicyOff,
    /// The predecessor is stopped.
    Stopped,
    /// The candidate has the name, the predecessor an old one.
    Swapped,
    /// The candidate's process was started.
    Started,
    /// The candidate passed gate and monitor.
    Observed,
    /// The verdict is in the store.
    Judged,
    /// The slot is free again.
    Released,
    /// The predecessor is gone; nothing is left to do.
    Done,
    /// It was decided to go back.
    Returning,
    /// The candidate is stopped, if it ever ran, and the engine will not bring it back by itself.
    CandidateStopped,
    /// The predecessor has its name again.
    NamesBack,
    /// The predecessor's restart policy is the user's again.
    PolicyBack,
    /// The predecessor runs again.
    PredecessorStarted,
    /// The repository tag points to where it pointed before.
    TagBack,
    /// The predecessor was looked at with the candidate's gate.
    PredecessorObserved,
    /// What is thought of the digest is in the store.
    ReturnJudged,
    /// The slot is free again.
    ReturnReleased,
    /// The candidate is gone; nothing is left to do.
    Returned,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Take a slot.
    Claim,
    /// Pass the fence.
    Fence,
    /// Point the repository tag at the new image.
    MoveTag,
    /// Create the candidate, connect its networks, and make sure of its image.
    Create,
    /// Set the predecessor's restart policy to `no`.
    DisarmPredecessor,
    /// Stop the predecessor.
    StopPredecessor,
    /// Give the predecessor an old name, and the candidate the name.
    SwapNames,
    /// Start the candidate.
    StartCandidate,
    /// Wait until the candidate has passed gate and monitor.
    ObserveCandidate,
    /// Write that the digest is good.
    Approve,
    /// Give the slot back.
    Release,
    /// Remove the predecessor.
    RemovePredecessor,
    /// Set the candidate's restart policy to `no`, stop it, and keep its last words.
    StopCandidate,
    /// Give the predecessor its name again.
    SwapNamesBack,
    /// Give the predecessor its restart policy again: before its start, or the engine would not help where it ends once.
    RearmPredecessor,
    /// Start the predecessor, if it was stopped by this replacement.
    StartPredecessor,
    /// Point the repository tag to where it pointed before.
    MoveTagBack,
    /// Look at the predecessor with the candidate's gate, as the control.
    ObservePredecessor,
    /// Write that the digest is bad, if it is.
    Condemn,
    /// Remove the candidate.
    RemoveCandidate,
}

impl Phase {
    /// Every phase, in order: forward, then back.
    pub const ALL: [Self; 23] = [
        Self::Prefetched,
        Self::Claimed,
        Self::Fenced,
        Self::Tagged,
        Self::Created,
        Self::PolicyOff,
        Self::Stopped,
        Self::Swapped,
        Self::Started,
        Self::Observed,
        Self::Judged,
        Self::Released,
        Self::Done,
        Self::Returning,
        Self::CandidateStopped,
        Self::NamesBack,
        Self::PolicyBack,
        Self::PredecessorStarted,
        Self::TagBack,
        Self::PredecessorObserved,
        Self::ReturnJudged,
        Self::ReturnReleased,
        Self::Returned,
    ];

    /// The act that leads on, with the phase that it reaches; `None` at either end.
    pub fn next(self) -> Option<(Act, Self)> {
        Some(match self {
            Self::Prefetched => (Act::Claim, Self::Claimed),
            Self::Claimed => (Act::Fence, Self::Fenced),
            Self::Fenced => (Act::MoveTag, Self::Tagged),
            Self::Tagged => (Act::Create, Self::Created),
            Self::Created => (Act::DisarmPredecessor, Self::PolicyOff),
            Self::PolicyOff => (Act::StopPredecessor, Self::Stopped),
            Self::Stopped => (Act::SwapNames, Self::Swapped),
            Self::Swapped => (Act::StartCandidate, Self::Started),
            Self::Started => (Act::ObserveCandidate, Self::Observed),
            Self::Observed => (Act::Approve, Self::Judged),
            Self::Judged => (Act::Release, Self::Released),
            Self::Released => (Act::RemovePredecessor, Self::Done),
            Self::Returning => (Act::StopCandidate, Self::CandidateStopped),
            Self::CandidateStopped => (Act::SwapNamesBack, Self::NamesBack),
            Self::NamesBack => (Act::RearmPredecessor, Self::PolicyBack),
            Self::PolicyBack => (Act::StartPredecessor, Self::PredecessorStarted),
            Self::PredecessorStarted => (Act::MoveTagBack, Self::TagBack),
            Self::TagBack => (Act::ObservePredecessor, Self::PredecessorObserved),
            Self::PredecessorObserved => (Act::Condemn, Self::ReturnJudged),
            Self::ReturnJudged => (Act::Release, Self::ReturnReleased),
            Self::ReturnReleased => (Act::RemoveCandidate, Self::Returned),
            Self::Done | Self::Returned => return None,
        })
    }

    /// Whether the replacement has ended, one way or the other.
    pub fn is_final(self) -> bool {
        self.next().is_none()
    }

    /// Whether this lies on the way back.
    pub fn is_return(self) -> bool {
        self >= Self::Returning
    }

    /// Whether the fence was passed, so that the replacement must be brought to an end.
    pub fn is_past_fence(self) -> bool {
        self >= Self::Fenced
    }

    /// Whether a slot is held: taken, and not given back.
    pub fn holds_slot(self) -> bool {
        (Self::Claimed..=Self::Judged).contains(&self) || (Self::Returning..=Self::ReturnJudged).contains(&self)
    }

    /// The phase's word in the journal, in events and in the status.
    pub fn word(self) -> String {
        format!("{self:?}").chars().fold(String::new(), |mut word, c| {
            if c.is_ascii_uppercase() && !word.is_empty() {
                word.push('_');
            }
            word.push(c.to_ascii_lowercase());
            word
        })
    }
}

impl Act {
    /// Whether carrying this out needs the store.
    pub fn needs_store(self) -> bool {
        matches!(self, Self::Claim | Self::Fence | Self::Approve | Self::Condemn | Self::Release)
    }

    /// Whether this is an act of the way back that supposes a predecessor to go back to.
    pub fn goes_back(self) -> bool {
        matches!(
            self,
            Self::StopCandidate
                | Self::SwapNamesBack
                | Self::RearmPredecessor
                | Self::StartPredecessor
                | Self::MoveTagBack
                | Self::ObservePredecessor
                | Self::RemoveCandidate
        )
    }
}

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
    /// A person stopped or removed the candidate: nobody's failure, and nothing is started against that will.
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

/// What became of an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is done, or was done already.
    Done,
    /// It cannot be done; only on the way forward and before the verdict.
    Failed(Failure),
    /// The put-back predecessor passed the gate, or did not.
    Control(bool),
    /// Somebody removed the predecessor, so there is nothing to go back to: the candidate stays, whatever the gate says.
    PredecessorGone {
        /// Whether there is a candidate; if not, it is made anew.
        candidate_exists: bool,
    },
    /// The engine was away while the candidate was at its gate: it is started again, and looked at from the beginning.
    EngineReturned,
}

/// An event that cannot happen in a phase.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a replacement in phase {phase:?} cannot take {event:?}")]
pub struct Impossible {
    /// Where the replacement stood.
    pub phase: Phase,
    /// What was said to have happened.
    pub event: Event,
}

impl Replacement {
    /// Takes in what became of the current act.
    ///
    /// # Errors
    /// [`Impossible`] for an event that the phase cannot take; nothing changes then.
    pub fn apply(&mut self, event: Event) -> Result<(), Impossible> {
        let Some((act, next)) = self.phase.next() else { return Err(Impossible { phase: self.phase, event }) };
        let next = match (act, event) {
            (Act::ObservePredecessor, Event::Control(passed)) => {
                self.control = Some(passed);
                next
            }
            // What a person stops now says nothing of either, and stays stopped.
            (Act::ObservePredecessor, Event::Failed(failure @ Failure::ByHand(_))) => {
                self.failure = Some(failure);
                next
            }
            // Before the candidate was created nothing of ours could take the place of what a person removed.
            (act, Event::PredecessorGone { candidate_exists }) if act.goes_back() && self.reached >= Phase::Tagged => {
                self.has_no_way_back = true;
                if candidate_exists { Phase::Stopped } else { Phase::Fenced }
            }
            (Act::ObserveCandidate, Event::EngineReturned) => Phase::Swapped,
            // Somebody made another container of the name meanwhile: the candidate is in its way, and no loss.
            (Act::SwapNames, Event::Failed(failure @ Failure::Superseded(_))) if self.has_no_way_back => {
                self.failure = Some(failure);
                Phase::ReturnJudged
            }
            (_, Event::Failed(failure)) if self.phase < Phase::Judged => {
                self.failure = Some(failure);
                // With nothing left to go back to, what was seen is kept for the end, and the slot is given back.
                if self.has_no_way_back { Phase::Observed } else { Phase::Returning }
            }
            (Act::ObserveCandidate, Event::Done) => {
                // What failed before there was no way back, and passes now, is held against nobody.
                self.failure = None;
                next
            }
            (act, Event::Done) if act != Act::ObservePredecessor => next,
            (_, event) => return Err(Impossible { phase: self.phase, event }),
        };
        if !next.is_return() {
            self.reached = self.reached.max(next);
        }
        self.phase = next;
        Ok(())
    }

    /// The container that has to run once the replacement is over, and is not known to: the put-back predecessor that did
    /// not pass, or the candidate that stays because there is nothing else. Whoever ends a replacement looks there first.
    pub fn owed(&self) -> Option<&str> {
        let is_back = self.phase == Phase::Returned && self.control == Some(false) && self.owes_a_start();
        let stays = self.phase == Phase::Done && self.has_no_way_back && self.failure.is_some();
        match (is_back, stays) {
            (true, _) => Some(&self.facts.predecessor),
            (_, true) => self.candidate.as_deref(),
            _ => None,
        }
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

    /// Whether the way back has to start the predecessor: this replacement may have stopped it, it was meant to run, and
    /// no person has meanwhile ended what took its place.
    pub fn owes_a_start(&self) -> bool {
        self.may_have_stopped_predecessor() && self.facts.predecessor_ran && !self.was_ended_by_hand()
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
            Some(Failure::Node(reason)) => Some(reason),
            Some(Failure::Candidate(reason)) if self.charge(is_known_good).is_none() => Some(reason),
            _ => None,
        }
    }

    /// What to hold against the digest once the way back has looked at the predecessor; `None`: nothing.
    ///
    /// Bad only if the candidate's process ran and failed, the predecessor passes the same gate now, and the
    /// digest was never good for this service. Anything else is this machine's trouble.
    pub fn charge(&self, is_known_good: bool) -> Option<&str> {
        match &self.failure {
            Some(Failure::Node(reason)) if mutation::is("trouble_is_a_verdict") => Some(reason),
            Some(Failure::Candidate(reason)) if self.control == Some(true) && !is_known_good => Some(reason),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
