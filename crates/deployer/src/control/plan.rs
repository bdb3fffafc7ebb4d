//! What is decided for each container of this machine, and what would keep a version from it whichever comes.

use deployer_agent::look::LookError;
use deployer_agent::restart::refusal;
use deployer_agent::supervision::Supervisors;
use deployer_agent::survey::Survey;
use deployer_agent::world::World;
use futures_util::{StreamExt as _, stream};

use crate::status::{ContainerStatus, TrackStatus, status};

/// Containers that are looked at at once.
const LOOKS_MAX: usize = 8;

/// The tracks of this machine's containers.
///
/// # Errors
/// [`LookError`] if engine or store do not answer.
pub async fn plan(world: &World) -> Result<Vec<TrackStatus>, LookError> {
    let mut status = status(world).await?;
    for track in &mut status.tracks {
        track.containers.retain(|container| container.node == status.node);
    }
    status.tracks.retain(|track| !track.containers.is_empty());
    let (survey, supervisors) = (Survey::of(world).await?, Supervisors::look(&world.settings.root));
    let mut looks = Vec::new();
    for track in &mut status.tracks {
        for container in &mut track.containers {
            looks.push(look_ahead(world, &survey, &supervisors, container));
        }
    }
    stream::iter(looks).buffer_unordered(LOOKS_MAX).collect::<Vec<()>>().await;
    Ok(status.tracks)
}

/// Adds what would keep a version from a container that is looked after.
async fn look_ahead(world: &World, survey: &Survey, supervisors: &Supervisors, container: &mut ContainerStatus) {
    let seen = survey.containers.iter().find(|seen| seen.summary.id == container.id);
    if let Some(seen) = seen.filter(|_| container.state != "unmanaged") {
        container.refusal = refusal(world, survey, supervisors, seen).await;
    }
}
