//! Where a replacement goes on after the daemon was gone, decided from its journal and what the engine shows.
//!
//! The journal says what may have been done; the engine says what is. The only serving container is never
//! stopped: the way is back, or forward only where that adds capacity. A living daemon asks here as well, for a
//! replacement that has ended and still owes a container that runs.

use super::{Failure, Phase, Replacement};

/// What the engine shows of the two containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether the predecessor exists.
    pub predecessor_exists: bool,
    /// Whether the predecessor's process runs.
    pub predecessor_runs: bool,
    /// Whether the candidate exists.
    pub candidate_exists: bool,
    /// Whether the candidate's process runs.
    pub candidate_runs: bool,
}

/// Sets a journal to the phase from which it goes on.
pub fn recover(replacement: &mut Replacement, seen: Seen) {
    let was = replacement.phase;
    let phase = match was {
        phase if phase.is_final() => owing(replacement, seen),
        phase if phase.is_return() => back(replacement, seen),
        // Until the slot is given back, what was stopped for it is owed.
        Phase::Judged if seen.candidate_exists && !seen.candidate_runs && !seen.predecessor_runs => Phase::Swapped,
        Phase::Judged | Phase::Released => was,
        _ => forward(replacement, seen),
    };
    if phase == Phase::Returning && !was.is_return() {
        replacement.failure = Some(match is_down_again(replacement, was, seen) && !replacement.may_begin_anew() {
            true => Failure::Node("the daemon or its machine went down at this gate, time and again".to_owned()),
            false => Failure::Interrupted(format!("the daemon was gone in phase {}", was.word())),
        });
    }
    if !phase.is_return() {
        replacement.reached = replacement.reached.max(phase);
    }
    replacement.phase = phase;
}

/// On the way forward, before the verdict.
fn forward(replacement: &mut Replacement, seen: Seen) -> Phase {
    let phase = replacement.phase;
    let has_begun = phase >= Phase::Created;
    // Before the stop was asked for, whoever removed the predecessor removed what ran, and meant it.
    let was_left_stopped = phase >= Phase::PolicyOff && !seen.candidate_exists;
    if has_begun && !seen.predecessor_exists && (seen.candidate_exists || was_left_stopped) {
        replacement.has_no_way_back = true;
    }
    if replacement.has_no_way_back {
        return match (seen.candidate_exists, phase >= Phase::Swapped) {
            (false, _) => replacement.make_anew(),
            (true, false) => Phase::Stopped,
            (true, true) => Phase::Swapped,
        };
    }
    let only_predecessor_runs = seen.predecessor_runs && !seen.candidate_runs;
    match phase {
        Phase::Created | Phase::PolicyOff | Phase::Stopped if seen.candidate_exists && !seen.predecessor_runs => {
            Phase::Stopped
        }
        // What takes its machine down whenever it is started is not started for ever.
        _ if is_down_again(replacement, phase, seen) => {
            let may = replacement.may_begin_anew();
            replacement.anew += u32::from(may);
            if may { Phase::Swapped } else { Phase::Returning }
        }
        // Started again, which changes nothing if it runs, and looked at from the beginning.
        Phase::Swapped | Phase::Started | Phase::Observed if seen.candidate_exists && !only_predecessor_runs => {
            Phase::Swapped
        }
        _ => Phase::Returning,
    }
}

/// Whether a candidate that was started is down, and nothing else runs, after the daemon was gone at its gate.
fn is_down_again(replacement: &Replacement, was: Phase, seen: Seen) -> bool {
    let runs = seen.candidate_runs || seen.predecessor_runs;
    was == Phase::Started && seen.candidate_exists && !runs && !replacement.has_no_way_back
}

/// On the way back. Its acts look before they do, so it is walked again from its beginning unless the predecessor was
/// seen to pass and still runs: an engine that was restarted meanwhile may have started the one and not the other.
fn back(replacement: &Replacement, seen: Seen) -> Phase {
    let is_observed = replacement.phase >= Phase::PredecessorObserved;
    let is_left_down = replacement.control == Some(false) || !replacement.owes_a_start();
    if is_observed && (seen.predecessor_runs || is_left_down) { replacement.phase } else { Phase::Returning }
}

/// At its end, with a container that should run and was not seen to pass.
fn owing(replacement: &mut Replacement, seen: Seen) -> Phase {
    let owes = replacement.owed().is_some();
    match replacement.phase {
        Phase::Returned if owes && seen.predecessor_exists && !seen.predecessor_runs => Phase::Returning,
        // A name that it could not be given is tried again, too.
        Phase::Done if owes && seen.candidate_exists && !seen.candidate_runs => Phase::Stopped,
        Phase::Done if replacement.owes_a_creation() && !seen.candidate_exists => replacement.make_anew(),
        phase => phase,
    }
}
