//! Which container this daemon itself runs in, so that it never replaces itself.

use std::fs;

use anyhow::bail;
use deployer_core::policy::Manage;

/// Files that an engine mounts into every container, from the folder that it keeps of that container. A mere machine has none of
/// its own mounted there, though it may have been made of an image, and then has the file that marks a container.
const OF_THE_ENGINE: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// What the kernel tells of the container around a process.
#[derive(Debug, PartialEq, Eq)]
enum Around {
    Nothing,
    /// One whose ID is not told.
    Some,
    Container(String),
}

/// The ID of the container around this process; `None` outside of one.
///
/// # Errors
/// Inside a container whose ID cannot be told, managing everything is refused.
pub fn container(manage: &Manage) -> anyhow::Result<Option<String>> {
    let is_marked = fs::exists("/.dockerenv").unwrap_or(false) || fs::exists("/run/.containerenv").unwrap_or(false);
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    match around(is_marked, &read("/proc/self/cgroup"), &read("/proc/self/mountinfo")) {
        Around::Nothing => Ok(None),
        Around::Container(id) => Ok(Some(id)),
        Around::Some if *manage == Manage::All => bail!(
            "deployer runs in a container and cannot tell which: it might replace itself; use manage = \"labeled\""
        ),
        Around::Some => Ok(None),
    }
}

/// What is around a process with these control groups and mounts, where a file marks the inside of a container, or does not.
fn around(is_marked: bool, control_groups: &str, mounts: &str) -> Around {
    // The fourth field is the source, the fifth the place: proc_pid_mountinfo(5). Other mounts may be of other containers: an
    // engine has memory that these share mounted on the machine, in a folder named after each.
    let own = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (source, place) = (fields.next()?, fields.next()?);
        OF_THE_ENGINE.contains(&place).then_some(source)
    });
    let own: Vec<&str> = own.collect();
    let of_groups = control_groups.lines().filter(|line| line.contains("docker") || line.contains("libpod"));
    match of_groups.chain(own.iter().copied()).find_map(id_in) {
        _ if !is_marked => Around::Nothing,
        Some(id) => Around::Container(id),
        None if own.is_empty() => Around::Nothing,
        None => Around::Some,
    }
}

/// The container's ID in a path of the kernel's: `…/docker/<id>`, `docker-<id>.scope`, `…/containers/<id>/hostname`. Where an engine
/// runs in a container or keeps its files in a volume, theirs stand before it.
fn id_in(path: &str) -> Option<String> {
    let is_id = |word: &&str| word.len() == 64 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    path.split(|c: char| !c.is_ascii_alphanumeric()).rfind(is_id).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(is_marked: bool, control_groups: &str, mounts: &str, expected: Around) {
        assert_eq!(around(is_marked, control_groups, mounts), expected, "{control_groups:?} {mounts:?}");
    }

    #[test]
    fn the_id_is_read_from_the_kernels_paths() {
        let (id, own) = ("4f".repeat(32), "841 829 8:1");
        let is_it = || Around::Container("4f".repeat(32));
        check(true, &format!("12:cpu:/docker/{id}\n"), "", is_it());
        check(true, &format!("0::/system.slice/docker-{id}.scope\n"), "", is_it());
        check(
            true,
            "0::/\n",
            &format!("{own} /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 x rw"),
            is_it(),
        );
        let podmans = format!("{own} /overlay-containers/{id}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw");
        check(true, "0::/\n", &podmans, is_it());
        check(true, "0::/\n", &format!("{own} /srv/hosts /etc/hosts rw - ext4 x rw"), Around::Some);
        check(true, "0::/user.slice/user-0.slice\n", "", Around::Nothing);
        let outer = "0e".repeat(32);
        check(true, &format!("12:cpu:/docker/{outer}/docker/{id}\n"), "", is_it());
        let volume = format!(
            "{own} /var/lib/docker/volumes/{outer}/_data/containers/{id}/hostname /etc/hostname rw - ext4 x rw"
        );
        check(true, "0::/\n", &volume, is_it());
        check(false, &format!("12:cpu:/docker/{id}\n"), &podmans, Around::Nothing);
    }

    /// On a machine made of an image, which is marked as a container is, the first container that shares its memory was taken for
    /// deployer's own: it was never replaced, and nobody looked for the others' files.
    #[test]
    fn memory_that_another_container_shares_is_not_mounted_by_the_container_around() {
        let shared = format!(
            "61 42 0:57 / /var/lib/docker/containers/{}/mounts/shm rw,nosuid shared:12 - tmpfs shm rw,size=65536k\n",
            "4f".repeat(32)
        );
        check(true, "12:cpu:/\n0::/\n", &shared, Around::Nothing);
        let own = "a0".repeat(32);
        let inside = format!("{shared}841 829 8:1 /var/lib/docker/containers/{own}/hosts /etc/hosts rw - ext4 x rw\n");
        check(true, "0::/\n", &inside, Around::Container(own));
    }
}
