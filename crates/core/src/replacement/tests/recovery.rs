//! Every phase with everything that recovery can see.

use super::*;
use crate::slot::Token;

/// Everything that recovery can see: what runs exists.
fn everything_seen() -> Vec<Seen> {
    let all = (0..16u8).map(|bits| Seen {
        predecessor_exists: bits & 1 > 0,
        predecessor_runs: bits & 2 > 0,
        candidate_exists: bits & 4 > 0,
        candidate_runs: bits & 8 > 0,
    });
    let is_possible = |seen: &Seen| {
        (seen.predecessor_exists || !seen.predecessor_runs) && (seen.candidate_exists || !seen.candidate_runs)
    };
    all.filter(is_possible).collect()
}

/// The rule of recovery, written down a second time: what must hold for whatever phase comes out.
#[test]
fn recovery_never_stops_the_only_serving_container() {
    for phase in Phase::ALL {
        for seen in everything_seen() {
            let mut replacement = at(phase);
            recover(&mut replacement, seen);
            let may_stop_predecessor = replacement.phase <= Phase::PolicyOff && !replacement.has_no_way_back;
            assert!(!may_stop_predecessor, "{phase:?} {seen:?} would stop the predecessor");
            let only_candidate = seen.candidate_runs && !seen.predecessor_runs;
            let stops_candidate = replacement.phase == Phase::Returning && !phase.is_return();
            assert!(
                !(stops_candidate && only_candidate && phase >= Phase::Created),
                "{phase:?} {seen:?} would stop the only one"
            );
            let mut again = replacement.clone();
            recover(&mut again, seen);
            assert_eq!(again.phase, replacement.phase, "recovering twice is recovering once: {phase:?} {seen:?}");
        }
    }
}

/// `P` and `C`: predecessor and candidate run; `p` and `c`: they exist; neither: they are gone.
fn seen(letters: &str) -> Seen {
    let is = |letter: char| letters.contains(letter);
    Seen {
        predecessor_exists: is('P') || is('p'),
        predecessor_runs: is('P'),
        candidate_exists: is('C') || is('c'),
        candidate_runs: is('C'),
    }
}

fn recovered(mut replacement: Replacement, letters: &str) -> Replacement {
    recover(&mut replacement, seen(letters));
    replacement
}

#[track_caller]
fn check_recovery(phase: Phase, seen: &str, expected: Phase, has_no_way_back: bool) {
    let replacement = recovered(at(phase), seen);
    assert_eq!((replacement.phase, replacement.has_no_way_back), (expected, has_no_way_back), "{phase:?} {seen:?}");
}

#[test]
fn recovery_goes_back_while_the_predecessor_serves_and_forward_where_it_does_not() {
    check_recovery(Phase::Fenced, "P", Phase::Returning, false);
    check_recovery(Phase::Created, "P c", Phase::Returning, false);
    check_recovery(Phase::PolicyOff, "P c", Phase::Returning, false);
    check_recovery(Phase::PolicyOff, "p c", Phase::Stopped, false);
    check_recovery(Phase::Stopped, "p c", Phase::Stopped, false);
    check_recovery(Phase::Stopped, "p", Phase::Returning, false);
    check_recovery(Phase::Swapped, "p c", Phase::Swapped, false);
    check_recovery(Phase::Started, "p C", Phase::Swapped, false);
    check_recovery(Phase::Started, "P c", Phase::Returning, false);
    check_recovery(Phase::Started, "p", Phase::Returning, false);
    check_recovery(Phase::Observed, "P C", Phase::Swapped, false);
    check_recovery(Phase::Judged, "p C", Phase::Judged, false);
    check_recovery(Phase::Judged, "p c", Phase::Swapped, false);
    check_recovery(Phase::Judged, "P c", Phase::Judged, false);
    check_recovery(Phase::Released, "p c", Phase::Released, false);
}

