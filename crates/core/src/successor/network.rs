//! A container's networks: the one it is created in, the further ones, and what is the user's of each endpoint.
//!
//! An endpoint's inspection mixes what the user asked for with what the engine gave it. Only known facts of the second
//! kind are taken out, so that a later API's setting survives.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::API_SEVERAL_NETWORKS;
use super::json::{SHORT_ID_CHARS, items, members, short_id, text};
use super::refusal::Refusal;
use super::user::UserFields;
use crate::replacement::is_transitional;

/// What an engine writes into an endpoint once it is connected. Sent back, it would be another container's.
const ENGINE_FIELDS: [&str; 11] = [
    "NetworkID",
    "EndpointID",
    "Gateway",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "DNSNames",
    "Aliases",
    "MacAddress",
];
/// The first API version whose inspections no longer show the user's hardware address in `Config.MacAddress`.
const API_NO_MAC_IN_CONFIG: (u32, u32) = (1, 52);

/// The networks of a successor.
pub(super) struct Networks {
    /// The network to create the container in; none for `host`, `none`, another container's,
    /// and a container without networking.
    pub primary: Option<(String, Value)>,
    /// The others, by name.
    pub others: Vec<(String, Value)>,
    /// All that have to exist.
    pub required: Vec<String>,
    /// What `HostConfig.NetworkMode` must become, where the predecessor was taken off its first network.
    pub mode: Option<String>,
}

/// Reads a container's networks, and notes in `user` in which of them the hardware address is the user's.
pub(super) fn networks(container: &Value, user: &mut UserFields, api: (u32, u32)) -> Result<Networks, Refusal> {
    let mode = text(container, "/HostConfig/NetworkMode");
    let has_own = !matches!(mode, "host" | "none") && !is_of_another(container);
    if !has_own || container.pointer("/Config/NetworkDisabled") == Some(&true.into()) {
        user.hardware_addresses.get_or_insert_default();
        return Ok(Networks { primary: None, others: Vec::new(), required: Vec::new(), mode: None });
    }
    let all: Vec<(&String, &Value)> = members(container, "/NetworkSettings/Networks").collect();
    let named = all.iter().position(|(name, endpoint)| is_named_by(mode, name, endpoint));
    // Off its first network, the container is created in one of those it is in: the engine would else connect it.
    let Some(primary) = named.or(if all.is_empty() { None } else { Some(0) }) else {
        return Err(Refusal::Disconnected { mode: mode.to_owned() });
    };
    let addresses = match &user.hardware_addresses {
        Some(remembered) => remembered.clone(),
        None => user_hardware_addresses(container, &all, primary, api),
    };
    let mut endpoints: Vec<(String, Value)> = Vec::with_capacity(all.len());
    for (name, settings) in &all {
        let mut endpoint = endpoint(container, name, settings);
        if api >= API_SEVERAL_NETWORKS && addresses.contains(*name) {
            endpoint.insert("MacAddress".to_owned(), hardware_address(container, settings, *name == all[primary].0));
        }
        endpoints.push(((*name).clone(), Value::Object(endpoint)));
    }
    user.hardware_addresses = Some(addresses);
    Ok(Networks {
        required: endpoints.iter().map(|(name, _)| name.clone()).collect(),
        primary: Some(endpoints.remove(primary)),
        others: endpoints,
        mode: named.is_none().then(|| all[primary].0.clone()),
    })
}

/// Whether the container has no network of its own but that of another container.
pub(super) fn is_of_another(container: &Value) -> bool {
    text(container, "/HostConfig/NetworkMode").starts_with("container:")
}

/// Whether a container's network mode means this network. It holds what the user wrote: a name, or an ID.
fn is_named_by(mode: &str, name: &str, endpoint: &Value) -> bool {
    match mode {
        "" | "default" | "bridge" => name == "bridge" || name == "default",
        mode => name == mode || (mode.len() >= SHORT_ID_CHARS && text(endpoint, "/NetworkID").starts_with(mode)),
    }
}

/// What the user asked for of an endpoint.
fn endpoint(container: &Value, network: &str, settings: &Value) -> Map<String, Value> {
    let mut endpoint = settings.as_object().cloned().unwrap_or_default();
    for field in ENGINE_FIELDS {
        endpoint.remove(field);
    }
    endpoint.retain(|_, value| !value.is_null());
    if endpoint.get("IPAMConfig").and_then(Value::as_object).is_some_and(Map::is_empty) {
        endpoint.remove("IPAMConfig");
    }
    // Engines refuse aliases on their default bridge, where there is no name service.
    if !matches!(network, "bridge" | "default") {
        let mut seen = BTreeSet::new();
        let aliases = items(settings, "/Aliases").iter().filter_map(Value::as_str);
        let aliases: Vec<&str> =
            aliases.filter(|alias| !is_generated_alias(container, alias) && seen.insert(*alias)).collect();
        if !aliases.is_empty() {
            endpoint.insert("Aliases".to_owned(), Value::from(aliases));
        }
    }
    endpoint
}

/// Whether the engine or deployer made an alias: of the container's ID, or of a name used during a replacement.
/// Engines add the host name as well; that one they would add again, so it does no harm.
fn is_generated_alias(container: &Value, alias: &str) -> bool {
    alias == short_id(container) || alias == text(container, "/Id") || is_transitional(alias)
}

/// In which networks the user gave the container a hardware address.
///
/// Before API 1.44 there is one for all, in `Config`, and it is sent back there. Up to 1.51 engines still show it there
/// for the first network. Elsewhere only the address in use is known: one made of the IP address, or with the first
/// byte of the engine's generator, counts as generated, since pinning it could put it on two containers at once.
fn user_hardware_addresses(
    container: &Value,
    all: &[(&String, &Value)],
    primary: usize,
    api: (u32, u32),
) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if !text(container, "/Config/MacAddress").is_empty() {
        names.insert(all[primary].0.clone());
    }
    if api < API_SEVERAL_NETWORKS {
        return names;
    }
    for (index, (name, endpoint)) in all.iter().enumerate() {
        let is_shown_in_config = index == primary && api < API_NO_MAC_IN_CONFIG;
        let address = text(endpoint, "/MacAddress");
        if !is_shown_in_config && !address.is_empty() && !is_generated_address(address) {
            names.insert((*name).clone());
        }
    }
    names
}

/// Engines make an address of `02:42` and the IPv4 address, and since version 28 of `02` and random bytes.
fn is_generated_address(address: &str) -> bool {
    address.starts_with("02:")
}

fn hardware_address(container: &Value, endpoint: &Value, is_primary: bool) -> Value {
    let configured = text(container, "/Config/MacAddress");
    if is_primary && !configured.is_empty() { Value::from(configured) } else { endpoint["MacAddress"].clone() }
}
