//! T42 on the real engine: a container replaced by its create request is the same container, whatever it was asked to be.
//!
//! Needs the engine that `DOCKER_HOST` names, as the `docker` command does, and a static `busybox` in `/bin`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use deployer_core::successor::{Input, Successor, UserFields, files_to_look_at, injected_files, successor};
use deployer_engine::docker::Docker;
use deployer_engine::{Engine, Hand};
use deployer_wire::Endpoint;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

#[path = "../../core/tests/successor/comparable.rs"]
mod comparable;
use comparable::comparable;

/// Label on everything that a test makes, with the test's own name, so that it finds it again.
const TEST_LABEL: &str = "deployer-test";
/// Containers that are replaced at the same time.
const AT_ONCE: usize = 6;
/// How long a container may take to write a file.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// A time in the year 2096, after any image of this test is made.
const AFTER_ALL_IMAGES: Duration = Duration::from_secs(4_000_000_000);
const DEFAULT_ENGINE: &str = "unix:///var/run/docker.sock";

/// An image with a default for each setting that an engine merges, and an entry point that does nothing.
const FIRST_IMAGE: &str = r#"FROM scratch
COPY busybox /bin/busybox
COPY seed /declared/seed
ENV PATH=/bin VERSION=1 GONE=later PLAIN=first
LABEL version=1 gone=later
USER 0:0
WORKDIR /declared/
VOLUME /declared
EXPOSE 80 81/udp
STOPSIGNAL SIGKILL
HEALTHCHECK --interval=90m --timeout=7s --retries=4 CMD busybox true
ENTRYPOINT ["busybox"]
CMD ["sleep", "1001"]
"#;
/// The same program with other defaults, some gone and some new.
const SECOND_IMAGE: &str = r#"FROM scratch
COPY busybox /bin/busybox
COPY seed /elsewhere/seed
ENV PATH=/bin VERSION=2 NEW=1 PLAIN=second
LABEL version=2 new=1
USER 65534:65534
WORKDIR /elsewhere
VOLUME /elsewhere
EXPOSE 82
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=2h --start-period=3s CMD busybox false
ENTRYPOINT ["/bin/busybox"]
CMD ["sleep", "1002"]
"#;

/// A test's corner of the engine: names of its own, removed at its end whatever becomes of the test.
struct Corner {
    engine: Docker,
    api: (u32, u32),
    name: String,
    images: [Value; 2],
    /// Volumes that containers of this test have mounted.
    volumes: Mutex<BTreeSet<String>>,
}

impl Corner {
    async fn new(test: &str) -> Self {
        let name = format!("successor-{test}-{}", std::process::id());
        let address = std::env::var("DOCKER_HOST").unwrap_or_else(|_| DEFAULT_ENGINE.to_owned());
        let engine = Docker::new(Endpoint::parse(&address).expect("DOCKER_HOST is an address"));
        let api = engine.info().await.expect("an engine answers; see scripts/setup").api;
        let mut corner = Self { engine, api, name, images: [Value::Null, Value::Null], volumes: Mutex::default() };
        for (index, file) in [FIRST_IMAGE, SECOND_IMAGE].into_iter().enumerate() {
            build(file, &corner.image_name(index));
            corner.images[index] = corner.engine.image(&corner.image_name(index)).await.expect("the image was built");
        }
        docker(&[
            "network",
            "create",
            "--label",
            &corner.label(),
            "--subnet",
            &corner.subnet(),
            &corner.network("lan"),
        ]);
        docker(&["network", "create", "--label", &corner.label(), &corner.network("back")]);
        docker(&["volume", "create", "--label", &corner.label(), &corner.volume()]);
        corner
    }

    fn label(&self) -> String {
        format!("{TEST_LABEL}={}", self.name)
    }

    fn image_name(&self, index: usize) -> String {
        format!("{}:{}", self.name, index + 1)
    }

