//! What of a container its successor takes over, or why it cannot: known before anything stops, and before any push.

use std::collections::BTreeMap;
use std::time::Duration;

use deployer_core::gate::Ports;
use deployer_core::ownership::owner;
use deployer_core::policy::{LONGEST, Policy};
use deployer_core::replacement::transitional;
use deployer_core::successor::{Input, Neighbour, Refusal, Successor, UserFields, successor};
use deployer_core::trouble::Trouble;
use deployer_engine::if_found;
use deployer_engine::mirror::Container;
use serde_json::Value;

use super::prefetch::PrefetchError;
use super::{baseline, lacking};
use crate::pull::platform_mismatch;
use crate::supervision::Supervisors;
use crate::survey::{Survey, Surveyed};
use crate::world::World;

/// The engine's grace where neither the container nor a label gives one.
const GRACE: Duration = Duration::from_secs(10);

/// What was found of a container that can be replaced.
pub struct Carried {
    /// Its raw inspection.
    pub container: Value,
    /// The raw inspection of the image that its successor is made of.
    pub new_image: Value,
    /// What its labels say.
    pub policy: Policy,
    /// How long it may take to stop.
    pub grace: Duration,
    /// How its successor is made.
    pub successor: Successor,
}

/// Finds out how a container would be made of another image, with these labels added.
pub async fn carry_over(
    world: &World,
    survey: &Survey,
    supervisors: &Supervisors,
    seen: &Surveyed,
    new_image: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Carried, PrefetchError> {
    let summary = &seen.summary;
    // Side by side: an old version runs meanwhile.
    let (container, new_image, old_image, changes, api) = tokio::join!(
        world.engine.container(&summary.id),
        world.engine.image(new_image),
        world.engine.image(&summary.image_id),
        world.engine.changes(&summary.id),
        world.engine.api(),
    );
    let (container, new_image, api) = (container?, new_image?, api?);
    let changes = changes.map_err(PrefetchError::Files)?;
    let old_image = if_found(old_image)?;
    if let Some(mismatch) = platform_mismatch(&new_image, old_image.as_ref()) {
        return Err(PrefetchError::Platform(mismatch));
    }
    let own = old_image.as_ref().map(|image| UserFields::alone(&container, image).0);
    let owner = owner(own.as_ref().unwrap_or(&container), &supervisors.of(&container));
    if let Some(reason) = owner.reason() {
        world.engine_mirror.found_owner(&summary.id, owner);
        return Err(PrefetchError::Foreign(reason));
    }
    if !api.shows_all_settings {
        return Err(Refusal::SettingsHidden.into());
    }
    let policy = seen.policy.clone()?;
    let grace = policy.stop_timeout.map_or_else(|| grace_of(&container), Ok)?;
    if !policy.discards_files {
        lacking::refuse_injected_files(world, &container, old_image.as_ref(), &changes).await?;
    }
    let remembered = UserFields::remembered(&container, old_image.as_ref());
    let others = survey.containers.iter().map(|other| &other.summary).chain(&survey.unfinished);
    let neighbours: Vec<Neighbour> = others.map(|other| neighbour(other)).collect();
    let successor = successor(Input {
        container: &container,
        old_image: old_image.as_ref(),
        new_image: &new_image,
        image: &summary.config_image,
        neighbours: &neighbours,
        remembered: remembered.as_ref(),
        api: api.version,
        labels,
    })?;
    lacking::everything_exists(world, &container, &successor).await?;
    Ok(Carried { container, new_image, policy, grace, successor })
}

fn neighbour(other: &Container) -> Neighbour<'_> {
    // An engine lets others in where the processes are only held still.
    let is_running = matches!(other.state.as_str(), "running" | "paused");
    // Between two names it is still the one of its own.
    let name = transitional(&other.name).map_or(other.name.as_str(), |(name, _)| name);
    Neighbour { id: &other.id, name, is_running, uses: &other.leans_on }
}

/// Why no version can take a container's place as that is now; asked with its own image for the new one. `None`: nothing is
/// known that would keep one out. An engine that does not answer is no reason.
pub async fn refusal(world: &World, survey: &Survey, supervisors: &Supervisors, seen: &Surveyed) -> Option<String> {
    match look_ahead(world, survey, supervisors, seen).await.err()?.trouble() {
        Trouble::Refused(reason) => Some(reason),
        _ => None,
    }
}

async fn look_ahead(
    world: &World,
    survey: &Survey,
    supervisors: &Supervisors,
    seen: &Surveyed,
) -> Result<(), PrefetchError> {
    let own_image = &seen.summary.image_id;
    let carried = carry_over(world, survey, supervisors, seen, own_image, &BTreeMap::new()).await?;
    let Carried { container, new_image, policy, successor, .. } = carried;
    let ports = Ports::of_candidate(&successor.body, &new_image);
    let required = baseline::ports(world, &container, &ports, &policy.tcp, seen.is_meant_to_run()).await;
    baseline::http_check(world, &container, policy.http, &required, &ports.known).await.map(drop)
}

/// The grace of the container's stop, if it ends within an hour.
fn grace_of(container: &Value) -> Result<Duration, PrefetchError> {
    let Some(seconds) = container.pointer("/Config/StopTimeout").and_then(Value::as_i64) else { return Ok(GRACE) };
    let grace = u64::try_from(seconds).ok().map(Duration::from_secs);
    grace.filter(|grace| *grace <= LONGEST).ok_or(PrefetchError::LongStop { seconds })
}
