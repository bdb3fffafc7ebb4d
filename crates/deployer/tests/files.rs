//! What a daemon leaves on the disk and in the log, and for whom.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use common::BINARY;
use deployer_testkit::{Daemon, Scene};

/// Every file below a folder that others than its owner may touch; the socket is for its group, too.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let metadata = fs::symlink_metadata(&path).expect("a file");
        let mode = metadata.permissions().mode() & 0o777;
        let allowed = match metadata.file_type() {
            kind if kind.is_dir() => 0o700,
            kind if kind.is_socket() => 0o660,
            _ => 0o600,
        };
        if mode & !allowed != 0 {
            found.push(format!("{} {mode:o}", path.display()));
        }
        if metadata.is_dir() {
            found.extend(open_to_others(&path));
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// Started by hand there is no unit to say so: a password of a container's environment lay open in the store.
#[test]
fn security_12_what_a_daemon_keeps_is_for_its_user_alone() {
    let scene = Scene::new();
    let mut daemon = Daemon::builder(BINARY, &scene).start();
    let state = daemon.state_directory().to_owned();
    assert_eq!(open_to_others(&state), [""; 0]);
    assert_eq!(mode(&state) & 0o007, 0, "nobody else may even look for the lock");
    // As a version before this one left it, with what a crash in the middle of a write leaves.
    daemon.kill_9();
    fs::set_permissions(&state, Permissions::from_mode(0o755)).expect("ours");
    for file in ["lock", "identity", "store.redb"] {
        fs::set_permissions(state.join(file), Permissions::from_mode(0o644)).expect("ours");
    }
    let unfinished = state.join("replacements/00c0ffee.new");
    fs::write(&unfinished, r#"{"facts": {"body": {"Env": ["PASSWORD=hunter2"]}}}"#).expect("ours");
    daemon.restart();
    assert_eq!(open_to_others(&state), [""; 0]);
    assert_eq!(mode(&state), 0o750, "a group that the operator let in stays in");
    assert!(!unfinished.exists(), "what a crash left in the middle is of no use");
}

/// Whoever is in the socket's group may stop every deployment.
#[test]
fn security_17_the_log_tells_who_asked_for_what() {
    let scene = Scene::new();
    let daemon = Daemon::builder(BINARY, &scene).start();
    let uid = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).expect("a process");
    for (arguments, verb, of) in [
        (["pause", "night\n shift"], "pause", r"night\n shift"),
        (["rollback", "nobody/runs:this"], "rollback", "nobody/runs:this"),
        (["forget-node", "gone"], "forget-node", "gone"),
    ] {
        daemon.cli(arguments);
        let log = daemon.log();
        let told = |line: &str| {
            [format!("uid={uid}"), format!("verb=\"{verb}\""), of.to_owned()].iter().all(|word| line.contains(word))
        };
        assert!(log.lines().any(told), "{verb}: {log}");
    }
    daemon.cli(["status", "-o"].map(|word| if word == "-o" { "--output=json" } else { word }));
    assert!(!daemon.log().contains("verb=\"status\""), "who looks changes nothing");
}
