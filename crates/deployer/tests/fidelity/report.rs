//! How cases ended, for the table of cases and engines.

use std::fs;
use std::path::Path;

use deployer_testkit::Engine;
use serde_json::json;

use crate::case::Case;

/// How a case ended.
pub enum Outcome {
    /// The container was replaced twice, and is what its owner asked for.
    Served,
    /// It was left as it is, for this reason.
    Refused(String),
    /// It stayed as its owner left it.
    Left,
    /// This engine is too old to be asked for it.
    Unknown,
    /// None of these: what is wrong.
    Wrong(Vec<String>),
}

impl Outcome {
    /// A word for the table, and why it is so.
    pub fn told(&self) -> (&'static str, String) {
        match self {
            Self::Served => ("served", String::new()),
            Self::Refused(reason) => ("refused", reason.clone()),
            Self::Left => ("left", String::new()),
            Self::Unknown => ("unknown", String::new()),
            Self::Wrong(differences) => ("wrong", differences.join("; ")),
        }
    }
}

/// Writes a group's outcomes, one file for each engine and group.
///
/// # Panics
///
/// When the engine does not say what it is, or the target directory cannot be written.
#[track_caller]
pub fn write(engine: &Engine, group: &str, outcomes: &[(&Case, Outcome)]) {
    let (engine, store) = name_of(engine);
    let cases = outcomes.iter().map(|(case, outcome)| {
        let (outcome, reason) = outcome.told();
        json!({ "case": case.name, "bug": case.bug, "outcome": outcome, "reason": reason })
    });
    let report = json!({ "engine": engine, "store": store, "group": group, "cases": cases.collect::<Vec<_>>() });
    let file = format!("{engine}-{store}-{group}.json").replace(['/', ' '], "-");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
    let directory = target.join("fidelity");
    let written = fs::create_dir_all(&directory).and_then(|()| fs::write(directory.join(file), report.to_string()));
    written.unwrap_or_else(|error| panic!("cannot write to {}: {error}", directory.display()));
}

/// What an engine is, with its version, and how it keeps images.
#[track_caller]
fn name_of(engine: &Engine) -> (String, &'static str) {
    let ask = |path| engine.call("GET", path).unwrap_or_else(|error| panic!("{error}"));
    let (version, info) = (ask("/version"), ask("/info"));
    let is_podman = version["Components"].to_string().contains("Podman");
    let platform = if is_podman { "Podman" } else { "Docker" };
    let store =
        if info["DriverStatus"].to_string().contains("io.containerd.snapshotter") { "containerd" } else { "classic" };
    (format!("{platform} {}", version["Version"].as_str().unwrap_or_default()), store)
}
