//! What a replacement must remember: enough to finish or undo it with nothing but the engine.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Failure, Phase};
use crate::availability::Limit;
use crate::image::{Digest, Track};
use crate::policy::{GateSettings, HttpCheck};
use crate::slot::{Grounds, Token};

/// Version of the journal's form. A journal of a newer form stops the daemon's start rather than being guessed at.
pub const FORM: u32 = 1;

/// What stays the same over the whole replacement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The track being deployed.
    pub track: Track,
    /// The service whose instance this is.
    pub service: String,
    /// The digest being deployed, and its place in the record.
    pub digest: Digest,
    /// Sequence number of the record's entry.
    pub seq: u64,
    /// The container's name.
    pub container: String,
    /// ID of the container that is replaced.
    pub predecessor: String,
    /// Whether it ran, or was being restarted, when the replacement began.
    pub predecessor_ran: bool,
    /// Whether a replacement before this one owed it, so that its being down tells of nobody's wish.
    #[serde(default, alias = "predecessor_was_down", skip_serializing_if = "std::ops::Not::not")]
    pub predecessor_was_owed: bool,
    /// ID of the image that the candidate must have.
    pub new_image: String,
    /// ID of the image that the repository tag pointed to.
    pub tag_before: Option<String>,
    /// The user's restart policy, raw.
    pub restart_policy: Value,
    /// The create request, raw. May hold secrets from the container's environment.
    pub body: Value,
    /// Further networks to connect before the start, with their raw endpoint settings.
    pub connect: Vec<(String, Value)>,
    /// Grace of a stop, in milliseconds.
    pub grace_ms: u64,
    /// The windows of the gate.
    pub gate: GateSettings,
    /// TCP ports that must answer.
    pub ports: Vec<u16>,
    /// A path that must answer.
    pub http: Option<HttpCheck>,
    /// Whether this is the first instance of the digest, which is watched longer.
    pub is_first: bool,
    /// The scope whose slot is taken.
    pub scope: String,
    /// How many instances of the service may be down together.
    #[serde(default)]
    pub limit: Limit,
    /// Place in the record of what the predecessor runs; 0 if the record does not know it.
    #[serde(default)]
    pub runs: u64,
    /// What of the predecessor a person may change while the slot is waited for, as one hash.
    #[serde(default)]
    pub settings: String,
    /// What the decision rests on.
    pub grounds: Grounds,
}

/// The journal of one replacement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replacement {
    /// Version of this form.
    pub v: u32,
    /// Eight hexadecimal digits that name the replacement.
    pub txn: String,
    /// What stays the same.
    pub facts: Facts,
    /// How far it has come.
    pub phase: Phase,
    /// The furthest phase of the way forward.
    pub reached: Phase,
    /// The slot held, once it is.
    pub token: Option<Token>,
    /// ID of the candidate, once it exists.
    pub candidate: Option<String>,
    /// Why it goes back, once it does.
    pub failure: Option<Failure>,
    /// Whether the put-back predecessor passed the gate.
    pub control: Option<bool>,
    /// Whether it was said what is thought of the digest. A predecessor that passes long after has what it lacked then, and its
    /// passing says nothing of the candidate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_judged: bool,
    /// Whether somebody removed the predecessor, so that the only way is forward.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_no_way_back: bool,
    /// Whether the predecessor has not got its restart policy back, since it is to go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept_disarmed: bool,
    /// How often the candidate began anew because it was ended from outside.
    #[serde(default)]
    pub anew: u32,
    /// The candidate's last words, once it is stopped on the way back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_words: String,
}

impl Replacement {
    /// A replacement that has not begun.
    pub fn new(txn: String, facts: Facts) -> Self {
        Self {
            v: FORM,
            txn,
            facts,
            phase: Phase::Prefetched,
            reached: Phase::Prefetched,
            token: None,
            candidate: None,
            failure: None,
            control: None,
            was_judged: false,
            has_no_way_back: false,
            kept_disarmed: false,
            anew: 0,
            last_words: String::new(),
        }
    }

    /// The candidate's name until it gets the container's.
    pub fn candidate_name(&self) -> String {
        format!("{}.new-{}", self.facts.container, self.txn)
    }

    /// The predecessor's name once it has given its own away.
    pub fn predecessor_name(&self) -> String {
        predecessor_name(&self.facts.container, &self.txn)
    }
}

/// The name of a container that a replacement has taken its own from.
pub fn predecessor_name(container: &str, txn: &str) -> String {
    format!("{container}.old-{txn}")
}

/// The name in whose place a container stands that has one from a replacement, and that replacement's number. Such a
/// container is never a target itself.
pub fn transitional(name: &str) -> Option<(&str, &str)> {
    let is_txn = |txn: &str| txn.len() == 8 && txn.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    [".new-", ".old-"].iter().find_map(|infix| name.rsplit_once(infix).filter(|(_, txn)| is_txn(txn)))
}

/// Whether a container's name was given by a replacement.
pub fn is_transitional(name: &str) -> bool {
    transitional(name).is_some()
}
