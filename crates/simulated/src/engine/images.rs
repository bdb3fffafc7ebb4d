//! Images of a simulated engine: names to IDs, and what goes when nobody names or uses it.

use std::collections::BTreeSet;

use deployer_core::image::{Digest, ImageRef, Track};
use deployer_engine::{EngineError, ImageSummary};
use serde_json::{Map, Value, json};

use super::containers::{State, conflict, not_found};

/// Why an image is not brought here.
pub enum PullRefusal {
    Unreachable,
    Absent,
    Full,
}

/// What an engine does not tell of its images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    /// That it has these.
    pub digests: BTreeSet<Digest>,
    /// Whether a registry knows what has a tag: as with containerd's image store, where a build has a digest, too.
    pub origins: bool,
}

impl State {
    /// The ID of an image by ID or name.
    pub fn image_of(&self, reference: &str) -> Option<String> {
        self.names.get(reference).or_else(|| self.images.get(reference)).cloned()
    }

    /// Every image with a name.
    pub fn list_images(&self) -> Vec<ImageSummary> {
        let ids: BTreeSet<&String> = self.names.values().collect();
        ids.into_iter().map(|id| self.summary(id)).collect()
    }

    /// An image with its names.
    pub fn summary(&self, id: &str) -> ImageSummary {
        let names = self.names.iter().filter(|(_, image)| *image == id).map(|(name, _)| name.as_str());
        let mut image = ImageSummary::named(id, names);
        image.digests.values_mut().for_each(|digests| digests.retain(|digest| !self.untold.digests.contains(digest)));
        if self.untold.origins {
            image.unverified = image.tags.iter().map(|tag| tag.name().clone()).collect();
        }
        image
    }

    /// The raw inspection of an image.
    pub fn inspect_image(&self, id: &str) -> Value {
        let exposed = self.registry.exposed(id).into_iter().map(|port| (format!("{port}/tcp"), json!({})));
        let config = json!({"ExposedPorts": exposed.collect::<Map<_, _>>()});
        json!({"Id": id, "Os": "linux", "Architecture": self.registry.architecture(id), "Config": config})
    }

    /// Brings an image here, under the name of its digest.
    pub fn pull(&mut self, image: &ImageRef) -> Result<(), PullRefusal> {
        let name = image.name.familiar();
        if !self.registry.is_reached_by(&self.host) {
            return Err(PullRefusal::Unreachable);
        }
        let digest = image.digest.clone().ok_or(PullRefusal::Absent)?;
        if self.is_full {
            return Err(PullRefusal::Full);
        }
        self.bring(&name, &digest).ok_or(PullRefusal::Absent)?;
        self.tell_of_image(&format!("{name}@{digest}"), "pull", &name);
        Ok(())
    }

    /// Brings what is behind a digest here, under the name of that.
    pub fn bring(&mut self, name: &str, digest: &Digest) -> Option<String> {
        let id = self.registry.image_id(digest)?;
        self.images.insert(id.clone());
        self.names.insert(format!("{name}@{digest}"), id.clone());
        Some(id)
    }

    /// What `docker pull` of a tag does: brings what the tag points to here, and the tag with it.
    pub fn pull_tag(&mut self, track: &Track) -> Option<()> {
        let digest = self.registry.tag(track)?;
        let id = self.bring(&track.name().familiar(), &digest)?;
        self.names.insert(track.familiar(), id);
        self.tell_of_image(&track.familiar(), "pull", &track.name().familiar());
        Some(())
    }

    /// Points a tag to an image. The image that it pointed to goes without a word.
    pub fn tag(&mut self, image_id: &str, name: &str) -> Result<(), EngineError> {
        let id = self.image_of(image_id).ok_or_else(|| not_found(&format!("image {image_id}")))?;
        self.names.insert(name.to_owned(), id.clone());
        self.tell_of_image(&id, "tag", name);
        Ok(())
    }

    /// Takes a name off an image, and the image away with its last, unless a container uses it.
    pub fn untag(&mut self, reference: &str) -> Result<(), EngineError> {
        let Some(id) = self.names.get(reference).cloned() else { return Ok(()) };
        let is_last = self.names.values().filter(|named| **named == id).count() == 1;
        if is_last && self.is_used(&id) {
            return Err(conflict(&format!("untag {reference}"), "a container is using its referenced image"));
        }
        self.names.remove(reference);
        self.tell_of_image(&id, "untag", &id);
        if is_last {
            self.images.remove(&id);
            self.tell_of_image(&id, "delete", &id);
        }
        Ok(())
    }

    fn is_used(&self, id: &str) -> bool {
        self.containers.values().any(|container| container.image == id)
    }

    /// What `docker image prune` does: images that no tag names and no container uses go; with `-a`, those with tags, too.
    pub fn prune_images(&mut self, with_tags: bool) {
        let is_tagged = |id: &String| self.names.iter().any(|(name, named)| named == id && !name.contains('@'));
        let idle = self.images.iter().filter(|id| !self.is_used(id) && (with_tags || !is_tagged(id)));
        for id in idle.cloned().collect::<Vec<_>>() {
            self.names.retain(|_, named| *named != id);
            self.images.remove(&id);
            self.tell_of_image(&id, "untag", &id);
            self.tell_of_image(&id, "delete", &id);
        }
    }
}
