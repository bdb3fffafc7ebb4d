//! Asking the registry whether it has the image that a local tag names, where the engine does not tell: what was built
//! here must be neither replaced nor written down as a version.

use deployer_core::backoff::Backoff;
use deployer_core::image::{Digest, ImageName, Track};
use deployer_core::store::Revision;
use tokio::time::Instant;

use crate::survey::Survey;
use crate::world::{Retry, World};

/// Times that a registry without the image is asked again by itself, about five minutes: a push may be under way. After
/// that it is asked when something happens to the image.
const ABSENT_MAX: u32 = 6;

/// Asks, and remembers the answer, until a person's word to go on has a later revision than this.
pub async fn verify(world: &World, survey: &Survey, track: &Track, since: Revision) {
    let Some(digest) = survey.unverified(track) else { return };
    let key = (track.name().clone(), digest.clone());
    let outcome = world.engine.has(&track.at(digest)).await;
    let random = world.ambient.random();
    let mut memory = world.memory();
    let before = memory.unverified.remove(&key).filter(|retry| retry.since == since);
    let failures = before.map_or(0, |retry| retry.failures) + 1;
    let (reason, is_hopeless) = match outcome {
        Ok(true) => {
            memory.verified.insert(key);
            return;
        }
        Ok(false) => (absent(track), failures > ABSENT_MAX),
        Err(error) => (error.to_string(), false),
    };
    let due = Instant::now() + Backoff::REGISTRY.wait(failures, random);
    memory.unverified.insert(key, Retry { failures, due, reason, is_hopeless, since });
}

/// Forgets the answers for images that are gone.
pub fn forget(world: &World, survey: &Survey) {
    let is_here = |(name, digest): &(ImageName, Digest)| survey.images.iter().any(|image| image.is_at(name, digest));
    let mut memory = world.memory();
    memory.verified.retain(is_here);
    memory.unverified.retain(|key, _| is_here(key));
}

fn absent(track: &Track) -> String {
    format!(
        "the local tag names an image that the registry does not have: it was built here, or is deleted there; push it, or \
         pull {track}"
    )
}
