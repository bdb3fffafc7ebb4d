//! What the daemon knows, in the form that `status` and `plan` print and programs read.

use deployer_core::plan::{Answer, Known, LocalTag, Naming, Obstacle, Ownership, Situation, Target, Trigger, decide};
use deployer_core::record::{Opinion, Record, Version};
use deployer_core::slot::{Claim, ClaimPhase};
use serde::{Deserialize, Serialize};

use crate::ledger::{Read, decode};
use crate::situation::{Decision, TrackView};
use crate::survey::{Survey, Surveyed};
use crate::update::LookError;
use crate::world::World;

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
    /// What runs here, by track.
    pub tracks: Vec<TrackStatus>,
    /// Slots that are taken.
    pub claims: Vec<ClaimStatus>,
}

/// One track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackStatus {
    /// The image with its tag.
    pub image: String,
    /// What the registry said last.
    pub record: Option<VersionStatus>,
    /// What should run.
    pub target: Option<VersionStatus>,
    /// Whether a notification waits for the registry.
    pub pending: bool,
    /// What the registry's last refusal was, while it refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What is thought of its digests.
    pub verdicts: Vec<VerdictStatus>,
    /// The containers that run it here.
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
    /// `current`, `stale`, `pulling`, `waiting`, `replacing`, `failed_here`, `held_back` or `unmanaged`.
    pub state: String,
    /// Why, for people.
    pub reason: String,
    /// The row of the decision, and what follows from it.
    pub row: String,
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
    /// `acquired` or `stopping`.
    pub phase: String,
    /// Unix seconds of the claim.
    pub at: i64,
}

/// Reads everything anew.
///
/// # Errors
/// [`LookError`] if the engine or the store does not answer.
pub async fn status(world: &World) -> Result<Status, LookError> {
    let survey = Survey::take(world).await?;
    let mut tracks = Vec::new();
    let mut is_paused = false;
    for track in survey.tracks(world).into_keys() {
        let view = TrackView::of(world, &survey, &track, Answer::NotAsked).await?;
        is_paused |= view.ledger.is_paused;
        tracks.push(track_status(world, &survey, &view));
    }
    tracks.extend(pinned(world, &survey));
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: world.settings.node.clone(),
        paused: is_paused,
        tracks,
        claims: claims(world).await?,
    })
}

fn track_status(world: &World, survey: &Survey, view: &TrackView) -> TrackStatus {
    let record = view.ledger.record.as_ref().map(|record| &record.value);
    let target = view.decisions.iter().find_map(|decision| decision.target.as_ref());
    let retry = world.memory().asked.get(&view.track).cloned();
    TrackStatus {
        image: view.track.to_string(),
        record: record.and_then(Record::newest).map(version_status),
        target: target.map(version_status),
        pending: view.ledger.pending.is_some(),
        trouble: retry.map(|retry| retry.reason),
        verdicts: verdicts(view, record),
        containers: view.decisions.iter().map(|decision| container_status(world, survey, view, decision)).collect(),
    }
}