    fn network(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    fn volume(&self) -> String {
        format!("{}-data", self.name)
    }

    /// A subnet that no other run uses, of the range for benchmarks (RFC 2544).
    fn subnet(&self) -> String {
        format!("{}.0/24", self.subnet_start())
    }

    fn subnet_start(&self) -> String {
        let test = self.name.bytes().map(u32::from).sum::<u32>() + std::process::id();
        format!("198.{}.{}", 18 + test / 256 % 2, test % 256)
    }

    /// Creates a container on an image as its user would, and connects it to further networks.
    async fn create(&self, asked: &Value, connect: &[(String, Value)], image: usize) -> String {
        let mut body = asked.clone();
        body["Image"] = json!(self.image_name(image));
        body["Labels"][TEST_LABEL] = json!(self.name);
        let id = self.engine.create("", &body).await.expect("the engine creates what the user asked for");
        for (network, endpoint) in connect {
            self.engine.connect(network, &id, endpoint).await.expect("the engine connects what the user asked for");
        }
        id
    }

    async fn inspect(&self, id: &str) -> Value {
        self.engine.container(id).await.expect("the container is there")
    }

    /// Takes a running container's place, as the daemon does, and gives back the successor's inspection.
    async fn replace(&self, predecessor: &Value, old: usize, new: usize) -> Value {
        let successor = self.successor(predecessor, old, new);
        for network in &successor.networks {
            assert!(self.engine.network_exists(network).await.expect("an answer"), "{network}");
        }
        for volume in &successor.volumes {
            assert!(self.engine.volume_exists(volume).await.expect("an answer"), "{volume}");
        }
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner).extend(successor.volumes);
        let id = self.engine.create("", &successor.body).await.expect("the engine creates the successor");
        for (network, endpoint) in &successor.connect {
            self.engine.connect(network, &id, endpoint).await.expect("the engine connects the successor");
        }
        let old_id = predecessor["Id"].as_str().expect("an ID");
        self.engine.stop(old_id, Duration::ZERO).await.expect("the predecessor stops");
        self.engine.start(&id).await.expect("the successor starts");
        self.engine.remove(old_id).await.expect("the predecessor goes");
        self.inspect(&id).await
    }

    fn successor(&self, predecessor: &Value, old: usize, new: usize) -> Successor {
        let remembered = UserFields::remembered(predecessor, Some(&self.images[old]));
        let labels = BTreeMap::from([("deployer.txn".to_owned(), "0a1b2c3d".to_owned())]);
        successor(Input {
            container: predecessor,
            old_image: Some(&self.images[old]),
            new_image: &self.images[new],
            image: &self.image_name(new),
            neighbours: &[],
            remembered: remembered.as_ref(),
            api: self.api,
            labels: &labels,
        })
        .expect("a container that can be replaced")
    }

    /// The files that were put into a container, once it has written one of its own.
    async fn injected(&self, id: &str, written: &str) -> Vec<String> {
        let deadline = Instant::now() + WRITE_LIMIT;
        let mut changes = Vec::new();
        while !changes.iter().any(|path| path == written) {
            assert!(Instant::now() < deadline, "{written} is not among {changes:?}");
            changes = self.engine.changes(id).await.expect("an answer");
        }
        let container = self.inspect(id).await;
        let mut files = Vec::new();
        for path in files_to_look_at(&container, &changes) {
            files.extend(self.engine.file(id, &path).await.expect("an answer"));
        }
        injected_files(&container, Some(&self.images[0]), &changes, &files)
    }

    /// Does the same with containers of every kind, some at once: an engine takes its time for each.
    async fn each(&self, replace: impl AsyncFn(Value, Vec<(String, Value)>)) {
        let containers = std::iter::once(self.everything()).chain(self.others());
        stream::iter(containers).for_each_concurrent(AT_ONCE, |(asked, connect)| replace(asked, connect)).await;
    }

    /// What the user of the most demanding container asks for.
    fn everything(&self) -> (Value, Vec<(String, Value)>) {
        let asked = json!({
            "Hostname": "own-host", "Domainname": "example.org", "User": "7:8", "Tty": true, "OpenStdin": true,
            "Env": ["MINE=a=b", "EMPTY=", "LINES=1\n2", "PLAIN=mine"], "WorkingDir": "/work", "StopSignal": "SIGINT",
            "StopTimeout": 3, "MacAddress": "92:d0:c6:0a:29:33", "Cmd": ["sleep", "2000"],
            "Labels": { "mine": "x", "version": "mine" }, "ExposedPorts": { "90/tcp": {}, "80/tcp": {} },
            "Volumes": { "/from-command-line/": {} }, "Healthcheck": { "Interval": 3_600_000_000_000_i64, "Retries": 9 },
            "HostConfig": self.everything_of_the_host(),
            "NetworkingConfig": { "EndpointsConfig": { self.network("lan"): {
                "Aliases": ["web", "www"], "IPAMConfig": { "IPv4Address": format!("{}.77", self.subnet_start()) } } } },
        });
        let connect = vec![(self.network("back"), json!({ "Aliases": ["behind"] })), ("bridge".to_owned(), json!({}))];
        (asked, connect)
    }

