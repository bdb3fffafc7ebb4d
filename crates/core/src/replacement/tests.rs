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

/// The rule of recovery, written down a second time: what must hold for whatever phase comes out.
#[test]
fn recovery_never_stops_the_only_serving_container() {
    for phase in Phase::ALL {
        for bits in 0..8 {
            let (predecessor_runs, candidate_exists, candidate_runs) = (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
            let seen = Seen { predecessor_runs, candidate_exists, candidate_runs };
            if candidate_runs && !candidate_exists {
                continue;
            }
            let mut replacement = at(phase);
            recover(&mut replacement, seen);
            let stops_predecessor = replacement.phase <= Phase::PolicyOff;
            assert!(!stops_predecessor, "{phase:?} {seen:?} would stop the predecessor");
            let stops_candidate = replacement.phase == Phase::Returning && phase != Phase::Returning;
            assert!(
                !(stops_candidate && candidate_runs && !predecessor_runs && phase >= Phase::Created),
                "{phase:?} {seen:?} would stop the only one"
            );
            let mut again = replacement.clone();
            recover(&mut again, seen);
            assert_eq!(again.phase, replacement.phase, "recovering twice is recovering once: {phase:?} {seen:?}");
        }
    }
}

#[test]
fn names_of_replacements_are_told_from_users_names() {
    assert!(is_transitional("web.new-00c0ffee") && is_transitional("web.old-00c0ffee"));
    assert!(!is_transitional("web") && !is_transitional("web.new-release") && !is_transitional("web.old-1"));
}
