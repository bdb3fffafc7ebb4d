//! Taking the old image's defaults out of a container's settings.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Input, Refusal, object};
use crate::policy;

/// Which settings are the user's, by name. Values stay where they are: in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserFields {
    /// Fields of `Config`, and of its `Healthcheck` as `Healthcheck.Interval`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub fields: BTreeSet<String>,
    /// Names of environment variables.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub env: BTreeSet<String>,
    /// Names of labels.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    /// Exposed ports.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ports: BTreeSet<String>,
    /// Volume paths.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
}

/// Fields that are the user's or the image's as a whole.
const WHOLE: [&str; 5] = ["Entrypoint", "Cmd", "User", "WorkingDir", "StopSignal"];
/// Fields of a health check, each of which a user may set alone.
const HEALTH: [&str; 6] = ["Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"];
/// Fields of an image's configuration that an inspection shows and no create request takes.
const NOT_RESUBMITTED: [&str; 1] = ["OnBuild"];

impl UserFields {
    /// The form in which it is kept in a label.
    pub fn to_label(&self) -> String {
        serde_json::to_string(self).expect("sets of text are plain JSON")
    }

    /// What an earlier replacement remembered; `None` at the first.
    fn remembered(config: &Map<String, Value>) -> Option<Self> {
        let label = config.get("Labels")?.get(policy::USER)?.as_str()?;
        serde_json::from_str(label).ok()
    }

    /// What differs from the image's defaults.
    fn guessed(config: &Map<String, Value>, defaults: &Map<String, Value>) -> Self {
        let differs = |field: &&&str| !is_same(config.get(**field), defaults.get(**field));
        let mut fields: BTreeSet<String> = WHOLE.iter().filter(differs).map(|field| (*field).to_owned()).collect();
        // An image's command belongs to the image's entrypoint. Docker drops it when the user overrides the
        // entrypoint, so a command that is there beside an overridden one is the user's.
        if fields.contains("Entrypoint") && !is_empty(config.get("Cmd")) {
            fields.insert("Cmd".to_owned());
        }
        let (own, default) = (health(config), health(defaults));
        fields.extend(
            HEALTH
                .iter()
                .filter(|part| !is_same(own.get(**part), default.get(**part)))
                .map(|part| format!("Healthcheck.{part}")),
        );
        let default_env = environment(defaults);
        let env = environment(config).into_iter().filter(|pair| !default_env.contains(pair)).map(|(name, _)| name);
        let pairs_beyond = |field: &str| {
            let default = keyed(defaults, field);
            let own = keyed(config, field).into_iter();
            own.filter(|(key, value)| default.get(key) != Some(value)).map(|(key, _)| key).collect::<BTreeSet<_>>()
        };
        Self {
            fields,
            env: env.collect(),
            labels: pairs_beyond("Labels"),
            ports: pairs_beyond("ExposedPorts"),
            volumes: pairs_beyond("Volumes"),
        }
    }

    /// Settings that became the user's after they were remembered cannot exist: a container's never change.
    /// What the remembered image did not have and the container does is the user's all the same.
    fn settled(config: &Map<String, Value>, old_image: Option<&Value>) -> Result<Self, Refusal> {
        if let Some(remembered) = Self::remembered(config) {
            return Ok(remembered);
        }
        let old_image = old_image.ok_or(Refusal::ImageGone)?;
        Ok(Self::guessed(config, &object(old_image, "/Config")))
    }
}

/// Removes from a container's settings what its image gave it, and says what is the user's.
pub fn take_out_defaults(config: &mut Map<String, Value>, input: &Input<'_>) -> Result<UserFields, Refusal> {
    let user = UserFields::settled(config, input.old_image)?;
    for field in NOT_RESUBMITTED {
        config.remove(field);
    }
    for field in WHOLE.iter().filter(|field| !user.fields.contains(**field)) {
        config.remove(*field);
    }
    clear_explicitly(config, &user, input.new_image);
    keep_health(config, &user);
    if let Some(Value::Array(pairs)) = config.get_mut("Env") {
        pairs.retain(|pair| pair.as_str().is_some_and(|pair| user.env.contains(name_of(pair))));
    }
    for (field, kept) in [("Labels", &user.labels), ("ExposedPorts", &user.ports), ("Volumes", &user.volumes)] {
        if let Some(Value::Object(pairs)) = config.get_mut(field) {
            pairs.retain(|key, _| kept.contains(key));
        }
    }
    Ok(user)
}

/// A user's empty entrypoint must be sent as `[""]`: an empty list means "the image's".
fn clear_explicitly(config: &mut Map<String, Value>, user: &UserFields, new_image: &Value) {
    let is_reset = user.fields.contains("Entrypoint") && is_empty(config.get("Entrypoint"));
    if is_reset && !is_empty(new_image.pointer("/Config/Entrypoint")) {
        config.insert("Entrypoint".to_owned(), serde_json::json!([""]));
    }
}

/// Keeps the user's parts of a health check. The engine fills the others in from the image, part by part.
fn keep_health(config: &mut Map<String, Value>, user: &UserFields) {
    let Some(Value::Object(check)) = config.get_mut("Healthcheck") else { return };
    check.retain(|part, _| user.fields.contains(&format!("Healthcheck.{part}")) || !HEALTH.contains(&part.as_str()));
    if check.is_empty() {
        config.remove("Healthcheck");
    }
}

fn health(config: &Map<String, Value>) -> Map<String, Value> {
    config.get("Healthcheck").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn keyed(config: &Map<String, Value>, field: &str) -> Map<String, Value> {
    config.get(field).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// Environment variables as `(name, whole pair)`; a name without a value is a pair of its own kind.
fn environment(config: &Map<String, Value>) -> Vec<(String, String)> {
    let pairs = config.get("Env").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    pairs.map(|pair| (name_of(pair).to_owned(), pair.to_owned())).collect()
}

fn name_of(pair: &str) -> &str {
    pair.split('=').next().unwrap_or(pair)
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.iter().all(|item| item == ""),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(_) => false,
    }
}

/// Absent, null, empty and zero are the same to the engine.
fn is_same(own: Option<&Value>, default: Option<&Value>) -> bool {
    own == default || is_empty(own) && is_empty(default)
}
