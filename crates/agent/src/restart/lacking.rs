//! What a successor would lack: found before anything stops, since by then neither it nor its predecessor could be started.

use deployer_core::plain;
use deployer_core::successor::{Refusal, Successor, files_to_look_at, injected_files};
use serde_json::Value;

use super::mounted;
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

/// Refuses a container of whose networks, volumes, devices and mounted files one is gone, or is what it was not.
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
    mounted::has_all(world, container, successor).await
}
