//! The whole input space, walked: which row decides, and what may never follow.

use super::*;

const NAMING: [Naming; 2] = [Naming::Tag, Naming::Pinned];
const OWNERSHIP: [Ownership; 4] = [Ownership::Managed, Ownership::NotManaged, Ownership::Foreign, Ownership::Refused];
const LOCAL_TAG: [LocalTag; 4] = [LocalTag::Known, LocalTag::Moved, LocalTag::Build, LocalTag::Unverified];
const TRIGGER: [Trigger; 4] = [Trigger::None, Trigger::Hook, Trigger::Lost, Trigger::Check];
const ANSWER: [Answer; 11] = [
    Answer::NotAsked,
    Answer::BackingOff,
    Answer::Elsewhere,
    Answer::Other,
    Answer::Newest,
    Answer::NotYet,
    Answer::Older,
    Answer::Absent,
    Answer::NeverThere,
    Answer::Denied,
    Answer::Unavailable,
];
const KNOWN: [Known; 2] = [Known::No, Known::Yes];
const TARGET: [Target; 5] = [Target::None, Target::Absent, Target::Unavailable, Target::Present, Target::Running];
const OBSTACLE: [Obstacle; 9] = [
    Obstacle::None,
    Obstacle::Unrecorded,
    Obstacle::PerhapsNewer,
    Obstacle::NeverRan,
    Obstacle::Paused,
    Obstacle::FailedHere,
    Obstacle::Halted,
    Obstacle::Follows,
    Obstacle::NotMeantToRun,
];

