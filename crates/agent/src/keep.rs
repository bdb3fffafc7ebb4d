//! Private tags that keep images from being pruned, and the removal of images that nobody needs.
//!
//! A tag below `deployer.invalid` can never be pulled or pushed by accident (RFC 2606). `pulled` says that
//! deployer brought the image here and may remove it; `kept` that somebody else did, and only the tag goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deployer_core::image::{Digest, ImageName, Registry, Track};
use deployer_engine::mirror::Thing;
use deployer_engine::{EngineError, ImageHand, ImageSummary};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::ledger::{self, Ledger};
use crate::left::Left;
use crate::look::LookError;
use crate::survey::{Survey, Surveyed};
use crate::world::World;

/// The registry that no keep-tag is ever pulled from.
const NOWHERE: &str = "deployer.invalid";

/// How long no container has named a track before its images go.
const LEFT_FOR: Duration = Duration::from_secs(600);

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
pub async fn keep(
    world: &World,
    hand: &dyn ImageHand,
    track: &Track,
    digest: &Digest,
    id: &str,
    kind: Kind,
) -> Result<(), EngineError> {
    let outcome = hand.tag(id, &repository(track, kind).to_string(), &tag(digest)).await;
    world.engine_mirror.acted_on(Thing::Image(id.to_owned()));
    outcome
}

/// Whether a keep-tag keeps an image from being pruned.
pub fn is_kept(image: &ImageSummary) -> bool {
    image.tags.iter().any(|tag| is_private(tag.name()))
}

/// Whether a name is that of a keep-tag.
pub fn is_private(name: &ImageName) -> bool {
    name.registry().as_str() == NOWHERE
}

/// Lets go of a track's images that are neither a target, nor the last good one, nor in use. Services of one track
/// may think differently of a digest, and so may tracks of one repository: what one of them needs stays.
///
/// # Errors
/// [`LookError`] if engine or store cannot be asked; an image that the engine will not give up is left.
pub async fn tidy(world: &World, hand: &dyn ImageHand, track: &Track) -> Result<(), LookError> {
    // Another replacement of the track tidies at its own end: until then its containers go by other names.
    if world.memory().replacing.count(track) > 1 {
        return Ok(());
    }
    if Ledger::read(world, track).await?.record.is_none() {
        return Ok(());
    }
    let survey = Survey::of(world).await?;
    let needed = needed(world, &survey, track.name()).await?;
    let used: BTreeSet<&str> = survey.containers.iter().map(|c| c.summary.image_id.as_str()).collect();
    for image in survey.images.iter().filter(|image| !used.contains(image.id.as_str())) {
        if needed.iter().any(|digest| image.is_at(track.name(), digest)) {
            continue;
        }
        for name in names_to_let_go(track, image) {
            let_go(hand, &name).await;
            world.engine_mirror.acted_on(Thing::Image(image.id.clone()));
        }
    }
    Ok(())
}

/// Tidies after a pull, so that what is not deployed does not gather. While a container of the repository is being replaced
/// that is left to the replacement's end.
pub async fn tidy_after_pull(world: &World, hand: &dyn ImageHand, track: &Track) {
    let is_replaced = world.memory().replacing.is_any_of(track.name());
    if !is_replaced && let Err(error) = tidy(world, hand, track).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "images are tidied after the next pull");
    }
}

/// Lets go for ever of the images of tracks that no container here names any more.
pub async fn run(world: &World, hand: &dyn ImageHand) {
    let mut left = Left::default();
    loop {
        tokio::time::sleep(LEFT_FOR).await;
        // An engine that is not heard is asked the next time.
        if let Ok(survey) = Survey::of(world).await {
            let_go_of_left(world, hand, &survey, &mut left).await;
        }
    }
}

/// Lets go of the images of tracks that no container here names any more, whoever manages it, once that has been so for a
/// while: Compose takes a service down and up again.
async fn let_go_of_left(world: &World, hand: &dyn ImageHand, survey: &Survey, left: &mut Left) {
    let mut named: BTreeSet<Track> = survey.containers.iter().filter_map(Surveyed::track).collect();
    named.extend(world.memory().replacing.tracks());
    let private = |track: &Track| [Kind::Pulled, Kind::Kept].map(|kind| repository(track, kind));
    let wanted: BTreeSet<ImageName> = named.iter().flat_map(private).collect();
    let is_left = |tag: &&Track| is_private(tag.name()) && !wanted.contains(tag.name());
    let seen: BTreeSet<ImageName> = survey
        .images
        .iter()
        .flat_map(|image| image.tags.iter().filter(is_left))
        .map(|tag| tag.name().clone())
        .collect();
    let over = left.see(seen, Instant::now(), LEFT_FOR);
    // A replacement that has not begun to act names its image nowhere but in its journal.
    if over.is_empty() || world.journals.all().map_or(true, |journals| !journals.is_empty()) {
        return;
    }
    let used: BTreeSet<&str> = survey.containers.iter().map(|c| c.summary.image_id.as_str()).collect();
    for image in survey.images.iter().filter(|image| !used.contains(image.id.as_str())) {
        let (gone, stay): (Vec<&Track>, Vec<&Track>) =
            image.tags.iter().filter(|tag| is_private(tag.name())).partition(|tag| over.contains(tag.name()));
        let is_pulled = gone.iter().any(|tag| tag.name().repository().starts_with("pulled/"));
        let by_digest: Vec<String> = match is_pulled && stay.is_empty() {
            true => digests_of_left(image, &named),
            false => Vec::new(),
        };
        for name in by_digest.into_iter().chain(gone.into_iter().map(Track::to_string)) {
            let_go(hand, &name).await;
        }
    }
}

