//! The rules of `ARCHITECTURE.md` that a compiler does not hold, read off the source text.

mod circles;
mod walls;

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Every crate, by its folder below `crates`.
const CRATES: [&str; 9] = ["agent", "core", "deployer", "engine", "hooks", "simulated", "store", "testkit", "wire"];

/// Every source file of a crate, with its text as far as the unit tests.
fn sources(krate: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(ROOT).join(krate).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let is_of_tests =
                    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
                let code =
                    text.split("#[cfg(test)]\nmod ").next().filter(|_| !is_of_tests).unwrap_or_default().to_owned();
                found.push((name(&path), code));
            }
        }
    }
    assert!(!found.is_empty(), "{krate} has sources");
    found.sort();
    found
}

fn name(path: &Path) -> String {
    let path = path.to_string_lossy();
    path.rsplit_once("/crates/deployer/../").map_or(path.as_ref(), |(_, name)| name).to_owned()
}

/// No file of these crates but the excepted ones holds any of the texts.
#[track_caller]
fn check(crates: &[&str], forbidden: &[&str], excepted: &[&str], rule: &str) {
    let is_excepted = |file: &str| excepted.iter().any(|part| file.contains(part));
    let broken: Vec<String> = crates
        .iter()
        .flat_map(|krate| sources(krate))
        .filter(|(file, _)| !is_excepted(file))
        .flat_map(|(file, code)| {
            let lines: Vec<String> = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .filter(|line| forbidden.iter().any(|text| line.contains(text)))
                .map(|line| format!("{file}: {}", line.trim()))
                .collect();
            lines
        })
        .collect();
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

#[test]
fn core_does_no_input_or_output_and_knows_no_time() {
    let forbidden = [
        "tokio",
        "std::fs",
        "std::net::Tcp",
        "std::process",
        "std::env",
        "SystemTime",
        "Instant",
        "async ",
        "HashMap",
        "rand::",
    ];
    check(&["core"], &forbidden, &["/tests.rs"], "core is pure");
}

#[test]
fn one_file_spawns() {
    let forbidden = [".spawn(", "tokio::spawn", "spawn_blocking", "thread::"];
    let crates = ["agent", "deployer", "engine", "hooks", "store", "wire"];
    // A connection's task belongs to the daemon's tracker; a credential helper is a process, not a task.
    let excepted = ["deployer/src/daemon.rs", "hooks/src/http/server.rs", "engine/src/registry/credentials.rs"];
    check(&crates, &forbidden, &excepted, "only daemon.rs spawns");
}

/// `select!` looks at its branches in an order drawn by chance, unless it is told not to; then a seed of the simulated
/// cluster would not make the same storm twice.
#[test]
fn the_stages_choose_by_order_and_not_by_chance() {
    // What only a real network is waited for by is no part of the simulation.
    let is_simulated = |file: &str| !file.contains("/etcd/") && !file.contains("/embedded");
    let all = ["agent", "simulated", "store"].into_iter().flat_map(sources);
    for (file, code) in all.filter(|(file, _)| is_simulated(file)) {
        let lines: Vec<&str> = code.lines().map(str::trim).collect();
        let by_chance = lines.windows(2).filter(|two| two[0].ends_with("select! {") && two[1] != "biased;");
        assert_eq!(by_chance.count(), 0, "{file}: select! without `biased;`");
    }
}

#[test]
fn docker_etcd_and_the_disk_of_the_store_are_reached_through_a_trait() {
    let implementations =
        ["deployer_engine::docker", "deployer_store::embedded", "deployer_store::etcd", "deployer_store::unopened"];
    // The daemon opens the edges. The doctor looks at what keeps a daemon from starting, so it opens them by itself. The
    // settings say where etcd is.
    let excepted = ["agent/src/fixture.rs", "deployer/src/daemon.rs", "deployer/src/cli/doctor/", "src/config/etcd.rs"];
    check(&["agent", "deployer"], &implementations, &excepted, "an edge is reached through its trait");
}

/// A value of this trait is all that it takes to stop a container, so nobody may keep one for others to take.
#[test]
fn the_hand_is_given_to_the_restart_stage_alone_and_that_for_images_to_the_pull_stage() {
    let daemon = "deployer/src/daemon.rs";
    check(
        &["agent", "deployer"],
        &["dyn Hand"],
        &["agent/src/restart/", "agent/src/site.rs", daemon],
        "only restart touches containers",
    );
    let of_images = ["agent/src/restart/", "agent/src/pull.rs", "agent/src/keep.rs", daemon];
    check(&["agent", "deployer"], &["dyn ImageHand"], &of_images, "only restart and pull touch images");
}

#[test]
fn no_file_is_too_long_to_read() {
    for (file, _) in CRATES.into_iter().flat_map(sources) {
        let lines = fs::read_to_string(PathBuf::from(ROOT).join(&file)).expect("a source file").lines().count();
        assert!(lines <= 400, "{file} has {lines} lines");
    }
}

/// Built to abort, one panic would end the daemon after all.
#[test]
fn security_1_a_panic_unwinds_in_every_profile() {
    let manifest = fs::read_to_string(PathBuf::from(ROOT).join("../Cargo.toml")).expect("the workspace's manifest");
    assert!(!manifest.lines().any(|line| line.trim_start().starts_with("panic")), "jobs are caught by unwinding");
}
