//! Which container this daemon itself runs in, so that it never replaces itself.

use std::fs;

use anyhow::bail;
use deployer_core::policy::Manage;

/// The ID of the container around this process; `None` outside of one.
///
/// # Errors
/// Inside a container whose ID cannot be told, managing everything is refused.
pub fn container(manage: &Manage) -> anyhow::Result<Option<String>> {
    let told = ["/proc/self/cgroup", "/proc/self/mountinfo"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|text| id_in(&text));
    let is_inside = fs::exists("/.dockerenv").unwrap_or(false) || fs::exists("/run/.containerenv").unwrap_or(false);
    if !is_inside {
        return Ok(None);
    }
    if told.is_none() && *manage == Manage::All {
        bail!("deployer runs in a container and cannot tell which: it might replace itself; use manage = \"labeled\"");
    }
    Ok(told)
}

/// The first container ID in a path of the kernel's: `…/docker/<id>`, `docker-<id>.scope`, `…/containers/<id>/hostname`.
fn id_in(text: &str) -> Option<String> {
    let is_id = |word: &&str| word.len() == 64 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let lines = text.lines().filter(|line| line.contains("docker") || line.contains("containers"));
    lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric())).find(is_id).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_from_the_kernels_paths() {
        let id = "4f".repeat(32);
        for line in [
            format!("0::/docker/{id}"),
            format!("0::/system.slice/docker-{id}.scope"),
            format!("841 829 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw"),
        ] {
            assert_eq!(id_in(&line), Some(id.clone()), "{line}");
        }
        assert_eq!(id_in("0::/user.slice/user-0.slice"), None);
    }
}
