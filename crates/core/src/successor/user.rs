//! Which settings of a container are the user's: names only, never values.
//!
//! The rules are the engine's own merge of a create request with an image's configuration, read backwards. Only the
//! fields that an engine takes from images appear here; every other field of a container is the user's anyway.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{clean_path, members, text, texts};
use crate::policy::{BOOKKEEPING, TXN, USER};

/// Fields of `Config` that an engine takes from the image if the user set none, and that hold one text.
pub(super) const TEXT_FIELDS: [&str; 3] = ["User", "WorkingDir", "StopSignal"];
/// Labels of Compose are never an image's: without them Compose would no longer find its container. An image made by
/// `docker commit` can carry them, which is why this is not left to the comparison.
const COMPOSE_LABELS: &str = "com.docker.compose.";
/// Version of the label's form. Another one is not read, and the fields are told apart by comparison again.
const LABEL_VERSION: u32 = 1;

/// The names of a container's settings that its user made, as opposed to the image's author.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserFields {
    #[serde(rename = "v")]
    version: u32,
    /// `User`, `WorkingDir`, `StopSignal`, `Entrypoint`, `Cmd`, and `Healthcheck.` with the name of a field.
    #[serde(rename = "f", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) fields: BTreeSet<String>,
    #[serde(rename = "e", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) environment: BTreeSet<String>,
    #[serde(rename = "l", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) labels: BTreeSet<String>,
    #[serde(rename = "p", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) ports: BTreeSet<String>,
    #[serde(rename = "d", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) volumes: BTreeSet<String>,
    /// Networks in which the user gave the container a hardware address. `None` until it was looked at.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub(super) hardware_addresses: Option<BTreeSet<String>>,
}

impl UserFields {
    /// Tells the user's settings from the image's by comparing the raw inspection of a container with the `Config` of
    /// the image it was created from.
    pub fn told_apart(container: &Value, image: &Value) -> Self {
        let config = &container["Config"];
        let mut fields = BTreeSet::new();
        for name in TEXT_FIELDS {
            let value = text(config, &format!("/{name}"));
            if !value.is_empty() && !is_same_text(name, value, text(image, &format!("/{name}"))) {
                fields.insert(name.to_owned());
            }
        }
        fields.extend(command_fields(config, image).iter().map(|name| (*name).to_owned()));
        for (name, value) in members(config, "/Healthcheck") {
            if image.get("Healthcheck").and_then(|check| check.get(name)) != Some(value) {
                fields.insert(format!("Healthcheck.{name}"));
            }
        }
        Self {
            version: LABEL_VERSION,
            fields,
            environment: environment_keys(&texts(config, "/Env"), &texts(image, "/Env")),
            labels: label_keys(config, image),
            ports: exposed_ports(container, image),
            volumes: keys_beyond(config, image, "/Volumes"),
            hardware_addresses: None,
        }
    }

    /// Reads what an earlier replacement recorded in a container's labels. A record that the container got from its
    /// image, as after `docker commit`, speaks of another container and is passed over; where the image is gone, so is
    /// one of a container that no replacement made.
    pub fn remembered(container: &Value, old_image: Option<&Value>) -> Option<Self> {
        let label_of =
            |value: &Value, name| value.pointer("/Config/Labels").and_then(|labels| labels.get(name)).cloned();
        let label = label_of(container, USER)?;
        let is_the_containers = match old_image {
            Some(image) => label_of(image, USER).as_ref() != Some(&label),
            None => label_of(container, TXN).is_some_and(|txn| txn.as_str().is_some_and(|txn| !txn.is_empty())),
        };
        if !is_the_containers {
            return None;
        }
        serde_json::from_str::<Self>(label.as_str()?).ok().filter(|user| user.version == LABEL_VERSION)
    }

    /// The inspection of a container without the labels and variables that its image brought, of which an engine shows no
    /// difference: whoever makes an image has no say in whose a container is and how it is deployed. What container and image have
    /// alike counts as the image's, unless a replacement remembers it as the user's. Also gives the names of `deployer.*` labels
    /// that were left out.
    pub fn alone(container: &Value, image: &Value) -> (Value, Vec<String>) {
        let user = Self::remembered(container, Some(image))
            .unwrap_or_else(|| Self::told_apart(container, image.get("Config").unwrap_or(&Value::Null)));
        let mut own = container.clone();
        let mut left_out = Vec::new();
        if let Some(labels) = own.pointer_mut("/Config/Labels").and_then(Value::as_object_mut) {
            let defaults = image.pointer("/Config/Labels");
            labels.retain(|name, value| {
                let is_bookkeeping = BOOKKEEPING.contains(&name.as_str());
                let is_images = defaults.and_then(|defaults| defaults.get(name)) == Some(value);
                let is_users = user.labels.contains(name) || (is_bookkeeping && !is_images);
                if !is_users && name.starts_with("deployer.") {
                    left_out.push(name.clone());
                }
                is_users
            });
        }
        if let Some(entries) = own.pointer_mut("/Config/Env").and_then(Value::as_array_mut) {
            entries
                .retain(|entry| entry.as_str().is_some_and(|entry| user.environment.contains(environment_key(entry))));
        }
        (own, left_out)
    }