    fn everything_of_the_host(&self) -> Value {
        json!({
            "NetworkMode": self.network("lan"),
            "Binds": [format!("{}:/named:ro", self.volume()), "/anonymous-bind", "/etc/hostname:/host-name:ro,rprivate"],
            "Mounts": [
                { "Type": "volume", "Target": "/anonymous-mount", "VolumeOptions": { "NoCopy": true, "Labels": { "of": "mount" } } },
                { "Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": { "SizeBytes": 1 << 20, "Mode": 448 } },
            ],
            "Tmpfs": { "/run": "size=1m" },
            "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "" }], "90/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "" }] },
            "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 },
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m", "max-file": "2" } },
            "CapAdd": ["NET_ADMIN"], "CapDrop": ["MKNOD"], "Dns": ["198.18.0.53"], "DnsOptions": ["ndots:2"], "DnsSearch": ["example.org"],
            "ExtraHosts": ["other:198.18.0.9"], "GroupAdd": ["9"], "Init": true, "ShmSize": 1 << 21, "PidsLimit": 50,
            "Ulimits": [{ "Name": "nofile", "Soft": 512, "Hard": 1024 }], "Memory": 1 << 26, "NanoCpus": 500_000_000,
            "Sysctls": { "net.ipv4.ip_unprivileged_port_start": "0" }, "SecurityOpt": ["no-new-privileges"],
            "Devices": [{ "PathOnHost": "/dev/null", "PathInContainer": "/dev/other", "CgroupPermissions": "r" }],
            "OomScoreAdj": 100, "ReadonlyPaths": ["/proc/bus", "/proc/fs"], "MaskedPaths": ["/proc/kcore"],
        })
    }

    /// Further containers, each with a setting that excludes another's.
    fn others(&self) -> Vec<(Value, Vec<(String, Value)>)> {
        let alone = |asked: Value| (asked, Vec::new());
        vec![
            alone(json!({})),
            alone(json!({ "HostConfig": { "NetworkMode": "host" } })),
            alone(json!({ "HostConfig": { "NetworkMode": "host", "UTSMode": "host" } })),
            alone(json!({ "Hostname": "own", "HostConfig": { "NetworkMode": "host" } })),
            alone(json!({ "Hostname": "own", "HostConfig": { "NetworkMode": "none", "ReadonlyRootfs": true } })),
            alone(json!({ "NetworkDisabled": true })),
            alone(json!({ "HostConfig": { "PidMode": "host", "IpcMode": "shareable", "PublishAllPorts": true } })),
            alone(
                json!({ "Entrypoint": [""], "Cmd": ["busybox", "sleep", "2001"], "Healthcheck": { "Test": ["NONE"] } }),
            ),
            alone(json!({ "Entrypoint": [], "Cmd": ["busybox", "sleep", "2002"] })),
            alone(json!({ "Entrypoint": ["busybox", "sleep", "2003"] })),
            alone(
                json!({ "Entrypoint": ["/bin/busybox"], "Cmd": ["sleep", "2004"], "Env": ["PLAIN", "VERSION=1", "Z=1"] }),
            ),
            (json!({ "HostConfig": { "NetworkMode": self.network("back") } }), vec![(self.network("lan"), json!({}))]),
        ]
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        let label = format!("label={}", self.label());
        for (kind, remove) in [("container", &["rm", "-f", "-v"][..]), ("network", &["rm"]), ("volume", &["rm"])] {
            let all: &[&str] = if kind == "container" { &["ls", "-aq"] } else { &["ls", "-q"] };
            let listed = output(&[&[kind], all, &["--filter", &label]].concat());
            let ids: Vec<&str> = listed.lines().collect();
            if !ids.is_empty() {
                output(&[&[kind], remove, &ids].concat());
            }
        }
        // Anonymous volumes that a replacement gave a name are no longer removed with their container.
        for volume in self.volumes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            output(&["volume", "rm", volume]);
        }
        output(&["image", "rm", &self.image_name(0), &self.image_name(1)]);
    }
}

/// Builds an image from a file that needs nothing but `busybox`.
fn build(file: &str, name: &str) {
    let context = tempfile::tempdir().expect("a directory for the build");
    std::fs::copy("/bin/busybox", context.path().join("busybox")).expect("busybox-static is installed");
    std::fs::write(context.path().join("seed"), "seed").expect("a file for the build");
    // Of its own from the first layer on: an image that two tests share through the build cache is lost to one when
    // the other removes it.
    let file = file.replacen("FROM scratch\n", &format!("FROM scratch\nLABEL built.for={name}\n"), 1);
    std::fs::write(context.path().join("Dockerfile"), file).expect("a file for the build");
    docker(&["build", "-q", "-t", name, context.path().to_str().expect("a path of plain letters")]);
}

