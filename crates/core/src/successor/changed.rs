//! The changed paths of a container, as many as have to be known of.
//!
//! A container may change any number of files, and what runs in it may see to it that it does. Where programs write, one
//! path stands for all below it: only that something is there counts.

use std::collections::BTreeSet;

use super::injected::{MODULE_DIRECTORIES, PACKAGE_DATABASES, RUNTIME_DIRECTORIES, SECRET_DIRECTORIES, is_in};

/// Paths gathered one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedPaths(BTreeSet<String>);

impl ChangedPaths {
    /// Most paths that are kept, a few megabytes. A container with more of them outside of where programs write is
    /// refused: nobody could tell which of them were put there.
    pub const MAX: usize = 50_000;

    /// Takes in one more; `false` if that is one too many.
    #[must_use]
    pub fn take(&mut self, path: &str) -> bool {
        let kept = standing_for(path);
        if !self.0.contains(kept) {
            self.0.insert(kept.to_owned());
        }
        self.0.len() <= Self::MAX
    }

    /// What was gathered, sorted.
    pub fn into_paths(self) -> Vec<String> {
        self.0.into_iter().collect()
    }
}

/// The path itself, or the directory that stands for it.
fn standing_for(path: &str) -> &str {
    let among = |directories: &[&'static str]| directories.iter().copied().find(|directory| is_in(path, directory));
    if among(&SECRET_DIRECTORIES).is_some() {
        return path;
    }
    if let Some(directory) = among(&PACKAGE_DATABASES).or_else(|| among(&RUNTIME_DIRECTORIES)) {
        return directory;
    }
    let mut end = 0;
    for part in path.split('/') {
        end += part.len();
        if MODULE_DIRECTORIES.contains(&part) {
            return &path[..end];
        }
        end += 1;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::super::{ChangedFile, files_to_look_at, injected_files};
    use super::*;
    use serde_json::json;

    #[test]
    fn security_8_where_programs_write_one_path_stands_for_all() {
        for (path, expected) in [
            ("/etc/app.conf", "/etc/app.conf"),
            ("/var/lib/mysql/db/t1.ibd", "/var/lib"),
            ("/var/lib", "/var/lib"),
            ("/var/library/x", "/var/library/x"),
            ("/var/lib/dpkg/status", "/var/lib/dpkg"),
            ("/run/secrets/token", "/run/secrets/token"),
            ("/run/nginx.pid", "/run"),
            ("/app/node_modules/a/b/index.js", "/app/node_modules"),
            ("/opt/venv/lib/site-packages/x", "/opt/venv/lib/site-packages"),
            ("/app/größer/node_modules/ä", "/app/größer/node_modules"),
            ("node_modules", "node_modules"),
            ("", ""),
        ] {
            assert_eq!(standing_for(path), expected, "{path}");
        }
        let mut changed = ChangedPaths::default();
        assert!((0..10 * ChangedPaths::MAX).all(|number| changed.take(&format!("/tmp/{number}"))));
        assert_eq!(changed.clone().into_paths(), ["/tmp"]);
        let taken = (0..2 * ChangedPaths::MAX).take_while(|number| changed.take(&format!("/srv/{number}"))).count();
        assert_eq!(taken, ChangedPaths::MAX - 1, "with the one that stands for the rest");
    }

    /// Every set of these paths leads to the same looks and the same findings as the whole list of them.
    #[test]
    fn security_8_what_is_left_out_changes_no_finding() {
        let paths = [
            "/app",
            "/app/node_modules",
            "/app/node_modules/a",
            "/app/settings",
            "/etc",
            "/etc/app.conf",
            "/run",
            "/run/app.pid",
            "/run/secrets",
            "/run/secrets/token",
            "/var",
            "/var/lib",
            "/var/lib/apk/x",
            "/var/lib/dpkg/status",
        ];
        let containers =
            [json!({}), json!({"Mounts": [{"Destination": "/var/lib/apk"}, {"Destination": "/etc/app.conf"}]})];
        for chosen in 0..1_u32 << paths.len() {
            let whole: Vec<String> =
                (0..paths.len()).filter(|bit| chosen & (1 << bit) != 0).map(|bit| paths[bit].to_owned()).collect();
            let mut changed = ChangedPaths::default();
            assert!(whole.iter().all(|path| changed.take(path)));
            let kept = changed.into_paths();
            for container in &containers {
                let looks = files_to_look_at(container, &whole);
                assert_eq!(files_to_look_at(container, &kept), looks, "{whole:?}");
                let files: Vec<ChangedFile> = looks
                    .into_iter()
                    .map(|path| ChangedFile { path, is_directory: false, modified: "2030-01-01T00:00:00Z".into() })
                    .collect();
                let found = injected_files(container, None, &whole, &files);
                assert_eq!(injected_files(container, None, &kept, &files), found, "{whole:?}");
            }
        }
    }
}
