//! The pull stage: brings one digest onto this machine, under a private tag only.
//!
//! The repository's tag is not moved here: an unproven image never lies under a name that Compose, a unit or a
//! reboot could start.

use std::sync::Arc;

use deployer_core::backoff::Backoff;
use deployer_core::dirty::Dirty;
use deployer_core::image::{Digest, Track};
use deployer_core::plan::{Action, Answer};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::{PullError, PullProgress, if_found};
use crate::keep;
use crate::situation::TrackView;
use crate::survey::Survey;
use crate::update::LookError;
use crate::world::{Retry, World};

/// Pulls at once. The engine itself limits the layers it fetches at a time.
const PULLS_MAX: usize = 2;

/// The stage with its channel.
pub struct Pull {
    /// What the stages share.
    pub world: Arc<World>,
    /// Tracks whose target should be brought here.
    pub tracks: mpsc::Receiver<Track>,
}

impl Pull {
    /// Works until shutdown. A pull that is broken off goes on where it was the next time: the engine keeps layers.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut dirty: Dirty<Track> = Dirty::default();
        let mut pulls = FuturesUnordered::new();
        loop {
            while pulls.len() < PULLS_MAX
                && let Some(track) = dirty.take()
            {
                let world = Arc::clone(&self.world);
                pulls.push(async move {
                    let outcome = pull(&world, &track).await;
                    (track, outcome)
                });
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some((track, outcome)) = pulls.next() => {
                    dirty.done(&track);
                    self.world.memory().pulling.remove(&track);
                    if let Err(error) = outcome {
                        tracing::warn!(image = %track, error = &error as &dyn std::error::Error, "pull again later");
                    }
                    self.world.ring_for(track);
                }
                track = self.tracks.recv() => match track {
                    Some(track) => dirty.mark(track),
                    None => return,
                },
            }
        }
    }
}

/// Decides again, and pulls if that is still what should be done.
async fn pull(world: &World, track: &Track) -> Result<(), LookError> {
    let survey = Survey::take(world).await?;
    let view = TrackView::of(world, &survey, track, Answer::NotAsked).await?;
    let Some(decision) = view.decisions.iter().find(|decision| decision.row.action == Action::Pull) else {
        return Ok(());
    };
    let Some(target) = &decision.target else { return Ok(()) };
    world.account.tell("pull", track, format!("pulling {}", target.digest.short()));
    let outcome = fetch(world, track, &target.digest, &decision.container.summary.image_id).await;
    let key = (track.clone(), target.digest.clone());
    match outcome {
        Ok(()) => {
            world.memory().pulls.remove(&key);
            world.account.tell("pull", track, format!("{} is here", target.digest.short()));
        }
        Err(error) => {
            let since = view.ledger.retry;
            let before = world.memory().pulls.get(&key).filter(|retry| retry.since == since).map(|r| r.failures);
            let failures = before.unwrap_or_default() + 1;
            let wait = Backoff::REGISTRY.wait(failures, world.ambient.random());
            let (reason, is_hopeless) = (error.to_string(), error.is_hopeless());
            let retry = Retry { failures, due: Instant::now() + wait, reason, is_hopeless, since };
            let mut memory = world.memory();
            memory.pulls.insert(key, retry);
            if let PullError::Absent { .. } = &error {
                // The tag may point to something else by now, though nobody told.
                memory.asking.lose(track);
            }
            drop(memory);
            world.account.tell("trouble", track, format!("{error}; trying again in {} s", wait.as_secs()));
        }
    }
    Ok(())
}

async fn fetch(world: &World, track: &Track, digest: &Digest, running_image: &str) -> Result<(), PullError> {
    let reference = track.at(digest);
    let progress = |progress: PullProgress| {
        let PullProgress { status, bytes, bytes_total } = progress;
        let amount = if bytes_total > 0 { format!("{} of {} MB", bytes >> 20, bytes_total >> 20) } else { status };
        world.memory().pulling.insert(track.clone(), amount);
    };
    world.engine.pull(&reference, &progress).await?;
    let name = format!("{}@{digest}", track.name().familiar());
    let (image, running) = tokio::join!(world.engine.image(&name), world.engine.image(running_image));
    let image = image?;
    let running = if_found(running)?;
    if let Some(mismatch) = platform_mismatch(&image, running.as_ref()) {
        // Engine 20.10 takes a foreign image without a word. Kept, it would count as "here".
        world.engine.untag(&name).await?;
        return Err(PullError::Platform { image: reference.to_string(), message: mismatch });
    }
    let id = image.get("Id").and_then(Value::as_str).unwrap_or_default();
    keep::keep(world, track, digest, id, keep::Kind::Pulled).await?;
    Ok(())
}

/// Why an image is for another platform than the one that runs, if it is. Without the running one nobody can tell.
pub fn platform_mismatch(image: &Value, running: Option<&Value>) -> Option<String> {
    let running = running?;
    let field = |image: &Value, name: &str| image.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let differs = |name: &str| {
        let (new, old) = (field(image, name), field(running, name));
        !new.is_empty() && !old.is_empty() && new != old
    };
    let platform = |image: &Value| {
        let parts = ["Os", "Architecture", "Variant"].map(|name| field(image, name));
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    };
    let is_foreign = ["Os", "Architecture", "Variant"].into_iter().any(differs);
    is_foreign.then(|| format!("it is for {}, this machine runs {}", platform(image), platform(running)))
}
