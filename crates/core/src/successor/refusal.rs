//! What cannot be replaced, and why; and what a container leans on.
//!
//! Everything here is found before anything is stopped.

use serde_json::Value;
use thiserror::Error;

use super::json::{container_name, text, texts};

/// Shortest part of an ID that engines and people use for a container, in characters.
const ID_PART_MIN: usize = 12;

/// Why a container is not replaced, and what its owner can do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The inspection is not what the API documents.
    #[error("the engine's inspection of the container makes no sense: {what}")]
    Malformed {
        /// What was wrong.
        what: String,
    },
    /// The engine does not show all that the container was made with.
    #[error(
        "Podman is not served by this version: what it shows of a container by Docker's API leaves out fixed addresses, kernel \
         settings and rules of devices, and the successor would lack them; update it by hand, or run it on Docker"
    )]
    SettingsHidden,
    /// The image that the container was created from is gone, and nothing was recorded about the user's settings.
    #[error(
        "the image {image} that container '{name}' was created from is gone, so the container's own settings cannot be \
         told from the image's; pull that image again, or create the container anew once"
    )]
    OldImageGone {
        /// ID of the missing image.
        image: String,
        /// The container's name.
        name: String,
    },
    /// Stopping the container removes it and its anonymous volumes, and there would be no way back.
    #[error(
        "the container was started with --rm: stopping it removes it, and there is no way back; create it without --rm"
    )]
    AutoRemove,
    /// The container uses another one's namespaces or address, and that is gone: no engine would create it anew.
    #[error("the container {}, which is gone; create this one anew, on what there is now", .0.words())]
    ProviderGone(Dependence),
    /// The container uses another one's namespaces or address, and that does not run: no engine would start it.
    #[error("the container {}, which does not run; start that one first", .0.words())]
    ProviderDown(Dependence),
    /// Another container uses this one's namespaces or address, and would be left with those of a removed container.
    #[error(
        "container '{by}' {}, which is this one, and would be cut off; replacing such containers is not supported yet, \
         create both anew by hand", .dependence.words()
    )]
    LeantOn {
        /// Name of the other container.
        by: String,
        /// What it uses.
        dependence: Dependence,
    },
    /// The container should be in a network and is in none.
    #[error(
        "the container should be in network '{mode}' but was taken off all networks; connect it again, or create it anew"
    )]
    Disconnected {
        /// Its network mode.
        mode: String,
    },
    /// The inspection names a volume without a name that is not among the mounts.
    #[error(
        "the volume at {path} is not among the container's mounts, so its data could not be kept; create the container anew with a named volume"
    )]
    VolumeUnknown {
        /// Path in the container.
        path: String,
    },
    /// Files were put into the container, which the image does not have and the successor would lack.
    #[error(
        "files were put into the container ({}), as 'docker cp' and Compose's configs and secrets with inline content \
         do, and the successor would lack them; mount them from the host instead, or say that they may go, by the label \
         deployer.discard=files",
        .paths.join(", ")
    )]
    FilesInjected {
        /// Paths in the container.
        paths: Vec<String>,
    },
}

impl Refusal {
    /// A fixed word for metrics and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::SettingsHidden => "settings_hidden",
            Self::OldImageGone { .. } => "old_image_gone",
            Self::AutoRemove => "auto_remove",
            Self::ProviderGone(_) => "provider_gone",
            Self::ProviderDown(_) => "provider_down",
            Self::LeantOn { .. } => "leant_on",
            Self::Disconnected { .. } => "disconnected",
            Self::VolumeUnknown { .. } => "volume_unknown",
            Self::FilesInjected { .. } => "files_injected",
        }
    }
}

/// What of another container is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DependenceKind {
    /// `NetworkMode` `container:…`.
    Network,
    /// `PidMode` `container:…`.
    Pid,
    /// `IpcMode` `container:…`.
    Ipc,
    /// `Cgroup` `container:…`.
    Cgroup,
    /// `VolumesFrom`.
    Volumes,
    /// `Links` of the container, on the default bridge. A link in a network of one's own is but a further name there, which is
    /// looked up anew each time.
    Link,
}

