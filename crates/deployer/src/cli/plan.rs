//! `deployer plan`: what the update stage's own function says of each container of this machine.

use std::path::Path;

use super::status::{json, table};
use super::{Ended, Format, client, say};
use crate::status::Status;

/// Shows the plan.
pub async fn show(socket: &Path, format: Format) -> Result<(), Ended> {
    let mut status: Status = client::get(socket, "/v1/status").await?;
    for track in &mut status.tracks {
        track.containers.retain(|container| container.node == status.node);
    }
    status.tracks.retain(|track| !track.containers.is_empty());
    if format == Format::Json {
        return say::line(&json(&status.tracks)?);
    }
    let mut plan = table(&["CONTAINER", "IMAGE", "SERVICE", "DECISION", "BECAUSE"]);
    for track in &status.tracks {
        for container in &track.containers {
            let (name, image, service) = (&container.name, &track.image, &container.service);
            plan.add_row([name, image, service, &container.row, &container.reason]);
        }
    }
    say::line(&plan.to_string())
}
