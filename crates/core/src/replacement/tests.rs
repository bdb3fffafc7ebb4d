//! The machine as data: every phase with every event, and what a replacement comes to.

mod recovery;
mod words;

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
        predecessor_was_owed: false,
        new_image: "sha256:new".into(),
        tag_before: None,
        restart_policy: json!({"Name": "always"}),
        body: json!({}),
        connect: Vec::new(),
        grace_ms: 10_000,
        gate: GateSettings { timeout_ms: 0, stable_ms: 0, monitor_ms: 0, waits_for_health: false, restarts_max: 0 },
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

/// The way back undoes what was reached, and no more.
#[test]
fn how_far_it_came_forward_is_known_all_the_way_back() {
    for furthest in Phase::ALL.into_iter().filter(|phase| *phase < Phase::Judged) {
        let mut replacement = at(Phase::Prefetched);
        while replacement.phase < furthest {
            replacement.apply(Event::Done).expect("the act's own event");
        }
        replacement.apply(Event::Failed(Failure::Node("disk full".into()))).expect("before the verdict");
        while let Some((act, _)) = replacement.phase.next() {
            assert_eq!(replacement.reached, furthest, "{act:?}");
            let event = if act == Act::ObservePredecessor { Event::Control(true) } else { Event::Done };
            replacement.apply(event).expect("the act's own event");
        }
    }
}

