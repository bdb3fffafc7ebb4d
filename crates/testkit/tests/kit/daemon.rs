//! The daemon's guard, tried with a stand-in for the binary: the kit must not depend on what it tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use deployer_testkit::{Daemon, Hook, Scene};

/// Stands for the binary: takes its flags, writes its files, listens, and prints what a command line was given.
const STAND_IN: &str = r#"#!/bin/sh
case "$1" in
run)
    shift
    while [ $# -gt 0 ]; do
        case "$1" in
        --listen) listen=$2 ;;
        --state-dir) state=$2 ;;
        --config) cat "$2" >&2 ;;
        esac
        shift
    done
    echo "started with MARK=$MARK" >&2
    echo "$listen" >"$state/listen"
    exec /bin/busybox httpd -f -p "$listen" -h "$state"
    ;;
fail) echo "no such thing" >&2; exit 2 ;;
*) echo "{\"arguments\": \"$*\"}" ;;
esac
"#;

#[test]
fn a_daemon_keeps_its_address_and_state_over_kill_stop_and_restart() {
    let scene = Scene::new();
    let directory = tempfile::tempdir().expect("the temporary directory can be written");
    let binary = directory.path().join("deployer");
    fs::write(&binary, STAND_IN).expect("the temporary directory can be written");
    make_executable(&binary);
    let hook = Hook::native("/hooks/ci");
    let mut daemon = Daemon::builder(&binary, &scene).hook(&hook).settings("timer = 3").env("MARK", "one").start();

    assert!(
        daemon.log().starts_with("timer = 3\n\n[[hook]]\npath = \"/hooks/ci\"\nsource = \"native\"\n"),
        "{}",
        daemon.log()
    );
    assert_eq!(daemon.cli(["fail"]).code, Some(2));
    assert_eq!(daemon.cli(["fail"]).stderr, "no such thing\n");
    let arguments = daemon.status()["arguments"].as_str().expect("the stand-in prints its arguments").to_owned();
    assert!(arguments.starts_with("status -o json --socket /"), "{arguments}");
    assert!(daemon.post(&hook, "{}").is_ok(), "it listens");

    let address = daemon.address().to_owned();
    daemon.kill_9();
    assert!(daemon.post(&hook, "{}").is_err(), "it is gone");
    daemon.restart_with(&[("MARK", "two")]);
    assert_eq!(daemon.address(), address);
    assert!(daemon.log().ends_with("started with MARK=two\n"), "{}", daemon.log());
    assert!(daemon.stop().code().is_none(), "a signal ended the stand-in");
    assert!(!daemon.process().is_running());
}

fn make_executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("own files can be changed");
}
