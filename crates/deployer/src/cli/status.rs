//! `deployer status`.

use std::path::Path;

use comfy_table::{Table, presets};

use super::{Ended, Format, client, say};
use crate::status::{Status, TrackStatus};

/// Shows what the daemon knows.
pub async fn show(socket: &Path, format: Format) -> Result<(), Ended> {
    let status: Status = client::get(socket, "/v1/status").await?;
    if format == Format::Json {
        return say::line(&json(&status)?);
    }
    say::line(&text(&status))
}

/// A value for programs.
pub fn json(value: &impl serde::Serialize) -> Result<String, Ended> {
    serde_json::to_string_pretty(value).map_err(|error| Ended::Failed(error.to_string()))
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    if status.paused {
        text.push_str("paused: no replacement starts until `deployer resume`\n");
    }
    let mut tracks = table(&["IMAGE", "NEWEST", "TARGET", "NOTE"]);
    let mut containers = table(&["CONTAINER", "IMAGE", "DIGEST", "STATE", "REASON"]);
    for track in &status.tracks {
        let version = |version: &Option<crate::status::VersionStatus>| match version {
            Some(version) => format!("{} {}", version.seq, short(&version.digest)),
            None => "-".to_owned(),
        };
        tracks.add_row([track.image.clone(), version(&track.record), version(&track.target), note(track)]);
        for container in &track.containers {
            containers.add_row([
                container.name.as_str(),
                track.image.as_str(),
                container.digest.as_deref().map_or("-", short),
                container.state.as_str(),
                container.reason.as_str(),
            ]);
        }
    }
    if status.tracks.is_empty() {
        text.push_str("no container is managed here; label one with deployer.enable=true\n");
        return text;
    }
    text.push_str(&format!("{tracks}\n\n{containers}"));
    for claim in &status.claims {
        text.push_str(&format!(
            "\n\nslot {} is held by {} for {} ({}); if that node is gone for good: deployer unlock {} --i-know",
            claim.slot, claim.node, claim.container, claim.phase, claim.slot
        ));
    }
    text
}

fn note(track: &TrackStatus) -> String {
    let bad = track.verdicts.iter().filter(|verdict| verdict.verdict == "bad");
    let mut notes: Vec<String> =
        bad.map(|verdict| format!("{} is bad: {}", short(&verdict.digest), verdict.reason)).collect();
    if track.record.as_ref().is_some_and(|record| record.withdrawn) {
        notes.push("newest is rolled back".to_owned());
    }
    if track.pending {
        notes.push("asking the registry".to_owned());
    }
    notes.extend(track.trouble.clone());
    notes.join("; ")
}

/// A table without lines, as docker and kubectl print them.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

/// The first twelve digits of a digest.
pub fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}
