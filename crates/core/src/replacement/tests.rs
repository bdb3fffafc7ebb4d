//! The machine as data: every phase with every event, and every phase with everything recovery can see.

use serde_json::json;

use super::*;
use crate::image::{Digest, Track};
use crate::policy::GateSettings;
use crate::slot::Grounds;

fn at(phase: Phase) -> Replacement {
    let facts = Facts {
        track: Track::parse("ghcr.io/acme/web:1").expect("a track"),
        service: "web".into(),
        digest: Digest::parse(&format!("sha256:{}", "a".repeat(64))).expect("a digest"),
        seq: 2,
        container: "web".into(),
        predecessor: "old".into(),
        predecessor_ran: true,
        predecessor_was_down: false,
        new_image: "sha256:new".into(),
        tag_before: None,
        restart_policy: json!({"Name": "always"}),
        body: json!({}),
        connect: Vec::new(),
        grace_ms: 10_000,
        gate: GateSettings { timeout_ms: 0, stable_ms: 0, monitor_ms: 0 },
        ports: vec![80],
        http: None,
        is_first: true,
        scope: "all".into(),
        limit: Default::default(),
        runs: 1,
        settings: String::new(),
        grounds: Grounds { record: 1, service: "web".into(), verdict: 0, halt: 0, retry: 0 },
    };
    let reached = if phase.is_return() { Phase::Started } else { phase };
    Replacement { phase, reached, ..Replacement::new("00c0ffee".into(), facts) }
}

