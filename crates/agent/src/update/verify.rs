//! Asking the registry whether it has the image that a local tag names, where the engine does not tell: what was built
//! here must be neither replaced nor written down as a version.

use deployer_core::image::Track;
use deployer_core::store::Revision;

use crate::survey::Survey;
use crate::verified::Image;
use crate::world::World;

/// Asks, and remembers the answer, until a person's word to go on has a later revision than this.
pub async fn verify(world: &World, survey: &Survey, track: &Track, since: Revision) {
    let Some(digest) = survey.unverified(track) else { return };
    let image = (track.name().clone(), digest.clone());
    let outcome = world.engine.has(&track.at(digest)).await;
    let random = world.ambient.random();
    let mut memory = world.memory();
    match outcome {
        Ok(true) => memory.verified.confirm(image),
        Ok(false) => memory.verified.deny(image, absent(track), since, random),
        Err(error) => memory.verified.leave_open(image, error.to_string(), since, random),
    }
}

/// Forgets the answers for images that are gone.
pub fn forget(world: &World, survey: &Survey) {
    let is_here = |(name, digest): &Image| survey.images.iter().any(|image| image.is_at(name, digest));
    world.memory().verified.retain(is_here);
}

fn absent(track: &Track) -> String {
    format!(
        "the local tag names an image that the registry does not have: it was built here, or is deleted there; push it, or \
         pull {track}"
    )
}
