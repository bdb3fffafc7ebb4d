//! An image on the machine, by all the names that engines give it.

use std::collections::{BTreeMap, BTreeSet};

use deployer_core::image::{Digest, ImageName, ImageRef, Track};

/// An image on the machine, and which images of registries it is. Engines write that down in different ways, so each
/// edge reads its own engine's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSummary {
    /// Image ID (`sha256:…`).
    pub id: String,
    /// The tags that name it.
    pub tags: BTreeSet<Track>,
    /// The digests that it has in registries, by repository; empty for an image built here.
    pub digests: BTreeMap<ImageName, BTreeSet<Digest>>,
    /// The repositories in which it has its digest by a tag alone, on an engine where that is true of an image built
    /// here, too: the registry may not have it.
    pub unverified: BTreeSet<ImageName>,
}

impl ImageSummary {
    /// An image by its names, `name:tag` and `name@digest`, whether short or in full. A text that is neither is passed
    /// over: nothing that runs it has a track.
    pub fn named<'a>(id: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut image = Self { id: id.to_owned(), ..Self::default() };
        for name in names.into_iter().filter_map(|name| ImageRef::parse(name).ok()) {
            match (name.tag, name.digest) {
                (_, Some(digest)) => drop(image.digests.entry(name.name).or_default().insert(digest)),
                (Some(tag), None) => drop(image.tags.insert(Track::new(name.name, tag))),
                (None, None) => {}
            }
        }
        image
    }

    /// Whether it is the image of that digest in a repository.
    pub fn is_at(&self, repository: &ImageName, digest: &Digest) -> bool {
        self.digests.get(repository).is_some_and(|digests| digests.contains(digest))
    }

    /// Whether a reference, an ID or a name with its tag or digest, is to it.
    pub fn is_named(&self, reference: &str) -> bool {
        let named = ImageRef::parse(reference).map(|name| match (name.tag, name.digest) {
            (_, Some(digest)) => self.is_at(&name.name, &digest),
            (tag, None) => tag.is_some_and(|tag| self.tags.contains(&Track::new(name.name, tag))),
        });
        self.id == reference || named.unwrap_or(false)
    }

    /// Whether a tag of a repository names it.
    pub fn is_tagged_in(&self, repository: &ImageName) -> bool {
        self.tags.iter().any(|tag| tag.name() == repository)
    }
}
