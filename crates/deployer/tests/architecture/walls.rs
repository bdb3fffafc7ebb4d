//! The walls between crates. The compiler holds them for as long as no manifest opens a door.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::{CRATES, ROOT};

/// The crates of this project that a crate may know.
fn known_to(krate: &str) -> &'static [&'static str] {
    match krate {
        "core" | "wire" | "testkit" => &[],
        "engine" | "hooks" => &["deployer-core", "deployer-wire"],
        "store" => &["deployer-core"],
        "agent" | "simulated" => &["deployer-core", "deployer-engine", "deployer-store"],
        _ => {
            &["deployer-agent", "deployer-core", "deployer-engine", "deployer-hooks", "deployer-store", "deployer-wire"]
        }
    }
}

/// Whether a dependency is there for the fixture of unit tests alone, which no program is built with.
fn is_for_tests(name: &str, how: &toml::Value) -> bool {
    name == "deployer-simulated" && how.get("optional").and_then(toml::Value::as_bool) == Some(true)
}

#[test]
fn no_manifest_opens_a_door() {
    for krate in CRATES {
        let manifest = fs::read_to_string(PathBuf::from(ROOT).join(krate).join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = manifest.parse().expect("a manifest");
        let named = manifest.get("dependencies").and_then(toml::Value::as_table).into_iter().flatten();
        let named = named.filter(|(name, how)| name.starts_with("deployer-") && !is_for_tests(name, how));
        let found: BTreeSet<&str> = named.map(|(name, _)| name.as_str()).collect();
        assert_eq!(found, known_to(krate).iter().copied().collect(), "what {krate} knows");
    }
}

#[test]
fn every_crate_is_looked_at() {
    let folders = fs::read_dir(ROOT).expect("the folder of the crates").flatten();
    let found: BTreeSet<String> = folders.map(|folder| folder.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(found, CRATES.into_iter().map(str::to_owned).collect());
}
