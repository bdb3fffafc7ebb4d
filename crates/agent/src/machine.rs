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

/// A disk, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    pub free: u64,
    pub size: u64,
}

/// The disk on which the engine keeps its files of a container, and mostly its images; `None` if it is not to be seen.
pub async fn disk(root: &Path, container: &Value) -> Option<Disk> {
    let file = engines_file(root, container).await?;
    let disk = rustix::fs::statvfs(&file).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Some(Disk { free: bytes(disk.f_bavail), size: bytes(disk.f_blocks) })
}

/// Below which path this process sees the files of the machine as the engine does, by what the engine has started a running
/// container with: a service may have a `/tmp` and a `/dev` of its own, and so may an engine. `None` if that cannot be told.
pub fn as_the_engine_sees_it(root: &Path, container: &Value) -> Option<PathBuf> {
    let status = std::fs::read_to_string(root.join(format!("proc/{}/status", process(container)))).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim();
    let files_of = |process: &str| std::fs::read_link(root.join("proc").join(process).join("ns/mnt")).ok();
    let (own, engines) = (files_of("self")?, files_of(parent)?);
    Some(if own == engines { root.to_owned() } else { root.join("proc").join(parent).join("root") })
}

/// The ID of a container's first process; 0 if there is none.
pub fn process(container: &Value) -> u64 {
    container.pointer("/State/Pid").and_then(Value::as_u64).unwrap_or_default()
}

/// Whether what was mounted at a place of a running container has been removed since, as the kernel tells: another file that took
/// its name does not change that. A container that does not run, or in which something else lies at the place, tells nothing.
pub fn was_removed(root: &Path, container: &Value, target: &str) -> bool {
    let mounts =
        std::fs::read_to_string(root.join(format!("proc/{}/mountinfo", process(container)))).unwrap_or_default();
    is_removed(&mounts, target)
}

/// The same by a process' list of mounts (proc_pid_mountinfo(5): the fourth field is the source, the fifth the place).
fn is_removed(mounts: &str, target: &str) -> bool {
    let place = target.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012");
    let mut at_place = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (source, found) = (fields.next()?, fields.next()?);
        (found == place).then_some(source)
    });
    at_place.next_back().is_some_and(|source| source.ends_with("//deleted"))
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_told_by_the_kernel() {
        let mounts = "22 1 0:5 / / rw - overlay overlay rw\n\
                      31 22 8:1 /srv/app.conf//deleted /etc/app.conf ro shared:1 - ext4 /dev/sda1 rw\n\
                      32 22 8:1 /srv/data /data rw - ext4 /dev/sda1 rw\n\
                      33 22 8:1 /srv/a\\040b//deleted /with\\040space rw - ext4 /dev/sda1 rw\n\
                      34 22 8:1 /srv/old//deleted /twice rw - ext4 /dev/sda1 rw\n\
                      35 34 8:1 /srv/new /twice rw - ext4 /dev/sda1 rw\n";
        for (place, expected) in
            [("/etc/app.conf", true), ("/data", false), ("/with space", true), ("/twice", false), ("/nowhere", false)]
        {
            assert_eq!(is_removed(mounts, place), expected, "{place}");
        }
        assert!(!is_removed("", "/data"));
        assert!(!is_removed("nonsense\n1 2 3\n", "/data"));
    }

    /// A service with a `/tmp` and a `/dev` of its own took every file there for gone.
    #[test]
    fn a_service_with_files_of_its_own_looks_where_the_engine_does() {
        let container = serde_json::json!({"State": {"Pid": 7}});
        let link = |root: &Path, process: &str, to: &str| {
            let folder = root.join("proc").join(process).join("ns");
            std::fs::create_dir_all(&folder).expect("a folder");
            std::os::unix::fs::symlink(to, folder.join("mnt")).expect("a link");
        };
        for (own, engines, expected) in [("mnt:[1]", "mnt:[1]", ""), ("mnt:[2]", "mnt:[1]", "proc/3/root")] {
            let root = tempfile::tempdir().expect("a folder");
            link(root.path(), "self", own);
            link(root.path(), "3", engines);
            assert_eq!(as_the_engine_sees_it(root.path(), &container), None, "nothing is told");
            std::fs::create_dir_all(root.path().join("proc/7")).expect("a folder");
            std::fs::write(root.path().join("proc/7/status"), "Name:\tweb\nPPid:\t3\n").expect("a file");
            let seen = as_the_engine_sees_it(root.path(), &container);
            assert_eq!(seen, Some(root.path().join(expected)), "{own} {engines}");
        }
    }
}
