//! Files that somebody put into a container instead of into its image: the successor would silently lack them.
//!
//! Compose writes `configs:` and `secrets:` with inline content into a container before it starts; `docker cp` does the
//! same by hand. Nothing marks such files, and ordinary containers write files all the time. What tells them apart is
//! how they came: through the engine they come in a tar archive, whose times are whole seconds, while a file that a
//! program writes has a time to the nanosecond. Files of the image are whole seconds too, and show up as changed where
//! a program gave them another owner; those are older than the image. So a file counts as put there if its time is a
//! whole second after the image was made, or if it lies where by custom only secrets do.
//!
//! Innocent files with such times are those that a program unpacks itself; packages and modules are recognised by
//! their places, other archives are not, and such a container is refused in vain. Not found are files older than the
//! image, and files where programs keep what they write while they run.

use std::collections::BTreeSet;

use serde_json::Value;

use super::json::{clean_path, items, members, text};

/// Most files to look at in one container. Of more, those nearest to the root are taken.
const LOOKS_MAX: usize = 32;
/// Where secrets are put by custom. Programs do not write there.
pub(super) const SECRET_DIRECTORIES: [&str; 2] = ["/run/secrets", "/var/run/secrets"];
/// Where programs write while they run, and nobody injects a setting.
pub(super) const RUNTIME_DIRECTORIES: [&str; 11] = [
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
pub(super) const PACKAGE_DATABASES: [&str; 4] =
    ["/lib/apk/db", "/usr/lib/sysimage/rpm", "/var/lib/dpkg", "/var/lib/rpm"];
/// Directories that language tools fill while a program starts, with the times of the packages' build.
pub(super) const MODULE_DIRECTORIES: [&str; 2] = ["node_modules", "site-packages"];
const NANOSECONDS_A_SECOND: i64 = 1_000_000_000;

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

/// Which of the changed paths are worth asking the engine for their times, at most 32, those nearest to the root first.
pub fn files_to_look_at(container: &Value, changes: &[String]) -> Vec<String> {
    let is_in_one_of = |path: &str, directories: &[&str]| directories.iter().any(|directory| is_in(path, directory));
    if changes.iter().any(|path| is_in_one_of(path, &PACKAGE_DATABASES)) {
        return Vec::new();
    }
    let is_module = |path: &str| path.split('/').any(|part| MODULE_DIRECTORIES.contains(&part));
    let mut paths: Vec<&str> = own_files(container, changes);
    paths.retain(|path| !is_in_one_of(path, &RUNTIME_DIRECTORIES) && !is_module(path));
    paths.sort_by_key(|path| (path.matches('/').count(), *path));
    paths.into_iter().take(LOOKS_MAX).map(str::to_owned).collect()
}

/// The files that were put into a container, sorted. `image` is the raw inspection of the image it was created from,
/// if that is still there. `changes` are the paths that the engine lists as added or changed; `files` is what it says
/// of [`files_to_look_at`].
pub fn injected_files(
    container: &Value,
    image: Option<&Value>,
    changes: &[String],
    files: &[ChangedFile],
) -> Vec<String> {
    let is_secret = |path: &&str| SECRET_DIRECTORIES.iter().any(|directory| is_in(path, directory));
    let mut injected: BTreeSet<String> =
        own_files(container, changes).into_iter().filter(is_secret).map(str::to_owned).collect();
    // An archive rounds to the nearest second. Without the image, its files are at least older than the container.
    let second = |value: &Value| nanoseconds(text(value, "/Created")).map_or(0, |time| time / NANOSECONDS_A_SECOND);
    let made = image.map_or_else(|| second(container) - 1, |image| second(image) + 1);
    for file in files.iter().filter(|file| !file.is_directory) {
        let came_in_an_archive = nanoseconds(&file.modified)
            .is_some_and(|time| time % NANOSECONDS_A_SECOND == 0 && time / NANOSECONDS_A_SECOND > made);
        if came_in_an_archive {
            injected.insert(file.path.clone());
        }
    }
    injected.into_iter().collect()
}

/// The changed paths but for directories of other changed paths, and for what the engine makes for mounts.
fn own_files<'a>(container: &Value, changes: &'a [String]) -> Vec<&'a str> {
    let mounts: Vec<String> = items(container, "/Mounts")
        .iter()
        .map(|mount| clean_path(text(mount, "/Destination")))
        .chain(members(container, "/HostConfig/Tmpfs").map(|(path, _)| clean_path(path)))
        .collect();
    let sorted: BTreeSet<&str> = changes.iter().map(String::as_str).collect();
    // With a slash behind it, a directory sorts directly before what is in it.
    let is_directory = |path: &str| {
        let inside = format!("{path}/");
        sorted.range(inside.as_str()..).next().is_some_and(|other| other.starts_with(&inside))
    };
    let is_of_mount = |path: &str| mounts.iter().any(|mount| is_in(path, mount) || is_in(mount, path));
    sorted.iter().copied().filter(|path| !is_directory(path) && !is_of_mount(path)).collect()
}

