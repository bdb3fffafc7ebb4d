//! What the daemon knows, in the form that `status`, `plan` and `history` print and programs read: this node from its
//! engine (`here`), the others from what they say in the store (`elsewhere`).

mod elsewhere;
mod here;

use std::collections::{BTreeMap, BTreeSet};

use deployer_agent::ledger::{self, Ledger, verdicts_everywhere};
use deployer_agent::look::LookError;
use deployer_agent::situation::TrackView;
use deployer_agent::survey::Survey;
use deployer_agent::world::World;
use deployer_core::asking::is_stuck;
use deployer_core::image::{Digest, Track};
use deployer_core::plan::Answer;
use deployer_core::record::{Opinion, Record, Verdicts, Version};
use deployer_core::rollback::{newest_target, targets};
use serde::{Deserialize, Serialize};

use elsewhere::Elsewhere;

/// The phase of a claim that makes no sense: nobody knows what is down because of it.
pub const UNREADABLE: &str = "unreadable";

/// Everything that this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    #[serde(default)]
    pub version: String,
    /// This node.
    pub node: String,
    /// Whether a person paused the cluster.
    pub paused: bool,
    /// What is wrong on this node, or in the store, and concerns more than one track.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// The nodes of the cluster.
    #[serde(default)]
    pub nodes: Vec<NodeStatus>,
    /// What runs on them, by track.
    pub tracks: Vec<TrackStatus>,
    /// Slots that are taken.
    pub claims: Vec<ClaimStatus>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// `ready`; `stopped` if a person stopped its daemon; `away` if nothing is heard of it.
    pub state: String,
    /// Its daemon's version, while it is ready.
    pub version: String,
    /// What its daemon takes slots of, while it is ready.
    pub scope: String,
    /// Unix seconds of its daemon's start, while it is ready.
    pub at: Option<i64>,
}

/// What the registry said of a track, the newest first, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The image with its tag.
    pub image: String,
    /// The place of what should run.
    pub target: Option<u64>,
    /// Every answer of the registry that is kept.
    pub versions: Vec<VersionStatus>,
    /// What is thought of their digests.
    pub verdicts: Vec<VerdictStatus>,
}

/// One track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackStatus {
    /// The image with its tag.
    pub image: String,
    /// What the registry said last.
    pub record: Option<VersionStatus>,
    /// What should run; of several services that differ the newest.
    pub target: Option<VersionStatus>,
    /// Whether a notification waits for the registry.
    pub pending: bool,
    /// What keeps the track from being looked at, or the registry from being asked, while something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What is thought of its digests.
    pub verdicts: Vec<VerdictStatus>,
    /// The containers that run it. Those that are left alone are seen on their own node only.
    pub containers: Vec<ContainerStatus>,
}

/// One entry of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionStatus {
    /// Its place.
    pub seq: u64,
    /// The registry's digest.
    pub digest: String,
    /// Why the registry was asked.
    pub source: String,
    /// Unix seconds.
    pub at: i64,
    /// Whether a person took it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

/// One opinion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictStatus {
    /// The service that it holds for.
    pub service: String,
    /// The registry's digest.
    pub digest: String,
    /// `good` or `bad`.
    pub verdict: String,
    /// What was seen.
    pub reason: String,
    /// The node that saw it.
    pub node: String,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// The node it is on.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Its ID.
    pub id: String,
    /// The ID of its image.
    pub image_id: String,
    /// The registry's digest of its image, if it has one.
    pub digest: Option<String>,
    /// `current`, `stale`, `pulling`, `waiting`, `replacing`, `failed_here`, `held_back` or `unmanaged`; `unknown` where
    /// nothing is heard of its node.
    pub state: String,
    /// Why, for people.
    pub reason: String,
    /// The row of the decision, and what follows from it; empty for a container of another node.
    pub row: String,
    /// What keeps every version from it as it is now; in the plan alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The service that it is an instance of.
    pub service: String,
}

/// A slot that is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimStatus {
    /// `SCOPE/SLOT`, as `unlock` takes it.
    pub slot: String,
    /// Who holds it.
    pub node: String,
    /// The container being replaced.
    pub container: String,
    /// The track being deployed.
    pub image: String,
    /// `acquired`, `stopping`, or [`UNREADABLE`].
    pub phase: String,
    /// Unix seconds of the claim.
    pub at: i64,
}

/// Reads everything anew.
///
/// # Errors
/// [`LookError`] if the engine or the store does not answer.
pub async fn status(world: &World) -> Result<Status, LookError> {
    let survey = Survey::of(world).await?;
    let elsewhere = Elsewhere::read(world).await?;
    let mut all: BTreeSet<Track> = survey.tracks(world).into_keys().collect();
    all.extend(elsewhere.tracks().cloned());
    let mut tracks = Vec::new();
    for track in &all {
        let view = TrackView::of(world, &survey, track, Answer::NotAsked).await?;
        let verdicts = verdicts_of(world, &view).await?;
        tracks.push(track_status(world, &survey, &elsewhere, &view, &verdicts));
    }
    tracks.extend(here::pinned(world, &survey));
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: world.settings.node.clone(),
        paused: world.store.get(&world.keys.pause()).await?.is_some(),
        troubles: troubles(world).await?,
        nodes: elsewhere.nodes(),
        tracks,
        claims: elsewhere.claims(),
    })
}