/// Containers that are opted in and name no tag. They have no track, and whoever opted them in should see why nothing
/// happens: each image stands in the place of one.
fn pinned(world: &World, survey: &Survey) -> Vec<TrackStatus> {
    let row = decide(&Situation {
        naming: Naming::Pinned,
        ownership: Ownership::Managed,
        local_tag: LocalTag::Known,
        trigger: Trigger::None,
        answer: Answer::NotAsked,
        known: Known::No,
        target: Target::None,
        obstacle: Obstacle::None,
    });
    let mut tracks: Vec<TrackStatus> = Vec::new();
    let is_pinned = |container: &&Surveyed| {
        world.settings.manage.includes(&container.summary.labels) && container.track().is_none()
    };
    for container in survey.containers.iter().filter(is_pinned) {
        let line = ContainerStatus {
            node: world.settings.node.clone(),
            name: container.summary.name.clone(),
            id: container.summary.id.clone(),
            image_id: container.summary.image_id.clone(),
            digest: None,
            state: "unmanaged".to_owned(),
            reason: row.state.to_owned(),
            row: format!("{}: {}", row.name, row.consequence),
            service: String::new(),
        };
        match tracks.iter_mut().find(|track| track.image == container.config_image) {
            Some(track) => track.containers.push(line),
            None => tracks.push(TrackStatus {
                image: container.config_image.clone(),
                record: None,
                target: None,
                pending: false,
                trouble: None,
                verdicts: Vec::new(),
                containers: vec![line],
            }),
        }
    }
    tracks
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

fn verdicts(view: &TrackView, record: Option<&Record>) -> Vec<VerdictStatus> {
    let mut all = Vec::new();
    for decision in &view.decisions {
        for (digest, verdict) in &decision.verdicts.0 {
            let is_of_track = record.is_some_and(|record| record.history().iter().any(|v| v.digest == *digest));
            let word = if verdict.verdict == Opinion::Good { "good" } else { "bad" };
            let line = VerdictStatus {
                service: decision.service.clone(),
                digest: digest.to_string(),
                verdict: word.to_owned(),
                reason: verdict.reason.clone(),
                node: verdict.node.clone(),
            };
            if is_of_track && !all.contains(&line) {
                all.push(line);
            }
        }
    }
    all
}

fn container_status(world: &World, survey: &Survey, view: &TrackView, decision: &Decision) -> ContainerStatus {
    let summary = &decision.container.summary;
    let doing = world.memory().replacing.get(&summary.name).cloned();
    let (state, reason) = match doing {
        Some(doing) if doing.starts_with("waiting for") => ("waiting", doing),
        Some(doing) => ("replacing", doing),
        None => state_of(world, view, decision),
    };
    ContainerStatus {
        node: world.settings.node.clone(),
        name: summary.name.clone(),
        id: summary.id.clone(),
        image_id: summary.image_id.clone(),
        digest: survey.digests_of(&view.track, &summary.image_id).first().map(ToString::to_string),
        state: state.to_owned(),
        reason,
        row: format!("{}: {}", decision.row.name, decision.row.consequence),
        service: decision.service.clone(),
    }
}

/// How a container is, in a word, while nothing is being done to it, and why.
pub fn state_of(world: &World, view: &TrackView, decision: &Decision) -> (&'static str, String) {
    let is_target = decision.target_image.as_ref() == Some(&decision.container.summary.image_id);
    let because = || if decision.note.is_empty() { decision.row.state.to_owned() } else { decision.note.clone() };
    match decision.row.name {
        "pinned" | "not_managed" | "foreign" => ("unmanaged", because()),
        "refused" | "local_build" | "no_version" | "halted" => ("held_back", because()),
        "failed_here" => ("failed_here", because()),
        "unavailable" if decision.trouble(world, &view.track).is_some() => ("failed_here", because()),
        "absent" | "unavailable" => ("pulling", because()),
        "nothing_to_do" if is_target && decision.note.is_empty() => ("current", String::new()),
        "nothing_to_do" => ("held_back", because()),
        "hook" | "first_sight" | "moved_by_hand" | "check" if is_target => ("current", because()),
        _ => ("stale", because()),
    }
}

async fn claims(world: &World) -> Result<Vec<ClaimStatus>, LookError> {
    let (entries, _) = world.store.list(&world.keys.locks()).await?;
    let mut claims = Vec::new();
    for entry in entries {
        let Some((scope, slot)) = world.keys.slot_of(&entry.key) else { continue };
        let claim: Read<Claim> = decode(entry)?;
        claims.push(ClaimStatus {
            slot: format!("{scope}/{slot}"),
            node: claim.value.node,
            container: claim.value.container,
            image: claim.value.image.to_string(),
            phase: if claim.value.phase == ClaimPhase::Stopping { "stopping" } else { "acquired" }.to_owned(),
            at: claim.value.at,
        });
    }
    Ok(claims)
}
