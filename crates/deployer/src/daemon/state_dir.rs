//! The state directory: locked by one daemon, and the places in it that others look for.

use std::fs::{self, File, OpenOptions, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;

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

/// Leaves the address that hooks are taken on, for scripts that asked for a free port.
///
/// # Errors
/// If the file cannot be written.
pub fn write_address(folder: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let (path, fresh) = (folder.join("listen"), folder.join("listen.new"));
    // A script that waits for the file must never read half of it.
    let written = fs::write(&fresh, format!("{address}\n")).and_then(|()| fs::rename(&fresh, &path));
    written.with_context(|| format!("cannot write {}", path.display()))
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
