//! The create request of a replacement: what the user asked for, on the new image.
//!
//! An inspection shows the user's settings merged with the defaults of the image that the container was created
//! from. Sending it back as it is would freeze those defaults for ever. So what came from the old image is taken
//! out again (`merge`), and what is the user's is remembered by name in a label, never by value, so that the
//! second replacement need not guess. Everything else is written from the raw inspection, so a setting that this
//! code has never heard of survives.
//!
//! What a user set to the very value that the image had by default cannot be told from the default at the first
//! replacement; it follows the image then.

mod merge;
mod network;
mod refusal;
mod volume;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

pub use merge::UserFields;
pub use refusal::{Dependence, Refusal, depends_on, injected_files};

use crate::policy;

/// What a successor is made from. All values are the engine's raw JSON.
pub struct Input<'a> {
    /// Inspection of the container that is replaced.
    pub container: &'a Value,
    /// Inspection of the image it was created from; `None` if that is gone.
    pub old_image: Option<&'a Value>,
    /// Inspection of the image it gets.
    pub new_image: &'a Value,
    /// What goes into `Config.Image`: the name and tag, as the user wrote it.
    pub image: &'a str,
    /// The engine's API version.
    pub api: (u32, u32),
    /// Labels of our own to add.
    pub labels: &'a BTreeMap<String, String>,
}

/// A create request and what goes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Successor {
    /// The body of `POST /containers/create`.
    pub body: Value,
    /// Networks to connect before the start, where the API takes only one at the creation (before 1.44).
    pub connect: Vec<(String, Value)>,
    /// Networks that must exist.
    pub networks: Vec<String>,
    /// Volumes that must exist.
    pub volumes: Vec<String>,
    /// The user's restart policy.
    pub restart_policy: Value,
}

/// The API version from which several networks may be named at the creation.
const SEVERAL_NETWORKS: (u32, u32) = (1, 44);

/// Writes the create request of a replacement.
///
/// # Errors
/// [`Refusal`] says what cannot be carried over and what to do about it. Nothing has been touched then.
pub fn successor(input: &Input<'_>) -> Result<Successor, Refusal> {
    refusal::check(input.container)?;
    let mut config = object(input.container, "/Config");
    let user = merge::take_out_defaults(&mut config, input)?;
    config.insert("Image".to_owned(), json!(input.image));
    own_labels(&mut config, input, &user);
    let mut host = object(input.container, "/HostConfig");
    let volumes = volume::keep_by_name(&mut config, &mut host, input.container);
    network::drop_generated_hostname(&mut config, &host, input.container);
    let mut endpoints = network::endpoints(&host, input.container);
    let networks = endpoints.iter().map(|(name, _)| name.clone()).collect();
    let at_creation = if input.api >= SEVERAL_NETWORKS { endpoints.len() } else { endpoints.len().min(1) };
    let connect = endpoints.split_off(at_creation);
    if !endpoints.is_empty() {
        let endpoints: Map<String, Value> = endpoints.into_iter().collect();
        config.insert("NetworkingConfig".to_owned(), json!({ "EndpointsConfig": endpoints }));
    }
    let restart_policy = host.get("RestartPolicy").cloned().unwrap_or_else(|| json!({"Name": "no"}));
    config.insert("HostConfig".to_owned(), Value::Object(host));
    Ok(Successor { body: Value::Object(config), connect, networks, volumes, restart_policy })
}

/// Compose compares its image label with the image that runs; left at the old one, `up` would recreate again.
const COMPOSE_IMAGE: &str = "com.docker.compose.image";

fn own_labels(config: &mut Map<String, Value>, input: &Input<'_>, user: &UserFields) {
    let labels = config.entry("Labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    let Some(labels) = labels.as_object_mut() else { return };
    for label in policy::BOOKKEEPING {
        labels.remove(label);
    }
    if let (Some(compose), Some(id)) = (labels.get_mut(COMPOSE_IMAGE), input.new_image.get("Id")) {
        *compose = id.clone();
    }
    labels.extend(input.labels.iter().map(|(label, value)| (label.clone(), json!(value))));
    labels.insert(policy::USER.to_owned(), json!(user.to_label()));
}

/// An object below a raw value; empty where it is absent or null.
fn object(value: &Value, pointer: &str) -> Map<String, Value> {
    value.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests;
