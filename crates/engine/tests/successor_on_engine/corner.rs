//! A test's corner of the engine, with two images, networks and a volume of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deployer_core::successor::{Input, Successor, UserFields, files_to_look_at, injected_files, successor};
use deployer_engine::docker::Docker;
use deployer_engine::{Engine, EngineError, Hand};
use deployer_wire::Endpoint;
use serde_json::{Value, json};

use crate::requests::Request;

/// Label on everything that a test makes, with the test's own name, so that it finds it again.
const TEST_LABEL: &str = "deployer-test";
/// How long a container may take to write a file.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
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
pub struct Corner {
    pub engine: Docker,
    api: (u32, u32),
    name: String,
    images: [Value; 2],
    /// Volumes that containers of this test have mounted.
    volumes: Mutex<BTreeSet<String>>,
}

impl Corner {
    pub async fn new(test: &str) -> Self {
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

    pub fn network(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    pub fn volume(&self) -> String {
        format!("{}-data", self.name)
    }

    /// A subnet that no other run uses, of the range for benchmarks (RFC 2544).
    fn subnet(&self) -> String {
        format!("{}.0/24", self.subnet_start())
    }

    pub fn subnet_start(&self) -> String {
        let test = self.name.bytes().map(u32::from).sum::<u32>() + std::process::id();
        format!("198.{}.{}", 18 + test / 256 % 2, test % 256)
    }

    /// Creates a container on an image as its user would, and connects it to further networks.
    ///
    /// # Errors
    /// What the engine does not take.
    pub async fn create(&self, (asked, connect): &Request, image: usize) -> Result<String, EngineError> {
        let mut body = asked.clone();
        body["Image"] = json!(self.image_name(image));
        body["Labels"][TEST_LABEL] = json!(self.name);
        let id = self.engine.create("", &body).await?;
        for (network, endpoint) in connect {
            self.engine.connect(network, &id, endpoint).await?;
        }
        Ok(id)
    }

    pub async fn inspect(&self, id: &str) -> Value {
        self.engine.container(id).await.expect("the container is there")
    }

    /// Takes a running container's place, as the daemon does, and gives back the successor's inspection.
    ///
    /// # Errors
    /// What the engine does not take.
    pub async fn replace(&self, predecessor: &Value, old: usize, new: usize) -> Result<Value, EngineError> {
        let successor = self.successor(predecessor, old, new);
        for network in &successor.networks {
            assert!(self.engine.network_exists(network).await.expect("an answer"), "{network}");
        }
        for volume in &successor.volumes {
            assert!(self.engine.volume_exists(volume).await.expect("an answer"), "{volume}");
        }
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner).extend(successor.volumes);
        let id = self.engine.create("", &successor.body).await?;
        for (network, endpoint) in &successor.connect {
            self.engine.connect(network, &id, endpoint).await?;
        }
        let old_id = predecessor["Id"].as_str().expect("an ID");
        self.engine.stop(old_id, Duration::ZERO).await?;
        self.engine.start(&id).await?;
        self.engine.remove(old_id).await?;
        Ok(self.inspect(&id).await)
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

    /// Removes the containers that have a label.
    pub fn remove_labelled(&self, label: &str) {
        let listed = output(&["container", "ls", "-aq", "--filter", &format!("label={label}")]);
        remove("container", &["rm", "-f", "-v"], &listed);
    }

    /// The files that were put into a container, once it has written one of its own.
    pub async fn injected(&self, id: &str, written: &str) -> Vec<String> {
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
}

impl Drop for Corner {
    fn drop(&mut self) {
        let label = self.label();
        self.remove_labelled(&label);
        for kind in ["network", "volume"] {
            remove(kind, &["rm"], &output(&[kind, "ls", "-q", "--filter", &format!("label={label}")]));
        }
        // Anonymous volumes that a replacement gave a name are no longer removed with their container.
        for volume in self.volumes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            output(&["volume", "rm", volume]);
        }
        output(&["image", "rm", &self.image_name(0), &self.image_name(1)]);
    }
}

/// Removes what is listed, an ID a line.
fn remove(kind: &str, how: &[&str], listed: &str) {
    let ids: Vec<&str> = listed.lines().collect();
    if !ids.is_empty() {
        output(&[&[kind], how, &ids].concat());
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
pub fn docker(arguments: &[&str]) {
    let output =
        Command::new("docker").args(arguments).env("DOCKER_BUILDKIT", "0").output().expect("docker is installed");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the `docker` command prints, whether it succeeds or not.
fn output(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
