//! The pull stage: brings one digest onto this machine, under a private tag only.
//!
//! The repository's tag is not moved here: an unproven image never lies under a name that Compose, a unit or a
//! reboot could start.

use std::sync::Arc;

use deployer_core::dirty::Dirty;
use deployer_core::image::{Digest, Track};
use deployer_core::plain;
use deployer_core::plan::{Action, Answer};
use deployer_core::platform::{Platform, is_foreign};
use deployer_core::room;
use deployer_engine::mirror::{Container, Thing};
use deployer_engine::{ImageHand, PullError, PullProgress, if_found};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::fault::caught;
use crate::keep;
use crate::look::LookError;
use crate::machine::{self, Disk};
use crate::retries::Failed;
use crate::situation::TrackView;
use crate::survey::Survey;
use crate::world::World;

/// Pulls at once. The engine itself limits the layers it fetches at a time.
const PULLS_MAX: usize = 2;

/// The stage with its channel.
pub struct Pull {
    /// What the stages share.
    pub world: Arc<World>,
    /// What brings images and takes them away.
    pub hand: Arc<dyn ImageHand>,
    /// Tracks whose target should be brought here.
    pub tracks: mpsc::Receiver<Track>,
}

impl Pull {
    /// Works until shutdown. A pull that is broken off goes on where it was the next time: the engine keeps layers.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut dirty: Dirty<Track> = Dirty::default();
        let mut pulls = FuturesUnordered::new();
        let (here, own_hand) = (Arc::clone(&self.world), Arc::clone(&self.hand));
        let mut letting_go = std::pin::pin!(keep::run(&here, own_hand.as_ref()));
        loop {
            while pulls.len() < PULLS_MAX
                && let Some(track) = dirty.take()
            {
                let (world, hand) = (Arc::clone(&self.world), Arc::clone(&self.hand));
                pulls.push(async move {
                    let outcome = caught(pull(&world, hand.as_ref(), &track)).await;
                    (track, outcome)
                });
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some((track, outcome)) = pulls.next() => {
                    dirty.done(&track);
                    self.world.memory().fetches.end(&track);
                    match outcome {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => {
                            tracing::warn!(image = %track, error = &error as &dyn std::error::Error, "pull again later");
                        }
                        Err(fault) => self.world.note_fault(Some(track.clone()), &fault),
                    }
                    self.world.ring_for(track);
                }
                () = &mut letting_go => {}
                track = self.tracks.recv() => match track {
                    Some(track) => dirty.mark(track),
                    None => return,
                },
            }
        }
    }
}

/// Decides again, and pulls if that is still what should be done.
async fn pull(world: &World, hand: &dyn ImageHand, track: &Track) -> Result<(), LookError> {
    let survey = Survey::of(world).await?;
    let view = TrackView::of(world, &survey, track, Answer::NotAsked).await?;
    let Some(decision) = view.decisions.iter().find(|decision| decision.row.action == Action::Pull) else {
        return Ok(());
    };
    let Some(target) = &decision.target else { return Ok(()) };
    world.account.tell("pull", track, format!("pulling {}", target.digest.short()));
    let outcome = match caught(fetch(world, hand, track, &target.digest, &decision.container.summary)).await {
        Ok(outcome) => outcome.map_err(|error| {
            if let PullError::Absent { .. } = &error {
                // The tag may point to something else by now, though nobody told.
                world.memory().asking.lose(track);
            }
            (error.to_string(), error.is_hopeless(), matches!(error, PullError::Full { .. }))
        }),
        Err(fault) => Err((fault.to_string(), false, false)),
    };
    match outcome {
        Ok(()) => {
            world.memory().fetches.succeed(track, &target.digest);
            world.account.tell("pull", track, format!("{} is here", target.digest.short()));
            keep::tidy_after_pull(world, hand, track).await;
        }
        Err((reason, is_hopeless, is_full)) => {
            if is_full {
                // What is superseded may make room for the next try.
                keep::tidy_after_pull(world, hand, track).await;
            }
            let failed = Failed { reason: reason.clone(), is_hopeless, since: view.ledger.retry };
            let random = world.ambient.random();
            let wait = world.memory().fetches.fail(track, &target.digest, failed, random);
            world.account.tell("trouble", track, format!("{reason}; trying again in {} s", wait.as_secs()));
        }
    }
    Ok(())
}

/// Brings a digest here. How large its layers are is told as they come: once there is not room enough for them, no more come.
async fn fetch(
    world: &World,
    hand: &dyn ImageHand,
    track: &Track,
    digest: &Digest,
    container: &Container,
) -> Result<(), PullError> {
    let reference = track.at(digest);
    let disk = disk_of_images(world, container).await?;
    let (short, mut is_short) = watch::channel(0);
    let progress = |progress: PullProgress| {
        let PullProgress { status, bytes, bytes_total } = progress;
        if let Some(disk) = disk {
            let needed = room::needed(bytes_total, disk.size);
            if disk.free < needed {
                short.send_replace(needed);
            }
        }
        let amount = if bytes_total > 0 { format!("{} of {} MB", bytes >> 20, bytes_total >> 20) } else { status };
        world.memory().fetches.come_in(track, amount);
    };
    tokio::select! {
        biased;
        Ok(()) = is_short.changed() => {
            let megabytes = [*is_short.borrow(), disk.map_or(0, |disk| disk.free)].map(|bytes| bytes >> 20);
            let message = format!("it may need {} MB, and {} MB are free", megabytes[0], megabytes[1]);
            return Err(PullError::Full { image: reference.to_string(), message });
        }
        pulled = hand.pull(&reference, &progress) => pulled?,
    }
    world.engine_mirror.look_again(&Thing::Image(reference.to_string())).await?;
    let images = world.engine_mirror.snapshot();
    let Some(here) = images.images.values().find(|image| image.is_at(track.name(), digest)) else {
        return Err(PullError::WithoutEffect { image: reference.to_string() });
    };
    let (image, running) = tokio::join!(world.engine.image(&here.id), world.engine.image(&container.image_id));
    if let Some(mismatch) = platform_mismatch(&image?, if_found(running)?.as_ref()) {
        // Engine 20.10 takes a foreign image without a word. Kept, it would count as "here".
        keep::undo_pull(world, hand, track, here).await?;
        return Err(PullError::Platform { image: reference.to_string(), message: mismatch });
    }
    keep::keep(world, hand, track, digest, &here.id, keep::Kind::Pulled).await?;
    Ok(())
}

