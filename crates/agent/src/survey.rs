//! The engine's mirror as the stages read it: containers with the track they run, and images with their digests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deployer_core::image::{Digest, Track};
use deployer_core::policy::{ADOPTED, LabelError, Policy};
use deployer_core::replacement::is_transitional;
use deployer_engine::mirror::{Container, Health};
use deployer_engine::{EngineError, ImageSummary};

use crate::tags::Tags;
use crate::world::World;

/// A container, and what its labels say.
#[derive(Clone)]
pub struct Surveyed {
    /// What the mirror has of it.
    pub summary: Arc<Container>,
    /// What its labels say.
    pub policy: Result<Policy, LabelError>,
    /// Whether its process has been seen to answer, or has had its time to.
    is_settled: bool,
}

impl Surveyed {
    /// The track it runs; `None` if it is pinned.
    pub fn track(&self) -> Option<Track> {
        Track::of_container(&self.summary.config_image).ok()
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

    /// Whether others may count on it: it runs, its process has settled, and its HEALTHCHECK has passed, if it has one.
    pub fn is_up(&self) -> bool {
        !self.is_down() && self.is_settled && self.summary.health != Some(Health::Starting)
    }

    /// Whether nothing is lost with it: it does not run, or is unhealthy. One that has just been started is neither up nor
    /// down: nobody counts on it, and nobody may take it for one that does not serve.
    pub fn is_down(&self) -> bool {
        self.summary.state != "running" || self.summary.health == Some(Health::Unhealthy)
    }

    /// Whether it is meant to run: exited, created and paused containers are left as they are.
    pub fn is_meant_to_run(&self) -> bool {
        matches!(self.summary.state.as_str(), "running" | "restarting")
    }
}

/// Everything on this machine at one moment.
pub struct Survey {
    /// All containers but those in the middle of a replacement, by name.
    pub containers: Vec<Surveyed>,
    /// Those in the middle of a replacement, or left by one.
    pub unfinished: Vec<Arc<Container>>,
    /// All images.
    pub images: Vec<Arc<ImageSummary>>,
    /// What each track's tag named here when this node last saw or set it, before these images were looked at: what it set
    /// since is not in them.
    known_tags: Tags,
}

impl Survey {
    /// What is here now, after everything that this node has done itself. Asks the engine for nothing else.
    ///
    /// # Errors
    /// [`EngineError`] if the engine is not heard.
    pub async fn of(world: &World) -> Result<Self, EngineError> {
        let known_tags = world.memory().tags.clone();
        let snapshot = world.engine_mirror.current().await?;
        let (unfinished, lasting): (Vec<_>, Vec<_>) =
            snapshot.containers.values().cloned().partition(|container| is_transitional(&container.name));
        let memory = world.memory();
        let containers = lasting.into_iter().map(|summary| Surveyed {
            policy: Policy::of_labels(&summary.labels),
            is_settled: memory.settled.has(&summary),
            summary,
        });
        let mut containers: Vec<Surveyed> = containers.collect();
        drop(memory);
        containers.sort_by(|a, b| a.summary.name.cmp(&b.summary.name));
        Ok(Self { containers, unfinished, images: snapshot.images.values().cloned().collect(), known_tags })
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
        self.images.iter().map(Arc::as_ref).find(|image| image.is_at(track.name(), digest))
    }

    /// The local image that a track's tag names.
    pub fn image_under(&self, track: &Track) -> Option<&ImageSummary> {
        self.images.iter().map(Arc::as_ref).find(|image| image.tags.contains(track))
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
        let is_acting = memory.replacing.is_acting_on(track);
        let is_other = |tags: &Tags| tags.is_other(track, id.as_ref());
        !is_acting && is_other(&self.known_tags) && is_other(&memory.tags)
    }

    /// Takes a track's tag as it is seen here, unless this node has set it since.
    pub fn accept_tag(&self, world: &World, track: &Track) {
        let id = self.image_under(track).map(|image| image.id.clone());
        world.memory().tags.accept(track, id, &self.known_tags);
    }

    /// The digests of a local image in a track's repository.
    pub fn digests_of(&self, track: &Track, image_id: &str) -> Vec<Digest> {
        let image = self.images.iter().find(|image| image.id == image_id);
        let digests = image.and_then(|image| image.digests.get(track.name()));
        digests.into_iter().flatten().cloned().collect()
    }
}
