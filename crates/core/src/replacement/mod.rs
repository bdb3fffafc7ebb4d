//! One container replaced on one node, as a state machine.
//!
//! A [`Phase`] says what has been reached; its [`Act`] is what comes next. The phase is written durably to the
//! journal before the act is carried out, so after a crash at any moment the act may or may not have happened:
//! every act looks before it does, and doing it twice is doing it once. From each phase before the verdict there
//! is a way back, which ends with the predecessor under its name.

mod failure;
mod journal;
mod recovery;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use failure::Failure;
pub use journal::{FORM, Facts, Replacement, is_transitional, predecessor_name, transitional};
pub use recovery::{Seen, recover};

/// How often a candidate that was ended from outside begins anew. After that the predecessor serves until a person has
/// looked: a gate that never ends would hold the slot.
pub const ANEW_MAX: u32 = 3;

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
    /// The candidate's process ended at its gate, or before its slot was given back, and not by itself, for this reason: it is
    /// started again, and looked at from the beginning.
    Anew(String),
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
    /// Where a candidate is made from the journal alone, since nothing else is left.
    fn make_anew(&mut self) -> Phase {
        self.candidate = None;
        Phase::Fenced
    }

    /// Takes in what became of the current act.
    ///
    /// # Errors
    /// [`Impossible`] for an event that the phase cannot take; nothing changes then.
    pub fn apply(&mut self, event: Event) -> Result<(), Impossible> {
        let Some((act, next)) = self.phase.next() else { return Err(Impossible { phase: self.phase, event }) };
        let event = match event {
            Event::Anew(why) if act == Act::ObserveCandidate && !self.may_begin_anew() => {
                Event::Failed(Failure::Node(format!("{why}, time and again")))
            }
            event => event,
        };
        let next = match (act, event) {
            // What a person stopped meanwhile stays stopped, and tells nothing of the candidate.
            (Act::ObservePredecessor, Event::Failed(failure @ Failure::ByHand(_))) => {
                self.failure = Some(failure);
                next
            }
            (Act::ObservePredecessor, Event::Control(passed)) => {
                self.control = Some(passed);
                next
            }
            // Before the candidate was created nothing of ours could take the place of what a person removed.
            (act, Event::PredecessorGone { candidate_exists }) if act.goes_back() && self.reached >= Phase::Tagged => {
                self.has_no_way_back = true;
                if candidate_exists { Phase::Stopped } else { self.make_anew() }
            }
            (Act::ObserveCandidate | Act::Release, Event::Anew(_))
                if !self.phase.is_return() && self.may_begin_anew() =>
            {
                self.anew += 1;
                Phase::Swapped
            }
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
        self.was_judged |= next == Phase::ReturnJudged;
        self.phase = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
