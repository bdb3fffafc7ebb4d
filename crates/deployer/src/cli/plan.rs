//! `deployer plan`: what the update stage's own function says of each container of this machine.

use std::path::Path;

use super::status::{json, table};
use super::{Ended, Format, client, say};
use crate::status::{ContainerStatus, TrackStatus};

/// Shows the plan.
pub async fn show(socket: &Path, format: Format) -> Result<(), Ended> {
    let tracks: Vec<TrackStatus> = client::get(socket, "/v1/plan").await?;
    if format == Format::Json {
        return say::line(&json(&tracks)?);
    }
    let mut plan = table(&["CONTAINER", "IMAGE", "SERVICE", "DECISION", "BECAUSE"]);
    for track in &tracks {
        for container in &track.containers {
            let (name, image, service) = (&container.name, &track.image, &container.service);
            plan.add_row([name, image, service, &container.row, &because(container)]);
        }
    }
    say::line(&plan.to_string())
}

/// Why, and what would keep the next version out: better seen now than after its push.
fn because(container: &ContainerStatus) -> String {
    match &container.refusal {
        Some(refusal) if container.reason.contains(refusal.as_str()) => container.reason.clone(),
        Some(refusal) => format!("{}; a new version would be refused: {refusal}", container.reason),
        None => container.reason.clone(),
    }
}
