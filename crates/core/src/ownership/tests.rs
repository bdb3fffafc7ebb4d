use super::*;
use serde_json::json;

const ID: &str = "4f0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c";

#[track_caller]
fn check(container: Value, supervision: Supervision, kind: &str, reason: &str) {
    let owner = owner(&container, &supervision);
    assert_eq!(owner.kind(), kind, "{owner:?}");
    assert_eq!(owner.reason().unwrap_or_default(), reason);
    assert_eq!(owner.allows_replacement(), kind == "user");
}

#[track_caller]
fn check_label(label: &str, value: &str, kind: &str, reason: &str) {
    check(json!({ "Config": { "Labels": { label: value } } }), Supervision::default(), kind, reason);
}

fn found(client: &str, unit: &str, cgroup: &str) -> Supervision {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Supervision { attached_client: some(client), unit: some(unit), cgroup: some(cgroup) }
}

#[test]
fn orchestrators_and_agents_are_known_by_their_labels() {
    check_label("com.docker.swarm.task.id", "x", "swarm", "it belongs to Docker Swarm, which would make it again");
    check_label("io.kubernetes.pod.uid", "x", "kubernetes", "it belongs to Kubernetes, which would make it again");
    check_label("com.hashicorp.nomad.alloc_id", "x", "nomad", "it belongs to Nomad, which would make it again");
    let podman = "it belongs to a systemd unit of Podman's, which would make it again";
    check_label("PODMAN_SYSTEMD_UNIT", "web.service", "podman_systemd", podman);
    check_label("com.amazonaws.ecs.task-arn", "x", "ecs", "it belongs to the ECS agent, which would make it again");
    check_label(
        "io.balena.supervised",
        "true",
        "balena",
        "it belongs to the balena supervisor, which would make it again",
    );
    let other = "it belongs to another agent (it has label io.rancher.container.uuid)";
    check_label("io.rancher.container.uuid", "x", "other_agent", other);
}

#[test]
fn what_is_decided_from_a_label_or_a_variable_is_worth_asking_whose_it_is() {
    let check = |name: &str, env: &str, expected: bool| {
        let container = json!({"Config": {"Labels": {name: "x"}, "Env": [env]}});
        assert_eq!(has_marks(&container), expected, "{name} {env}");
    };
    check("deployer.enable", "PATH=/bin", true);
    check("com.docker.swarm.task.id", "PATH=/bin", true);
    check("maintainer", "MESOS_TASK_ID=x", true);
    check("maintainer", "PATH=/bin", false);
    assert!(!has_marks(&json!({})));
}

#[test]
fn labels_of_base_images_and_of_compose_are_no_owners() {
    for label in
        ["io.balena.architecture", "io.k8s.description", "com.docker.compose.project", "supervisor_managed_not"]
    {
        check_label(label, "x", "user", "");
    }
}

#[test]
fn kubernetes_is_known_by_name_and_by_control_group() {
    let reason = "it belongs to Kubernetes, which would make it again";
    check(json!({ "Name": "/k8s_web_pod_0" }), Supervision::default(), "kubernetes", reason);
    check(
        json!({ "HostConfig": { "CgroupParent": "/kubepods/burstable/pod1" } }),
        Supervision::default(),
        "kubernetes",
        reason,
    );
    check(json!({}), found("", "", "/kubepods.slice/kubepods-pod1.slice/docker-1.scope"), "kubernetes", reason);
}

#[test]
fn agents_without_labels_are_known_by_their_variables() {
    let environment = |entry: &str| json!({ "Config": { "Env": [entry] } });
    check(
        environment("NOMAD_ALLOC_ID=1"),
        Supervision::default(),
        "nomad",
        "it belongs to Nomad, which would make it again",
    );
    let mesos = "it belongs to another agent (it has Mesos's variable MESOS_TASK_ID)";
    check(environment("MESOS_TASK_ID=1"), Supervision::default(), "other_agent", mesos);
    check(environment("NOMAD_ALLOC_IDS=1"), Supervision::default(), "user", "");
}

#[test]
fn a_service_with_an_attached_client_or_a_unit_file_is_a_supervisor() {
    let client = "it is run by web.service (its client docker is attached to web)";
    check(json!({ "Name": "/web" }), found("docker", "web.service", ""), "supervisor", client);
    check(
        json!({}),
        found("", "web.service", ""),
        "supervisor",
        "it is run by web.service (its file names the container)",
    );
    check(json!({}), found("docker", "", ""), "user", "");
}

#[test]
fn processes_in_the_control_group_of_a_service_have_a_supervisor() {
    let container = json!({ "Id": ID });
    let reason = "it is run by web.service (its processes are in that unit's control group)";
    check(container.clone(), found("", "", "/system.slice/web.service"), "supervisor", reason);
    check(container.clone(), found("", "", "/system.slice/web.service/payload"), "supervisor", reason);
    let engines_own = [
        format!("/system.slice/docker-{ID}.scope"),
        format!("/docker/{ID}"),
        format!("/system.slice/docker.service/docker/{ID}"),
        format!("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope"),
    ];
    for cgroup in engines_own {
        check(container.clone(), found("", "", &cgroup), "user", "");
    }
}

#[test]
fn a_process_of_a_login_is_no_service() {
    for (cgroup, service) in [
        ("/system.slice/web.service", Some("web.service")),
        ("/system.slice/system-web.slice/web@1.service", Some("web@1.service")),
        ("/user.slice/user-1000.slice/session-3.scope", None),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/terminal.scope", None),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", Some("web.service")),
        ("/", None),
    ] {
        assert_eq!(service_of_process(cgroup), service, "{cgroup}");
    }
}

#[test]
fn the_operators_label_stands_above_what_was_found() {
    let labelled = |value: &str| json!({ "Config": { "Labels": { LABEL_SUPERVISOR: value } } });
    check(labelled("none"), found("docker", "web.service", "/system.slice/web.service"), "user", "");
    let reason = "it is run by web.service (label deployer.supervisor)";
    check(labelled("systemd:web.service"), Supervision::default(), "supervisor", reason);
    let swarm = json!({ "Config": { "Labels": { LABEL_SUPERVISOR: "none", "com.docker.swarm.task.id": "x" } } });
    check(swarm, Supervision::default(), "swarm", "it belongs to Docker Swarm, which would make it again");
}

#[test]
fn security_9_no_owner_brings_a_control_character_before_people() {
    let other = r"it belongs to another agent (it has label io.rancher.container.\u001b[2J)";
    check_label("io.rancher.container.\u{1b}[2J", "x", "other_agent", other);
    let labelled = r"it is run by web\n\u001b[2J.service (label deployer.supervisor)";
    check_label(LABEL_SUPERVISOR, "systemd:web\n\u{1b}[2J.service", "supervisor", labelled);
    let reason = r"it is run by w\u001beb.service (its client docker is attached to a\n)";
    check(json!({ "Name": "/a\n" }), found("docker", "w\u{1b}eb.service", ""), "supervisor", reason);
    let labels = json!({ "Config": { "Labels": { "com.centurylinklabs.watchtower.\u{1b}": "true" } } });
    assert!(warning(&labels).is_some_and(|warning| !warning.contains('\u{1b}')));
}

#[test]
fn watchtowers_label_is_only_a_warning() {
    let container = json!({ "Config": { "Labels": { "com.centurylinklabs.watchtower.enable": "true" } } });
    assert!(warning(&container).is_some_and(|warning| warning.contains("two updaters")));
    assert!(owner(&container, &Supervision::default()).allows_replacement());
    assert_eq!(warning(&json!({})), None);
}
