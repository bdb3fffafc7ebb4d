//! This node's own containers, as the engine and the decision have them.

use deployer_agent::situation::{Decision, TrackView, state_of};
use deployer_agent::survey::{Survey, Surveyed};
use deployer_agent::world::World;
use deployer_core::plan::{Answer, Known, LocalTag, Naming, Obstacle, Ownership, Situation, Target, Trigger, decide};

use super::{ContainerStatus, TrackStatus};

/// The containers of a track.
pub fn containers(world: &World, survey: &Survey, view: &TrackView) -> Vec<ContainerStatus> {
    view.decisions.iter().map(|decision| container(world, survey, view, decision)).collect()
}

/// Containers that are opted in and name no tag. They have no track, and whoever opted them in should see why nothing
/// happens: each image stands in the place of one.
pub fn pinned(world: &World, survey: &Survey) -> Vec<TrackStatus> {
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
            refusal: None,
            service: String::new(),
        };
        match tracks.iter_mut().find(|track| track.image == container.summary.config_image) {
            Some(track) => track.containers.push(line),
            None => tracks.push(TrackStatus {
                image: container.summary.config_image.clone(),
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

fn container(world: &World, survey: &Survey, view: &TrackView, decision: &Decision) -> ContainerStatus {
    let summary = &decision.container.summary;
    let doing = world.memory().replacing.doing(&summary.name);
    let (state, reason) = match doing {
        Some(doing) if doing.starts_with("waiting for") => ("waiting", doing),
        Some(doing) => ("replacing", doing),
        None => how_it_is(world, view, decision),
    };
    ContainerStatus {
        node: world.settings.node.clone(),
        name: summary.name.clone(),
        id: summary.id.clone(),
        image_id: summary.image_id.clone(),
        digest: view.digest_of(survey, decision).map(|digest| digest.to_string()),
        state: state.to_owned(),
        reason,
        row: format!("{}: {}", decision.row.name, decision.row.consequence),
        refusal: None,
        service: decision.service.clone(),
    }
}

/// A container that nothing is being done to. What is on its way to it may take minutes, and shows how far it has come.
fn how_it_is(world: &World, view: &TrackView, decision: &Decision) -> (&'static str, String) {
    let (state, reason) = state_of(decision);
    match world.memory().fetches.progress(&view.track) {
        Some(progress) if state == "pulling" => (state, progress.to_owned()),
        _ => (state, reason),
    }
}
