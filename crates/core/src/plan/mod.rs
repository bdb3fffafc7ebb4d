//! What to do about one container of one track: the decision of the update stage.
//!
//! [`decide`] reads a [`Situation`] of small closed sets and gives the first of [`ROWS`] that fits, so its whole
//! input space can be walked by a test, and the table in `docs/decision.md` is printed from the rows themselves.
//! The stages run it again whenever they take up a job: no decision waits in a queue.

mod rows;

use serde::Serialize;

pub use rows::{ROWS, Row};

/// How the container names its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// By name and tag.
    Tag,
    /// By digest or by a bare ID.
    Pinned,
}

/// Whose the container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    /// Managed by this daemon.
    Managed,
    /// Not opted in.
    NotManaged,
    /// Another agent's, a supervisor's, or deployer's own.
    Foreign,
    /// Managed, but it cannot be replaced as it is: a bad label, or a setting that cannot be cloned.
    Refused,
}

/// What the tag names on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalTag {
    /// What this node last saw or set.
    Known,
    /// Something else: a pull or a tag by hand.
    Moved,
    /// An image that no registry knows: built here.
    Build,
    /// An image of which is not known whether it was built here or the registry has it.
    Unverified,
}

/// Why the registry should be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Nothing asks for it.
    None,
    /// A notification waits.
    Hook,
    /// A pull found that the registry does not have the target any more.
    Lost,
    /// The slow check is due.
    Check,
}

/// What the registry said when it was asked for this look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was not asked.
    NotAsked,
    /// It was asked a moment ago; the next try is not due.
    BackingOff,
    /// Another node asks at this moment, for the whole cluster.
    Elsewhere,
    /// Another digest than the newest entry's.
    Other,
    /// The newest entry's digest.
    Newest,
    /// A digest that the record knows, though the notification named another that it does not know.
    NotYet,
    /// An older entry's digest, which nobody named: a replica may be behind.
    Older,
    /// No such tag.
    Absent,
    /// No such tag, however often it was asked for.
    NeverThere,
    /// Not to this node.
    Denied,
    /// Too many requests, a failure, or no answer.
    Unavailable,
}

/// Whether the track has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Never resolved.
    No,
    /// It has a newest entry.
    Yes,
}

/// The target, as this node has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Every entry is bad or withdrawn, or there is no record.
    None,
    /// Not on this machine.
    Absent,
    /// Not on this machine, and not to be had at the moment.
    Unavailable,
    /// On this machine; the container runs another image.
    Present,
    /// The container runs it.
    Running,
}

/// Whether something keeps a replacement from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// Nothing.
    None,
    /// It was made for a version that the record does not know, and the registry was not asked since: the store may have
    /// been restored from an older snapshot.
    Unrecorded,
    /// It was made for a version that the record does not know, and the target is not the newest entry: what it runs may be
    /// newer than the target, where the store was restored.
    PerhapsNewer,
    /// The target was adopted from another container, and this one never ran it.
    NeverRan,
    /// A person paused the cluster.
    Paused,
    /// This version failed here before, through no fault of its own, or the container cannot be replaced as it is.
    FailedHere,
    /// This version met trouble on another node, and its rollout stands still.
    Halted,
    /// Its Compose project has another before it, which is being replaced or about to be.
    Follows,
    /// The container does not run, by somebody's will.
    NotMeantToRun,
}

/// Everything the decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Situation {
    /// How the container names its image.
    pub naming: Naming,
    /// Whose it is.
    pub ownership: Ownership,
    /// What the tag names here.
    pub local_tag: LocalTag,
    /// Why the registry should be asked.
    pub trigger: Trigger,
    /// What it said.
    pub answer: Answer,
    /// Whether there is a record.
    pub known: Known,
    /// The target as this node has it.
    pub target: Target,
    /// What keeps a replacement from starting.
    pub obstacle: Obstacle,
}

/// What the update stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing, and say why.
    Leave,
    /// Ask the registry whether it has what the tag names here.
    Verify,
    /// Ask the registry.
    Resolve,
    /// Write a new entry, and drop the notification that was served.
    Advance,
    /// Drop the notification that was served, and look again.
    Settle,
    /// Ask again in 5 to 60 s; the notification stays.
    AskAgainSoon,
    /// Ask again in 5 s to 5 min; the notification stays.
    AskAgainLater,
    /// Ask once more in a minute, before the tag is believed to have moved back; the notification stays.
    AskTwice,
    /// Drop the notification that cannot be served, and look again after a pause.
    GiveUp,
    /// Bring the target here.
    Pull,
    /// Replace the container.
    Replace,
}

/// The first row that fits.
pub fn decide(situation: &Situation) -> &'static Row {
    ROWS.iter().find(|row| (row.fits)(situation)).expect("the last row fits everything")
}

/// The rows as a table for people, in Markdown.
pub fn table() -> String {
    let lines = ROWS.iter().map(|row| format!("| `{}` | {} | {} |\n", row.name, row.state, row.consequence));
    std::iter::once("| row | state | action |\n|---|---|---|\n".to_owned()).chain(lines).collect()
}

#[cfg(test)]
mod tests;