/// What concerns more than one track: the store away, a look at everything that fails, values that make no sense.
async fn troubles(world: &World) -> Result<Vec<String>, LookError> {
    let store = world.presence.borrow().trouble.clone();
    let fault = world.memory().looks.fault(&None);
    Ok(store.into_iter().chain(fault).chain(ledger::nonsense(world).await?).collect())
}

/// Reads what became of each version of a track.
///
/// # Errors
/// [`LookError`] if the store does not answer.
pub async fn history(world: &World, track: &Track) -> Result<History, LookError> {
    let ledger = Ledger::read(world, track).await?;
    let verdicts = verdicts_everywhere(world, track).await?;
    let record = ledger.record.as_ref().map(|record| &record.value);
    let versions = record.map(Record::history).unwrap_or_default();
    Ok(History {
        image: track.to_string(),
        target: record.and_then(|record| newest_target(record, &verdicts)).map(|target| target.seq),
        versions: versions.iter().map(version_status).collect(),
        verdicts: verdict_lines(&verdicts, record),
    })
}

/// The verdicts by service, of those that only stopped containers of this node are instances of, too.
async fn verdicts_of(world: &World, view: &TrackView) -> Result<BTreeMap<String, Verdicts>, LookError> {
    let mut verdicts = verdicts_everywhere(world, &view.track).await?;
    for decision in &view.decisions {
        verdicts.entry(decision.service.clone()).or_insert_with(|| decision.verdicts.clone());
    }
    Ok(verdicts)
}

fn track_status(
    world: &World,
    survey: &Survey,
    elsewhere: &Elsewhere,
    view: &TrackView,
    verdicts: &BTreeMap<String, Verdicts>,
) -> TrackStatus {
    let record = view.ledger.record.as_ref().map(|record| &record.value);
    let target = record.and_then(|record| newest_target(record, verdicts));
    let targets = record.map(|record| targets(record, verdicts)).unwrap_or_default();
    let mut containers = here::containers(world, survey, view);
    containers.extend(elsewhere.containers(world, &view.track, &targets));
    containers.sort_by(|a, b| (&a.node, &a.name).cmp(&(&b.node, &b.name)));
    TrackStatus {
        image: view.track.to_string(),
        record: record.and_then(Record::newest).map(version_status),
        target: target.map(version_status),
        pending: view.ledger.pending.is_some(),
        trouble: trouble(world, elsewhere, view),
        verdicts: verdict_lines(verdicts, record),
        containers,
    }
}

/// Why the registry gives no answer of use: what this node met in its turn, or, while nobody has it, what others met.
fn trouble(world: &World, elsewhere: &Elsewhere, view: &TrackView) -> Option<String> {
    let ledger = &view.ledger;
    let pending = ledger.pending_revision();
    let here = ledger.wait(world, &view.track).map(|wait| wait.reason);
    let fault = world.memory().looks.fault(&Some(view.track.clone()));
    let is_stuck =
        ledger.resolver.is_none() && is_stuck(ledger.setbacks.iter(), elsewhere.nodes_of(&view.track), pending);
    let others = ledger.setbacks.iter().filter(|setback| is_stuck && setback.is_of(pending));
    let others = others.max_by_key(|setback| setback.failures);
    let here = here.filter(|_| is_stuck || ledger.is_asking(world));
    fault.or(here).or_else(|| others.map(|setback| format!("{}: {}", setback.node, setback.reason)))
}

fn version_status(version: &Version) -> VersionStatus {
    let source = serde_json::to_value(version.source).ok().and_then(|word| Some(word.as_str()?.to_owned()));
    VersionStatus {
        seq: version.seq,
        digest: version.digest.to_string(),
        source: source.unwrap_or_default(),
        at: version.at,
        withdrawn: version.withdrawn,
    }
}

fn verdict_lines(verdicts: &BTreeMap<String, Verdicts>, record: Option<&Record>) -> Vec<VerdictStatus> {
    let is_known = |digest: &Digest| record.is_some_and(|record| record.history().iter().any(|v| v.digest == *digest));
    let mut lines = Vec::new();
    for (service, verdicts) in verdicts {
        for (digest, verdict) in verdicts.0.iter().filter(|(digest, _)| is_known(digest)) {
            lines.push(VerdictStatus {
                service: service.clone(),
                digest: digest.to_string(),
                verdict: if verdict.verdict == Opinion::Good { "good" } else { "bad" }.to_owned(),
                reason: verdict.reason.clone(),
                node: verdict.node.clone(),
            });
        }
    }
    lines
}

#[cfg(test)]
mod tests;
