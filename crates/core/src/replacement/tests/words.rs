//! What phases, acts and failures say of themselves, held against the walk through them.

use serde_json::json;

use super::*;

/// The acts from a phase to the end, each with the phase that it reaches.
fn walked(from: Phase) -> Vec<(Act, Phase)> {
    std::iter::successors(from.next(), |(_, phase)| phase.next()).collect()
}

fn acts(from: Phase) -> impl Iterator<Item = Act> {
    walked(from).into_iter().map(|(act, _)| act)
}

/// Holds a question about phases against the acts that make it so, and no longer so.
#[track_caller]
fn check(is_so: impl Fn(Phase) -> bool, begins: Act, ends: Option<Act>) {
    for (from, mut expected) in [(Phase::Prefetched, false), (Phase::Returning, true)] {
        assert_eq!(is_so(from), expected, "{from:?}");
        for (act, phase) in walked(from) {
            expected = act == begins || expected && Some(act) != ends;
            assert_eq!(is_so(phase), expected, "{phase:?}");
        }
    }
}

#[test]
fn a_slot_is_held_from_the_act_that_takes_it_to_the_one_that_gives_it_back() {
    check(Phase::holds_slot, Act::Claim, Some(Act::Release));
}

#[test]
fn past_the_fence_it_must_be_brought_to_an_end() {
    check(Phase::is_past_fence, Act::Fence, None);
    let ends: Vec<Phase> = Phase::ALL.into_iter().filter(|phase| phase.is_final()).collect();
    assert_eq!(ends, [Phase::Done, Phase::Returned]);
}

#[test]
fn without_its_journal_it_goes_on_only_once_nothing_may_serve() {
    check(|phase| at(phase).may_serve_nobody(), Act::StopPredecessor, None);
    for phase in Phase::ALL {
        assert!(Replacement { has_no_way_back: true, ..at(phase) }.may_serve_nobody(), "{phase:?}");
    }
}

#[test]
fn a_phases_word_is_the_one_in_its_journal() {
    for phase in Phase::ALL {
        assert_eq!(json!(phase.word()), json!(phase));
    }
}

#[test]
fn the_way_back_needs_no_store_until_something_serves() {
    let needs_store = |from| acts(from).filter(|act| act.needs_store()).collect::<Vec<Act>>();
    assert_eq!(needs_store(Phase::Prefetched), [Act::Claim, Act::Fence, Act::Approve, Act::Release]);
    assert_eq!(needs_store(Phase::Returning), [Act::Condemn, Act::Release]);
    assert!(
        walked(Phase::Returning).iter().all(|(act, phase)| *phase > Phase::PredecessorStarted || !act.needs_store())
    );
}

#[test]
fn every_act_of_the_way_back_on_this_machine_looks_whether_there_is_a_predecessor() {
    assert!(acts(Phase::Prefetched).all(|act| !act.goes_back()));
    for act in acts(Phase::Returning) {
        assert_eq!(act.goes_back(), !act.needs_store(), "{act:?}");
    }
}

#[test]
fn a_failure_says_what_was_seen() {
    for failure in [Failure::Superseded, Failure::Interrupted, Failure::Node, Failure::Candidate, Failure::ByHand] {
        assert_eq!(failure("seen".into()).reason(), "seen");
    }
}

#[test]
fn names_of_replacements_are_told_from_users_names() {
    assert_eq!(transitional("web.old-1.new-00c0ffee"), Some(("web.old-1", "00c0ffee")));
    let replacement = at(Phase::Prefetched);
    let (candidate, predecessor) = (replacement.candidate_name(), replacement.predecessor_name());
    assert_eq!((candidate.as_str(), predecessor.as_str()), ("web.new-00c0ffee", "web.old-00c0ffee"));
    assert!(is_transitional(&candidate) && is_transitional(&predecessor));
    assert_eq!(transitional("web.old-1.new-00c0ffee"), Some(("web.old-1", "00c0ffee")));
    for users in ["web", "web.new-release", "web.old-1", "web.new-00C0FFEE", "web.new-00c0ffee0", "web.news-00c0ffee"] {
        assert!(!is_transitional(users), "{users}");
    }
}
