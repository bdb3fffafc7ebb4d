//! Whose a container is, as far as its own inspection tells.
//!
//! Orchestrators and other agents create, replace and remove their containers themselves; a second hand on them
//! breaks both. They mark what they own with labels of their own, so labels decide. What a supervisor on the
//! machine runs cannot be seen here: `deployer::supervision` adds it.

use serde_json::Value;

/// The owner of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A person, or Compose on a person's behalf.
    User,
    /// An orchestrator or agent, by its name.
    Agent(&'static str),
    /// A supervisor on this machine, such as a systemd unit, in words.
    Supervisor(String),
}

/// Labels that name an owner; one that ends in a dot stands for all that begin with it.
const OWNERS: [(&str, &str); 9] = [
    ("com.docker.swarm.", "Docker Swarm"),
    ("io.kubernetes.", "Kubernetes"),
    ("com.hashicorp.nomad.", "Nomad"),
    ("PODMAN_SYSTEMD_UNIT", "a Podman systemd unit"),
    ("com.amazonaws.ecs.", "Amazon ECS"),
    ("io.balena.", "balena"),
    ("io.rancher.", "Rancher"),
    ("mesos.", "Mesos"),
    ("com.centurylinklabs.watchtower", "Watchtower"),
];

/// Reads the owner off a raw inspection.
pub fn owner(container: &Value) -> Owner {
    let labels = container.pointer("/Config/Labels").and_then(Value::as_object);
    let owns = |mark: &str, label: &str| match mark.strip_suffix('.') {
        Some(_) => label.starts_with(mark),
        None => label == mark,
    };
    let by_label = labels
        .into_iter()
        .flatten()
        .find_map(|(label, _)| OWNERS.iter().find(|(mark, _)| owns(mark, label)).map(|(_, name)| *name));
    let is_nomad = strings(container.pointer("/Config/Env")).any(|pair| pair.starts_with("NOMAD_ALLOC_ID="));
    let cgroup_parent = container.pointer("/HostConfig/CgroupParent").and_then(Value::as_str).unwrap_or_default();
    if let Some(name) = by_label {
        Owner::Agent(name)
    } else if is_nomad {
        Owner::Agent("Nomad")
    } else if cgroup_parent.contains("kubepods") {
        Owner::Agent("Kubernetes")
    } else {
        Owner::User
    }
}

fn strings(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

impl Owner {
    /// A sentence for the status.
    pub fn reason(&self) -> String {
        match self {
            Self::User => String::new(),
            Self::Agent(name) => format!("it belongs to {name}"),
            Self::Supervisor(what) => format!("{what} runs it and would start a second one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(container: Value, expected: Owner) {
        assert_eq!(owner(&container), expected, "{container}");
    }

    #[test]
    fn owners_are_known_by_their_marks() {
        let labelled = |label: &str| json!({"Config": {"Labels": {label: "x"}}});
        check(labelled("com.docker.swarm.task.id"), Owner::Agent("Docker Swarm"));
        check(labelled("io.kubernetes.pod.uid"), Owner::Agent("Kubernetes"));
        check(labelled("com.hashicorp.nomad.alloc_id"), Owner::Agent("Nomad"));
        check(labelled("PODMAN_SYSTEMD_UNIT"), Owner::Agent("a Podman systemd unit"));
        check(labelled("com.amazonaws.ecs.task-arn"), Owner::Agent("Amazon ECS"));
        check(json!({"Config": {"Env": ["NOMAD_ALLOC_ID=1"]}}), Owner::Agent("Nomad"));
        check(json!({"HostConfig": {"CgroupParent": "/kubepods/besteffort"}}), Owner::Agent("Kubernetes"));
    }

    #[test]
    fn compose_works_for_a_person_and_watchtowers_settings_own_nothing() {
        check(json!({"Config": {"Labels": {"com.docker.compose.service": "web"}}}), Owner::User);
        check(json!({"Config": {"Labels": {"com.centurylinklabs.watchtower.enable": "true"}}}), Owner::User);
        check(json!({"Config": {"Labels": null}}), Owner::User);
    }
}
