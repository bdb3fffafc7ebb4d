//! A model of what an engine does with a create request: the merge with the image's configuration, generated names,
//! volumes and endpoints. Written from the engine's documented behaviour and checked against Engine 20.10.

use std::collections::BTreeMap;

use deployer_core::successor::{Input, Neighbour, Refusal, Successor, UserFields, successor};
use serde_json::{Map, Value, json};

/// The API version of Engine 20.10: one network at creation.
pub const API_OLD: (u32, u32) = (1, 41);
/// The first API version that takes all networks at creation.
pub const API_NEW: (u32, u32) = (1, 44);

/// An image's inspection with a `Config`.
pub fn image(id: &str, config: Value) -> Value {
    json!({ "Id": format!("sha256:{id:0>64}"), "Config": config })
}

/// The inspection of a container that an engine made from a request, all networks connected.
pub fn created(id: &str, body: &Value, connect: &[(String, Value)], image: &Value) -> Value {
    let id = format!("{id:0>64}");
    let mut host = body["HostConfig"].as_object().cloned().unwrap_or_default();
    for (name, default) in [
        ("NetworkMode", json!("default")),
        ("MaskedPaths", json!(["/proc/kcore", "/proc/timer_list", "/sys/firmware"])),
        ("ReadonlyPaths", json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"])),
        ("CgroupnsMode", json!("host")),
        ("RestartPolicy", json!({ "Name": "no", "MaximumRetryCount": 0 })),
        ("Runtime", json!("runc")),
    ] {
        host.entry(name).or_insert(default);
    }
    let config = merged(body, image, &id, &host);
    let mounts = mounts(&id, &host, &config);
    json!({
        "Id": id,
        "Name": "/web",
        "Image": image["Id"],
        "Created": "2026-11-24T10:00:00Z",
        "Config": config,
        "Mounts": mounts,
        "NetworkSettings": { "Networks": networks(&id, body, connect, &host, text(&config, "Hostname")) },
        "HostConfig": host,
    })
}

/// The engine's merge of a request with an image's configuration.
fn merged(body: &Value, image: &Value, id: &str, host: &Map<String, Value>) -> Value {
    let image = &image["Config"];
    let mut config = body.as_object().cloned().expect("a body is an object");
    config.remove("HostConfig");
    config.remove("NetworkingConfig");
    for name in ["User", "WorkingDir", "StopSignal"] {
        let value = text(body, name);
        let value = if value.is_empty() { text(image, name) } else { value };
        let value = if name == "WorkingDir" { value.trim_end_matches('/') } else { value };
        config.insert(name.to_owned(), json!(value));
    }
    let mut environment = list(body, "Env");
    let is_set = |default: &Value| list(body, "Env").iter().any(|entry| key(entry) == key(default));
    environment.extend(list(image, "Env").into_iter().filter(|default| !is_set(default)));
    config.insert("Env".to_owned(), json!(environment));
    for name in ["Labels", "ExposedPorts", "Volumes"] {
        let mut members = image[name].as_object().cloned().unwrap_or_default();
        members.extend(body[name].as_object().cloned().unwrap_or_default());
        let is_absent = members.is_empty() && name != "Labels";
        config.insert(name.to_owned(), if is_absent { Value::Null } else { Value::Object(members) });
    }
    let mut entrypoint = body.get("Entrypoint").cloned().unwrap_or(Value::Null);
    let mut command = body.get("Cmd").cloned().unwrap_or(Value::Null);
    if list(body, "Entrypoint").is_empty() {
        if list(body, "Cmd").is_empty() {
            command = image.get("Cmd").cloned().unwrap_or(Value::Null);
        }
        if entrypoint.is_null() {
            entrypoint = image.get("Entrypoint").cloned().unwrap_or(Value::Null);
        }
    }
    if entrypoint == json!([""]) {
        entrypoint = Value::Null;
    }
    config.insert("Entrypoint".to_owned(), entrypoint);
    config.insert("Cmd".to_owned(), command);
    let mut check = image["Healthcheck"].as_object().cloned().unwrap_or_default();
    check.extend(body["Healthcheck"].as_object().cloned().unwrap_or_default());
    if !check.is_empty() {
        config.insert("Healthcheck".to_owned(), Value::Object(check));
    }
    if text(body, "Hostname").is_empty() {
        let is_host = host["NetworkMode"] == "host" && host.get("UTSMode").is_none_or(|mode| mode != "host");
        config.insert("Hostname".to_owned(), json!(if is_host { "the-host" } else { &id[..12] }));
    }
    Value::Object(config)
}

/// The volumes of a container, those without a name named by its ID and their path; in an order that means nothing.
fn mounts(id: &str, host: &Map<String, Value>, config: &Value) -> Vec<Value> {
    let host = Value::Object(host.clone());
    let mut mounts: BTreeMap<String, Value> = BTreeMap::new();
    let mut add = |path: &str, name: &str, is_writable: bool, mode: &str| {
        let path = path.trim_end_matches('/').to_owned();
        let name = if name.is_empty() { format!("anonymous-{}{path}", &id[52..]) } else { name.to_owned() };
        mounts.entry(path.clone()).or_insert(json!({
            "Type": "volume", "Name": name, "Source": format!("/volumes/{name}"), "Destination": path,
            "Driver": "local", "Mode": mode, "RW": is_writable, "Propagation": "",
        }));
    };
    for bind in list(&host, "Binds") {
        let parts: Vec<&str> = bind.as_str().unwrap_or_default().split(':').collect();
        match parts.as_slice() {
            [path] => add(path, "", true, "z"),
            [source, path, options @ ..] if !source.starts_with('/') => add(path, source, options != ["ro"], "z"),
            _ => {}
        }
    }
    for mount in list(&host, "Mounts") {
        if mount["Type"] == "volume" {
            add(text(&mount, "Target"), text(&mount, "Source"), mount["ReadOnly"] != true, "z");
        }
    }
    for (path, _) in config["Volumes"].as_object().into_iter().flatten() {
        add(path, "", true, "");
    }
    mounts.into_values().rev().collect()
}

fn networks(id: &str, body: &Value, connect: &[(String, Value)], host: &Map<String, Value>, host_name: &str) -> Value {
    let mode = host["NetworkMode"].as_str().unwrap_or("default");
    let first = if mode == "default" { "bridge" } else { mode };
    let mut endpoints = body["NetworkingConfig"]["EndpointsConfig"].as_object().cloned().unwrap_or_default();
    if endpoints.is_empty() && body["NetworkDisabled"] != true {
        endpoints.insert(first.to_owned(), json!({}));
    }
    endpoints.extend(connect.iter().cloned());
    for (index, (name, endpoint)) in endpoints.iter_mut().enumerate() {
        if !matches!(name.as_str(), "bridge" | "host" | "none") {
            let mut aliases = list(endpoint, "Aliases");
            for generated in [&id[..12], host_name] {
                if !aliases.iter().any(|alias| alias == generated) {
                    aliases.push(json!(generated));
                }
            }
            endpoint["Aliases"] = json!(aliases);
        }
        let number = usize::from_str_radix(&id[52..], 16).unwrap_or(7) % 200 + index;
        endpoint["NetworkID"] = json!(format!("{name:0>64}"));
        endpoint["EndpointID"] = json!(format!("{number:0>64}"));
        endpoint["IPAddress"] = json!(format!("172.18.0.{number}"));
        endpoint["IPPrefixLen"] = json!(16);
        endpoint["Gateway"] = json!("172.18.0.1");
        if endpoint.get("MacAddress").is_none() {
            endpoint["MacAddress"] = json!(format!("02:42:ac:12:00:{number:02x}"));
        }
    }
    Value::Object(endpoints)
}

/// Asks for the successor of a container as the daemon does, reading what an earlier replacement recorded.
pub fn replace(container: &Value, old: &Value, new: &Value, api: (u32, u32)) -> Result<Successor, Refusal> {
    replace_among(&[], container, old, new, api)
}

/// The same, on an engine that has these containers.
pub fn replace_among(
    neighbours: &[Neighbour<'_>],
    container: &Value,
    old: &Value,
    new: &Value,
    api: (u32, u32),
) -> Result<Successor, Refusal> {
    let remembered = UserFields::remembered(container, Some(old));
    let labels = BTreeMap::from([("deployer.txn".to_owned(), "0a1b2c3d".to_owned())]);
    successor(Input {
        container,
        old_image: Some(old),
        new_image: new,
        image: "registry:5000/web:1",
        neighbours,
        remembered: remembered.as_ref(),
        api,
        labels: &labels,
    })
}

/// The inspection after a replacement.
#[track_caller]
pub fn replaced(container: &Value, old: &Value, new: &Value, id: &str, api: (u32, u32)) -> Value {
    let successor = replace(container, old, new, api).expect("a container that can be replaced");
    created(id, &successor.body, &successor.connect, new)
}

/// The body of the successor of a container made by `asked`, after `change` was done to its inspection.
#[track_caller]
pub fn body_of(asked: &Value, api: (u32, u32), change: impl Fn(&mut Value)) -> Value {
    let image = image("a", json!({}));
    let mut container = created("1", asked, &[], &image);
    change(&mut container);
    replace(&container, &image, &image, api).expect("replaceable").body
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

fn list(value: &Value, name: &str) -> Vec<Value> {
    value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn key(entry: &Value) -> &str {
    entry.as_str().and_then(|entry| entry.split('=').next()).unwrap_or("")
}