#[test]
fn recovery_without_a_predecessor_goes_forward_and_makes_anew_what_is_gone() {
    check_recovery(Phase::Created, "c", Phase::Stopped, true);
    check_recovery(Phase::Created, "", Phase::Returning, false);
    check_recovery(Phase::PolicyOff, "", Phase::Fenced, true);
    check_recovery(Phase::Stopped, "c", Phase::Stopped, true);
    check_recovery(Phase::Stopped, "", Phase::Fenced, true);
    check_recovery(Phase::Started, "C", Phase::Swapped, true);
    check_recovery(Phase::Swapped, "", Phase::Fenced, true);
}

/// Each start of the daemon began it anew, and the old one was never put back.
#[test]
fn a_candidate_that_takes_its_machine_down_is_not_started_for_ever() {
    let mut replacement = at(Phase::Started);
    for _ in 0..ANEW_MAX {
        replacement = recovered(replacement, "p c");
        assert_eq!(replacement.phase, Phase::Swapped);
        replacement.apply(Event::Done).expect("started");
    }
    assert_eq!(recovered(replacement.clone(), "p C").phase, Phase::Swapped, "nothing else serves");
    let given_up = recovered(replacement.clone(), "p c");
    assert_eq!(given_up.phase, Phase::Returning);
    assert!(given_up.trouble(false).is_some_and(|reason| reason.contains("time and again")), "{given_up:?}");
    // One that has passed waits for the store, and may do so through any number of starts.
    replacement.phase = Phase::Observed;
    assert_eq!(recovered(replacement, "p c").phase, Phase::Swapped);
}

/// What a replacement owed was handed over to the next, and one that failed early took nothing down itself: it stayed down.
#[test]
fn what_was_taken_over_from_one_that_owed_it_is_owed_from_the_fence_on() {
    for (reached, was_owed, expected) in [
        (Phase::Claimed, true, false),
        (Phase::Fenced, true, true),
        (Phase::Created, true, true),
        (Phase::Created, false, false),
        (Phase::PolicyOff, false, true),
    ] {
        let mut replacement = Replacement { reached, ..at(Phase::Returning) };
        replacement.facts.predecessor_was_owed = was_owed;
        assert_eq!(replacement.owes_a_start(), expected, "{reached:?} {was_owed}");
    }
}

/// Nothing was left of it but the journal, and that was closed.
#[test]
fn what_could_not_be_made_anew_is_owed() {
    for phase in [Phase::Fenced, Phase::Tagged] {
        let mut replacement = recovered(at(Phase::Stopped), "");
        assert_eq!((replacement.phase, replacement.candidate.clone()), (Phase::Fenced, None));
        replacement.phase = phase;
        replacement.apply(Event::Failed(Failure::Node("no space left".into()))).expect("before the verdict");
        replacement.phase = Phase::Done;
        assert!(replacement.owes_a_creation() && replacement.owed().is_none());
        assert_eq!(recovered(replacement.clone(), "").phase, Phase::Fenced);
        for failure in [Failure::ByHand("removed".into()), Failure::Superseded("no such image".into())] {
            replacement.failure = Some(failure);
            assert!(!replacement.owes_a_creation(), "a person has no use for it");
        }
    }
}

/// It ran under the name of a candidate for good, and no replacement looked at it any more.
#[test]
fn a_candidate_that_stays_and_could_not_be_given_its_name_is_given_it_later() {
    let failure = Some(Failure::Node("no such name".into()));
    let stays = Replacement { has_no_way_back: true, failure, candidate: Some("new".into()), ..at(Phase::Done) };
    let again = recovered(stays, "c");
    assert_eq!((again.phase, again.looked_after()), (Phase::Stopped, Some("new")));
}

/// An engine that was restarted meanwhile may have stopped what was put back, or started what was to go.
#[test]
fn recovery_walks_the_way_back_again_until_the_predecessor_was_seen_to_pass() {
    for phase in
        [Phase::CandidateStopped, Phase::NamesBack, Phase::PolicyBack, Phase::PredecessorStarted, Phase::TagBack]
    {
        check_recovery(phase, "P c", Phase::Returning, false);
        check_recovery(phase, "p C", Phase::Returning, false);
    }
    for phase in [Phase::PredecessorObserved, Phase::ReturnJudged, Phase::ReturnReleased] {
        check_recovery(phase, "P c", phase, false);
        check_recovery(phase, "p c", Phase::Returning, false);
    }
}

