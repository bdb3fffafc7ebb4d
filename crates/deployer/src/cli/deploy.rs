//! `deployer deploy IMAGE`: asks, follows, and tells by its exit code how it ended.

use std::path::Path;
use std::time::Duration;

use deployer_agent::happening::Happening;
use deployer_core::policy::parse_duration;
use futures_util::StreamExt;

use super::{Ended, client, events, say};
use crate::status::{Status, TrackStatus};

/// The pause between two looks while nothing happens.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads `--timeout`.
pub fn parse_patience(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("'{text}' is not a duration such as 90s or 10m"))
}

/// Asks for a deployment and follows it.
pub async fn deploy(socket: &Path, image: &str, patience: Duration) -> Result<(), Ended> {
    // Followed before it is asked for, so that nothing is missed.
    let answer = client::open(socket, "/v1/events").await?;
    say::line(&client::request(socket, "deploy", image).await?)?;
    let image =
        deployer_core::image::Track::parse(image).map_err(|error| Ended::Mistake(error.to_string()))?.to_string();
    tokio::time::timeout(patience, follow(socket, &image, answer)).await.unwrap_or_else(|_| {
        Err(Ended::Failed(format!("not at its end within {patience:?}; it goes on, see `deployer status`")))
    })
}

async fn follow(socket: &Path, image: &str, answer: deployer_wire::Answer) -> Result<(), Ended> {
    let mut lines = std::pin::pin!(answer.lines());
    loop {
        match tokio::time::timeout(PAUSE, lines.next()).await {
            Ok(Some(Ok(line))) => {
                if let Ok(happening) = client::read::<Happening>(&line)
                    && happening.image.as_deref() == Some(image)
                {
                    say::line(&events::text(&happening))?;
                }
                continue;
            }
            Ok(_) => return Err(Ended::Failed("the daemon went away; see `deployer status`".to_owned())),
            Err(_) => {}
        }
        let status: Status = client::get(socket, "/v1/status").await?;
        let Some(track) = status.tracks.iter().find(|track| track.image == image) else {
            return Err(Ended::Failed(format!("no container runs {image} any more")));
        };
        if let Some(end) = end(track) {
            return end;
        }
    }
}

/// How the deployment ended, if it has.
fn end(track: &TrackStatus) -> Option<Result<(), Ended>> {
    // Of a node that is away nothing is known; when it returns it catches up by itself.
    let is_left_alone = |state: &str| matches!(state, "unmanaged" | "unknown");
    let managed = || track.containers.iter().filter(|container| !is_left_alone(&container.state));
    let halted = managed().find(|container| container.state == "failed_here");
    if track.pending && track.trouble.is_some() {
        return Some(Err(Ended::Failed(track.trouble.clone().unwrap_or_default())));
    }
    let is_under_way = |state: &str| matches!(state, "stale" | "pulling" | "waiting" | "replacing");
    // What is refused for one keeps no other waiting.
    if let Some(container) = halted.filter(|_| !managed().any(|container| is_under_way(&container.state))) {
        let (name, node, reason) = (&container.name, &container.node, &container.reason);
        return Some(Err(Ended::Failed(format!("{name} failed on {node}: {reason}"))));
    }
    // Nobody asks the registry for containers that are left alone, and the notification waits until that changes.
    if let Some(container) = track.containers.first().filter(|_| managed().all(|c| c.state == "held_back"))
        && track.pending
    {
        return Some(Err(Ended::Failed(format!(
            "nothing is deployed: {} is left alone: {}",
            container.name, container.reason
        ))));
    }
    if track.pending || managed().any(|container| is_under_way(&container.state)) {
        return None;
    }
    let newest = track.record.as_ref().map(|record| record.digest.as_str()).unwrap_or_default();
    let bad = track.verdicts.iter().find(|verdict| verdict.verdict == "bad" && verdict.digest == newest);
    if let Some(bad) = bad {
        return Some(Err(Ended::Failed(format!("the newest version is bad: {}; the old one serves", bad.reason))));
    }
    if track.record.as_ref().is_some_and(|record| record.withdrawn) {
        let text = "the newest version was rolled back; `deployer retry` deploys it".to_owned();
        return Some(Err(Ended::Failed(text)));
    }
    Some(Ok(()))
}
