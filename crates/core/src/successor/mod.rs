//! The create request of a replacement: what the user asked for, on the new image.
//!
//! An inspection shows the user's settings merged with the defaults of the image that the container was created
//! from. What is the image's is taken out again ([`user`]), so that the new image's defaults take effect; all else is
//! sent back as the engine's own raw JSON, so that a setting this code has never heard of survives.
//!
//! The first time, a value that equals the old image's default cannot always be told from one that the user set to
//! just that: it counts as the image's, unless its place in the list gives it away. From then on the names of the
//! user's fields are remembered in a label, and every further replacement is exact.
//!
//! What is changed besides, each for a reason that stands where it is done: a generated host name, generated aliases
//! and addresses ([`network`]), anonymous volumes, which get their names written down ([`host`]), Compose's note of
//! the image's ID, and deployer's own labels. What cannot be carried over is refused ([`refusal`]).
//!
//! This module must not know how a request is sent, nor in which order containers are stopped and started.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

mod changeable;
mod changed;
mod config;
mod host;
mod injected;
mod json;
mod network;
mod refusal;
mod user;

pub use changeable::changeable;
pub use changed::ChangedPaths;
pub use injected::{ChangedFile, files_to_look_at, injected_files};
pub use refusal::{Dependence, DependenceKind, Neighbour, Refusal, depends_on};
pub use user::UserFields;

use json::{short_id, text};

/// The first API version whose create call takes more than one network.
const API_SEVERAL_NETWORKS: (u32, u32) = (1, 44);

/// All that a successor is made from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The raw inspection of the predecessor.
    pub container: &'a Value,
    /// The raw inspection of the image it was created from; `None` if that image is gone.
    pub old_image: Option<&'a Value>,
    /// The raw inspection of the image that should run.
    pub new_image: &'a Value,
    /// `repository:tag`, as it goes into `Config.Image`.
    pub image: &'a str,
    /// All containers of the engine, this one included: what it uses of others, and they of it.
    pub neighbours: &'a [Neighbour<'a>],
    /// What an earlier replacement recorded ([`UserFields::remembered`]).
    pub remembered: Option<&'a UserFields>,
    /// The API version in which the inspection was made and the request will be sent.
    pub api: (u32, u32),
    /// deployer's own labels to add.
    pub labels: &'a BTreeMap<String, String>,
}

/// A replacement, ready to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct Successor {
    /// Body of the create call.
    pub body: Value,
    /// Networks to connect after the creation and before the start, each with its endpoint's settings.
    /// Empty where the API takes all networks in the body.
    pub connect: Vec<(String, Value)>,
    /// Which settings are the user's. Already in the body, as the label [`USER`](crate::policy::USER).
    pub user: UserFields,
    /// The restart policy that the user asked for, raw.
    pub restart_policy: Value,
    /// Networks that must exist, by name. To be checked before anything is stopped.
    pub networks: Vec<String>,
    /// Volumes that must exist, by name. To be checked before anything is stopped.
    pub volumes: Vec<String>,
    /// Devices that must exist, by their paths on the engine's machine. To be checked before anything is stopped.
    pub devices: Vec<String>,
    /// Files and directories of the engine's machine that must exist, and be what they were: where each lies there, and where it
    /// is mounted. To be checked before anything is stopped.
    pub host_mounts: Vec<(String, String)>,
}

/// Makes the create request for the container that takes the place of `input.container`.
///
/// # Errors
/// [`Refusal`], with what to do about it, if the container cannot be made again with all that it has.
pub fn successor(input: Input<'_>) -> Result<Successor, Refusal> {
    let container = input.container;
    let config = object(container, "/Config")?;
    let host_config = object(container, "/HostConfig")?;
    refusal::check(container, input.neighbours)?;

    let mut user = told_apart(&input)?;
    let networks = network::networks(container, &mut user, input.api)?;
    let mut host_config = host::host_config(container, host_config, input.neighbours)?;
    if let Some(mode) = &networks.mode {
        host_config.insert("NetworkMode".to_owned(), Value::from(mode.as_str()));
    }
    let restart_policy = host_config.get("RestartPolicy").cloned().unwrap_or(Value::Null);

    let mut body = config::user_config(config, &user);
    body.insert("Image".to_owned(), Value::from(input.image));
    body.insert("Labels".to_owned(), config::labels(config, &user, &input));
    if !keeps_host_name(container) {
        body.remove("Hostname");
    }
    if network::is_of_another(container) {
        // The engine shows the other's, and refuses one to be sent.
        body.remove("Hostname");
        body.remove("Domainname");
    }
    if input.api >= API_SEVERAL_NETWORKS {
        // Since 1.44 this belongs to the endpoint, where `networks` has put it.
        body.remove("MacAddress");
    }
    body.insert("HostConfig".to_owned(), Value::Object(host_config));
    let mut endpoints: Map<String, Value> = networks.primary.into_iter().collect();
    let mut connect = networks.others;
    if input.api >= API_SEVERAL_NETWORKS {
        endpoints.extend(connect.drain(..));
    }
    if !endpoints.is_empty() {
        body.insert("NetworkingConfig".to_owned(), serde_json::json!({ "EndpointsConfig": endpoints }));
    }
    Ok(Successor {
        body: Value::Object(body),
        connect,
        user,
        restart_policy,
        networks: networks.required,
        volumes: host::volume_names(container),
        devices: host::device_paths(container),
        host_mounts: host::host_mounts(container),
    })
}

/// Which settings are the user's: as remembered, else by comparison with the old image.
fn told_apart(input: &Input<'_>) -> Result<UserFields, Refusal> {
    if let Some(remembered) = input.remembered {
        return Ok(remembered.clone());
    }
    let old_image = input.old_image.ok_or_else(|| Refusal::OldImageGone {
        image: text(input.container, "/Image").to_owned(),
        name: json::container_name(input.container).to_owned(),
    })?;
    let empty = Value::Object(Map::new());
    Ok(UserFields::told_apart(input.container, old_image.get("Config").unwrap_or(&empty)))
}

/// Whether the host name is to be sent: not if the engine made it of the container's ID, since it would then name a
/// container that is gone, and not if the container has the host's own, where the engine refuses one.
fn keeps_host_name(container: &Value) -> bool {
    let host_name = text(container, "/Config/Hostname");
    host_name != short_id(container) && text(container, "/HostConfig/UTSMode") != "host"
}

fn object<'a>(container: &'a Value, pointer: &str) -> Result<&'a Map<String, Value>, Refusal> {
    container
        .pointer(pointer)
        .and_then(Value::as_object)
        .ok_or_else(|| Refusal::Malformed { what: format!("{} is no object", &pointer[1..]) })
}
