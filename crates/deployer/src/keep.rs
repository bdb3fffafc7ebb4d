//! Private tags that keep images from being pruned, and the removal of images that nobody needs.
//!
//! A tag below `deployer.invalid` can never be pulled or pushed by accident (RFC 2606). `pulled` says that
//! deployer brought the image here and may remove it; `kept` that somebody else did, and only the tag goes.

use std::collections::BTreeSet;

use deployer_core::image::{Digest, Track};
use deployer_core::record::{Record, Verdicts};
use sha2::{Digest as _, Sha256};

use crate::engine::EngineError;
use crate::survey::Survey;
use crate::world::World;

/// Who brought an image here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This daemon.
    Pulled,
    /// Somebody else.
    Kept,
}

/// Keeps an image from being pruned.
///
/// # Errors
/// [`EngineError`] if the engine refuses the tag.
pub async fn keep(world: &World, track: &Track, digest: &Digest, id: &str, kind: Kind) -> Result<(), EngineError> {
    world.engine.tag(id, &repository(track, kind), &tag(digest)).await
}

/// Lets go of a track's images that are neither its target, nor the last good one, nor in use.
///
/// # Errors
/// [`EngineError`] if the engine cannot be asked; an image that it will not give up is left.
pub async fn tidy(world: &World, track: &Track, record: &Record, verdicts: &[Verdicts]) -> Result<(), EngineError> {
    let survey = Survey::take(world).await?;
    let mut needed: BTreeSet<&Digest> = BTreeSet::new();
    for verdicts in verdicts {
        needed.extend(record.target(verdicts).map(|version| &version.digest));
        let good = record.history().iter().filter(|version| verdicts.is_good(&version.digest)).take(2);
        needed.extend(good.map(|version| &version.digest));
    }
    let used: BTreeSet<&str> = survey.containers.iter().map(|c| c.summary.image_id.as_str()).collect();
    let kinds = [Kind::Pulled, Kind::Kept].map(|kind| (kind, format!("{}:", repository(track, kind))));
    for image in survey.images.iter().filter(|image| !used.contains(image.id.as_str())) {
        let digests = survey.digests_of(track, &image.id);
        if digests.iter().any(|digest| needed.contains(digest)) {
            continue;
        }
        for (kind, prefix) in &kinds {
            for name in image.repo_tags.iter().filter(|name| name.starts_with(prefix)) {
                let_go(world, track, name, &digests, *kind).await;
            }
        }
    }
    Ok(())
}

async fn let_go(world: &World, track: &Track, name: &str, digests: &[Digest], kind: Kind) {
    let by_digest = digests.iter().map(|digest| format!("{}@{digest}", track.name().familiar()));
    let names = by_digest.filter(|_| kind == Kind::Pulled).chain([name.to_owned()]);
    for name in names {
        if let Err(error) = world.engine.untag(&name).await {
            tracing::debug!(image = name, error = %error, "image kept");
        }
    }
}

fn repository(track: &Track, kind: Kind) -> String {
    let hash = hex::encode(Sha256::digest(track.to_string()));
    let kind = match kind {
        Kind::Pulled => "pulled",
        Kind::Kept => "kept",
    };
    format!("deployer.invalid/{kind}/{}", hash.get(..16).unwrap_or(&hash))
}

fn tag(digest: &Digest) -> String {
    digest.as_str().replace(':', "-").chars().take(128).collect()
}
