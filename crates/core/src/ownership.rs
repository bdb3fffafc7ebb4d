//! Whose a container is: only what nobody else looks after may be replaced.
//!
//! An orchestrator would make its own container again beside ours, and a supervisor such as a systemd unit would kill
//! and remove ours, since it finds its container gone. Orchestrators mark their containers. A unit that runs
//! `docker run` leaves no mark at all, and must be found from outside, by the process of its client or by its unit
//! file; what was found is passed in as [`Supervision`]. This module must not look for anything itself.

use serde_json::Value;

use crate::plain;

/// Label by which an operator says who looks after a container: `systemd:UNIT`, or `none` against a wrong finding.
pub const LABEL_SUPERVISOR: &str = "deployer.supervisor";

/// Labels that only one owner puts on its containers. A name that ends in a dot stands for all that begin so.
/// balena and Kubernetes are named exactly: their base images carry labels with the same beginning.
const OWNERS_BY_LABEL: [(&str, Owner); 9] = [
    ("com.docker.swarm.", Owner::Swarm),
    ("io.kubernetes.pod.uid", Owner::Kubernetes),
    ("io.kubernetes.pod.name", Owner::Kubernetes),
    ("com.hashicorp.nomad.", Owner::Nomad),
    ("PODMAN_SYSTEMD_UNIT", Owner::PodmanSystemd),
    ("com.amazonaws.ecs.", Owner::Ecs),
    ("io.balena.supervised", Owner::Balena),
    ("io.balena.service-id", Owner::Balena),
    ("io.resin.supervised", Owner::Balena),
];
/// Labels of agents that make containers of their own and would make them again.
const AGENT_LABELS: [&str; 7] = [
    "com.dokku.app-name",
    "com.gitlab.gitlab-runner.",
    "coolify.managed",
    "io.rancher.container.",
    "net.azure-devices.edge.",
    "org.testcontainers",
    "supervisor_managed",
];
/// Environment variables that an agent sets where it sets no label.
const AGENT_VARIABLES: [(&str, &str); 2] = [("NOMAD_ALLOC_ID", "Nomad"), ("MESOS_TASK_ID", "Mesos")];
/// Labels that Watchtower reads and sets.
const WATCHTOWER_LABELS: &str = "com.centurylinklabs.watchtower";

/// Who looks after a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody but its user: it may be replaced.
    User,
    /// Docker Swarm.
    Swarm,
    /// A kubelet.
    Kubernetes,
    /// A Nomad client.
    Nomad,
    /// A systemd unit of Podman's.
    PodmanSystemd,
    /// Amazon's ECS agent.
    Ecs,
    /// The balena supervisor.
    Balena,
    /// Another agent, by the mark it left.
    OtherAgent(String),
    /// A supervisor of processes, such as systemd.
    Supervisor {
        /// The unit, such as `web.service`.
        unit: String,
        /// How it was found.
        evidence: Evidence,
    },
}

/// How a supervisor was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The label [`LABEL_SUPERVISOR`].
    Label,
    /// A client of the unit is attached to the container. Of its command line, which may hold passwords, nothing is told.
    Client {
        /// `docker` or `docker-compose`.
        program: String,
        /// The container's name.
        container: String,
    },
    /// The unit's file names the container.
    UnitFile,
    /// The container's processes are in the unit's control group.
    ControlGroup,
}

/// What the machine shows about a container's supervision, gathered by an edge. All absent where it could not look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supervision {
    /// Program of a live client that is attached to the container and belongs to a service.
    pub attached_client: Option<String>,
    /// The unit of that client, or one whose file names the container.
    pub unit: Option<String>,
    /// Path of the control group of the container's main process, such as `/system.slice/docker-4f….scope`.
    pub cgroup: Option<String>,
}

impl Owner {
    /// Whether deployer may replace the container.
    pub fn allows_replacement(&self) -> bool {
        *self == Self::User
    }

    /// Why the container is left alone, for people; `None` if it is not.
    pub fn reason(&self) -> Option<String> {
        let agent = |name: &str| Some(format!("it belongs to {name}, which would make it again"));
        match self {
            Self::User => None,
            Self::Swarm => agent("Docker Swarm"),
            Self::Kubernetes => agent("Kubernetes"),
            Self::Nomad => agent("Nomad"),
            Self::PodmanSystemd => agent("a systemd unit of Podman's"),
            Self::Ecs => agent("the ECS agent"),
            Self::Balena => agent("the balena supervisor"),
            Self::OtherAgent(mark) => Some(format!("it belongs to another agent (it has {mark})")),
            Self::Supervisor { unit, evidence } => Some(match evidence {
                Evidence::Label => format!("it is run by {unit} (label {LABEL_SUPERVISOR})"),
                Evidence::Client { program, container } => {
                    format!("it is run by {unit} (its client {program} is attached to {container})")
                }
                Evidence::UnitFile => format!("it is run by {unit} (its file names the container)"),
                Evidence::ControlGroup => {
                    format!("it is run by {unit} (its processes are in that unit's control group)")
                }
            }),
        }
    }

    /// A fixed word for metrics and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Swarm => "swarm",
            Self::Kubernetes => "kubernetes",
            Self::Nomad => "nomad",
            Self::PodmanSystemd => "podman_systemd",
            Self::Ecs => "ecs",
            Self::Balena => "balena",
            Self::OtherAgent(_) => "other_agent",
            Self::Supervisor { .. } => "supervisor",
        }
    }
}

