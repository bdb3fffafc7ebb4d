//! An inspection without what differs between two containers made from the same request.

use serde_json::{Value, json};

/// Labels that deployer adds.
const OWN_LABELS: [&str; 4] = ["deployer.txn", "deployer.replaces", "deployer.digest", "deployer.user"];
/// What an engine chooses for each endpoint.
const ENDPOINT_FIELDS: [&str; 10] = [
    "NetworkID",
    "EndpointID",
    "Gateway",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "MacAddress",
    "DNSNames",
];

/// What two inspections must have in common if one container is the other's successor on the same image.
///
/// Named volumes may stand in `HostConfig.Binds`, in `HostConfig.Mounts` or, if anonymous, in neither: what counts is
/// that the same volumes end up on the same paths, and that all options of the mounts that were there still are.
pub fn comparable(inspection: &Value) -> Value {
    let id = inspection["Id"].as_str().unwrap_or_default();
    let short_id = id.get(..12).unwrap_or_default();
    let host_name = inspection["Config"]["Hostname"].as_str().unwrap_or_default();
    let mut config = inspection["Config"].clone();
    if config["Hostname"] == short_id {
        config["Hostname"] = json!("generated");
    }
    if let Some(labels) = config.get_mut("Labels").and_then(Value::as_object_mut) {
        labels.retain(|name, _| !OWN_LABELS.contains(&name.as_str()));
    }
    if let Some(entries) = config.get_mut("Env").and_then(Value::as_array_mut) {
        // Only entries of the same variable have an order that means something.
        entries.sort_by_key(|entry| entry.as_str().and_then(|entry| entry.split('=').next()).unwrap_or("").to_owned());
    }
    if let Some(fields) = config.as_object_mut() {
        fields.remove("Image");
        // Absent, null and empty are one and the same to an engine, but for an entry point.
        fields.retain(|name, value| !is_empty(value) || name == "Entrypoint");
    }
    let mut host = inspection["HostConfig"].clone();
    if let Some(fields) = host.as_object_mut() {
        fields.remove("Binds");
        fields.remove("Mounts");
    }
    json!({
        "Config": config,
        "HostConfig": host,
        "Mounts": mounts(inspection),
        "Networks": networks(inspection, &[short_id, host_name]),
        "Binds": host_binds(inspection),
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// What is mounted where, by path. `Mode` tells only in which list a mount was asked for, and a volume's name stands in its
/// source too, where engine 28 leaves it out.
fn mounts(inspection: &Value) -> Vec<Value> {
    let mut mounts = inspection["Mounts"].as_array().cloned().unwrap_or_default();
    for mount in &mut mounts {
        if let Some(fields) = mount.as_object_mut() {
            fields.remove("Mode");
            fields.remove("Name");
        }
    }
    mounts.sort_by_key(|mount| mount["Destination"].as_str().unwrap_or_default().to_owned());
    mounts
}

/// The mounts from the host's own directories, with their options, and those of volumes that have options.
fn host_binds(inspection: &Value) -> Vec<Value> {
    let host = &inspection["HostConfig"];
    let binds = host["Binds"].as_array().into_iter().flatten();
    let binds = binds.filter(|bind| bind.as_str().is_some_and(|bind| bind.starts_with('/') && bind.contains(':')));
    let mounts = host["Mounts"].as_array().into_iter().flatten();
    let mounts = mounts.filter(|mount| mount["Type"] != "volume" || mount.get("VolumeOptions").is_some());
    let without_source = mounts.map(|mount| {
        let mut mount = mount.clone();
        if mount["Type"] == "volume" {
            mount["Source"] = Value::Null;
        }
        mount
    });
    binds.cloned().chain(without_source).collect()
}

/// The endpoints without the aliases that an engine adds by itself, some of them only at the start.
fn networks(inspection: &Value, generated: &[&str]) -> Value {
    let mut networks = inspection["NetworkSettings"]["Networks"].clone();
    for (_, endpoint) in networks.as_object_mut().into_iter().flatten() {
        let mut aliases = endpoint["Aliases"].as_array().cloned().unwrap_or_default();
        aliases.retain(|alias| alias.as_str().is_some_and(|alias| !generated.contains(&alias)));
        aliases.sort_by_key(|alias| alias.as_str().unwrap_or_default().to_owned());
        if let Some(fields) = endpoint.as_object_mut() {
            for field in ENDPOINT_FIELDS {
                fields.remove(field);
            }
            fields.insert("Aliases".to_owned(), Value::Array(aliases));
            fields.retain(|_, value| !is_empty(value));
        }
    }
    networks
}