/// The names by digest of a pulled image in repositories that no container names and no tag keeps.
fn digests_of_left(image: &ImageSummary, named: &BTreeSet<Track>) -> Vec<String> {
    let is_over = |name: &ImageName| {
        !is_private(name) && !image.is_tagged_in(name) && !named.iter().any(|track| track.name() == name)
    };
    let over = image.digests.iter().filter(|(name, _)| is_over(name));
    over.flat_map(|(name, digests)| digests.iter().map(move |digest| format!("{name}@{digest}"))).collect()
}

/// The digests of a repository that a track of it wants to run, or to go back to.
async fn needed(world: &World, survey: &Survey, repository: &ImageName) -> Result<BTreeSet<Digest>, LookError> {
    let mut tracks: BTreeMap<Track, BTreeSet<String>> = survey.tracks(world);
    // A container in the middle of its replacement is not in the survey.
    let transitions = world.memory().replacing.transitions();
    for (_, replaced) in transitions {
        tracks.entry(replaced.track).or_default().insert(replaced.service);
    }
    let mut needed = BTreeSet::new();
    for (track, services) in tracks.into_iter().filter(|(track, _)| track.name() == repository) {
        let Some(record) = Ledger::read(world, &track).await?.record else { continue };
        for service in services {
            let (verdicts, _) = ledger::verdicts(world, &service).await?;
            needed.extend(record.value.target(&verdicts).map(|version| version.digest.clone()));
            let good = record.value.history().iter().filter(|version| verdicts.is_good(&version.digest)).take(2);
            needed.extend(good.map(|version| version.digest.clone()));
        }
    }
    Ok(needed)
}

/// The names that a track's pulls have given to an image, in the order in which they go.
fn names_to_let_go(track: &Track, image: &ImageSummary) -> Vec<String> {
    let [pulled, kept] = [Kind::Pulled, Kind::Kept].map(|kind| repository(track, kind));
    let own: Vec<&Track> = image.tags.iter().filter(|tag| [&pulled, &kept].contains(&tag.name())).collect();
    let is_pulled = own.iter().any(|tag| *tag.name() == pulled);
    let is_kept_by_another = image.tags.iter().any(|tag| is_private(tag.name()) && !own.contains(&tag));
    let by_digest = if is_pulled && !is_kept_by_another { by_digest(track, image) } else { Vec::new() };
    by_digest.into_iter().chain(own.into_iter().map(Track::to_string)).collect()
}

/// The names by digest that a pull for a track has given to an image, as far as they can be removed alone: containerd's
/// image store takes every tag of the repository along, and none of those is ours. While there is one, the image stays
/// anyway, and they go with the last of them.
fn by_digest(track: &Track, image: &ImageSummary) -> Vec<String> {
    let digests = image.digests.get(track.name()).filter(|_| !image.is_tagged_in(track.name()));
    digests.into_iter().flatten().map(|digest| track.at(digest).to_string()).collect()
}

/// Takes the names off an image that a pull of a digest has just given to it.
///
/// # Errors
/// [`EngineError`] if the engine refuses.
pub async fn undo_pull(
    world: &World,
    hand: &dyn ImageHand,
    track: &Track,
    image: &ImageSummary,
) -> Result<(), EngineError> {
    for name in by_digest(track, image).into_iter().filter(|_| !is_kept(image)) {
        let outcome = hand.untag(&name).await;
        world.engine_mirror.acted_on(Thing::Image(image.id.clone()));
        outcome?;
    }
    Ok(())
}

async fn let_go(hand: &dyn ImageHand, name: &str) {
    if let Err(error) = hand.untag(name).await {
        tracing::debug!(image = name, error = %error, "image kept");
    }
}

