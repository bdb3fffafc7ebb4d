//! `deployer history`.

use std::path::Path;

use deployer_wire::encode;

use super::status::{ago, json, short, table};
use super::{Ended, Format, client, say};
use crate::status::{History, VersionStatus};

/// Shows what the registry said of an image, and what became of it.
pub async fn show(socket: &Path, image: &str, format: Format) -> Result<(), Ended> {
    let history: History = client::get(socket, &format!("/v1/history?of={}", encode(image))).await?;
    if format == Format::Json {
        return say::line(&json(&history)?);
    }
    let mut versions = table(&["VERSION", "DIGEST", "FROM", "WHEN", "NOTE"]);
    for version in &history.versions {
        let (seq, when) = (version.seq.to_string(), ago(version.at));
        let note = note(&history, version);
        versions.add_row([seq.as_str(), short(&version.digest), &version.source, &when, &note]);
    }
    if history.versions.is_empty() {
        return say::line(&format!("nothing is known of {} yet", history.image));
    }
    say::line(&versions.to_string())
}

fn note(history: &History, version: &VersionStatus) -> String {
    let mut notes = Vec::new();
    if history.target == Some(version.seq) {
        notes.push("target".to_owned());
    }
    if version.withdrawn {
        notes.push("rolled back".to_owned());
    }
    for verdict in history.verdicts.iter().filter(|verdict| verdict.digest == version.digest) {
        notes.push(match verdict.verdict.as_str() {
            "bad" => format!("bad on {}: {}", verdict.node, verdict.reason),
            word => word.to_owned(),
        });
    }
    notes.dedup();
    notes.join(", ")
}
