//! Private tags that keep images from being pruned, and the removal of images that nobody needs.
//!
//! A tag below `deployer.invalid` can never be pulled or pushed by accident (RFC 2606). `pulled` says that
//! deployer brought the image here and may remove it; `kept` that somebody else did, and only the tag goes.

use std::collections::BTreeSet;

use deployer_core::image::{Digest, Track};
use deployer_engine::EngineError;
use sha2::{Digest as _, Sha256};

use crate::ledger::{self, Ledger};
use crate::look::LookError;
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

/// Lets go of a track's images that are neither a target, nor the last good one, nor in use. Services of one track
/// may think differently of a digest: what one of them needs stays.
///
/// # Errors
/// [`LookError`] if engine or store cannot be asked; an image that the engine will not give up is left.
pub async fn tidy(world: &World, track: &Track) -> Result<(), LookError> {
    // Another replacement of the track tidies at its own end: until then its containers go by other names.
    if world.memory().transitions.values().filter(|replaced| replaced.track == *track).count() > 1 {
        return Ok(());
    }
    let Some(record) = Ledger::read(world, track).await?.record else { return Ok(()) };
    let survey = Survey::take(world).await?;
    let mut needed: BTreeSet<Digest> = BTreeSet::new();
    for service in survey.tracks(world).remove(track).unwrap_or_default() {
        let (verdicts, _) = ledger::verdicts(world, &service).await?;
        needed.extend(record.value.target(&verdicts).map(|version| version.digest.clone()));
        let good = record.value.history().iter().filter(|version| verdicts.is_good(&version.digest)).take(2);
        needed.extend(good.map(|version| version.digest.clone()));
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

#[cfg(test)]
mod tests {
    use deployer_core::record::{Opinion, Record, Source};
    use deployer_core::store::Txn;
    use serde_json::json;

    use super::*;
    use crate::stand_in::{container, digest, fixture, track};
    use deployer_engine::ImageSummary;

    #[tokio::test]
    async fn what_another_service_of_the_track_needs_stays() {
        let fixture = fixture().await;
        let world = &fixture.world;
        let mut other = container("api", "api", "running");
        other["Config"]["Labels"] = json!({"deployer.service": "api"});
        let image = |letter: char| ImageSummary {
            id: format!("sha256:{letter}"),
            repo_tags: vec![format!("{}:{}", repository(&track(), Kind::Pulled), tag(&digest(letter)))],
            repo_digests: vec![format!("registry.test/web@{}", digest(letter))],
        };
        fixture.engine.state().containers = vec![container("web", "web", "running"), other];
        fixture.engine.state().images = ['0', '1', '2', '3'].map(image).into();
        let first = Record::adopt(None, &digest('0'), Source::Hook, 0);
        let record = ['1', '2', '3'].into_iter().fold(first, |r, l| r.advanced(digest(l), Source::Hook, 0));
        world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
        let (web, api) = (track().to_string(), "api".to_owned());
        let opinions = [(&web, '2', Opinion::Good), (&web, '3', Opinion::Good), (&api, '1', Opinion::Good)];
        for (service, letter, opinion) in
            opinions.into_iter().chain([(&api, '2', Opinion::Bad), (&api, '3', Opinion::Bad)])
        {
            ledger::write_verdict(world, service, &digest(letter), opinion, "seen").await.expect("stored");
        }
        tidy(world, &track()).await.expect("tidied");
        let calls = fixture.engine.state().calls.clone();
        let is_gone = |letter: &char| calls.iter().any(|call| call.contains(digest(*letter).as_str()));
        let gone: Vec<char> = "0123".chars().filter(is_gone).collect();
        assert_eq!(gone, ['0'], "{calls:?}");
    }
}
