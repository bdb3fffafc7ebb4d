//! Networks of a successor: all of the predecessor's, and nothing that the engine generated.

use serde_json::{Map, Value, json};

/// Endpoint settings that are the user's. Everything else in an endpoint is what the engine made of them.
const USERS: [&str; 4] = ["IPAMConfig", "Links", "DriverOpts", "GwPriority"];
/// Digits of the ID that Docker uses as hostname and as alias.
const SHORT_ID: usize = 12;

/// Networks with their endpoint settings, the primary one first. None where the network is not the container's
/// own: `host`, `none`, or another container's.
pub fn endpoints(host: &Map<String, Value>, container: &Value) -> Vec<(String, Value)> {
    let mode = mode(host);
    if is_not_own(&mode) {
        return Vec::new();
    }
    let attached = container.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let primary = if mode == "default" { "bridge" } else { mode.as_str() };
    let mut endpoints: Vec<(String, Value)> = attached
        .into_iter()
        .flatten()
        .map(|(name, endpoint)| (name.clone(), users_endpoint(name, endpoint, container)))
        .collect();
    let is_primary = |name: &str, endpoint: &Value| {
        let id = endpoint.get("NetworkID").and_then(Value::as_str);
        name == primary || id == Some(primary)
    };
    endpoints.sort_by_key(|(name, _)| {
        let raw = attached.and_then(|attached| attached.get(name)).unwrap_or(&Value::Null);
        (!is_primary(name, raw), name.clone())
    });
    endpoints
}

fn users_endpoint(network: &str, endpoint: &Value, container: &Value) -> Value {
    let mut kept = Map::new();
    for field in USERS {
        if let Some(value) = endpoint.get(field).filter(|value| !value.is_null()) {
            kept.insert(field.to_owned(), value.clone());
        }
    }
    let id = container.get("Id").and_then(Value::as_str).unwrap_or_default();
    let short_id = id.get(..SHORT_ID).unwrap_or(id);
    let aliases: Vec<&Value> = endpoint
        .get("Aliases")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|alias| alias.as_str() != Some(short_id))
        .collect();
    // The default bridge refuses aliases.
    if !aliases.is_empty() && network != "bridge" {
        kept.insert("Aliases".to_owned(), json!(aliases));
    }
    if let Some(address) = users_mac(endpoint, container) {
        kept.insert("MacAddress".to_owned(), json!(address));
    }
    Value::Object(kept)
}

/// A MAC address is the user's only if the container's own settings name it: a generated one, sent back, would
/// follow the container to an address that another container gets.
fn users_mac<'a>(endpoint: &'a Value, container: &Value) -> Option<&'a str> {
    let configured = container.pointer("/Config/MacAddress").and_then(Value::as_str).filter(|mac| !mac.is_empty())?;
    endpoint.get("MacAddress").and_then(Value::as_str).filter(|mac| *mac == configured)
}

/// The hostname that Docker made from the ID would stay the old container's for ever. With a network that is
/// not the container's own, a hostname is refused.
pub fn drop_generated_hostname(config: &mut Map<String, Value>, host: &Map<String, Value>, container: &Value) {
    let id = container.get("Id").and_then(Value::as_str).unwrap_or_default();
    let is_generated = config
        .get("Hostname")
        .and_then(Value::as_str)
        .is_some_and(|name| !name.is_empty() && name.len() == SHORT_ID && id.starts_with(name));
    let is_hosts = host.get("UTSMode").and_then(Value::as_str) == Some("host") || mode(host) == "host";
    if is_generated || is_hosts {
        config.remove("Hostname");
        if is_hosts {
            config.remove("Domainname");
        }
    }
}

fn mode(host: &Map<String, Value>) -> String {
    host.get("NetworkMode").and_then(Value::as_str).filter(|mode| !mode.is_empty()).unwrap_or("default").to_owned()
}

fn is_not_own(mode: &str) -> bool {
    mode == "host" || mode == "none" || mode.starts_with("container:")
}
