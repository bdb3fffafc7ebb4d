//! Temporary directories of engines, daemons and servers, and their removal: when dropped, or by a later process of
//! the kit when the one they belong to was killed.
//!
//! A host's directory has mounts in it, and an engine that was killed leaves processes which use them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::owner::{is_dead, owner};
use crate::process::run;

/// How the names of all of them begin. They are short, for the paths of sockets in them have a limit of 107 bytes.
const PREFIX: &str = "deployer-testkit-";
/// Who made it. A directory without this file was made a moment ago, or has been emptied already.
const OWNER: &str = ".owner";

/// A directory that goes with everything in it.
pub(crate) struct Directory(TempDir);

impl Directory {
    /// Makes one. The first of a process also removes what dead test processes left behind.
    ///
    /// # Panics
    ///
    /// When the temporary directory cannot be written.
    #[track_caller]
    pub(crate) fn make() -> Self {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let made = tempfile::Builder::new().prefix(PREFIX).tempdir().expect("the temporary directory can be written");
        fs::write(made.path().join(OWNER), owner()).expect("a directory that was just made can be written");
        Self(made)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        release(self.path());
    }
}

fn sweep() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for path in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)).map(|e| e.path()) {
        if fs::read_to_string(path.join(OWNER)).is_ok_and(|owner| is_dead(&owner)) {
            release(&path);
            // Another process may be at it as well, or a mount still be busy: then a later sweep removes the rest.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Ends what still runs on it, and takes down its mounts, without which it cannot be removed.
fn release(path: &Path) {
    let path = path.to_string_lossy();
    for process in users(&path) {
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        for pid in children.chain([process]).filter_map(Pid::from_raw) {
            // It ends between the look and the signal, or by it: both are what is wanted.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|mount| mount.starts_with(&*path));
    // What is mounted in another was mounted later.
    for mount in mounts.rev() {
        if let Err(error) = run(Command::new("umount").args(["--lazy", mount])) {
            eprintln!("testkit: {error}");
        }
    }
}

/// The processes on a host that name the directory, which nobody else has, on their command line: the engine, its
/// containerd, and the shims, whose children are the containers. What runs outside of hosts has a guard of its own, or
/// is a person's, who looks at a log.
fn users(path: &str) -> Vec<i32> {
    let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let own = network("self");
    let is_user = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(path))
            && network(&pid.to_string()) != own
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_user).collect()
}
