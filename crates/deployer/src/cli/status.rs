//! `deployer status`.

use std::path::Path;

use comfy_table::{Table, presets};

use super::{Ended, Format, client, say};
use crate::status::{ClaimStatus, Status, TrackStatus, UNREADABLE, VersionStatus};

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
    let mut parts = Vec::new();
    if status.paused {
        parts.push("paused: no replacement starts until `deployer resume`".to_owned());
    }
    parts.extend(status.troubles.iter().map(|trouble| format!("trouble: {trouble}")));
    if status.nodes.len() > 1 {
        parts.push(nodes(status));
    }
    if status.tracks.is_empty() {
        parts.push("no container is managed here; label one with deployer.enable=true".to_owned());
    } else {
        parts.push(tracks(status));
        parts.push(containers(status));
    }
    parts.extend(status.claims.iter().map(claim));
    parts.join("\n\n")
}

fn nodes(status: &Status) -> String {
    let mut nodes = table(&["NODE", "STATE", "VERSION", "SINCE"]);
    for node in &status.nodes {
        let since = node.at.map_or_else(|| "-".to_owned(), ago);
        let version = if node.version.is_empty() { "-" } else { &node.version };
        nodes.add_row([node.name.as_str(), node.state.as_str(), version, since.as_str()]);
    }
    nodes.to_string()
}

fn tracks(status: &Status) -> String {
    let mut tracks = table(&["IMAGE", "NEWEST", "TARGET", "NOTE"]);
    for track in &status.tracks {
        let version = |version: &Option<VersionStatus>| match version {
            Some(version) => format!("{} {}", version.seq, short(&version.digest)),
            None => "-".to_owned(),
        };
        tracks.add_row([track.image.clone(), version(&track.record), version(&track.target), note(track)]);
    }
    tracks.to_string()
}

fn containers(status: &Status) -> String {
    let mut containers = table(&["NODE", "CONTAINER", "IMAGE", "DIGEST", "STATE", "REASON"]);
    for track in &status.tracks {
        for container in &track.containers {
            containers.add_row([
                container.node.as_str(),
                container.name.as_str(),
                track.image.as_str(),
                container.digest.as_deref().map_or("-", short),
                container.state.as_str(),
                container.reason.as_str(),
            ]);
        }
    }
    containers.to_string()
}

fn claim(claim: &ClaimStatus) -> String {
    let ClaimStatus { slot, node, container, phase, at, .. } = claim;
    if phase == UNREADABLE {
        return format!(
            "slot {slot} is held by a claim that makes no sense; if no replacement is under way: deployer unlock {slot} --i-know"
        );
    }
    format!(
        "slot {slot} is held by {node} for {container} ({phase}, {}); if that node is gone for good: \
         deployer unlock {slot} --i-know",
        ago(*at)
    )
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

/// How long ago Unix seconds were, in one unit, as docker and kubectl say it.
pub fn ago(at: i64) -> String {
    match jiff::Timestamp::now().as_second().saturating_sub(at).max(0) {
        seconds @ 0..120 => format!("{seconds} s ago"),
        seconds @ 120..7_200 => format!("{} min ago", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ContainerStatus, NodeStatus, VerdictStatus};

    /// A daemon of another version, or another node's, may hand on what it likes.
    #[test]
    fn security_9_no_status_brings_a_control_character_or_a_false_line_before_people() {
        let evil = || "x\n\u{1b}[2J\rweb  current\u{202e}\u{9b}".to_owned();
        let version = || VersionStatus { seq: 1, digest: evil(), source: evil(), at: 0, withdrawn: false };
        let container = ContainerStatus {
            node: evil(),
            name: evil(),
            id: evil(),
            image_id: evil(),
            digest: Some(evil()),
            state: evil(),
            reason: evil(),
            row: evil(),
            refusal: Some(evil()),
            service: evil(),
        };
        let verdict =
            VerdictStatus { service: evil(), digest: evil(), verdict: "bad".to_owned(), reason: evil(), node: evil() };
        let track = TrackStatus {
            image: evil(),
            record: Some(version()),
            target: Some(version()),
            pending: true,
            trouble: Some(evil()),
            verdicts: vec![verdict],
            containers: vec![container],
        };
        let claim = ClaimStatus { slot: evil(), node: evil(), container: evil(), image: evil(), phase: evil(), at: 0 };
        let node = || NodeStatus { name: evil(), state: evil(), version: evil(), scope: evil(), at: None };
        let status = Status {
            nodes: vec![node(), node()],
            tracks: vec![track],
            claims: vec![claim],
            troubles: vec![evil()],
            ..Status::default()
        };
        let status = client::read(&serde_json::to_vec(&status).expect("JSON")).expect("a status");
        let shown = text(&status);
        assert!(
            !shown.chars().any(|letter| letter != '\n' && (letter.is_control() || letter == '\u{202e}')),
            "{shown:?}"
        );
        // Tables with their heads and two, one and one rows, trouble and claim, and what is between them.
        assert_eq!(shown.lines().filter(|line| !line.trim().is_empty()).count(), 3 + 2 + 2 + 1 + 1, "{shown}");
    }
}
