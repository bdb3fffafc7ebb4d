//! Which process something belongs to, so that what a killed test left is told from what a living one needs.

use std::fs;

/// This process, so exactly that neither a reused pid nor another container's equal pid is taken for it.
pub(crate) fn owner() -> String {
    let pid = std::process::id();
    format!("{}/{pid}/{}", namespace(), start_time(pid).unwrap_or_default())
}

/// Whether the process that once called [`owner`] has ended. Of another machine's, nothing is known.
pub(crate) fn is_dead(owner: &str) -> bool {
    let mut parts = owner.split('/');
    let (Some(of), Some(pid), Some(started)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let Ok(pid) = pid.parse() else { return false };
    of == namespace() && start_time(pid).as_deref() != Some(started)
}

/// The inode of the pid namespace, in which alone a pid means something.
fn namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
}

/// Field 22 of `/proc/PID/stat`, counted after the command's closing bracket because the command may hold spaces.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}
