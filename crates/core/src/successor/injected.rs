//! Files that somebody put into a container instead of into its image: the successor would silently lack them.
//!
//! Compose writes `configs:` and `secrets:` with inline content into a container between its creation and each start;
//! `docker cp` does the same by hand. Nothing marks such files. Ordinary containers write files all the time, so the
//! mere list of changed paths tells only the customary place of secrets. The rest is told by time, and only for a
//! container that never exited: a file older than its first start was not written by it. Two kinds of old files are
//! innocent: those that the program itself unpacks with their old times (recognised by a package database or a
//! module directory), and those of an earlier run, which is why a container that exited before gets the first rule only.
//!
//! What this cannot see: files injected into a container that has been restarted since, outside `/run/secrets`; files
//! put with a new time into a running container; and injected files inside directories where programs keep their state.

use std::collections::BTreeSet;

use serde_json::Value;

use super::json::{clean_path, items, members, text};

/// Most files to look at in one container. Of more, those nearest to the root are taken.
const LOOKS_MAX: usize = 64;
/// Where secrets are put by custom. Programs do not write there.
const SECRET_DIRECTORIES: [&str; 2] = ["/run/secrets", "/var/run/secrets"];
/// Where programs write while they run, and nobody injects a setting.
const RUNTIME_DIRECTORIES: [&str; 11] = [
    "/dev",
    "/proc",
    "/run",
    "/sys",
    "/tmp",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];
/// A change in one of these means that the container installs packages, whose files have the times of their build.
const PACKAGE_DATABASES: [&str; 4] = ["/lib/apk/db", "/usr/lib/sysimage/rpm", "/var/lib/dpkg", "/var/lib/rpm"];
/// Directories that language tools fill while a program starts, with the times of the packages' build.
const MODULE_DIRECTORIES: [&str; 2] = ["node_modules", "site-packages"];

/// A changed file in a container, as the engine's archive call describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// Absolute path in the container.
    pub path: String,
    /// Whether it is a directory; the time of one says nothing.
    pub is_directory: bool,
    /// Time of the last modification, RFC 3339.
    pub modified: String,
}

/// Which of the changed paths are worth asking the engine for their times, at most 64, those nearest to the root first.
/// Empty where times cannot tell anything.
pub fn files_to_look_at(container: &Value, changes: &[String]) -> Vec<String> {
    if has_exited(container) {
        return Vec::new();
    }
    let mut paths: Vec<String> = own_files(container, changes)
        .into_iter()
        .filter(|path| !RUNTIME_DIRECTORIES.iter().any(|directory| is_in(path, directory)))
        .map(str::to_owned)
        .collect();
    paths.sort_by_key(|path| (path.matches('/').count(), path.clone()));
    paths.truncate(LOOKS_MAX);
    paths
}

/// The files that were put into a container, sorted. `changes` are the paths that the engine lists as added or changed;
/// `files` is what it says of [`files_to_look_at`], and may be empty where it was not asked.
pub fn injected_files(container: &Value, changes: &[String], files: &[ChangedFile]) -> Vec<String> {
    let mut injected: BTreeSet<String> = own_files(container, changes)
        .into_iter()
        .filter(|path| SECRET_DIRECTORIES.iter().any(|directory| is_in(path, directory)))
        .map(str::to_owned)
        .collect();
    if has_exited(container) {
        return injected.into_iter().collect();
    }
    // A container that was never started has no such time: all that was changed in it was put there.
    let started = nanoseconds(text(container, "/State/StartedAt")).unwrap_or(i64::MAX);
    let created = nanoseconds(text(container, "/Created")).unwrap_or(i64::MAX);
    let installs = changes.iter().any(|path| PACKAGE_DATABASES.iter().any(|database| is_in(path, database)));
    for file in files.iter().filter(|file| !file.is_directory) {
        let Some(modified) = nanoseconds(&file.modified) else { continue };
        let is_unpacked = installs || file.path.split('/').any(|part| MODULE_DIRECTORIES.contains(&part));
        let is_of_this_container = modified >= created;
        if modified < started && (is_of_this_container || !is_unpacked) {
            injected.insert(file.path.clone());
        }
    }
    injected.into_iter().collect()
}

/// Whether the container's process has ended before: what it wrote then is older than its latest start.
fn has_exited(container: &Value) -> bool {
    nanoseconds(text(container, "/State/FinishedAt")).is_some()
}

/// The changed paths but for directories of other changed paths, and for what the engine makes for mounts.
fn own_files<'a>(container: &Value, changes: &'a [String]) -> Vec<&'a str> {
    let mounts: Vec<String> = items(container, "/Mounts")
        .iter()
        .map(|mount| clean_path(text(mount, "/Destination")))
        .chain(members(container, "/HostConfig/Tmpfs").map(|(path, _)| clean_path(path)))
        .collect();
    let mut sorted: Vec<&str> = changes.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    // With a slash behind it, a directory sorts directly before what is in it.
    let is_directory = |path: &str| {
        let inside = format!("{path}/");
        let next = sorted.partition_point(|other| *other < inside.as_str());
        sorted.get(next).is_some_and(|other| other.starts_with(&inside))
    };
    let is_of_mount = |path: &str| mounts.iter().any(|mount| is_in(path, mount) || is_in(mount, path));
    sorted.iter().copied().filter(|path| !is_directory(path) && !is_of_mount(path)).collect()
}

