//! What the mirror shows at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::facts::Container;
use crate::engine::EngineError;
use crate::image::ImageSummary;

/// Whether the engine is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// Nothing has been listed yet.
    NotYet,
    /// Everything was listed, and every event since was heard.
    Heard {
        /// Since when: of events before it some may have been missed.
        since: Instant,
    },
    /// It is not heard: what is shown may be so no longer.
    Lost {
        /// Since when.
        since: Instant,
        /// The cause, for people.
        why: String,
    },
}

/// Everything on the machine, as far as the engine told.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The containers, by ID.
    pub containers: BTreeMap<String, Arc<Container>>,
    /// The images, by ID.
    pub images: BTreeMap<String, Arc<ImageSummary>>,
    /// Whether the engine is heard.
    pub hearing: Hearing,
    /// When the engine last told something: at that moment all of this was true.
    pub true_at: Instant,
}

impl Snapshot {
    /// Nothing, from an engine that was not asked yet.
    pub(super) fn empty() -> Self {
        let (containers, images) = (BTreeMap::new(), BTreeMap::new());
        Self { containers, images, hearing: Hearing::NotYet, true_at: Instant::now() }
    }

    /// Whether what is shown is so.
    ///
    /// # Errors
    /// [`EngineError::NotHeard`] if nobody can tell.
    pub fn is_heard(&self) -> Result<(), EngineError> {
        match &self.hearing {
            Hearing::Heard { .. } => Ok(()),
            Hearing::NotYet => Err(EngineError::NotHeard { why: "it has not been listed yet".to_owned() }),
            Hearing::Lost { why, .. } => Err(EngineError::NotHeard { why: why.clone() }),
        }
    }

    /// Takes a container as it is. Gives back whether that is anything new.
    pub(super) fn take_container(&mut self, container: Container) -> bool {
        let is_known = self.containers.get(&container.id).is_some_and(|known| **known == container);
        if !is_known {
            self.containers.insert(container.id.clone(), Arc::new(container));
        }
        !is_known
    }

    /// Takes the images for all that there are. Gives back whether that is anything new.
    pub(super) fn take_images(&mut self, listed: Vec<ImageSummary>) -> bool {
        let images = listed.into_iter().map(|image| match self.images.get(&image.id) {
            Some(known) if **known == image => (image.id, Arc::clone(known)),
            _ => (image.id.clone(), Arc::new(image)),
        });
        let images: BTreeMap<String, Arc<ImageSummary>> = images.collect();
        let is_new = images != self.images;
        self.images = images;
        is_new
    }

    /// Takes one image as it is: a tag that names it names no other any more, of which no event tells. Gives back whether
    /// that is anything new.
    pub(super) fn take_image(&mut self, image: ImageSummary) -> bool {
        let mut is_new = false;
        for other in self.images.values_mut().filter(|other| other.id != image.id) {
            if !other.tags.is_disjoint(&image.tags) {
                Arc::make_mut(other).tags.retain(|tag| !image.tags.contains(tag));
                is_new = true;
            }
        }
        if self.images.get(&image.id).is_none_or(|known| **known != image) {
            self.images.insert(image.id.clone(), Arc::new(image));
            is_new = true;
        }
        is_new
    }

    /// Takes an ID or a name for that of no image. Gives back whether that is anything new.
    pub(super) fn lose_image(&mut self, reference: &str) -> bool {
        if self.images.remove(reference).is_some() {
            return true;
        }
        let lost = ImageSummary::named("", [reference]);
        let mut is_new = false;
        for image in self.images.values_mut().filter(|image| image.is_named(reference)) {
            let image = Arc::make_mut(image);
            image.tags.retain(|tag| !lost.tags.contains(tag));
            for (name, digests) in &lost.digests {
                image.digests.entry(name.clone()).or_default().retain(|digest| !digests.contains(digest));
            }
            image.digests.retain(|_, digests| !digests.is_empty());
            is_new = true;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, names: &[&str]) -> ImageSummary {
        ImageSummary::named(id, names.iter().copied())
    }

    /// An engine tells of the image that a tag names now, and not of the one that it named before.
    #[tokio::test]
    async fn a_tag_names_one_image() {
        let mut snapshot = Snapshot::empty();
        assert!(snapshot.take_images(vec![image("1", &["web:1", "web:stable"]), image("2", &["api:1"])]));
        assert!(!snapshot.take_images(vec![image("2", &["api:1"]), image("1", &["web:1", "web:stable"])]));
        assert!(snapshot.take_image(image("3", &["web:1"])));
        assert!(!snapshot.take_image(image("3", &["web:1"])), "nothing new");
        let expected = [image("1", &["web:stable"]), image("2", &["api:1"]), image("3", &["web:1"])];
        assert_eq!(snapshot.images.values().map(|image| (**image).clone()).collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn an_image_is_lost_by_its_id_and_a_name_alone_by_itself() {
        let by_digest = format!("web@sha256:{}", "1".repeat(64));
        let mut snapshot = Snapshot::empty();
        snapshot.take_images(vec![image("1", &["web:1", "web:stable", &by_digest]), image("2", &["api:1"])]);
        for (lost, is_new) in [("2", true), ("2", false), ("web:1", true), ("web:1", false), (&*by_digest, true)] {
            assert_eq!(snapshot.lose_image(lost), is_new, "{lost}");
        }
        let left: Vec<_> = snapshot.images.values().map(|image| (**image).clone()).collect();
        assert_eq!(left, [image("1", &["web:stable"])]);
    }
}
