//! What a successor would lack: found before anything stops, since by then neither it nor its predecessor could be started.

use deployer_core::plain;
use deployer_core::successor::{Refusal, Successor, files_to_look_at, injected_files};
use serde_json::Value;

use super::prefetch::PrefetchError;
use crate::world::World;

/// Refuses a container into which files were put, since its successor would silently lack them.
pub async fn refuse_injected_files(
    world: &World,
    container: &Value,
    image: Option<&Value>,
    changes: &[String],
) -> Result<(), PrefetchError> {
    let id = container.get("Id").and_then(Value::as_str).unwrap_or_default();
    let mut files = Vec::new();
    for path in files_to_look_at(container, changes) {
        files.extend(world.engine.file(id, &path).await.map_err(PrefetchError::Files)?);
    }
    let paths = injected_files(container, image, changes, &files);
    if paths.is_empty() {
        return Ok(());
    }
    let paths = paths.iter().map(|path| plain::words(path)).collect();
    Err(Refusal::FilesInjected { paths }.into())
}

/// Refuses a container of whose networks, volumes and devices one is gone. Devices are looked for only where the engine's files
/// can be seen.
pub async fn everything_exists(world: &World, container: &Value, successor: &Successor) -> Result<(), PrefetchError> {
    for name in &successor.networks {
        if !world.engine.network_exists(name).await? {
            return Err(PrefetchError::Missing { kind: "network", name: name.clone() });
        }
    }
    for name in &successor.volumes {
        if !world.engine.volume_exists(name).await? {
            return Err(PrefetchError::Missing { kind: "volume", name: name.clone() });
        }
    }
    let root = &world.settings.root;
    let exists = |path: &str| root.join(path.trim_start_matches('/')).try_exists();
    // Where the engine's own file of the container lies in what this process sees, so do its machine's devices.
    let own_file = container.get("HostnamePath").and_then(Value::as_str).filter(|path| !path.is_empty());
    let is_engines_machine = own_file.is_some_and(|path| matches!(exists(path), Ok(true)));
    let is_missing = |device: &&String| matches!(exists(device), Ok(false));
    match successor.devices.iter().filter(|_| is_engines_machine).find(is_missing) {
        Some(device) => Err(PrefetchError::Missing { kind: "device", name: plain::words(device) }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use deployer_core::successor::{Input, successor};
    use serde_json::json;

    use super::*;
    use crate::fixture::{fixture, id};

    /// Case PB05: neither the successor nor what it was to take the place of could be started, and the slot was held for that.
    #[tokio::test(start_paused = true)]
    async fn case_pb05_a_device_that_is_gone_is_found_before_anything_stops() {
        let fixture = fixture().await;
        let world = &fixture.world;
        fixture.run("web");
        let devices = world.settings.root.join("dev");
        std::fs::create_dir_all(&devices).expect("a folder");
        std::fs::write(devices.join("there"), "").expect("a file");
        for (device, hostname, expected) in [
            ("/dev/there", "/dev/there", None),
            ("/dev/gone", "/dev/there", Some("device /dev/gone does not exist any more")),
            ("/dev/gone", "/of/another/machine", None),
        ] {
            let mut web = world.engine.container(&id(1)).await.expect("it is there");
            web["HostConfig"] =
                json!({"NetworkMode": "none", "Devices": [{"PathOnHost": device, "PathInContainer": "/dev/stick"}]});
            web["HostnamePath"] = json!(hostname);
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
            let found = everything_exists(world, &web, &successor).await.map_err(|error| error.to_string());
            match expected {
                None => assert_eq!(found, Ok(()), "{device} {hostname}"),
                Some(expected) => assert!(found.as_ref().is_err_and(|found| found.contains(expected)), "{found:?}"),
            }
        }
    }
}
