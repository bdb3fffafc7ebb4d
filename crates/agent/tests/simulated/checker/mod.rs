//! What must hold of every history, whatever befell the cluster: a pure function of what happened and of how it ended.
//!
//! It knows nothing of how the daemon decides. Where news needs time, the rules say how much they allow.

use deployer_simulated::history::{Befalling, EndOfContainer, Entry, What};

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::freezer::SPINS;

mod ending;
mod judgements;
mod replay;
mod steps;
mod stops;
mod wills;

use replay::Replay;

/// How long news of a host may take to whoever claims a slot, if nothing befell the host: one event, one look at the
/// machine, one transaction.
pub const NEWS: Duration = Duration::from_secs(5);
/// The same if something did: until its lease has ended, and for a look that failed until the next.
pub const NEWS_FROM_TROUBLE: Duration = Duration::from_secs(60);
/// How long news of what a person did may take to the daemon of the same machine.
pub const NEWS_OF_A_PERSON: Duration = Duration::from_secs(2);

/// What was not as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An instance was stopped although its service could not spare it.
    TwoDown,
    /// The same, where one that was down was on a machine that was being rebooted.
    DownAtReboot,
    /// An instance was stopped without a claim past its fence.
    Unfenced,
    /// A claim past its fence was ended by another machine.
    ClaimStolen,
    /// The last container of an instance was removed, and not by a person.
    Vanished,
    /// What can still be gone back to was removed before what took its place had been watched as long as a gate takes.
    Unproven,
    /// A container that a replacement had stopped serves no more, and nobody wanted that.
    Lost,
    /// What a person stopped or removed was started.
    Resurrected,
    /// A digest was found bad that did not fail by itself.
    FalseBad,
    /// A digest was found good that never served.
    FalseGood,
    /// A verdict was written by a machine that holds no slot any more: meanwhile the next may have begun the same.
    LateVerdict,
    /// A verdict was turned round.
    VerdictChanged,
    /// A version was tried again and again that failed each time, and that nobody judged.
    TriedForEver,
    /// An older version took the place of a newer one that nobody had found bad.
    Downgraded,
    /// A container that is not opted in was touched.
    Trespass,
    /// The daemon ended without being asked.
    DaemonDied,
    /// A stage of the daemon asked itself over and over what there is to do, and let no time pass.
    Spins,
    /// In the end something does not run what it should, and does not say why.
    NotConverged,
    /// Something was left over that belongs to a replacement.
    LeftOver,
}

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    pub at: Duration,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:.3}: {}", self.kind, self.at.as_secs_f64(), self.text)
    }
}

/// How everything was in the end.
#[derive(Clone, Debug, Default)]
pub struct End {
    pub hosts: Vec<EndOfHost>,
    /// Keys that should be gone.
    pub left: Vec<String>,
    /// What the nodes say of containers that are not as they should be, by the container's ID: state and reason.
    pub said: BTreeMap<String, (String, String)>,
}

/// How a host was in the end.
#[derive(Clone, Debug, Default)]
pub struct EndOfHost {
    pub host: String,
    /// Replacements whose journals are open.
    pub journals: Vec<String>,
    pub containers: Vec<EndOfContainer>,
}

/// Everything that was not as it must be.
pub fn check(entries: &[Entry], end: &End) -> Vec<Violation> {
    let mut replay = Replay::default();
    let mut found = Vec::new();
    for entry in entries {
        let mut report =
            |kind, text: String| found.push(Violation { kind, at: entry.at, text: format!("{}: {text}", entry.host) });
        if let What::Befell(Befalling::DaemonDied(reason)) = &entry.what {
            let kind = if reason.contains(SPINS) { Kind::Spins } else { Kind::DaemonDied };
            report(kind, reason.clone());
        }
        stops::check(&replay, entry, &mut report);
        wills::check(&replay, entry, &mut report);
        judgements::check(&replay, entry, &mut report);
        replay.step(entry);
    }
    let at = entries.last().map_or(Duration::ZERO, |entry| entry.at);
    ending::check(&replay, end, &mut |kind, text| found.push(Violation { kind, at, text }));
    found
}