#[test]
fn all_lists_every_phase_once_and_in_order() {
    assert!(Phase::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    let last = Phase::ALL[Phase::ALL.len() - 1];
    assert_eq!(last as usize + 1, Phase::ALL.len(), "a new phase belongs into ALL");
}

#[test]
fn forward_leads_to_done_and_the_way_back_to_returned() {
    let walk = |mut replacement: Replacement| {
        while let Some((act, _)) = replacement.phase.next() {
            let event = if act == Act::ObservePredecessor { Event::Control(true) } else { Event::Done };
            replacement.apply(event).expect("the act's own event");
        }
        replacement.phase
    };
    assert_eq!(walk(at(Phase::Prefetched)), Phase::Done);
    assert_eq!(walk(at(Phase::Returning)), Phase::Returned);
}

#[test]
fn from_every_phase_before_the_verdict_a_failure_leads_back_and_from_no_other() {
    for phase in Phase::ALL {
        let mut replacement = at(phase);
        let outcome = replacement.apply(Event::Failed(Failure::Node("disk full".into())));
        if phase < Phase::Judged {
            assert_eq!((outcome, replacement.phase), (Ok(()), Phase::Returning), "{phase:?}");
        } else {
            assert_eq!((outcome.is_err(), replacement.phase), (true, phase), "{phase:?}");
        }
    }
}

#[test]
fn the_predecessor_is_started_only_if_it_may_have_been_stopped() {
    let started = |phase| {
        let mut replacement = at(phase);
        replacement.apply(Event::Failed(Failure::Node("no".into()))).expect("before the verdict");
        replacement.may_have_stopped_predecessor()
    };
    assert!(!started(Phase::Created), "what a person stopped meanwhile stays stopped");
    assert!(started(Phase::PolicyOff));
}

#[track_caller]
fn check_charge(failure: Failure, control: Option<bool>, is_known_good: bool, expected: bool) {
    let mut replacement = at(Phase::PredecessorObserved);
    replacement.failure = Some(failure);
    replacement.control = control;
    assert_eq!(replacement.charge(is_known_good).is_some(), expected, "{replacement:?}");
}

#[test]
fn only_a_candidate_that_failed_where_its_predecessor_stands_is_bad() {
    let failed = || Failure::Candidate("exited with code 1".into());
    check_charge(failed(), Some(true), false, true);
    check_charge(failed(), Some(false), false, false);
    check_charge(failed(), Some(true), true, false);
    check_charge(Failure::Node("port taken".into()), Some(true), false, false);
    check_charge(Failure::Interrupted("killed".into()), Some(true), false, false);
    check_charge(Failure::Superseded("newer".into()), Some(true), false, false);
}

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
#[track_caller]
fn check_recovery(phase: Phase, seen: &str, expected: Phase, has_no_way_back: bool) {
    let is = |letter: char| seen.contains(letter);
    let seen = Seen {
        predecessor_exists: is('P') || is('p'),
        predecessor_runs: is('P'),
        candidate_exists: is('C') || is('c'),
        candidate_runs: is('C'),
    };
    let mut replacement = at(phase);
    recover(&mut replacement, seen);
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
    let down =
        Seen { predecessor_exists: true, predecessor_runs: false, candidate_exists: false, candidate_runs: false };
    for (seen, expected) in [
        (down, Phase::Returning),
        (Seen { predecessor_runs: true, ..down }, Phase::Returned),
        (Seen { predecessor_exists: false, ..down }, Phase::Returned),
    ] {
        let mut again = replacement.clone();
        recover(&mut again, seen);
        assert_eq!(again.phase, expected, "{seen:?}");
    }
}

/// Findings A1 and M6: the running candidate was stopped and removed although nothing was left to go back to.
#[test]
fn a_predecessor_that_somebody_removed_turns_the_way_back_into_one_forward() {
    for phase in Phase::ALL.into_iter().filter(|phase| phase.is_return()) {
        for (candidate_exists, expected) in [(true, Phase::Stopped), (false, Phase::Fenced)] {
            let mut replacement = at(phase);
            let outcome = replacement.apply(Event::PredecessorGone { candidate_exists });
            let is_an_act_on_containers =
                !matches!(phase, Phase::PredecessorObserved | Phase::ReturnJudged | Phase::Returned);
            assert_eq!(outcome.is_ok(), is_an_act_on_containers, "{phase:?}");
            let expected = if is_an_act_on_containers { expected } else { phase };
            assert_eq!((replacement.phase, replacement.has_no_way_back), (expected, is_an_act_on_containers));
        }
    }
    let mut early = Replacement { reached: Phase::Claimed, ..at(Phase::Returning) };
    let outcome = early.apply(Event::PredecessorGone { candidate_exists: false });
    assert!(outcome.is_err(), "what a person removed before anything was created is not made anew");
}

#[test]
fn with_no_way_back_a_failure_ends_with_the_candidate_in_place() {
    let stays = |phase| Replacement { has_no_way_back: true, candidate: Some("new".into()), ..at(phase) };
    let mut replacement = stays(Phase::Started);
    replacement.apply(Event::Failed(Failure::Candidate("exited".into()))).expect("before the verdict");
    assert_eq!(replacement.phase, Phase::Observed);
    assert_eq!(replacement.trouble(false), Some("exited"));
    replacement.phase = Phase::Done;
    assert_eq!(replacement.owed(), Some("new"));
    let mut passes = Replacement { failure: Some(Failure::Candidate("slow".into())), ..stays(Phase::Started) };
    passes.apply(Event::Done).expect("the act's own event");
    assert_eq!((passes.phase, passes.failure), (Phase::Observed, None), "what passes now is held against nobody");
    let mut taken = stays(Phase::Stopped);
    taken.apply(Event::Failed(Failure::Superseded("made anew by somebody".into()))).expect("before the verdict");
    assert_eq!(taken.phase, Phase::ReturnJudged, "the candidate is in the way of the one that has its name");
}

#[test]
fn names_of_replacements_are_told_from_users_names() {
    assert!(is_transitional("web.new-00c0ffee") && is_transitional("web.old-00c0ffee"));
    assert!(!is_transitional("web") && !is_transitional("web.new-release") && !is_transitional("web.old-1"));
}
