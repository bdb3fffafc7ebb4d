//! One look at the engine: containers with the track they run, and images with their digests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deployer_core::image::{Digest, Track};
use deployer_core::ownership::{Owner, owner};
use deployer_core::policy::{ADOPTED, LabelError, Policy};
use deployer_core::replacement::is_transitional;
use deployer_engine::{ContainerSummary, EngineError, ImageSummary};
use serde_json::Value;

use crate::supervision::Supervisors;
use crate::world::World;

/// A container, and what its inspection says that never changes.
#[derive(Clone)]
pub struct Surveyed {
    /// The line of the list.
    pub summary: ContainerSummary,
    /// `Config.Image`: what the user asked for, unlike the list's image, which turns into an ID as tags move.
    pub config_image: String,
    /// The raw inspection as it was when the container was first seen: settings, not state.
    pub inspection: Arc<Value>,
    /// Whose it is.
    pub owner: Owner,
    /// What its labels say.
    pub policy: Result<Policy, LabelError>,
}

impl Surveyed {
    /// The track it runs; `None` if it is pinned.
    pub fn track(&self) -> Option<Track> {
        Track::of_container(&self.config_image).ok()
    }

    /// The service that it is an instance of.
    pub fn service(&self, track: &Track) -> String {
        let named = self.policy.as_ref().ok().and_then(|policy| policy.service.clone());
        named.unwrap_or_else(|| track.to_string())
    }

    /// What was adopted from the first of its predecessors, if it was made by a replacement of that.
    pub fn adopted(&self) -> Option<Digest> {
        Digest::parse(self.summary.labels.get(ADOPTED)?).ok()
    }

    /// Whether it runs and is not unhealthy.
    pub fn is_up(&self) -> bool {
        self.summary.state == "running" && !self.summary.status.contains("unhealthy")
    }

    /// Whether it is meant to run: exited, created and paused containers are left as they are.
    pub fn is_meant_to_run(&self) -> bool {
        matches!(self.summary.state.as_str(), "running" | "restarting")
    }
}

/// Everything on this machine at one moment.
pub struct Survey {
    /// All containers but those in the middle of a replacement.
    pub containers: Vec<Surveyed>,
    /// Those in the middle of a replacement, or left by one.
    pub unfinished: Vec<ContainerSummary>,
    /// All images with a name.
    pub images: Vec<ImageSummary>,
    /// What each track's tag named here when this node last saw or set it, before these images were listed: what it set
    /// since is not in them.
    known_tags: BTreeMap<Track, Option<String>>,
}

impl Survey {
    /// Lists the engine, and inspects containers that were never seen before.
    ///
    /// # Errors
    /// [`EngineError`] if a list cannot be had. A container that goes away meanwhile is left out.
    pub async fn take(world: &World) -> Result<Self, EngineError> {
        let known_tags = world.memory().local_tags.clone();
        let (listed, images) = tokio::try_join!(world.engine.containers(), world.engine.images())?;
        let mut containers = Vec::new();
        let mut supervisors = None;
        let (unfinished, listed): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|summary| is_transitional(&summary.name));
        for summary in listed {
            match inspection(world, &summary.id).await {
                Ok(inspection) => {
                    let owner = whose(world, &inspection, &mut supervisors);
                    containers.push(surveyed(summary, inspection, owner));
                }
                Err(EngineError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let present: BTreeSet<&str> = containers.iter().map(|container| container.summary.id.as_str()).collect();
        let mut memory = world.memory();
        memory.inspections.retain(|id, _| present.contains(id.as_str()));
        memory.owners.retain(|id, _| present.contains(id.as_str()));
        drop(memory);
        Ok(Self { containers, unfinished, images, known_tags })
    }

    /// The container of a name.
    pub fn named(&self, name: &str) -> Option<&Surveyed> {
        self.containers.iter().find(|container| container.summary.name == name)
    }

    /// The managed containers that run a track.
    pub fn running<'a>(&'a self, world: &'a World, track: &'a Track) -> impl Iterator<Item = &'a Surveyed> {
        self.containers
            .iter()
            .filter(|container| world.settings.manage.includes(&container.summary.labels))
            .filter(move |container| container.track().as_ref() == Some(track))
    }

