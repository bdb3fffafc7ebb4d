//! What the registry said of images that only a local tag names, on an engine that does not tell where they came from.

use std::collections::BTreeSet;

use deployer_core::image::{Digest, ImageName};
use deployer_core::store::Revision;
use tokio::time::Instant;

use crate::retries::{Failed, Retries};

/// Times that a registry without the image is asked again by itself, about five minutes: a push may be under way. After
/// that it is asked when something happens to the image.
const ABSENT_MAX: u32 = 6;

/// An image: its repository, and its digest there.
pub type Image = (ImageName, Digest);

/// The memory.
#[derive(Debug, Default)]
pub struct Verified {
    had: BTreeSet<Image>,
    not_had: Retries<Image>,
}

impl Verified {
    /// Notes that the registry has an image.
    pub fn confirm(&mut self, image: Image) {
        self.not_had.forget(&image);
        self.had.insert(image);
    }

    /// Notes that the registry does not have an image. A person's last word to go on has this revision.
    pub fn deny(&mut self, image: Image, reason: String, since: Revision, random: u64) {
        let is_hopeless = self.not_had.failures(&image, since) >= ABSENT_MAX;
        self.not_had.fail(image, Failed { reason, is_hopeless, since }, random);
    }

    /// Notes that the registry gave no answer.
    pub fn leave_open(&mut self, image: Image, reason: String, since: Revision, random: u64) {
        self.not_had.fail(image, Failed { reason, is_hopeless: false, since }, random);
    }

    /// Whether the registry has an image, by its own word.
    pub fn has(&self, image: &Image) -> bool {
        self.had.contains(image)
    }

    /// Why the registry is not asked for an image yet, if it is not.
    pub fn resting(&self, image: &Image, retry: Revision, now: Instant) -> Option<&str> {
        self.not_had.resting(image, retry, now)
    }

    /// When the registry is asked again. One that has said several times that it does not have an image is asked when
    /// something happens, and not before.
    pub fn dues(&self) -> impl Iterator<Item = Instant> {
        self.not_had.dues_with_hope()
    }

    /// Forgets the answers for all images but these.
    pub fn retain(&mut self, is_here: impl Fn(&Image) -> bool) {
        self.had.retain(&is_here);
        self.not_had.retain(is_here);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{digest, track};

    #[tokio::test(start_paused = true)]
    async fn a_registry_without_the_image_is_left_in_peace_in_the_end() {
        let image = (track().name().clone(), digest(9));
        let mut verified = Verified::default();
        for times in 1..=ABSENT_MAX {
            verified.deny(image.clone(), "not there".into(), 0, 0);
            assert_eq!(verified.dues().count(), 1, "{times}");
        }
        verified.deny(image.clone(), "not there".into(), 0, 0);
        assert_eq!(verified.dues().count(), 0);
        verified.leave_open(image.clone(), "away".into(), 0, 0);
        assert_eq!(verified.dues().count(), 1, "no answer says nothing of the next");
        verified.confirm(image.clone());
        assert_eq!((verified.has(&image), verified.resting(&image, 0, Instant::now())), (true, None));
        verified.retain(|_| false);
        assert!(!verified.has(&image));
    }
}
