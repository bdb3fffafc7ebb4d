//! The state directory: locked by one daemon, and the places in it that others look for.

use std::fs::{self, File, OpenOptions, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use deployer_core::ambient::Ambient;
use deployer_core::node::Identity;
use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;

/// The file that holds the address on which hooks are taken.
const ADDRESS: &str = "listen";

/// Makes the directory and locks it for as long as the file lives.
///
/// # Errors
/// If another daemon holds it, or it cannot be made.
pub fn lock(folder: &Path) -> anyhow::Result<File> {
    let shown = folder.display();
    fs::create_dir_all(folder).with_context(|| format!("cannot make the state directory {shown}"))?;
    let path = folder.join("lock");
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

/// By what this daemon is told from every other: the machine's boot, and a random name that the directory keeps.
///
/// # Errors
/// If the name can be neither read nor written.
pub fn identity(folder: &Path, ambient: &Ambient) -> anyhow::Result<Identity> {
    let path = folder.join("identity");
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
    match File::open(folder.join("lock")) {
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
