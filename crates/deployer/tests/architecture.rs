//! The rules of `ARCHITECTURE.md` that a compiler does not hold, read off the source text.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Every source file below a folder, with its text as far as the unit tests.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
                found.push((name(&path), code));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

fn name(path: &Path) -> String {
    let path = path.to_string_lossy();
    path.rsplit_once("/crates/deployer/../").map_or(path.as_ref(), |(_, name)| name).to_owned()
}

/// No file of a folder but the excepted ones holds any of the texts.
#[track_caller]
fn check(folder: &str, forbidden: &[&str], excepted: &[&str], rule: &str) {
    let is_excepted = |file: &str| excepted.iter().any(|part| file.contains(part));
    let broken: Vec<String> = sources(folder)
        .into_iter()
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
    check("core/src", &forbidden, &["/tests.rs"], "core is pure");
}

#[test]
fn one_file_spawns() {
    let forbidden = [".spawn(", "tokio::spawn", "spawn_blocking", "thread::"];
    // A connection's task belongs to the daemon's tracker; a credential helper is a process, not a task.
    let excepted = ["src/daemon.rs", "http/server.rs", "docker/credentials.rs"];
    check("deployer/src", &forbidden, &excepted, "only daemon.rs spawns");
}

#[test]
fn one_module_speaks_to_docker_one_to_etcd_and_one_to_the_disk_of_the_store() {
    let rule = "an edge is reached through its trait";
    // The doctor looks at what keeps a daemon from starting, so it opens the edges by itself.
    let docker = ["deployer/src/docker/", "src/daemon.rs", "src/lib.rs", "src/cli/doctor/"];
    check("deployer/src", &["docker::"], &docker, rule);
    check("deployer/src", &["etcd_client"], &["store/etcd/"], rule);
    let store = ["store/", "src/daemon.rs", "src/stand_in.rs", "src/cli/doctor/"];
    check("deployer/src", &["redb::", "embedded::"], &store, rule);
}

#[test]
fn edges_know_neither_each_other_nor_a_stage() {
    let stages = ["crate::update", "crate::pull", "crate::restart", "crate::situation", "crate::survey"];
    for (edge, others) in [
        ("deployer/src/docker", ["crate::store", "crate::http", "crate::control", "crate::cli"]),
        ("deployer/src/store", ["crate::docker", "crate::http", "crate::control", "crate::cli"]),
        ("deployer/src/http", ["crate::docker", "crate::engine", "crate::control", "crate::cli"]),
        ("deployer/src/callback", ["crate::docker", "crate::store", "crate::http", "crate::control"]),
    ] {
        check(edge, &others, &[], "edges do not know each other");
        check(edge, &stages, &[], "edges do not know stages");
    }
}

#[test]
fn only_the_restart_stage_stops_renames_or_removes_a_container() {
    let acts = ["engine.stop(", "engine.remove(", "engine.rename(", "engine.create(", "engine.set_restart_policy("];
    check("deployer/src", &acts, &["src/restart/"], "only restart touches containers");
}

/// Built to abort, one panic would end the daemon after all.
#[test]
fn security_1_a_panic_unwinds_in_every_profile() {
    let manifest = fs::read_to_string(PathBuf::from(ROOT).join("../Cargo.toml")).expect("the workspace's manifest");
    assert!(!manifest.lines().any(|line| line.trim_start().starts_with("panic")), "jobs are caught by unwinding");
}

#[test]
fn no_file_is_too_long_to_read() {
    for folder in ["core/src", "deployer/src", "testkit/src"] {
        for (file, _) in sources(folder) {
            let lines = fs::read_to_string(PathBuf::from(ROOT).join(&file)).expect("a source file").lines().count();
            assert!(lines <= 400, "{file} has {lines} lines");
        }
    }
}
