//! Fake machines: a few files below a directory of their own.

use deployer_core::ownership::owner;
use serde_json::json;

use super::*;

const ID: &str = "4f0c5d6e7f80910a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f607182";

/// A machine in a temporary directory.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a directory") }
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory above")).expect("a directory");
        fs::write(path, text).expect("a file");
        self
    }

    /// A process with its command line, its words parted by single spaces.
    fn process(self, pid: u32, name: &str, line: &str, cgroup: &str) -> Self {
        self.file(&format!("proc/{pid}/comm"), &format!("{name}\n"))
            .file(&format!("proc/{pid}/cmdline"), &(line.replace(' ', "\0") + "\0"))
            .file(
                &format!("proc/{pid}/cgroup"),
                &format!("12:cpu,cpuacct:/elsewhere\n1:name=systemd:{cgroup}\n0::{cgroup}\n"),
            )
    }

    fn unit(self, name: &str, text: &str) -> Self {
        self.file(&format!("etc/systemd/system/{name}"), text)
    }

    fn supervision(&self, container: &Value) -> Supervision {
        Supervisors::look(self.root.path()).of(container)
    }
}

fn web() -> Value {
    json!({ "Id": ID, "Name": "/web", "Config": { "Image": "shop/web:1", "AttachStdout": true, "Labels": {
        "com.docker.compose.project": "shop", "com.docker.compose.project.working_dir": "/srv/shop",
        "com.docker.compose.project.config_files": "/srv/shop/compose.yml,/srv/shop/more.yml" } } })
}

const SERVICE: &str = "/system.slice/web.service";

/// Whether a client with this command line, in a service, is taken to be the one of container `web`.
#[track_caller]
fn check_client(line: &str, expected: bool) {
    let name = if line.contains("docker-compose") { "docker-compose" } else { "docker" };
    let found = Machine::new().process(42, name, line, SERVICE).supervision(&web());
    assert_eq!(found.unit.as_deref(), expected.then_some("web.service"), "{line}");
    assert_eq!(found.attached_client.as_deref(), expected.then_some(name));
}

#[test]
fn an_attached_client_in_a_service_is_found_by_the_containers_name_or_id() {
    check_client("/usr/bin/docker run --rm --name web -p 80:80 shop/web:1", true);
    check_client("docker -H unix:///run/docker.sock container run --name=web shop/web:1", true);
    check_client("docker start -a web", true);
    check_client("docker start --attach --detach-keys ctrl-x other web", true);
    check_client(&format!("docker attach {}", &ID[..12]), true);
    check_client("docker run --name web2 shop/web:1", false);
    check_client("docker exec web true", false);
    check_client("docker logs -f web", false);
    check_client("docker --log-level run web", false);
}

#[test]
fn a_client_that_gives_no_name_is_found_by_the_image() {
    check_client("docker run --rm shop/web:1", true);
    check_client("docker run --rm shop/web:2", false);
    let mut detached = web();
    detached["Config"]["AttachStdout"] = json!(false);
    let machine = Machine::new().process(42, "docker", "docker run --rm shop/web:1", SERVICE);
    assert_eq!(machine.supervision(&detached), Supervision::default());
}

#[test]
fn compose_in_the_foreground_of_a_service_is_found_by_project_or_file() {
    check_client("docker compose -p shop up", true);
    check_client("/usr/libexec/docker/cli-plugins/docker-compose compose -f /srv/shop/more.yml up --build", true);
    check_client("docker-compose --project-directory /srv/shop up", true);
    check_client("docker-compose -p other up", false);
    check_client("docker compose -p shop up -d", false);
    check_client("docker compose -p shop ps", false);
}

#[test]
fn a_client_of_a_person_is_no_supervisor() {
    for cgroup in [
        "/user.slice/user-1000.slice/session-3.scope",
        "/",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/t.scope",
    ] {
        let machine = Machine::new().process(42, "docker", "docker run --name web shop/web:1", cgroup);
        assert_eq!(machine.supervision(&web()), Supervision::default(), "{cgroup}");
    }
}

