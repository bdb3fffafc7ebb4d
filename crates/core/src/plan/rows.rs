//! The rows of the decision, in order. The first that fits counts.

use super::{Action, Answer, Known, LocalTag, Naming, Obstacle, Ownership, Situation, Target, Trigger};

/// One row of the decision.
pub struct Row {
    /// A fixed word for logs, metrics and the status.
    pub name: &'static str,
    /// When it fits, for people.
    pub state: &'static str,
    /// What follows, for people.
    pub consequence: &'static str,
    /// What follows.
    pub action: Action,
    /// When it fits, given that no row above did.
    pub fits: fn(&Situation) -> bool,
}

/// Whether there is a target, and the container runs something else.
fn is_stale(situation: &Situation) -> bool {
    matches!(situation.target, Target::Absent | Target::Unavailable | Target::Present)
}

/// All rows. The last fits everything, so exactly one row decides.
pub static ROWS: [Row; 32] = [
    Row {
        name: "pinned",
        state: "the container names its image by digest or by a bare ID",
        consequence: "never touched",
        action: Action::Leave,
        fits: |s| s.naming == Naming::Pinned,
    },
    Row {
        name: "not_managed",
        state: "the container is not opted in",
        consequence: "never touched",
        action: Action::Leave,
        fits: |s| s.ownership == Ownership::NotManaged,
    },
    Row {
        name: "foreign",
        state: "it belongs to an orchestrator, a supervisor, another agent, or is deployer itself",
        consequence: "never touched, the owner is named",
        action: Action::Leave,
        fits: |s| s.ownership == Ownership::Foreign,
    },
    Row {
        name: "refused",
        state: "a label is wrong, or a setting cannot be carried over",
        consequence: "left alone, the reason is shown",
        action: Action::Leave,
        fits: |s| s.ownership == Ownership::Refused,
    },
    Row {
        name: "local_build",
        state: "the local tag names an image without a repository digest",
        consequence: "held back on this node until a push gives the image a digest",
        action: Action::Leave,
        fits: |s| s.local_tag == LocalTag::Build,
    },
    Row {
        name: "unverified",
        state: "the engine does not tell whether the image that the local tag names was built here",
        consequence: "the registry is asked whether it has it; if not, held back like a local build",
        action: Action::Verify,
        fits: |s| s.local_tag == LocalTag::Unverified,
    },
    Row {
        name: "new_version",
        state: "asked: the registry's digest is not the newest entry's, or there is no record",
        consequence: "a new entry; the notification served is dropped",
        action: Action::Advance,
        fits: |s| {
            let is_digest = matches!(s.answer, Answer::Newest | Answer::NotYet | Answer::Older);
            s.answer == Answer::Other || s.known == Known::No && is_digest
        },
    },
    Row {
        name: "not_there_yet",
        state: "asked for a notification: no such tag, or a known digest though the hook named an unknown one",
        consequence: "asked again in 5 to 60 s; the notification stays",
        action: Action::AskAgainSoon,
        fits: |s| {
            s.trigger == Trigger::Hook && s.known == Known::Yes && s.answer == Answer::NotYet
                || s.trigger == Trigger::Hook && s.answer == Answer::Absent
        },
    },
    Row {
        name: "older",
        state: "asked: the registry's digest is an older entry's, which no notification named",
        consequence: "asked again in a minute: a replica may be behind; said twice, it is a new entry",
        action: Action::AskTwice,
        fits: |s| s.answer == Answer::Older,
    },
    Row {
        name: "newest",
        state: "asked: the registry's digest is the newest entry's",
        consequence: "the notification served is dropped",
        action: Action::Settle,
        fits: |s| matches!(s.answer, Answer::Newest | Answer::NotYet),
    },
    Row {
        name: "never_there",
        state: "asked again and again: no such tag",
        consequence: "the notification is dropped, a check is taken for done",
        action: Action::GiveUp,
        fits: |s| s.answer == Answer::NeverThere && (s.trigger == Trigger::Hook || s.known == Known::Yes),
    },
    Row {
        name: "not_in_registry",
        state: "asked without a notification: no such tag",
        consequence: "shown, left to another node, asked again in 5 s to 5 min",
        action: Action::AskAgainLater,
        fits: |s| matches!(s.answer, Answer::Absent | Answer::NeverThere),
    },
    Row {
        name: "denied",
        state: "asked: the registry refuses this node",
        consequence: "shown, left to another node, asked again in 5 s to 5 min",
        action: Action::AskAgainLater,
        fits: |s| s.answer == Answer::Denied,
    },
    Row {
        name: "registry_unavailable",
        state: "asked: too many requests, a failure, or no answer",
        consequence: "asked again in 5 s to 5 min; left to another node the second time",
        action: Action::AskAgainLater,
        fits: |s| s.answer == Answer::Unavailable,
    },
    Row {
        name: "hook",
        state: "a notification waits",
        consequence: "the registry is asked",
        action: Action::Resolve,
        fits: |s| s.trigger == Trigger::Hook && s.answer == Answer::NotAsked,
    },
    Row {
        name: "first_sight",
        state: "there is no record",
        consequence: "the registry is asked; what runs is adopted",
        action: Action::Resolve,
        fits: |s| s.known == Known::No && s.answer == Answer::NotAsked,
    },
    Row {
        name: "moved_by_hand",
        state: "a pull or tag by hand moved the local tag",
        consequence: "the registry is asked, and decides",
        action: Action::Resolve,
        fits: |s| s.local_tag == LocalTag::Moved && s.answer == Answer::NotAsked,
    },
    Row {
        name: "lost",
        state: "a pull found that the registry does not have the target any more",
        consequence: "the registry is asked what the tag points to now",
        action: Action::Resolve,
        fits: |s| s.trigger == Trigger::Lost && s.answer == Answer::NotAsked,
    },
    Row {
        name: "check",
        state: "the slow check is due",
        consequence: "the registry is asked",
        action: Action::Resolve,
        fits: |s| s.trigger == Trigger::Check && s.answer == Answer::NotAsked,
    },
    Row {
        name: "unrecorded",
        state: "the container is stale, and was made for a version that the record does not know",
        consequence: "the registry is asked before anything: the store may be older than the machine",
        action: Action::Resolve,
        fits: |s| is_stale(s) && s.obstacle == Obstacle::Unrecorded && s.answer == Answer::NotAsked,
    },
    Row {
        name: "ahead",
        state: "the same, and the registry has not answered yet",
        consequence: "the container stays as it is until it has",
        action: Action::Leave,
        fits: |s| is_stale(s) && s.obstacle == Obstacle::Unrecorded,
    },
    Row {
        name: "no_version",
        state: "every entry is bad or withdrawn, or the registry was not heard yet",
        consequence: "nothing to deploy; the container stays as it is",
        action: Action::Leave,
        fits: |s| s.target == Target::None,
    },
    Row {
        name: "perhaps_newer",
        state: "the container is stale, was made for a version that the record does not know, and the newest entry is bad or withdrawn",
        consequence: "left as it is until the next push: an older entry may be older than what it runs",
        action: Action::Leave,
        fits: |s| is_stale(s) && s.obstacle == Obstacle::PerhapsNewer,
    },
    Row {
        name: "never_ran",
        state: "the container is stale, and the target was adopted from another one: no registry named it",
        consequence: "left as it is: it never ran that",
        action: Action::Leave,
        fits: |s| is_stale(s) && s.obstacle == Obstacle::NeverRan,
    },
    Row {
        name: "failed_here",
        state: "the container is stale, and it cannot be replaced, or the target failed on this node through no fault of its own",
        consequence: "a failure halts the rollout everywhere until `deployer retry` or a new push; nothing is pulled",
        action: Action::Leave,
        fits: |s| is_stale(s) && s.obstacle == Obstacle::FailedHere,
    },
    Row {
        name: "absent",
        state: "the container is meant to run, and the target is not on this machine",
        consequence: "pulled by digest, under a private tag only",
        action: Action::Pull,
        fits: |s| s.target == Target::Absent && s.obstacle != Obstacle::NotMeantToRun,
    },
    Row {
        name: "unavailable",
        state: "the same, and the target could not be brought to this machine",
        consequence: "shown, tried again with backoff",
        action: Action::Leave,
        fits: |s| s.target == Target::Unavailable && s.obstacle != Obstacle::NotMeantToRun,
    },
    Row {
        name: "paused",
        state: "the container is stale, and a person paused the cluster",
        consequence: "no replacement starts until resumed",
        action: Action::Leave,
        fits: |s| s.target == Target::Present && s.obstacle == Obstacle::Paused,
    },
    Row {
        name: "halted",
        state: "the container is stale, and the target met trouble on another node that is no verdict",
        consequence: "left as it is until `deployer retry` or a new push",
        action: Action::Leave,
        fits: |s| s.target == Target::Present && s.obstacle == Obstacle::Halted,
    },
    Row {
        name: "follows",
        state: "the container is stale, and so is one on which it depends by its Compose project",
        consequence: "replaced after that",
        action: Action::Leave,
        fits: |s| s.target == Target::Present && s.obstacle == Obstacle::Follows,
    },
    Row {
        name: "stale",
        state: "the container is meant to run, and its image is not the target",
        consequence: "replaced",
        action: Action::Replace,
        fits: |s| s.target == Target::Present && s.obstacle == Obstacle::None,
    },
    Row {
        name: "nothing_to_do",
        state: "otherwise: it runs the target, or is not meant to run",
        consequence: "nothing",
        action: Action::Leave,
        fits: |_| true,
    },
];