/// Whether a container has a label or a variable from which anything is decided, so that it has to be known whose that is.
pub fn has_marks(container: &Value) -> bool {
    let is_own = |(name, _): (&String, &Value)| name.starts_with("deployer.");
    labels(container).any(is_own) || by_label(container).is_some() || by_environment(container).is_some()
}

/// Decides whose a container is, from its raw inspection without what the image
/// brought ([`crate::successor::UserFields::alone`]) and what the machine shows.
pub fn owner(container: &Value, supervision: &Supervision) -> Owner {
    by_label(container)
        .or_else(|| by_name_and_cgroup(container, supervision))
        .or_else(|| by_environment(container))
        .or_else(|| supervisor(container, supervision))
        .unwrap_or(Owner::User)
}

/// What an operator should know although the container is replaced all the same.
pub fn warning(container: &Value) -> Option<String> {
    let label = labels(container).map(|(name, _)| name).find(|name| name.starts_with(WATCHTOWER_LABELS))?;
    let label = plain::words(label);
    Some(format!(
        "has Watchtower's label {label}; if Watchtower still runs here, two updaters replace the same container"
    ))
}

fn labels(container: &Value) -> impl Iterator<Item = (&String, &Value)> {
    container.pointer("/Config/Labels").and_then(Value::as_object).into_iter().flatten()
}

fn name(container: &Value) -> &str {
    container.get("Name").and_then(Value::as_str).unwrap_or("").trim_start_matches('/')
}

fn matches_label(pattern: &str, label: &str) -> bool {
    if pattern.ends_with('.') { label.starts_with(pattern) } else { label == pattern }
}

fn by_label(container: &Value) -> Option<Owner> {
    let named =
        OWNERS_BY_LABEL.iter().find(|(pattern, _)| labels(container).any(|(name, _)| matches_label(pattern, name)));
    if let Some((_, owner)) = named {
        return Some(owner.clone());
    }
    let mut names = labels(container).map(|(name, _)| name);
    let mark = names.find(|name| AGENT_LABELS.iter().any(|pattern| matches_label(pattern, name)))?;
    Some(Owner::OtherAgent(format!("label {}", plain::words(mark))))
}

/// Kubernetes is known by its containers' names and control groups even where labels were lost.
fn by_name_and_cgroup(container: &Value, supervision: &Supervision) -> Option<Owner> {
    let parent = container.pointer("/HostConfig/CgroupParent").and_then(Value::as_str).unwrap_or("");
    let groups = [parent, supervision.cgroup.as_deref().unwrap_or("")];
    let is_kubernetes = name(container).starts_with("k8s_") || groups.iter().any(|group| group.contains("kubepods"));
    is_kubernetes.then_some(Owner::Kubernetes)
}

fn by_environment(container: &Value) -> Option<Owner> {
    let entries = container.pointer("/Config/Env").and_then(Value::as_array)?;
    let keys: Vec<&str> = entries.iter().filter_map(|entry| entry.as_str()?.split('=').next()).collect();
    match AGENT_VARIABLES.iter().find(|(variable, _)| keys.contains(variable))? {
        (_, "Nomad") => Some(Owner::Nomad),
        (variable, agent) => Some(Owner::OtherAgent(format!("{agent}'s variable {variable}"))),
    }
}

/// The label is the operator's word and stands above what was found.
fn supervisor(container: &Value, supervision: &Supervision) -> Option<Owner> {
    let label = labels(container).find(|(name, _)| *name == LABEL_SUPERVISOR).and_then(|(_, value)| value.as_str());
    if let Some(label) = label {
        let unit = plain::words(label.strip_prefix("systemd:").unwrap_or(label));
        return (label != "none").then_some(Owner::Supervisor { unit, evidence: Evidence::Label });
    }
    if let Some(unit) = supervision.unit.as_deref().map(plain::words) {
        let evidence = supervision.attached_client.clone().map_or(Evidence::UnitFile, |program| Evidence::Client {
            program,
            container: plain::words(name(container)),
        });
        return Some(Owner::Supervisor { unit, evidence });
    }
    let id = container.get("Id").and_then(Value::as_str).unwrap_or("");
    let unit = service_of_cgroup(supervision.cgroup.as_deref()?, id)?;
    Some(Owner::Supervisor { unit: plain::words(unit), evidence: Evidence::ControlGroup })
}

/// The service that a control group belongs to. One that is named after the container was made by the engine, in
/// whatever service the engine itself may run (rootless, or inside another container).
fn service_of_cgroup<'a>(cgroup: &'a str, container_id: &str) -> Option<&'a str> {
    if !container_id.is_empty() && cgroup.contains(container_id) {
        return None;
    }
    service_of_process(cgroup)
}

/// The service that a process belongs to by the path of its control group: the innermost unit, if that is a service.
/// A person's login and terminals are scopes, and are nobody's service.
pub fn service_of_process(cgroup: &str) -> Option<&str> {
    let unit = cgroup.rsplit('/').find(|part| part.ends_with(".service") || part.ends_with(".scope"))?;
    unit.ends_with(".service").then_some(unit)
}

#[cfg(test)]
mod tests;