    /// The label's text: compact JSON.
    pub fn to_label(&self) -> String {
        serde_json::to_string(self).expect("a struct of names has a JSON form")
    }
}

/// The key of an `Env` entry. An entry without `=` takes a variable away and has a key all the same.
pub(super) fn environment_key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

/// An engine cleans the working directory when it creates a container, and so must the comparison.
fn is_same_text(field: &str, value: &str, default: &str) -> bool {
    value == default || (field == "WorkingDir" && !default.is_empty() && clean_path(value) == clean_path(default))
}

/// Which of `Entrypoint` and `Cmd` are the user's. An engine takes the image's `Cmd` only where neither was set, and
/// its `Entrypoint` only where none was set; one of a single empty text takes the image's away and shows as null.
fn command_fields(config: &Value, image: &Value) -> &'static [&'static str] {
    let list = |value: &Value, name: &str| value.get(name).filter(|list| !list.is_null()).cloned();
    let is_empty = |list: &Option<Value>| list.as_ref().and_then(Value::as_array).is_none_or(Vec::is_empty);
    let (entrypoint, image_entrypoint) = (list(config, "Entrypoint"), list(image, "Entrypoint"));
    let (command, image_command) = (list(config, "Cmd"), list(image, "Cmd"));
    let is_same_command = command == image_command || (is_empty(&command) && is_empty(&image_command));

    if is_empty(&entrypoint) && entrypoint.is_some() && entrypoint != image_entrypoint {
        // An empty list, which only the API can send, takes the entry point away and still lets the image's `Cmd` in.
        return if is_same_command { &["Entrypoint"] } else { &["Entrypoint", "Cmd"] };
    }
    let is_same_entrypoint = entrypoint == image_entrypoint || (is_empty(&entrypoint) && is_empty(&image_entrypoint));
    if !is_same_entrypoint {
        return &["Entrypoint", "Cmd"];
    }
    match (is_same_command, is_empty(&command)) {
        (true, _) => &[],
        // Only an entry point set by the user, though to the image's own value, keeps the image's `Cmd` out.
        (false, true) => &["Entrypoint", "Cmd"],
        (false, false) => &["Cmd"],
    }
}

/// The user's environment keys. An engine appends to the user's entries those of the image that are missing, in the
/// image's order: whatever stands before the longest such tail is the user's, even where it equals the default.
/// Without such a tail the order says nothing (other updaters copy the whole list, and other engines sort it), and
/// only what differs from the image counts.
fn environment_keys(entries: &[&str], image: &[&str]) -> BTreeSet<String> {
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    for (index, entry) in entries.iter().enumerate() {
        let appended = image.iter().filter(|default| !keys.contains(environment_key(default)));
        if appended.eq(&entries[index..]) {
            return keys.into_iter().map(str::to_owned).collect();
        }
        keys.insert(environment_key(entry));
    }
    entries.iter().filter(|entry| !image.contains(entry)).map(|entry| environment_key(entry).to_owned()).collect()
}

/// The user's label keys.
fn label_keys(config: &Value, image: &Value) -> BTreeSet<String> {
    members(config, "/Labels")
        .filter(|(key, value)| {
            key.starts_with(COMPOSE_LABELS)
                || image.get("Labels").and_then(|labels| labels.get(key.as_str())) != Some(value)
        })
        .map(|(key, _)| key.clone())
        .filter(|key| !BOOKKEEPING.contains(&key.as_str()))
        .collect()
}

/// The user's exposed ports. What is published counts as well: clients expose what they publish, and an engine
/// publishes only what is exposed, even if the new image no longer declares it.
fn exposed_ports(container: &Value, image: &Value) -> BTreeSet<String> {
    let mut ports = keys_beyond(&container["Config"], image, "/ExposedPorts");
    let is_exposed = |port: &str| members(container, "/Config/ExposedPorts").any(|(exposed, _)| exposed == port);
    ports.extend(
        members(container, "/HostConfig/PortBindings").map(|(port, _)| port.clone()).filter(|port| is_exposed(port)),
    );
    ports
}

