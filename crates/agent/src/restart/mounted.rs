//! What a container has of its machine: devices, and files and directories that are mounted. Looked for only where this process
//! sees the files of the engine's machine.

use std::path::Path;

use deployer_core::plain;
use deployer_core::successor::Successor;
use serde_json::Value;

use super::prefetch::PrefetchError;
use crate::machine::{Found, as_the_engine_sees_it, engines_file, look, process, was_removed};
use crate::world::World;

/// Refuses a container of whose devices and mounted files one is gone, or is a directory that was none, or the other way round.
pub async fn has_all(world: &World, container: &Value, successor: &Successor) -> Result<(), PrefetchError> {
    let root = &world.settings.root;
    // In a container of its own, this process sees the machine's files at other paths than the engine, if at all.
    if world.settings.own_container.is_some() || engines_file(root, container).await.is_none() {
        return Ok(());
    }
    let Some(machine) = as_the_engine_sees_it(root, container) else { return Ok(()) };
    for device in &successor.devices {
        if look(&machine, device).await == Found::Nothing {
            return Err(PrefetchError::Missing { kind: "device", name: plain::words(device) });
        }
    }
    // Looked at is only what the kernel has told to be gone: of what lies on a machine that is away nobody would ever hear.
    for (source, target) in successor.host_mounts.iter().filter(|(_, target)| was_removed(root, container, target)) {
        let is = look(&machine, source).await;
        if is == Found::Nothing {
            return Err(PrefetchError::Missing { kind: "mounted file or directory", name: plain::words(source) });
        }
        let was = look_inside(root, container, target).await;
        if matches!((was, is), (Found::Other, Found::Directory) | (Found::Directory, Found::Other)) {
            let (path, target) = (plain::words(source), plain::words(target));
            return Err(PrefetchError::OtherKind { path, target, is_directory: is == Found::Directory });
        }
    }
    Ok(())
}

/// What lies at a path as a running container sees it.
async fn look_inside(root: &Path, container: &Value, path: &str) -> Found {
    look(root, &format!("/proc/{}/root/{}", process(container), path.trim_start_matches('/'))).await
}

#[cfg(test)]
mod tests {
    use deployer_core::successor::{Input, successor};
    use serde_json::{Value, json};

    use crate::fixture::{Fixture, fixture, id};
    use crate::restart::lacking::everything_exists;

    /// A machine with these files, and directories where a path ends with a slash, and a container.
    async fn machine(paths: &[&str]) -> Fixture {
        let fixture = fixture().await;
        fixture.run("web");
        let root = &fixture.world.settings.root;
        for path in paths {
            let folder = path.rsplit_once('/').expect("a path").0.trim_start_matches('/');
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
            if !path.ends_with('/') {
                std::fs::write(root.join(path.trim_start_matches('/')), "").expect("a file");
            }
        }
        for process in ["self", "3"] {
            let folder = root.join("proc").join(process).join("ns");
            std::fs::create_dir_all(&folder).expect("a folder");
            std::os::unix::fs::symlink("mnt:[1]", folder.join("mnt")).expect("a link");
        }
        for process in ["7", "8"] {
            let folder = root.join("proc").join(process);
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join("status"), "PPid:\t3\n").expect("a file");
        }
        fixture
    }

    /// What the container, inspected with these changes, is found to lack.
    async fn lacks(fixture: &Fixture, change: impl FnOnce(&mut Value)) -> Option<String> {
        let world = &fixture.world;
        let mut web = world.engine.container(&id(1)).await.expect("it is there");
        web["HostConfig"] = json!({"NetworkMode": "none"});
        change(&mut web);
        let image = json!({"Id": "sha256:new", "Config": {}});
        let input = Input {
            container: &web,
            old_image: Some(&image),
            new_image: &image,
            image: "registry.test/web:1",
            neighbours: &[],
            remembered: None,
            api: (1, 41),
            labels: &Default::default(),
        };
        let successor = successor(input).expect("carried over");
        everything_exists(world, &web, &successor).await.err().map(|error| error.to_string())
    }

    /// Case PB05: neither the successor nor what it was to take the place of could be started, and the slot was held for that.
    #[tokio::test(start_paused = true)]
    async fn case_pb05_a_device_that_is_gone_is_found_before_anything_stops() {
        let fixture = machine(&["/dev/there"]).await;
        for (device, hostname, expected) in [
            ("/dev/there", "/dev/there", None),
            ("/dev/gone", "/dev/there", Some("device /dev/gone does not exist any more")),
            ("/dev/gone", "/of/another/machine", None),
        ] {
            let found = lacks(&fixture, |web| {
                web["HostConfig"]["Devices"] = json!([{"PathOnHost": device, "PathInContainer": "/dev/stick"}]);
                web["HostnamePath"] = json!(hostname);
                web["State"]["Pid"] = json!(7);
            });
            check(found.await, expected, device);
        }
    }

    /// Engines B1: a file that became a directory kept old and new from starting, and the service was down until somebody saw it.
    #[tokio::test(start_paused = true)]
    async fn t39_what_is_mounted_and_gone_or_of_another_kind_is_found_before_anything_stops() {
        let paths = ["/hostname", "/srv/file", "/srv/folder/", "/proc/7/root/etc/app.conf", "/proc/7/root/data/"];
        let fixture = machine(&paths).await;
        let mounts = |removed: &str| format!("9 1 8:1 /x{removed} /etc/app.conf rw\n8 1 8:1 /y{removed} /data rw\n");
        let root = &fixture.world.settings.root;
        std::fs::write(root.join("proc/7/mountinfo"), mounts("//deleted")).expect("a file");
        std::fs::write(root.join("proc/8/mountinfo"), mounts("")).expect("a file");
        for (source, target, pid, hostname, expected) in [
            ("/srv/file", "/etc/app.conf", 7, "/hostname", None),
            ("/srv/folder", "/data", 7, "/hostname", None),
            ("/srv/gone", "/data", 7, "/hostname", Some("mounted file or directory /srv/gone does not exist any more")),
            ("/srv/file/gone", "/data", 7, "/hostname", Some("mounted file or directory /srv/file/gone")),
            ("/srv/gone", "/data", 7, "/of/another/machine", None),
            ("/srv/folder", "/etc/app.conf", 7, "/hostname", Some("is a directory now and was no directory")),
            ("/srv/file", "/data", 7, "/hostname", Some("is no directory now and was a directory")),
            // What the kernel does not call removed is there, wherever this process would look for it.
            ("/srv/gone", "/data", 8, "/hostname", None),
            ("/srv/file", "/data", 8, "/hostname", None),
            // One that does not run here, or not at all, tells nothing.
            ("/srv/gone", "/data", 9, "/hostname", None),
            ("/srv/gone", "/data", 0, "/hostname", None),
        ] {
            let found = lacks(&fixture, |web| {
                web["Mounts"] = json!([{"Type": "bind", "Source": source, "Destination": target}]);
                web["State"]["Pid"] = json!(pid);
                web["HostnamePath"] = json!(hostname);
            });
            check(found.await, expected, source);
        }
    }

    #[track_caller]
    fn check(found: Option<String>, expected: Option<&str>, case: &str) {
        match expected {
            None => assert_eq!(found, None, "{case}"),
            Some(expected) => {
                assert!(found.as_ref().is_some_and(|found| found.contains(expected)), "{case}: {found:?}")
            }
        }
    }
}
