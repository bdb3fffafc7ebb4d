//! The engine's machine, as far as this process sees its files.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// How long a file may take to be looked at. One of another machine that is away may take for ever, and is passed over then.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(5);

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Directory,
    Other,
    Nothing,
    /// This process may not look, or had no answer.
    Unknown,
}

/// What lies at a path of the machine.
pub async fn look(root: &Path, path: &str) -> Found {
    let looked = tokio::fs::metadata(below(root, path));
    match tokio::time::timeout(LOOKED_AT_WITHIN, looked).await {
        Ok(Ok(metadata)) if metadata.is_dir() => Found::Directory,
        Ok(Ok(_)) => Found::Other,
        Ok(Err(error)) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Found::Nothing,
        Ok(Err(_)) | Err(_) => Found::Unknown,
    }
}

/// The engine's own file of a container, by the container's inspection. `None` where it is not to be seen: the engine is on
/// another machine, or has a file system of its own.
pub async fn engines_file(root: &Path, container: &Value) -> Option<PathBuf> {
    let path = container.get("HostnamePath").and_then(Value::as_str).filter(|path| !path.is_empty())?;
    (look(root, path).await == Found::Other).then(|| below(root, path))
}

/// Free bytes of the disk on which the engine keeps its files of a container, and mostly its images; `None` if it is not to be seen.
pub async fn free(root: &Path, container: &Value) -> Option<u64> {
    let file = engines_file(root, container).await?;
    let disk = rustix::fs::statvfs(&file).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