/// Runs the `docker` command, which must succeed.
#[track_caller]
fn docker(arguments: &[&str]) {
    let output =
        Command::new("docker").args(arguments).env("DOCKER_BUILDKIT", "0").output().expect("docker is installed");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the `docker` command prints, whether it succeeds or not.
fn output(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

#[track_caller]
fn assert_same(after: &Value, before: &Value, asked: &Value) {
    assert_same_but_for_volumes(after, before, asked);
    assert_eq!(comparable(after)["Mounts"], comparable(before)["Mounts"], "asked {asked}");
}

/// The volumes of an earlier image stay with its container, and those of a fresh container are its own.
#[track_caller]
fn assert_same_but_for_volumes(after: &Value, before: &Value, asked: &Value) {
    let (after, before) = (comparable(after), comparable(before));
    for part in ["Config", "HostConfig", "Networks", "Binds"] {
        assert_eq!(after[part], before[part], "{part}; asked {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t42_on_the_same_image_a_container_is_replaced_by_its_like() {
    let corner = Corner::new("same").await;
    corner
        .each(async |asked, connect| {
            let id = corner.create(&asked, &connect, 0).await;
            corner.engine.start(&id).await.expect("the container starts");
            let before = corner.inspect(&id).await;
            let second = corner.replace(&before, 0, 0).await;
            assert_same(&second, &before, &asked);
            let third = corner.replace(&second, 0, 0).await;
            assert_same(&third, &before, &asked);
            assert_eq!(third["State"]["Running"], true, "asked {asked}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t42_on_another_image_a_container_becomes_what_its_user_asked_for() {
    let corner = Corner::new("other").await;
    corner
        .each(async |asked, connect| {
            let id = corner.create(&asked, &connect, 0).await;
            corner.engine.start(&id).await.expect("the container starts");
            let on_first = corner.inspect(&id).await;
            let on_second = corner.replace(&on_first, 0, 1).await;
            let back_on_first = corner.replace(&on_second, 1, 0).await;
            // Never started: with a fixed address or port it could not run beside the other.
            let mut fresh = corner.inspect(&corner.create(&asked, &connect, 1).await).await;
            // An engine notes its default runtime at the first start.
            fresh["HostConfig"]["Runtime"] = on_second["HostConfig"]["Runtime"].clone();
            assert_same_but_for_volumes(&on_second, &fresh, &asked);
            assert_same_but_for_volumes(&back_on_first, &on_first, &asked);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t35_data_in_anonymous_volumes_is_there_after_the_replacement() {
    let corner = Corner::new("data").await;
    let asked = json!({ "Volumes": { "/user": {} }, "Healthcheck": { "Test": ["NONE"] }, "User": "0:0",
        "HostConfig": { "Binds": ["/bind"], "Mounts": [{ "Type": "volume", "Target": "/mount" }] } });
    let id = corner.create(&asked, &[], 0).await;
    corner.engine.start(&id).await.expect("the container starts");
    let paths = ["/declared/note", "/user/note", "/bind/note", "/mount/note"];
    docker(&["exec", &id, "busybox", "touch", paths[0], paths[1], paths[2], paths[3]]);
    let before = corner.inspect(&id).await;
    let after = corner.replace(&corner.replace(&before, 0, 1).await, 1, 0).await;
    docker(&["exec", after["Id"].as_str().expect("an ID"), "busybox", "ls", paths[0], paths[1], paths[2], paths[3]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t37_files_put_into_a_container_are_told_from_those_it_writes() {
    let corner = Corner::new("files").await;
    let note = tempfile::NamedTempFile::new().expect("a file to put");
    note.as_file().set_modified(SystemTime::UNIX_EPOCH + AFTER_ALL_IMAGES).expect("a time");
    let note = note.path().to_str().expect("a path of plain letters");
    let writes = json!({ "Entrypoint": [""], "User": "0:0", "Cmd": ["busybox", "sh", "-c",
        "busybox mkdir -p /tmp /var/log /run/app /etc; busybox chown 7:8 /declared/seed /bin/busybox; for f in /tmp/x /var/log/x /run/app/pid /etc/own /x.db; do echo > $f; done; exec busybox sleep 2005"] });
    let ordinary = corner.create(&writes, &[], 0).await;
    corner.engine.start(&ordinary).await.expect("the container starts");
    assert_eq!(corner.injected(&ordinary, "/x.db").await, Vec::<String>::new());

    let injected = corner.create(&writes, &[], 0).await;
    docker(&["cp", note, &format!("{injected}:/app.conf")]);
    corner.engine.start(&injected).await.expect("the container starts");
    assert_eq!(corner.injected(&injected, "/x.db").await, ["/app.conf"]);
}