/// Keys of an object in the container that the image has not.
fn keys_beyond(config: &Value, image: &Value, pointer: &str) -> BTreeSet<String> {
    let defaults = image.pointer(pointer).and_then(Value::as_object);
    members(config, pointer)
        .map(|(key, _)| key)
        .filter(|key| !defaults.is_some_and(|defaults| defaults.contains_key(*key)))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Whether the record in a container's labels is believed, with the image's labels, or with the image gone.
    #[track_caller]
    fn check(container: &[(&str, &str)], image: Option<&[(&str, &str)]>, expected: bool) {
        let labelled = |labels: &[(&str, &str)]| {
            let labels: serde_json::Map<String, Value> =
                labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            json!({ "Config": { "Labels": labels } })
        };
        let image = image.map(labelled);
        let remembered = UserFields::remembered(&labelled(container), image.as_ref());
        assert_eq!(remembered.is_some(), expected, "{container:?} {image:?}");
    }

    /// What is left of a container's labels and variables, and which of deployer's are the image's.
    #[track_caller]
    fn check_alone(container: &Value, image: &Value, labels: &Value, env: &Value, left_out: &[&str]) {
        let (own, found) = UserFields::alone(&json!({ "Config": container }), &json!({ "Config": image }));
        assert_eq!((&own["Config"]["Labels"], &own["Config"]["Env"]), (labels, env));
        assert_eq!(found, left_out);
    }

    #[test]
    fn security_2_labels_and_variables_of_the_image_are_not_the_users() {
        let image =
            json!({"Labels": {"deployer.enable": "true", "vendor": "x"}, "Env": ["PATH=/bin", "NOMAD_ALLOC_ID=1"]});
        let merged = json!({"Labels": {"deployer.enable": "true", "vendor": "x", "team": "a"},
            "Env": ["TZ=UTC", "PATH=/bin", "NOMAD_ALLOC_ID=1"]});
        check_alone(&merged, &image, &json!({"team": "a"}), &json!(["TZ=UTC"]), &["deployer.enable"]);
        let changed = json!({"Labels": {"deployer.enable": "web", "vendor": "x"}, "Env": null});
        check_alone(&changed, &image, &json!({"deployer.enable": "web"}), &json!(null), &[]);
        check_alone(&json!({"Labels": null}), &json!(null), &json!(null), &json!(null), &[]);
    }

    #[test]
    fn security_2_what_a_replacement_remembers_as_the_users_stays_so_whatever_the_image_says() {
        let record = r#"{"v":1,"l":["deployer.enable"]}"#;
        let merged =
            json!({"Labels": {"deployer.enable": "true", "deployer.supervisor": "systemd:x", USER: record, TXN: "c0"}});
        let image = json!({"Labels": {"deployer.enable": "true", "deployer.supervisor": "systemd:x"}});
        let own = json!({"deployer.enable": "true", USER: record, TXN: "c0"});
        check_alone(&merged, &image, &own, &json!(null), &["deployer.supervisor"]);
        // The marks of a replacement may be an image's, too.
        let image = json!({"Labels": {TXN: "c0", USER: record}});
        let merged = json!({"Labels": {TXN: "c0", USER: record, "deployer.enable": "true"}});
        let left_out = [TXN, USER];
        check_alone(&merged, &image, &json!({"deployer.enable": "true"}), &json!(null), &left_out);
    }

    /// An image may bring such a label, and say that nothing is the user's: a `--user` would be dropped.
    #[test]
    fn security_17_a_record_that_may_be_the_images_is_not_believed() {
        let (record, other) = (r#"{"v":1}"#, r#"{"v":1,"f":["User"]}"#);
        check(&[(USER, record)], Some(&[]), true);
        check(&[(USER, record), (TXN, "00c0ffee")], Some(&[]), true);
        check(&[(USER, record)], Some(&[(USER, record)]), false);
        check(&[(USER, record)], Some(&[(USER, other)]), true);
        check(&[(USER, record), (TXN, "00c0ffee")], None, true);
        check(&[(USER, record)], None, false);
        check(&[(USER, record), (TXN, "")], None, false);
        check(&[(USER, r#"{"v":2}"#), (TXN, "00c0ffee")], None, false);
        check(&[], None, false);
    }
}
