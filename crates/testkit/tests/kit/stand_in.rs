//! A stand-in for the daemon's binary: the kit must not depend on what it tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Stands for the binary: takes its flags, writes its files, listens, and prints what a command line was given.
const STAND_IN: &str = r#"#!/bin/sh
case "$1" in
run)
    shift
    arguments="$*"
    while [ $# -gt 0 ]; do
        case "$1" in
        --listen) listen=$2 ;;
        --state-dir) state=$2 ;;
        --config) cat "$2" >&2 ;;
        esac
        shift
    done
    echo "started with MARK=$MARK" >&2
    echo "$arguments" >"$state/arguments"
    echo "$listen" >"$state/listen.new"
    /bin/busybox mv "$state/listen.new" "$state/listen"
    exec /bin/busybox httpd -f -p "$listen" -h "$state"
    ;;
fail) echo "no such thing" >&2; exit 2 ;;
*) echo "{\"arguments\": \"$*\"}" ;;
esac
"#;

/// Writes it into the directory and returns its path.
pub fn stand_in(directory: &Path) -> PathBuf {
    let binary = directory.join("deployer");
    fs::write(&binary, STAND_IN).expect("the directory can be written");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("own files can be changed");
    binary
}