    /// The tracks that managed containers run, each with its services.
    pub fn tracks(&self, world: &World) -> BTreeMap<Track, BTreeSet<String>> {
        let mut tracks: BTreeMap<Track, BTreeSet<String>> = BTreeMap::new();
        for container in self.containers.iter().filter(|c| world.settings.manage.includes(&c.summary.labels)) {
            if let Some(track) = container.track() {
                tracks.entry(track.clone()).or_default().insert(container.service(&track));
            }
        }
        tracks
    }

    /// The local image of a track's repository with a digest.
    pub fn image_at(&self, track: &Track, digest: &Digest) -> Option<&ImageSummary> {
        self.images.iter().find(|image| image.is_at(track.name(), digest))
    }

    /// The local image that a track's tag names.
    pub fn image_under(&self, track: &Track) -> Option<&ImageSummary> {
        self.images.iter().find(|image| image.tags.contains(track))
    }

    /// The digest of the image that a track's tag names, if the engine does not tell whether the registry has it.
    pub fn unverified(&self, track: &Track) -> Option<&Digest> {
        let image = self.image_under(track).filter(|image| image.unverified.contains(track.name()))?;
        image.digests.get(track.name())?.first()
    }

    /// Whether somebody else than this node has moved a track's tag here. While a replacement of the track acts nobody can
    /// tell: its own hand may be between the engine and the memory.
    pub fn is_tag_moved(&self, world: &World, track: &Track) -> bool {
        let id = self.image_under(track).map(|image| image.id.clone());
        let memory = world.memory();
        let is_acting = memory.on_slot.is_some() && memory.transitions.values().any(|t| t.track == *track);
        let is_other = |known: Option<&Option<String>>| known.is_some_and(|known| *known != id);
        !is_acting && is_other(self.known_tags.get(track)) && is_other(memory.local_tags.get(track))
    }

    /// Takes a track's tag as it is seen here, unless this node has set it since.
    pub fn accept_tag(&self, world: &World, track: &Track) {
        let id = self.image_under(track).map(|image| image.id.clone());
        let mut memory = world.memory();
        if memory.local_tags.get(track) == self.known_tags.get(track) {
            memory.local_tags.insert(track.clone(), id);
        }
    }

    /// The digests of a local image in a track's repository.
    pub fn digests_of(&self, track: &Track, image_id: &str) -> Vec<Digest> {
        let image = self.images.iter().find(|image| image.id == image_id);
        let digests = image.and_then(|image| image.digests.get(track.name()));
        digests.into_iter().flatten().cloned().collect()
    }
}

async fn inspection(world: &World, id: &str) -> Result<Arc<Value>, EngineError> {
    let known = world.memory().inspections.get(id).cloned();
    if let Some(known) = known {
        return Ok(known);
    }
    let inspection = Arc::new(world.engine.container(id).await?);
    world.memory().inspections.insert(id.to_owned(), Arc::clone(&inspection));
    Ok(inspection)
}

/// Whose a container is. The machine is looked at once a survey, and only for a container that is new or had a
/// supervisor, which can end; one that comes later is found by the look before a replacement.
fn whose(world: &World, inspection: &Value, supervisors: &mut Option<Supervisors>) -> Owner {
    let id = inspection.get("Id").and_then(Value::as_str).unwrap_or_default();
    let known = world.memory().owners.get(id).cloned();
    if let Some(known) = known.filter(|known| !matches!(known, Owner::Supervisor { .. })) {
        return known;
    }
    let supervision = supervisors.get_or_insert_with(|| Supervisors::look(&world.settings.root)).of(inspection);
    let owner = owner(inspection, &supervision);
    world.memory().owners.insert(id.to_owned(), owner.clone());
    owner
}

fn surveyed(summary: ContainerSummary, inspection: Arc<Value>, owner: Owner) -> Surveyed {
    let config_image = inspection.pointer("/Config/Image").and_then(Value::as_str).unwrap_or_default().to_owned();
    let policy = Policy::of_labels(&summary.labels);
    Surveyed { owner, policy, config_image, inspection, summary }
}
