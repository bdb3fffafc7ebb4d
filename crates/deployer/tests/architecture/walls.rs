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

#[test]
fn no_manifest_opens_a_door() {
    for krate in CRATES {
        let manifest = fs::read_to_string(PathBuf::from(ROOT).join(krate).join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = manifest.parse().expect("a manifest");
        let named =
            manifest.get("dependencies").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
        let found: BTreeSet<&str> = named.map(String::as_str).filter(|name| name.starts_with("deployer-")).collect();
        assert_eq!(found, known_to(krate).iter().copied().collect(), "what {krate} knows");
    }
}

#[test]
fn every_crate_is_looked_at() {
    let folders = fs::read_dir(ROOT).expect("the folder of the crates").flatten();
    let found: BTreeSet<String> = folders.map(|folder| folder.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(found, CRATES.into_iter().map(str::to_owned).collect());
}
