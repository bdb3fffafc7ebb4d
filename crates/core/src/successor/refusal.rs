//! What cannot be carried over to a successor, found before anything is stopped.

use serde_json::Value;
use thiserror::Error;

/// Why a container cannot be replaced as it is.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Its image was removed, and nothing was remembered: defaults and settings cannot be told apart.
    #[error("the image it was created from is gone, so its settings cannot be told from the image's; recreate it once")]
    ImageGone,
    /// It disappears when it stops.
    #[error("it was started with --rm and would be gone when stopped; start it without --rm")]
    AutoRemove,
    /// It lives in another container's namespace.
    #[error("it shares the {kind} namespace of {with}; replace both by hand, or give it its own")]
    Shares {
        /// `network`, `pid` or `ipc`.
        kind: &'static str,
        /// The other container.
        with: String,
    },
    /// Another container lives in one of its namespaces.
    #[error("{by} shares its {kind} and would lose it; replace both by hand")]
    Provides {
        /// `network`, `pid`, `ipc`, `volumes` or `link`.
        kind: &'static str,
        /// The other container.
        by: String,
    },
    /// It takes volumes from another container.
    #[error("it uses --volumes-from {0}; name the volumes instead")]
    VolumesFrom(String),
    /// It is linked to another container.
    #[error("it uses --link {0}; put both on a network instead")]
    Link(String),
    /// Files were written into it that no volume keeps.
    #[error("files were put into it that would be lost: {0}; mount them instead")]
    Injected(String),
}

/// A container that another one leans on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependence {
    /// `network`, `pid`, `ipc`, `volumes` or `link`.
    pub kind: &'static str,
    /// Name or ID of the container that is leaned on.
    pub on: String,
}

/// Refuses what the inspection alone shows cannot be carried over.
pub fn check(container: &Value) -> Result<(), Refusal> {
    if container.pointer("/HostConfig/AutoRemove").and_then(Value::as_bool) == Some(true) {
        return Err(Refusal::AutoRemove);
    }
    match depends_on(container).into_iter().next() {
        Some(Dependence { kind: "volumes", on }) => Err(Refusal::VolumesFrom(on)),
        Some(Dependence { kind: "link", on }) => Err(Refusal::Link(on)),
        Some(Dependence { kind, on }) => Err(Refusal::Shares { kind, with: on }),
        None => Ok(()),
    }
}

/// The containers that one leans on.
pub fn depends_on(container: &Value) -> Vec<Dependence> {
    let host = container.get("HostConfig").unwrap_or(&Value::Null);
    let mode = |field: &str| host.get(field).and_then(Value::as_str).unwrap_or_default();
    let list = |field: &str| host.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let shared = [("network", "NetworkMode"), ("pid", "PidMode"), ("ipc", "IpcMode")]
        .into_iter()
        .filter_map(|(kind, field)| Some(Dependence { kind, on: mode(field).strip_prefix("container:")?.to_owned() }));
    let first = |text: &str| text.split(':').next().unwrap_or(text).trim_start_matches('/').to_owned();
    let volumes = list("VolumesFrom").map(|from| Dependence { kind: "volumes", on: first(from) });
    let links = list("Links").map(|link| Dependence { kind: "link", on: first(link) });
    shared.chain(volumes).chain(links).collect()
}

/// Files that Compose, or a person with `docker cp`, put where programs expect configuration, and that a new
/// container would not have.
///
/// What a program writes while it runs looks the same to the engine, so only places count that programs do not
/// write to: `/run/secrets`, and the roots where Compose puts `configs` if the container is one of Compose's.
/// A configuration put elsewhere by hand is not seen; the documentation says so.
pub fn injected_files(changes: &[String], container: &Value) -> Option<Refusal> {
    let is_below = |path: &str, folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let is_mounted = |path: &str| {
        let mounts = container.get("Mounts").and_then(Value::as_array).into_iter().flatten();
        mounts.filter_map(|mount| mount.get("Destination")?.as_str()).any(|at| path == at || is_below(path, at))
    };
    let is_composes = container
        .pointer("/Config/Labels")
        .and_then(Value::as_object)
        .is_some_and(|labels| labels.contains_key("com.docker.compose.project"));
    let is_config = |path: &str| is_composes && path.matches('/').count() == 1 && path.contains('.');
    let injected: Vec<&str> = changes
        .iter()
        .map(String::as_str)
        .filter(|path| is_below(path, "/run/secrets") || is_config(path))
        .filter(|path| !is_mounted(path))
        .collect();
    (!injected.is_empty()).then(|| Refusal::Injected(injected.join(", ")))
}