/// Where the engine keeps images, as far as that can be seen by a container of its own.
async fn disk_of_images(world: &World, container: &Container) -> Result<Option<Disk>, PullError> {
    let inspected = if_found(world.engine.container(&container.id).await)?;
    Ok(match inspected {
        Some(inspected) => machine::disk(&world.settings.root, &inspected).await,
        None => None,
    })
}

/// Why an image is for another platform than the one that runs, if it is. Without the running one nobody can tell.
pub fn platform_mismatch(image: &Value, running: Option<&Value>) -> Option<String> {
    let platform = |image: &Value| {
        let field = |name: &str| plain::words(image.get(name).and_then(Value::as_str).unwrap_or_default());
        Platform { os: field("Os"), architecture: field("Architecture"), variant: field("Variant") }
    };
    let (image, running) = (platform(image), platform(running?));
    // The engine is on this machine, or at least on one like it.
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    is_foreign(&image, &running, &machine).then(|| format!("it is for {image}, this machine runs {running}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use deployer_core::record::{Record, Source};
    use deployer_core::store::Txn;
    use tokio::time::Instant;

    use super::*;
    use crate::fixture::{Fixture, digest, fixture, image, track};

    /// A container of the track, with a version recorded that is not on the machine.
    async fn behind() -> Fixture {
        let fixture = fixture().await;
        fixture.run("web");
        fixture.push(2);
        let record = Record::adopt(None, &digest(2), Source::Hook, 0);
        let world = &fixture.world;
        world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
        fixture
    }

    /// As an engine did whose list said less than its inspection: the version was pulled 138 times in 150 seconds.
    #[tokio::test(start_paused = true)]
    async fn a_pull_that_succeeds_without_effect_backs_off_and_is_shown() {
        let fixture = behind().await;
        fixture.engine.hide_digest(&digest(2));
        let begun = Instant::now();
        for _ in 0..600 {
            pull(&fixture.world, fixture.engine.as_ref(), &track()).await.expect("looked");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let pulls = fixture.engine.calls_of("pull");
        assert!((3..=9).contains(&pulls), "{pulls} pulls in ten minutes");
        let memory = fixture.world.memory();
        let reason = memory.fetches.resting(&track(), &digest(2), 0, begun).expect("it is tried again");
        assert!(reason.contains("does not show"), "{reason}");
    }

    /// A disk that ran full in the middle of a pull took down whatever else wrote to it.
    #[tokio::test(start_paused = true)]
    async fn what_a_disk_has_no_room_for_is_not_pulled() {
        for (layers, is_there, expected) in
            [(1 << 20, true, true), (u64::MAX / 4, true, false), (u64::MAX / 4, false, true)]
        {
            let fixture = behind().await;
            fixture.engine.set_disk("/engine/hostname", layers);
            if is_there {
                let folder = fixture.world.settings.root.join("engine");
                std::fs::create_dir_all(&folder).expect("a folder");
                std::fs::write(folder.join("hostname"), "web").expect("a file");
            }
            let track = track();
            pull(&fixture.world, fixture.engine.as_ref(), &track).await.expect("looked");
            let names = fixture.engine.names();
            assert_eq!(names.contains(&track.at(&digest(2)).to_string()), expected, "{layers}: {names:?}");
            let memory = fixture.world.memory();
            let reason = memory.fetches.hopeless(&track, &digest(2), 0);
            assert_eq!(reason.is_some_and(|reason| reason.starts_with("no room for")), !expected, "{reason:?}");
        }
    }

    /// On containerd's image store the removal of a name by digest takes every tag of that repository along.
    #[tokio::test(start_paused = true)]
    async fn an_image_for_another_platform_goes_without_the_tags_that_others_gave_it() {
        for (tag, expected) in [(None, 1), (Some("registry.test/web:1"), 0), (Some("registry.test/blog:1"), 1)] {
            let fixture = behind().await;
            let engine = &fixture.engine;
            fixture.registry.build_for(&digest(2), "arm64");
            engine.hold("pull");
            let somebody = async {
                while !engine.is_waited_for("pull") {
                    tokio::task::yield_now().await;
                }
                if let Some(tag) = tag {
                    fixture.bring(2);
                    engine.tag_by_hand(&image(2), tag);
                }
                engine.let_go("pull");
            };
            let track = track();
            let (looked, ()) = tokio::join!(pull(&fixture.world, engine.as_ref(), &track), somebody);
            looked.expect("looked");
            assert_eq!(engine.calls_of("untag"), expected, "{tag:?}: {:?}", engine.names());
            assert_eq!(engine.calls_of("tag"), 0, "it is not kept: {:?}", engine.names());
            assert!(fixture.world.memory().fetches.hopeless(&track, &digest(2), 0).is_some(), "{tag:?}");
        }
    }
}