/// Whether a path is a directory or lies in it.
fn is_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Nanoseconds since 1970 of an RFC 3339 time; `None` for anything else, and for the year 1, with which engines say
/// that something has not happened.
fn nanoseconds(time: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds_of_day = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    let rest = time.get(19..)?;
    let fraction_end = rest.find(['Z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(fraction_end);
    let digits = fraction.strip_prefix('.').unwrap_or("");
    let nanoseconds = format!("{digits:0<9}").get(..9)?.parse::<i64>().ok()?;
    let offset = match zone.split_at(1) {
        ("Z", _) => 0,
        (sign, offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if sign == "-" { -seconds } else { seconds }
        }
    };
    // Days of the civil calendar, counted in years that begin in March so that the leap day comes last.
    let march_year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * march_year + march_year / 4 - march_year / 100 + march_year / 400 + day_of_year - 719_468;
    (days * 86_400 + seconds_of_day - offset).checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_read_with_fraction_and_zone() {
        for (time, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T01:00:00.5+01:00", Some(500_000_000)),
            ("2024-02-29T12:34:56.123456789Z", Some(1_709_210_096_123_456_789)),
            ("2026-11-24T13:32:31.047600804Z", Some(1_795_527_151_047_600_804)),
            ("2026-11-24T10:32:31-03:00", Some(1_795_527_151_000_000_000)),
            ("0001-01-01T00:00:00Z", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(nanoseconds(time), expected, "{time}");
        }
    }

    const CREATED: &str = "2026-11-24T10:00:00Z";
    const STARTED: &str = "2026-11-24T10:00:05Z";
    const NEVER: &str = "0001-01-01T00:00:00Z";

    /// A container created at ten o'clock, started five seconds later, with a volume and a secret mounted.
    fn container(started: &str, finished: &str) -> Value {
        json!({
            "Created": CREATED,
            "State": { "StartedAt": started, "FinishedAt": finished },
            "HostConfig": { "Tmpfs": { "/scratch": "" } },
            "Mounts": [{ "Destination": "/data" }, { "Destination": "/run/secrets/mounted" }],
        })
    }

    #[track_caller]
    fn check(container: &Value, changed: &[(&str, &str)], expected: &[&str]) {
        let changes: Vec<String> = changed.iter().map(|(path, _)| (*path).to_owned()).collect();
        let looked_at = files_to_look_at(container, &changes);
        let files: Vec<ChangedFile> = changed
            .iter()
            .filter(|(path, _)| looked_at.iter().any(|looked_at| looked_at == path))
            .map(|(path, modified)| ChangedFile {
                path: (*path).to_owned(),
                is_directory: path.ends_with(".d"),
                modified: (*modified).to_owned(),
            })
            .collect();
        assert_eq!(injected_files(container, &changes, &files), expected);
    }

    const INJECTED: &str = "2026-11-24T10:00:03+00:00";
    const OLD: &str = "2020-01-01T00:00:00Z";
    const LATER: &str = "2026-11-24T11:00:00Z";

    #[test]
    fn t37_files_written_into_the_container_before_its_start_are_found() {
        let running = container(STARTED, NEVER);
        check(&running, &[("/etc", LATER), ("/etc/app.yml", INJECTED)], &["/etc/app.yml"]);
        check(&running, &[("/my_config", INJECTED)], &["/my_config"]);
        check(&running, &[("/etc/copied.conf", OLD)], &["/etc/copied.conf"]);
        check(
            &running,
            &[("/run", LATER), ("/run/secrets", LATER), ("/run/secrets/key", LATER)],
            &["/run/secrets/key"],
        );
    }

    #[test]
    fn t37_what_a_program_writes_itself_is_no_reason_to_refuse() {
        let running = container(STARTED, NEVER);
        let ordinary =
            ["/tmp/x", "/run/app.pid", "/var/log/app.log", "/var/cache/app/1", "/etc/generated.conf", "/app.db"];
        check(&running, &ordinary.map(|path| (path, LATER)), &[]);
        check(
            &running,
            &[("/var/lib/dpkg/status", LATER), ("/etc/new-package.conf", OLD), ("/usr/bin/tool", OLD)],
            &[],
        );
        check(&running, &[("/app/node_modules/left/index.js", OLD)], &[]);
        check(&running, &[("/etc/empty.d", OLD)], &[]);
    }

    #[test]
    fn t37_mount_points_are_the_engines_own() {
        let running = container(STARTED, NEVER);
        check(
            &running,
            &[("/data", OLD), ("/run/secrets", OLD), ("/run/secrets/mounted", OLD), ("/scratch", OLD)],
            &[],
        );
    }

    #[test]
    fn t37_after_an_exit_only_the_place_tells() {
        let restarted = container(STARTED, "2026-11-24T09:59:00Z");
        check(&restarted, &[("/etc/app.yml", INJECTED), ("/run/secrets/key", INJECTED)], &["/run/secrets/key"]);
    }

    #[test]
    fn t37_in_a_container_never_started_every_file_was_put_there() {
        check(&container(NEVER, NEVER), &[("/etc/app.yml", INJECTED)], &["/etc/app.yml"]);
    }

    #[test]
    fn t37_the_number_of_looks_is_bounded() {
        let changes: Vec<String> =
            (0..500).map(|index| format!("/srv/deep/{index}")).chain(["/top".to_owned()]).collect();
        let looked_at = files_to_look_at(&container(STARTED, NEVER), &changes);
        assert_eq!((looked_at.len(), looked_at[0].as_str()), (LOOKS_MAX, "/top"));
    }
}
