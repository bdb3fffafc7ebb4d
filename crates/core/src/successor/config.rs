//! The user's part of a container's `Config`, and the labels of its successor.

use serde_json::{Map, Value};

use super::Input;
use super::json::text;
use super::user::{TEXT_FIELDS, UserFields, environment_key};
use crate::policy::{BOOKKEEPING, USER};

/// Compose's note of the image's ID. `compose up` makes the container anew if it is not the local image's.
const COMPOSE_IMAGE_LABEL: &str = "com.docker.compose.image";
/// The shortest time that an engine accepts in a health check, in nanoseconds (one millisecond). A shorter one cannot
/// be the user's: engines refuse it in a request, and take it from an image all the same.
const HEALTH_TIME_MIN_NANOSECONDS: i64 = 1_000_000;

/// The container's `Config` without what it has from its image. Labels, host name and image are the caller's.
pub(super) fn user_config(config: &Map<String, Value>, user: &UserFields) -> Map<String, Value> {
    let mut config = config.clone();
    for name in TEXT_FIELDS.iter().chain(&["Entrypoint", "Cmd"]) {
        if !user.fields.contains(*name) {
            config.remove(*name);
        }
    }
    if user.fields.contains("Entrypoint") && config.get("Entrypoint").is_none_or(Value::is_null) {
        // An inspection shows null where the user took the image's entry point away. Sent back as null, it would mean
        // that nothing was said; one empty text is how engines are told.
        config.insert("Entrypoint".to_owned(), serde_json::json!([""]));
    }
    if !user.fields.contains("Cmd") {
        // Says how the image's `Cmd` is to be read (Windows), and goes with it.
        config.remove("ArgsEscaped");
    }
    if let Some(entries) = config.get_mut("Env").and_then(Value::as_array_mut) {
        entries.retain(|entry| entry.as_str().is_some_and(|entry| user.environment.contains(environment_key(entry))));
    }
    retain_members(&mut config, "Healthcheck", |name, value| {
        // Zero is how a request says nothing of a time, so it may as well be left out.
        let is_too_short = value.as_i64().is_some_and(|time| time < HEALTH_TIME_MIN_NANOSECONDS);
        user.fields.contains(&format!("Healthcheck.{name}")) && !(is_too_short && name != "Retries")
    });
    // A port of the user's with an empty name has been seen in the wild and is refused by engines.
    retain_members(&mut config, "ExposedPorts", |port, _| user.ports.contains(port) && !port.is_empty());
    retain_members(&mut config, "Volumes", |path, _| user.volumes.contains(path));
    config
}

/// The successor's labels: the user's, with Compose's note of the image corrected, and deployer's own.
pub(super) fn labels(config: &Map<String, Value>, user: &UserFields, input: &Input<'_>) -> Value {
    let mut labels: Map<String, Value> = config
        .get("Labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(key, _)| user.labels.contains(*key) && !BOOKKEEPING.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if let Some(image_id) = labels.get_mut(COMPOSE_IMAGE_LABEL) {
        *image_id = Value::from(text(input.new_image, "/Id"));
    }
    labels.extend(input.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))));
    labels.insert(USER.to_owned(), Value::from(user.to_label()));
    Value::Object(labels)
}

/// Keeps some members of an object inside `config`, and drops the object if none is left.
fn retain_members(config: &mut Map<String, Value>, name: &str, keep: impl Fn(&str, &Value) -> bool) {
    let Some(object) = config.get_mut(name).and_then(Value::as_object_mut) else {
        config.remove(name);
        return;
    };
    object.retain(|key, value| keep(key, value));
    if object.is_empty() {
        config.remove(name);
    }
}