/// Every event, and the phases that can take it.
#[test]
fn an_event_that_a_phase_cannot_take_changes_nothing() {
    let failed = || Event::Failed(Failure::Node("disk full".into()));
    let takes = |phase: Phase, event: &Event| {
        let Some((act, _)) = phase.next() else { return false };
        match event {
            Event::Done => act != Act::ObservePredecessor,
            Event::Failed(_) => phase < Phase::Judged,
            Event::Control(_) => act == Act::ObservePredecessor,
            Event::PredecessorGone { .. } => act.goes_back(),
            Event::Anew(_) => act == Act::ObserveCandidate || phase == Phase::Judged,
        }
    };
    let gone = || Event::PredecessorGone { candidate_exists: true };
    for phase in Phase::ALL {
        for event in [Event::Done, failed(), Event::Control(true), gone(), Event::Anew("restarted".into())] {
            let mut replacement = at(phase);
            let outcome = replacement.apply(event.clone());
            if takes(phase, &event) {
                assert_eq!(outcome, Ok(()), "{phase:?} {event:?}");
            } else {
                assert_eq!((outcome, &replacement), (Err(Impossible { phase, event }), &at(phase)));
            }
        }
    }
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

/// A database was away when both failed, and back when the old one, owed ever since, passed: that condemned a good version.
#[test]
fn what_passes_after_it_was_judged_says_nothing_of_the_candidate() {
    let mut replacement = at(Phase::PredecessorObserved);
    replacement.failure = Some(Failure::Candidate("exited with code 1".into()));
    replacement.control = Some(false);
    assert_eq!(replacement.trouble(false), Some("exited with code 1"));
    replacement.apply(Event::Done).expect("condemned");
    replacement.control = Some(true);
    assert_eq!((replacement.charge(false), replacement.trouble(false)), (None, None));
}

#[track_caller]
fn check_trouble(failure: Option<Failure>, control: Option<bool>, is_known_good: bool, expected: Option<&str>) {
    let replacement = Replacement { failure, control, ..at(Phase::PredecessorObserved) };
    assert_eq!(replacement.trouble(is_known_good), expected, "{replacement:?}");
}

/// Else the next node would try the same.
#[test]
fn a_rollout_halts_for_what_is_this_machines_trouble_or_proves_nothing() {
    let failed = || Some(Failure::Candidate("exited".into()));
    check_trouble(failed(), Some(true), false, None);
    check_trouble(failed(), Some(false), false, Some("exited"));
    check_trouble(failed(), None, false, Some("exited"));
    check_trouble(failed(), Some(true), true, Some("exited"));
    check_trouble(Some(Failure::Node("disk full".into())), Some(true), false, Some("disk full"));
    for failure in [Failure::Superseded, Failure::Interrupted, Failure::ByHand] {
        check_trouble(Some(failure("no trouble".into())), Some(true), false, None);
    }
    check_trouble(None, None, false, None);
}

#[test]
fn the_predecessor_is_started_only_if_we_stopped_it_and_no_person_ended_what_took_its_place() {
    let owes = |reached, predecessor_ran, failure: fn(String) -> Failure| {
        let mut replacement = Replacement { reached, failure: Some(failure("seen".into())), ..at(Phase::NamesBack) };
        replacement.facts.predecessor_ran = predecessor_ran;
        replacement.owes_a_start()
    };
    assert!(owes(Phase::PolicyOff, true, Failure::Candidate));
    assert!(!owes(Phase::Created, true, Failure::Candidate), "what a person stopped meanwhile stays stopped");
    assert!(!owes(Phase::PolicyOff, false, Failure::Candidate));
    assert!(!owes(Phase::PolicyOff, true, Failure::ByHand));
}

#[test]
fn a_container_is_owed_only_at_the_end_and_only_if_it_was_stopped_or_has_nothing_to_go_back_to() {
    let check = |replacement: Replacement, expected: Option<&str>| {
        let replacement = Replacement { candidate: Some("new".into()), ..replacement };
        assert_eq!(replacement.owed(), expected, "{replacement:?}");
    };
    let failure = || Some(Failure::Candidate("exited".into()));
    for phase in Phase::ALL {
        let is_back = phase == Phase::Returned;
        check(Replacement { control: Some(false), failure: failure(), ..at(phase) }, is_back.then_some("old"));
        check(Replacement { control: Some(true), failure: failure(), ..at(phase) }, is_back.then_some("old"));
        let early = Replacement { reached: Phase::Created, control: Some(true), failure: failure(), ..at(phase) };
        check(early, None);
        let stays = phase == Phase::Done;
        check(Replacement { has_no_way_back: true, failure: failure(), ..at(phase) }, stays.then_some("new"));
        check(Replacement { has_no_way_back: true, ..at(phase) }, None);
    }
    let by_hand = Some(Failure::ByHand("removed".into()));
    check(Replacement { control: Some(false), failure: by_hand.clone(), ..at(Phase::Returned) }, None);
    check(Replacement { has_no_way_back: true, failure: by_hand, ..at(Phase::Done) }, None);
}

/// Else whoever restarts it every minute would keep the slot for ever.
#[test]
fn coordination_h5_a_candidate_begins_anew_a_few_times_and_then_goes_back_without_a_charge() {
    let mut replacement = at(Phase::Started);
    for _ in 0..ANEW_MAX {
        replacement.phase = Phase::Started;
        replacement.apply(Event::Anew("restarted by somebody".into())).expect("at its gate");
        assert_eq!((replacement.phase, &replacement.failure), (Phase::Swapped, &None));
    }
    replacement.phase = Phase::Started;
    replacement.apply(Event::Anew("restarted by somebody".into())).expect("at its gate");
    replacement.control = Some(true);
    assert_eq!((replacement.phase, replacement.charge(false)), (Phase::Returning, None));
    assert_eq!(replacement.trouble(false), Some("restarted by somebody, time and again"));
}

/// The slot of one that had begun anew often enough was taken for given back, and no further replacement of it ever got one.
#[test]
fn a_slot_counts_as_given_back_only_once_it_was() {
    let anew = Event::Anew("its engine ended it".into());
    let mut replacement = Replacement { anew: ANEW_MAX, ..at(Phase::Judged) };
    assert!(replacement.apply(anew).is_err() && replacement.phase.holds_slot());
    replacement.apply(Event::Done).expect("given back");
    assert!(!replacement.phase.holds_slot());
}

#[test]
fn coordination_h5_a_predecessor_that_a_person_stops_during_its_control_stays_stopped() {
    let mut replacement = Replacement {
        reached: Phase::Swapped,
        failure: Some(Failure::Candidate("exited".into())),
        ..at(Phase::TagBack)
    };
    replacement.apply(Event::Failed(Failure::ByHand("stopped".into()))).expect("at its control");
    assert_eq!((replacement.phase, replacement.control), (Phase::PredecessorObserved, None));
    assert!(replacement.charge(false).is_none() && replacement.trouble(false).is_none());
    replacement.phase = Phase::Returned;
    assert_eq!(replacement.owed(), None);
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
}

#[test]
fn with_no_way_back_no_failure_leads_back() {
    for phase in Phase::ALL.into_iter().filter(|phase| *phase < Phase::Judged) {
        let mut replacement = Replacement { has_no_way_back: true, ..at(phase) };
        replacement.apply(Event::Failed(Failure::Node("disk full".into()))).expect("before the verdict");
        assert_eq!(replacement.phase, Phase::Observed, "{phase:?}");
    }
}

/// The candidate is in the way of the one that has its name now, and no loss where the predecessor is gone.
#[test]
fn a_candidate_whose_name_somebody_took_gives_way() {
    for (has_no_way_back, expected) in [(true, Phase::ReturnJudged), (false, Phase::Returning)] {
        let mut replacement = Replacement { has_no_way_back, ..at(Phase::Stopped) };
        let taken = Failure::Superseded("made anew by somebody".into());
        replacement.apply(Event::Failed(taken.clone())).expect("before the verdict");
        assert_eq!((replacement.phase, replacement.failure), (expected, Some(taken)));
    }
}