fn repository(track: &Track, kind: Kind) -> ImageName {
    let hash = hex::encode(Sha256::digest(track.to_string()));
    let kind = match kind {
        Kind::Pulled => "pulled",
        Kind::Kept => "kept",
    };
    let nowhere = Registry::parse(NOWHERE).expect("a host");
    ImageName::new(nowhere, &format!("{kind}/{}", hash.get(..16).unwrap_or(&hash))).expect("a word and digits")
}

fn tag(digest: &Digest) -> String {
    digest.as_str().replace(':', "-").chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use deployer_core::record::{Opinion, Record, Source};
    use deployer_core::store::Txn;
    use deployer_simulated::engine::Spec;
    use deployer_simulated::registry::Behaviour;

    use super::*;
    use crate::fixture::{Fixture, digest, fixture, image, track};

    fn other() -> Track {
        Track::parse("registry.test/web:stable").expect("a track")
    }

    /// Brings a version here that the track's pulls keep.
    fn keep_here(fixture: &Fixture, number: u32) -> [String; 2] {
        fixture.push(number);
        fixture.bring(number);
        let keep_tag = format!("{}:{}", repository(&track(), Kind::Pulled), tag(&digest(number)));
        fixture.engine.tag_by_hand(&image(number), &keep_tag);
        [keep_tag, track().at(&digest(number)).to_string()]
    }

    async fn record(world: &World, track: &Track, record: &Record) {
        world.store.txn(Txn::new().put(world.keys.record(track), record)).await.expect("stored");
    }

    #[tokio::test]
    async fn what_another_service_of_the_track_needs_stays() {
        let fixture = fixture().await;
        let world = &fixture.world;
        fixture.push(9);
        fixture.run("web");
        fixture.engine.run_as(&Spec { service: "api".to_owned(), ..Spec::new("api", &track()) });
        let names = [0, 1, 2, 3].map(|number| keep_here(&fixture, number));
        let first = Record::adopt(None, &digest(0), Source::Hook, 0);
        record(world, &track(), &[1, 2, 3].into_iter().fold(first, |r, n| r.advanced(digest(n), Source::Hook, 0)))
            .await;
        let (web, api) = (track().to_string(), "api".to_owned());
        let opinions = [(&web, 2, Opinion::Good), (&web, 3, Opinion::Good), (&api, 1, Opinion::Good)];
        for (service, number, opinion) in opinions.into_iter().chain([(&api, 2, Opinion::Bad), (&api, 3, Opinion::Bad)])
        {
            ledger::write_verdict(world, service, &digest(number), opinion, "seen").await.expect("stored");
        }
        tidy(world, fixture.engine.as_ref(), &track()).await.expect("tidied");
        let left = fixture.engine.names();
        let is_gone = |number: &usize| names[*number].iter().any(|name| !left.contains(name));
        let gone: Vec<usize> = (0..4).filter(is_gone).collect();
        assert_eq!(gone, [0], "{left:?}");
    }

    /// On the containerd image store a removal of `name@digest` takes every tag of that repository along.
    #[tokio::test]
    async fn a_name_by_digest_stays_while_somebody_elses_tag_would_go_with_it() {
        let others_keep = format!("{}:x", repository(&other(), Kind::Pulled));
        for (further, expected) in [
            (None, 2),
            (Some("zoo:latest"), 2),
            (Some("registry.test/web:known-good"), 1),
            (Some(others_keep.as_str()), 1),
        ] {
            let fixture = fixture().await;
            let world = &fixture.world;
            record(world, &track(), &Record::adopt(None, &digest(2), Source::Hook, 0)).await;
            let [own, by_digest] = keep_here(&fixture, 1);
            further.into_iter().for_each(|name| fixture.engine.tag_by_hand(&image(1), name));
            let mut gone = fixture.engine.names();
            tidy(world, fixture.engine.as_ref(), &track()).await.expect("tidied");
            let left = fixture.engine.names();
            gone.retain(|name| !left.contains(name));
            assert_eq!(gone.len(), expected, "{further:?}: {gone:?}");
            assert!(gone.iter().all(|name| [&own, &by_digest].contains(&name)), "{gone:?}");
        }
    }

    #[tokio::test]
    async fn what_another_track_of_the_repository_needs_stays() {
        let fixture = fixture().await;
        let world = &fixture.world;
        keep_here(&fixture, 1);
        for (track, name, runs, wants) in [(track(), "web", 9, 2), (other(), "stable", 8, 1)] {
            fixture.registry.push(&track, runs, Behaviour::Serves);
            fixture.engine.run(&track, name);
            record(world, &track, &Record::adopt(None, &digest(wants), Source::Hook, 0)).await;
        }
        tidy(world, fixture.engine.as_ref(), &track()).await.expect("tidied");
        assert_eq!(fixture.engine.calls_of("untag"), 0, "{:?}", fixture.engine.names());
    }
}