/// One use that a container makes of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependence {
    /// What is used.
    pub kind: DependenceKind,
    /// ID, part of an ID, or name of the container it is used of, as it was written.
    pub on: String,
}

impl Dependence {
    /// Whether this names the container with that name and ID.
    pub fn is_on(&self, name: &str, id: &str) -> bool {
        self.on == name || (self.on.len() >= ID_PART_MIN && id.starts_with(&self.on))
    }

    /// What the user of it does, for people.
    fn words(&self) -> String {
        let what = match self.kind {
            DependenceKind::Network => "shares the network of",
            DependenceKind::Pid => "shares the processes of",
            DependenceKind::Ipc => "shares the IPC namespace of",
            DependenceKind::Cgroup => "shares the control group of",
            DependenceKind::Volumes => "takes its volumes from",
            DependenceKind::Link => "is linked to",
        };
        format!("{what} container '{}'", self.on)
    }
}

/// All uses that a container makes of others.
pub fn depends_on(container: &Value) -> Vec<Dependence> {
    let mut dependences = Vec::new();
    let mut add = |kind, on: &str| {
        let dependence = Dependence { kind, on: on.trim_start_matches('/').to_owned() };
        if !dependences.contains(&dependence) {
            dependences.push(dependence);
        }
    };
    let modes = [
        ("/HostConfig/NetworkMode", DependenceKind::Network),
        ("/HostConfig/PidMode", DependenceKind::Pid),
        ("/HostConfig/IpcMode", DependenceKind::Ipc),
        ("/HostConfig/Cgroup", DependenceKind::Cgroup),
    ];
    for (pointer, kind) in modes {
        if let Some(on) = text(container, pointer).strip_prefix("container:") {
            add(kind, on);
        }
    }
    for entry in texts(container, "/HostConfig/VolumesFrom") {
        add(DependenceKind::Volumes, before_colon(entry));
    }
    for entry in texts(container, "/HostConfig/Links") {
        add(DependenceKind::Link, before_colon(entry));
    }
    dependences
}

/// A container of the same engine, in any state: a stopped sharer could not be started again.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour<'a> {
    /// Its ID.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Whether another one can be started on its namespaces.
    pub is_running: bool,
    /// What [`depends_on`] found of it.
    pub uses: &'a [Dependence],
}

impl Neighbour<'_> {
    /// Whether it is what somebody uses.
    pub(super) fn is_used_by(&self, dependence: &Dependence) -> bool {
        dependence.is_on(self.name, self.id)
    }
}

/// Refuses what is impossible for a container among these others, itself included. Volumes are no hindrance either way, since
/// they are kept by name.
pub(super) fn check(container: &Value, others: &[Neighbour<'_>]) -> Result<(), Refusal> {
    if container.pointer("/HostConfig/AutoRemove") == Some(&Value::Bool(true)) {
        return Err(Refusal::AutoRemove);
    }
    let (name, id) = (container_name(container), text(container, "/Id"));
    let binds = |dependence: &&Dependence| dependence.kind != DependenceKind::Volumes;
    for other in others {
        if let Some(used) = other.uses.iter().filter(binds).find(|used| used.is_on(name, id)) {
            return Err(Refusal::LeantOn { by: other.name.to_owned(), dependence: used.clone() });
        }
    }
    for used in depends_on(container).iter().filter(binds) {
        match others.iter().find(|other| other.is_used_by(used)) {
            None => return Err(Refusal::ProviderGone(used.clone())),
            Some(other) if !other.is_running => return Err(Refusal::ProviderDown(used.clone())),
            Some(_) => {}
        }
    }
    Ok(())
}

fn before_colon(entry: &str) -> &str {
    entry.split_once(':').map_or(entry, |(before, _)| before)
}