/// Whether a unit of this name with this text is taken to run container `web`.
#[track_caller]
fn check_unit(name: &str, text: &str, expected: bool) {
    let found = Machine::new().unit(name, text).supervision(&web());
    let expected = Supervision { unit: expected.then(|| name.to_owned()), ..Supervision::default() };
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_unit_file_that_starts_the_container_is_found() {
    check_unit(
        "shop.service",
        "[Service]\nExecStartPre=-/usr/bin/docker rm web\nExecStart=/usr/bin/docker run \\\n  --name web shop/web:1\n",
        true,
    );
    check_unit(
        "shop.service",
        "ExecStart=/bin/sh -c 'docker start -a web || docker run --name web shop/web:1'\n",
        true,
    );
    check_unit("web.service", "ExecStart=docker run --name %N shop/web:1", true);
    check_unit("web.service", "ExecStart=docker run --name %n shop/web:1", false);
    check_unit("w@eb.service", "ExecStart=docker run --name %p%i shop/web:1", true);
    check_unit("w@.service", "ExecStart=docker run --name %p%i shop/web:1", true);
    check_unit("w.service", "ExecStart=docker run --name we${LETTER} shop/web:1", true);
    check_unit("w.service", "ExecStart=docker run --name ${NAME} shop/web:1", false);
    check_unit("w.service", "WorkingDirectory=/srv/shop\nExecStart=docker compose up", true);
    check_unit("w.service", "WorkingDirectory=/srv/shop\nExecStart=docker compose up -d", false);
    check_unit("backup.service", "ExecStart=docker exec web backup", false);
    check_unit("w.service", "ExecStop=docker run --name web shop/web:1", false);
    check_unit("w.timer", "ExecStart=docker run --name web shop/web:1", false);
}

#[test]
fn a_unit_in_etc_stands_above_one_of_the_distribution() {
    let machine = Machine::new()
        .file("usr/lib/systemd/system/w.service", "ExecStart=docker run --name web x")
        .unit("w.service", "ExecStart=docker run --name other x");
    assert_eq!(machine.supervision(&web()), Supervision::default());
    let fleets = Machine::new().file("run/fleet/units/w.service", "ExecStart=docker run --name web x");
    assert_eq!(fleets.supervision(&web()).unit.as_deref(), Some("w.service"));
}

#[test]
fn the_control_group_counts_only_if_the_process_is_the_containers() {
    let mut container = web();
    container["State"] = json!({ "Pid": 7 });
    let machine = |mounts: &str| {
        Machine::new().process(7, "nginx", "nginx", SERVICE).file("proc/7/mountinfo", mounts).supervision(&container)
    };
    let own = format!("1 2 0:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw");
    assert_eq!(machine(&own).cgroup.as_deref(), Some(SERVICE));
    assert_eq!(machine("1 2 0:1 / / rw").cgroup, None);
}

#[test]
fn a_machine_that_shows_nothing_is_no_error() {
    assert_eq!(Machine::new().supervision(&web()), Supervision::default());
    assert_eq!(Machine::new().file("proc/9/comm", "docker\n").supervision(&web()), Supervision::default());
}

/// A reason goes into `status` of every node, into the store and so into etcd: a command line may hold passwords.
#[test]
fn security_3_of_a_command_line_nothing_but_its_program_is_told() {
    for line in [
        "/usr/bin/docker run -e DB_PASSWORD=hunter2 --name web shop/web:1",
        "docker -H tcp://root:hunter2@localhost run --rm -e=PASSWORD=hunter2 shop/web:1",
        "docker compose --env-file hunter2 -p shop up",
        "docker-compose -p shop up --hunter2",
        "sh -c docker start -a web || docker run -e PASSWORD=hunter2 --name web shop/web:1",
    ] {
        let name = if line.contains("docker-compose") { "docker-compose" } else { "docker" };
        let machine = Machine::new()
            .process(42, name, line, SERVICE)
            .unit("w.service", "ExecStart=docker run -e PASSWORD=hunter2 --name web shop/web:1");
        let supervision = machine.supervision(&web());
        let reason = owner(&web(), &supervision).reason();
        let expected = format!("it is run by web.service (its client {name} is attached to web)");
        assert_eq!(reason, Some(expected), "{line}");
    }
}