fn every_situation() -> Vec<Situation> {
    let mut all = Vec::new();
    for naming in NAMING {
        for ownership in OWNERSHIP {
            for local_tag in LOCAL_TAG {
                for trigger in TRIGGER {
                    for answer in ANSWER {
                        for known in KNOWN {
                            for target in TARGET {
                                for obstacle in OBSTACLE {
                                    all.push(Situation {
                                        naming,
                                        ownership,
                                        local_tag,
                                        trigger,
                                        answer,
                                        known,
                                        target,
                                        obstacle,
                                    });
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    all
}

/// Each row's meaning written a second time, without the order: the rows' conditions here exclude each other.
fn oracle(s: &Situation) -> Vec<&'static str> {
    let ours = s.naming == Naming::Tag && s.ownership == Ownership::Managed;
    let pushed = ours && !matches!(s.local_tag, LocalTag::Build | LocalTag::Unverified);
    let hook = s.trigger == Trigger::Hook;
    let first = s.known == Known::No;
    let is_said = |answers: &[Answer]| answers.contains(&s.answer);
    let is_new = s.answer == Answer::Other || first && is_said(&[Answer::Newest, Answer::NotYet, Answer::Older]);
    let is_stale = !matches!(s.target, Target::None | Target::Running);
    let is_ahead = is_stale && s.obstacle == Obstacle::Unrecorded;
    let moved = s.local_tag == LocalTag::Moved;
    let asks = pushed && s.answer == Answer::NotAsked;
    let asks_anyway = hook || first || moved || matches!(s.trigger, Trigger::Lost | Trigger::Check);
    let unasked = is_said(&[Answer::NotAsked, Answer::BackingOff, Answer::Elsewhere]);
    let settled = pushed && unasked && !(asks && asks_anyway) && !is_ahead;
    let left = matches!(
        s.obstacle,
        Obstacle::PerhapsNewer | Obstacle::NeverRan | Obstacle::FailedHere | Obstacle::NotMeantToRun
    );
    let stale = settled && s.target == Target::Present;
    let rows = [
        ("pinned", s.naming == Naming::Pinned),
        ("not_managed", s.naming == Naming::Tag && s.ownership == Ownership::NotManaged),
        ("foreign", s.naming == Naming::Tag && s.ownership == Ownership::Foreign),
        ("refused", s.naming == Naming::Tag && s.ownership == Ownership::Refused),
        ("local_build", ours && s.local_tag == LocalTag::Build),
        ("unverified", ours && s.local_tag == LocalTag::Unverified),
        ("new_version", pushed && is_new),
        ("not_there_yet", pushed && hook && (s.answer == Answer::Absent || !first && s.answer == Answer::NotYet)),
        ("older", pushed && !first && s.answer == Answer::Older),
        ("newest", pushed && !first && (s.answer == Answer::Newest || !hook && s.answer == Answer::NotYet)),
        ("never_there", pushed && s.answer == Answer::NeverThere && (hook || !first)),
        ("not_in_registry", pushed && !hook && (s.answer == Answer::Absent || first && s.answer == Answer::NeverThere)),
        ("denied", pushed && s.answer == Answer::Denied),
        ("registry_unavailable", pushed && s.answer == Answer::Unavailable),
        ("hook", asks && hook),
        ("first_sight", asks && !hook && first),
        ("moved_by_hand", asks && !hook && !first && moved),
        ("lost", asks && !first && !moved && s.trigger == Trigger::Lost),
        ("check", asks && !first && !moved && s.trigger == Trigger::Check),
        ("unrecorded", asks && !asks_anyway && is_ahead),
        ("ahead", pushed && is_said(&[Answer::BackingOff, Answer::Elsewhere]) && is_ahead),
        ("no_version", settled && s.target == Target::None),
        ("perhaps_newer", settled && is_stale && s.obstacle == Obstacle::PerhapsNewer),
        ("never_ran", settled && is_stale && s.obstacle == Obstacle::NeverRan),
        ("failed_here", settled && is_stale && s.obstacle == Obstacle::FailedHere),
        ("absent", settled && s.target == Target::Absent && !left),
        ("unavailable", settled && s.target == Target::Unavailable && !left),
        ("paused", stale && s.obstacle == Obstacle::Paused),
        ("halted", stale && s.obstacle == Obstacle::Halted),
        ("follows", stale && s.obstacle == Obstacle::Follows),
        ("stale", stale && s.obstacle == Obstacle::None),
        (
            "nothing_to_do",
            settled && s.target == Target::Running || settled && is_stale && s.obstacle == Obstacle::NotMeantToRun,
        ),
    ];
    rows.into_iter().filter(|(_, fits)| *fits).map(|(name, _)| name).collect()
}

#[test]
fn exactly_one_row_fits_every_situation() {
    let situations = every_situation();
    assert_eq!(situations.len(), 2 * 4 * 4 * 4 * 11 * 2 * 5 * 9);
    for situation in situations {
        assert_eq!(oracle(&situation), [decide(&situation).name], "{situation:?}");
    }
}

#[test]
fn every_row_is_somebodys() {
    let mut seen: Vec<&str> = every_situation().iter().map(|situation| decide(situation).name).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), ROWS.len(), "a row that never decides is dead");
}

#[test]
fn nothing_is_done_to_what_is_not_ours() {
    for situation in every_situation() {
        let action = decide(&situation).action;
        if situation.naming == Naming::Pinned || situation.ownership != Ownership::Managed {
            assert_eq!(action, Action::Leave, "{situation:?}");
        }
    }
}

#[test]
fn a_replacement_needs_the_target_here_and_nothing_in_its_way() {
    for situation in every_situation().into_iter().filter(|s| decide(s).action == Action::Replace) {
        assert_eq!((situation.target, situation.obstacle), (Target::Present, Obstacle::None), "{situation:?}");
        assert!(!matches!(situation.local_tag, LocalTag::Build | LocalTag::Unverified), "{situation:?}");
    }
}

#[test]
fn a_pause_stops_no_record_and_no_pull() {
    for situation in every_situation().into_iter().filter(|s| s.obstacle == Obstacle::Paused) {
        let free = decide(&Situation { obstacle: Obstacle::None, ..situation }).action;
        let paused = decide(&situation).action;
        assert!(paused == free || free == Action::Replace && paused == Action::Leave, "{situation:?}");
    }
}

#[test]
fn a_notification_is_dropped_only_when_the_registry_has_answered_it() {
    for situation in every_situation() {
        if matches!(decide(&situation).action, Action::Settle | Action::Advance) {
            let answers = [Answer::Other, Answer::Newest, Answer::NotYet, Answer::Older];
            assert!(answers.contains(&situation.answer), "{situation:?}");
        }
    }
}

#[test]
fn nothing_is_pulled_for_what_cannot_be_replaced() {
    let left = [Obstacle::PerhapsNewer, Obstacle::NeverRan, Obstacle::FailedHere, Obstacle::NotMeantToRun];
    for situation in every_situation().into_iter().filter(|s| left.contains(&s.obstacle)) {
        let action = decide(&situation).action;
        assert!(!matches!(action, Action::Pull | Action::Replace), "{situation:?}");
    }
}

#[test]
fn what_the_record_does_not_know_is_replaced_by_nothing_before_the_registry_has_answered() {
    for situation in every_situation().into_iter().filter(|s| s.obstacle == Obstacle::Unrecorded) {
        let action = decide(&situation).action;
        assert!(!matches!(action, Action::Pull | Action::Replace), "{situation:?}");
    }
}

/// `docs/decision.md` is this table. To write it anew: `UPDATE_DOCS=1 cargo test -p deployer-core table`.
#[test]
fn the_documented_table_is_printed_from_the_rows() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/decision.md");
    let page = format!(
        "# What a wake for a track leads to\n\nPrinted from `crates/core/src/plan/rows.rs`; a test holds the two \
         together. The first row that fits decides, for each container of the track.\n\n{}",
        table()
    );
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).expect("docs can be written");
    }
    assert_eq!(std::fs::read_to_string(path).expect("docs/decision.md"), page);
}
