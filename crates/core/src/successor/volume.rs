//! Volumes of a successor: the same data, also where the volume never had a name that a person gave it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Mounts anonymous volumes by the names that the engine gave them, and lists every volume that must exist.
///
/// An anonymous volume is in `Mounts` alone, not in the settings, so a plain copy gets a new, empty one. It
/// becomes a named bind: unlike a mount it may name a path that the image declares as a volume, too.
pub fn keep_by_name(config: &mut Map<String, Value>, host: &mut Map<String, Value>, container: &Value) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut binds = Vec::new();
    let configured = configured_targets(host);
    let mounts = container.get("Mounts").and_then(Value::as_array);
    for mount in mounts.into_iter().flatten().filter(|mount| text(mount, "Type") == "volume") {
        let (name, target) = (text(mount, "Name"), text(mount, "Destination"));
        names.insert(name.to_owned());
        if !configured.contains(target) {
            let is_writable = mount.get("RW").and_then(Value::as_bool).unwrap_or(true);
            binds.push(json!(format!("{name}:{target}{}", if is_writable { "" } else { ":ro" })));
            // Left in, the path would be declared twice.
            if let Some(Value::Object(volumes)) = config.get_mut("Volumes") {
                volumes.remove(target);
            }
        }
    }
    if !binds.is_empty() {
        // The engine lists mounts in any order.
        binds.sort_by_key(|bind| bind.as_str().map(str::to_owned));
        let configured = host.entry("Binds").or_insert_with(|| json!([]));
        if !configured.is_array() {
            *configured = json!([]);
        }
        if let Some(configured) = configured.as_array_mut() {
            configured.extend(binds);
        }
    }
    pin_nameless_mounts(host, container);
    names.into_iter().collect()
}

/// `--mount type=volume` without a source is an anonymous volume that the settings do list: it gets its name.
fn pin_nameless_mounts(host: &mut Map<String, Value>, container: &Value) {
    let mounts = container.get("Mounts").and_then(Value::as_array);
    let name_at = |target: &str| {
        let found = mounts.into_iter().flatten().find(|mount| text(mount, "Destination") == target);
        found.and_then(|mount| mount.get("Name").cloned())
    };
    let configured = host.get_mut("Mounts").and_then(Value::as_array_mut);
    for mount in configured.into_iter().flatten().filter(|mount| text(mount, "Type") == "volume") {
        if text(mount, "Source").is_empty()
            && let Some(name) = name_at(text(mount, "Target"))
            && let Some(mount) = mount.as_object_mut()
        {
            mount.insert("Source".to_owned(), name);
        }
    }
}

/// Paths that the settings mount already.
fn configured_targets(host: &Map<String, Value>) -> BTreeSet<String> {
    let list = |field: &str| host.get(field).and_then(Value::as_array).into_iter().flatten();
    let binds = list("Binds").filter_map(|bind| bind.as_str()?.split(':').nth(1).map(str::to_owned));
    let mounts = list("Mounts").map(|mount| text(mount, "Target").to_owned());
    binds.chain(mounts).collect()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}
