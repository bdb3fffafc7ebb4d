//! The state directory: locked by one daemon, and the places in it that others look for.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use deployer_core::ambient::Ambient;
use deployer_core::node::Identity;
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::process::umask;
use tokio::net::UnixListener;

use crate::config::STORE;

/// The file whose lock says that a daemon runs.
const LOCK: &str = "lock";
/// The file that keeps by what this daemon is told from every other.
const IDENTITY: &str = "identity";
/// The file that holds the address on which hooks are taken.
const ADDRESS: &str = "listen";

/// The files that a version before this one may have left open to others.
const FILES: [&str; 4] = [LOCK, IDENTITY, ADDRESS, STORE];

/// Lets nobody else read what this process makes from now on; a service manager may not have seen to that.
pub fn keep_to_ourselves() {
    umask(Mode::from_raw_mode(0o077));
}

/// Makes the directory and locks it for as long as the file lives.
///
/// # Errors
/// If another daemon holds it, or it cannot be made.
pub fn lock(folder: &Path) -> anyhow::Result<File> {
    let shown = folder.display();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make the state directory {shown}"))?;
    // A group that the operator let in reaches the socket, and no file.
    close(folder, 0o770);
    FILES.iter().for_each(|file| close(&folder.join(file), 0o600));
    let path = folder.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("the state directory {shown} is in use by another deployer; stop that one, or give --state-dir another");
    }
    Ok(file)
}

/// Takes from a file, if it is there, what is not in `most`. Where that is not allowed it belongs to somebody else, who
/// may have reasons: that is no reason not to work.
fn close(path: &Path, most: u32) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & !most & 0o777 == 0 {
        return;
    }
    if let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode & (most | 0o7000))) {
        tracing::warn!(path = %path.display(), error = %error, "others may read this");
    }
}

/// By what this daemon is told from every other: the machine's boot, and a random name that the directory keeps.
///
/// # Errors
/// If the name can be neither read nor written.
pub fn identity(folder: &Path, ambient: &Ambient) -> anyhow::Result<Identity> {
    let path = folder.join(IDENTITY);
    let known = fs::read_to_string(&path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let state = if known.is_empty() { ambient.hex(32) } else { known };
    if !path.exists() || fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
        // By rename, and only once: on a full disk a file that is written anew is left empty, and the name lost.
        let fresh = folder.join("identity.new");
        let written = fs::write(&fresh, format!("{state}\n")).and_then(|()| fs::rename(&fresh, &path));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    // Without a kernel that tells its boot, every start counts as one on another machine, and waits for the lease's end.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_else(|_| ambient.hex(32));
    Ok(Identity { boot: boot.trim().to_owned(), state })
}

/// Whether somebody holds the directory's lock. It is tried, and let go at once.
///
/// # Errors
/// If the lock cannot be looked at.
pub fn is_locked(folder: &Path) -> std::io::Result<bool> {
    match File::open(folder.join(LOCK)) {
        Ok(file) => Ok(flock(&file, FlockOperation::NonBlockingLockShared).is_err()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Leaves the address that hooks are taken on, for scripts that asked for a free port.
///
/// # Errors
/// If the file cannot be written.
pub fn write_address(folder: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let (path, fresh) = (folder.join(ADDRESS), folder.join("listen.new"));
    // A script that waits for the file must never read half of it.
    let written = fs::write(&fresh, format!("{address}\n")).and_then(|()| fs::rename(&fresh, &path));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// The address that the last daemon left.
pub fn read_address(folder: &Path) -> Option<SocketAddr> {
    fs::read_to_string(folder.join(ADDRESS)).ok()?.trim().parse().ok()
}

/// Binds the local API's socket for root and the socket's group. One that a dead daemon left is replaced: the
/// lock says that it is dead.
///
/// # Errors
/// If the socket cannot be bound.
pub fn bind_socket(path: &Path) -> anyhow::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let socket = UnixListener::bind(path).with_context(|| format!("cannot bind {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_12_a_state_directory_is_made_for_its_user_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("new/state");
        let _lock = lock(&state).expect("locked");
        assert_eq!(fs::metadata(&state).expect("made").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn security_12_what_others_may_do_is_taken_and_nothing_is_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "").expect("written");
        for (before, most, after) in [
            (0o644, 0o600, 0o600),
            (0o400, 0o600, 0o400),
            (0o777, 0o770, 0o770),
            (0o2755, 0o770, 0o2750),
            (0o700, 0o770, 0o700),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(before)).expect("ours");
            close(&path, most);
            let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o7777;
            assert_eq!(mode, after, "{before:o} {most:o}");
        }
        close(&folder.path().join("absent"), 0o600);
    }
}