#[test]
fn a_predecessor_that_failed_its_control_is_not_waited_for_and_stays_owed() {
    let mut replacement = at(Phase::TagBack);
    replacement.apply(Event::Control(false)).expect("the act's own event");
    for phase in [Phase::ReturnJudged, Phase::ReturnReleased, Phase::Returned] {
        replacement.apply(Event::Done).expect("on the way");
        assert_eq!(replacement.phase, phase);
    }
    assert_eq!(replacement.owed(), Some("old"));
    for (seen, expected) in [("p", Phase::Returning), ("P", Phase::Returned), ("", Phase::Returned)] {
        assert_eq!(recovered(replacement.clone(), seen).phase, expected, "{seen:?}");
    }
}

/// With the journal its claim would stay for ever, and all others wait.
#[test]
fn nothing_that_may_hold_a_slot_is_only_looked_after() {
    let mut replacement = at(Phase::TagBack);
    replacement.apply(Event::Control(false)).expect("the act's own event");
    for phase in [Phase::ReturnJudged, Phase::ReturnReleased] {
        let token = Token { scope: "cluster".into(), slot: 0, fence: 8, at: 0 };
        (replacement.phase, replacement.token) = (phase, Some(token));
        assert_eq!(replacement.looked_after(), None, "{phase:?}");
        replacement.token = None;
        assert_eq!(replacement.looked_after(), Some("old"), "{phase:?}");
    }
    replacement.phase = Phase::Returned;
    assert_eq!(replacement.looked_after(), Some("old"));
    assert_eq!(at(Phase::NamesBack).looked_after(), None, "nobody has seen it yet");
}

#[test]
fn a_candidate_that_stayed_and_failed_is_started_again_where_it_still_is() {
    let failure = Some(Failure::Candidate("exited".into()));
    let owed = Replacement { has_no_way_back: true, failure, ..at(Phase::Done) };
    for (seen, expected) in [("c", Phase::Done), ("C", Phase::Done), ("", Phase::Done)] {
        assert_eq!(recovered(Replacement { failure: None, ..owed.clone() }, seen).phase, expected, "{seen:?}");
    }
    let owed = Replacement { candidate: Some("new".into()), ..owed };
    for (seen, expected) in [("c", Phase::Stopped), ("C", Phase::Done), ("", Phase::Done)] {
        assert_eq!(recovered(owed.clone(), seen).phase, expected, "{seen:?}");
    }
}

/// It did not run when all began, so nobody waits for it.
#[test]
fn a_predecessor_that_is_not_to_be_started_is_not_waited_for() {
    let mut replacement = at(Phase::ReturnJudged);
    replacement.facts.predecessor_ran = false;
    assert_eq!(recovered(replacement, "p c").phase, Phase::ReturnJudged);
}

#[test]
fn going_back_for_a_lost_daemon_says_so_and_holds_nothing_against_the_digest() {
    let failed = || Some(Failure::Candidate("exited".into()));
    let interrupted = recovered(at(Phase::PolicyOff), "P c");
    let reason = "the daemon was gone in phase policy_off".to_owned();
    assert_eq!(interrupted.failure, Some(Failure::Interrupted(reason)));
    let already_back = Replacement { failure: failed(), ..at(Phase::NamesBack) };
    assert_eq!(recovered(already_back, "p c").failure, failed(), "why it goes back is known");
    assert_eq!(recovered(at(Phase::Stopped), "p c").failure, None, "it goes on");
}

#[test]
fn what_was_reached_is_never_forgotten() {
    for phase in Phase::ALL {
        for seen in everything_seen() {
            let before = at(phase);
            let mut replacement = before.clone();
            recover(&mut replacement, seen);
            let forward = if replacement.phase.is_return() { before.reached } else { replacement.phase };
            assert_eq!(replacement.reached, before.reached.max(forward), "{phase:?} {seen:?}");
        }
    }
}
