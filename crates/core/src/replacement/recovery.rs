//! Where a replacement goes on after the daemon was gone, decided from its journal and what the engine shows.
//!
//! The journal says what may have been done; the engine says what is. The only serving container is never
//! stopped: the way is back, or forward only where that adds capacity.

use super::{Failure, Phase, Replacement};

/// What the engine shows of the two containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether the predecessor's process runs.
    pub predecessor_runs: bool,
    /// Whether the candidate exists.
    pub candidate_exists: bool,
    /// Whether the candidate's process runs.
    pub candidate_runs: bool,
}

/// Sets a journal to the phase from which it goes on.
pub fn recover(replacement: &mut Replacement, seen: Seen) {
    let phase = match replacement.phase {
        Phase::Prefetched | Phase::Claimed | Phase::Fenced | Phase::Tagged => Phase::Returning,
        Phase::Created | Phase::PolicyOff | Phase::Stopped if seen.predecessor_runs => Phase::Returning,
        Phase::Created | Phase::PolicyOff | Phase::Stopped if seen.candidate_exists => Phase::Stopped,
        Phase::Created | Phase::PolicyOff | Phase::Stopped => Phase::Returning,
        Phase::Swapped | Phase::Started | Phase::Observed if seen.predecessor_runs && !seen.candidate_runs => {
            Phase::Returning
        }
        // Started again, which changes nothing if it runs, and looked at from the beginning.
        Phase::Swapped | Phase::Started | Phase::Observed if seen.candidate_exists => Phase::Swapped,
        Phase::Swapped | Phase::Started | Phase::Observed => Phase::Returning,
        settled => settled,
    };
    if phase == Phase::Returning && replacement.phase != Phase::Returning {
        let reason = format!("the daemon was gone in phase {}", replacement.phase.word());
        replacement.failure = Some(Failure::Interrupted(reason));
    }
    if !phase.is_return() {
        replacement.reached = replacement.reached.max(phase);
    }
    replacement.phase = phase;
}