/// Whether a path is a directory or lies in it.
pub(super) fn is_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Nanoseconds since 1970 of an RFC 3339 time; `None` for anything else, and for what the number cannot hold, which
/// begins with the year 1678: engines say with the year 1 that something has not happened.
fn nanoseconds(time: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
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
            let seconds = i64::from(hours.parse::<u8>().ok()?) * 3600 + i64::from(minutes.parse::<u8>().ok()?) * 60;
            if sign == "-" { -seconds } else { seconds }
        }
    };
    // Days of the civil calendar, counted in years that begin in March so that the leap day comes last.
    let march_year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * march_year + march_year / 4 - march_year / 100 + march_year / 400 + day_of_year - 719_468;
    (days * 86_400 + seconds_of_day - offset).checked_mul(NANOSECONDS_A_SECOND)?.checked_add(nanoseconds)
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
            ("2026-11-24T19:17:31+05:45", Some(1_795_527_151_000_000_000)),
            ("1969-12-31T23:59:59Z", Some(-1_000_000_000)),
            ("0001-01-01T00:00:00Z", None),
            ("9999-12-31T23:59:59Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-01-32T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("2026-01-01T00:00:00+9000000000000000000:00", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(nanoseconds(time), expected, "{time}");
        }
    }

    /// The calendar, written down a second time: day after day, with the lengths of the months.
    #[test]
    fn every_day_begins_a_day_after_the_one_before() {
        let mut days = 0;
        for year in 1970..2200 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let months = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in (1..).zip(months) {
                for day in 1..=length {
                    let time = format!("{year}-{month:02}-{day:02}T00:00:00Z");
                    assert_eq!(nanoseconds(&time), Some(days * 86_400 * NANOSECONDS_A_SECOND), "{time}");
                    days += 1;
                }
            }
        }
    }

    const IMAGE_MADE: &str = "2026-11-24T09:00:00.7Z";

    /// A container with a volume, a temporary file system and a secret mounted.
    fn container() -> Value {
        json!({
            "Created": "2026-11-24T10:00:00Z",
            "HostConfig": { "Tmpfs": { "/scratch": "" } },
            "Mounts": [{ "Destination": "/data" }, { "Destination": "/run/secrets/mounted" }],
        })
    }

    #[track_caller]
    fn check(changed: &[(&str, &str)], expected: &[&str]) {
        let (container, image) = (container(), json!({ "Created": IMAGE_MADE }));
        let changes: Vec<String> = changed.iter().map(|(path, _)| (*path).to_owned()).collect();
        let looked_at = files_to_look_at(&container, &changes);
        let files: Vec<ChangedFile> = changed
            .iter()
            .filter(|(path, _)| looked_at.iter().any(|looked_at| looked_at == path))
            .map(|(path, modified)| ChangedFile {
                path: (*path).to_owned(),
                is_directory: path.ends_with(".d"),
                modified: (*modified).to_owned(),
            })
            .collect();
        assert_eq!(injected_files(&container, Some(&image), &changes, &files), expected);
    }

    /// A time as an archive carries it, and one as a program's write leaves it.
    const ARCHIVED: &str = "2026-11-24T10:00:03+00:00";
    const WRITTEN: &str = "2026-11-24T11:00:00.123456789Z";
    const OF_IMAGE: &str = "2026-11-24T08:00:00Z";

    #[test]
    fn t37_files_put_into_the_container_are_found() {
        check(&[("/etc", WRITTEN), ("/etc/app.yml", ARCHIVED)], &["/etc/app.yml"]);
        check(&[("/my_config", ARCHIVED), ("/app.db", WRITTEN)], &["/my_config"]);
        check(&[("/conf", ARCHIVED), ("/conf-1", WRITTEN), ("/conf/app.yml", ARCHIVED)], &["/conf/app.yml"]);
        check(&[("/run", WRITTEN), ("/run/secrets", WRITTEN), ("/run/secrets/key", WRITTEN)], &["/run/secrets/key"]);
    }

    #[test]
    fn t37_what_a_program_writes_is_no_reason_to_refuse() {
        let places =
            ["/tmp/x", "/run/app.pid", "/var/log/app.log", "/var/cache/app/1", "/etc/generated.conf", "/app.db"];
        check(&places.map(|path| (path, WRITTEN)), &[]);
        check(&[("/tmp/unpacked", ARCHIVED), ("/var/lib/app/unpacked", ARCHIVED)], &[]);
        check(&[("/etc/empty.d", ARCHIVED)], &[]);
    }

    #[test]
    fn t37_the_images_own_files_with_another_owner_are_no_reason_to_refuse() {
        check(&[("/app", WRITTEN), ("/app/index.html", OF_IMAGE), ("/app/main.js", "2026-11-24T09:00:01Z")], &[]);
    }

    #[test]
    fn t37_packages_that_a_program_installs_are_no_reason_to_refuse() {
        check(
            &[("/var/lib/dpkg/status", WRITTEN), ("/etc/new-package.conf", ARCHIVED), ("/usr/bin/tool", ARCHIVED)],
            &[],
        );
        check(&[("/app/node_modules/left/index.js", ARCHIVED)], &[]);
    }

    #[test]
    fn t37_mount_points_are_the_engines_own() {
        let paths = ["/data", "/data/in-it", "/run", "/run/secrets", "/run/secrets/mounted", "/scratch"];
        check(&paths.map(|path| (path, ARCHIVED)), &[]);
        paths.into_iter().for_each(|path| check(&[(path, ARCHIVED)], &[]));
    }

    #[test]
    fn t37_without_its_image_a_file_is_put_there_if_it_is_no_older_than_the_container() {
        let file =
            |modified: &str| ChangedFile { path: "/f".to_owned(), is_directory: false, modified: modified.to_owned() };
        let injected = |modified: &str| injected_files(&container(), None, &["/f".to_owned()], &[file(modified)]);
        assert_eq!(injected(ARCHIVED), ["/f"]);
        assert_eq!(injected("2026-11-24T10:00:00Z"), ["/f"], "rounded down, it may be younger");
        assert_eq!(injected("2026-11-24T09:59:59Z"), Vec::<String>::new());
    }

    #[test]
    fn t37_the_number_of_looks_is_bounded() {
        let changes: Vec<String> =
            (0..500).map(|index| format!("/srv/deep/{index}")).chain(["/top".to_owned()]).collect();
        let looked_at = files_to_look_at(&container(), &changes);
        assert_eq!((looked_at.len(), looked_at[0].as_str()), (LOOKS_MAX, "/top"));
    }
}
