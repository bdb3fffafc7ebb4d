//! A CNCF Distribution registry of one's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::directory::Directory;
use crate::http::{self, Address, Request, Response};
use crate::port::free_port;
use crate::process::Process;
use crate::wait::wait_until;

/// The one account of a registry with [`RegistryOptions::login`].
const USER: &str = "deployer";
/// bcrypt of its password, "correct horse", at the lowest cost since the registry computes it for each request.
const PASSWORD_HASH: &str = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
/// Base64 of user, colon and password.
const BASIC: &str = "ZGVwbG95ZXI6Y29ycmVjdCBob3JzZQ==";

/// Everything that is a manifest, so that no digest is of a conversion.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// An endpoint the registry calls for each push.
#[derive(Clone, Debug)]
pub struct Notification {
    /// Where to.
    pub url: String,
    /// Headers to send, such as `Authorization`.
    pub headers: Vec<(String, String)>,
}

/// How a registry is to be.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Whom to call, none by default.
    pub notifications: Vec<Notification>,
    /// Whether a login is needed: pushes then use [`Registry::docker_config`], and so may a daemon.
    pub login: bool,
}

/// A request from the registry's access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The path and query.
    pub path: String,
    /// The answer's status.
    pub status: u16,
}

/// A running registry on 127.0.0.1, with storage of its own. It ends, and its storage goes, when it is dropped.
pub struct Registry {
    // The process comes first because fields are dropped in order: it must not outlive its files.
    process: Process,
    directory: Directory,
    port: u16,
    options: RegistryOptions,
}

impl Registry {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn start(options: RegistryOptions) -> Self {
        let directory = Directory::make();
        let port = free_port();
        let process = launch(&directory, port, &options);
        let registry = Self { process, directory, port, options };
        registry.wait_until_it_answers();
        registry
    }

    /// `127.0.0.1:PORT`: the host in the names of images, and where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `localhost:PORT`: another name for the same, under which [`crate::AppImage::push`] pushes. The registry's
    /// notifications carry the name that was pushed to.
    pub fn push_address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The full name of an image in it, as containers use it.
    pub fn image(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.address())
    }

    /// Lets it notify these and nobody else from now on, which takes a restart.
    pub fn notify(&mut self, notifications: Vec<Notification>) {
        self.options.notifications = notifications;
        self.stop();
        self.restart();
    }

    /// Kills it; its address answers no more.
    pub fn stop(&mut self) {
        self.process.kill_9();
    }

    /// Starts it again at the same address with the same storage.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.kill_9();
        self.process = launch(&self.directory, self.port, &self.options);
        self.wait_until_it_answers();
    }

    /// What the tag points to now; `None` if there is no such tag.
    #[track_caller]
    pub fn digest(&self, repository: &str, tag: &str) -> Option<String> {
        let answer = self.request("HEAD", &format!("/v2/{repository}/manifests/{tag}"), &[("Accept", MANIFESTS)], &[]);
        match answer.status {
            200 => answer.header("Docker-Content-Digest").map(str::to_owned),
            404 => None,
            status => panic!("the registry answered {status} for {repository}:{tag}"),
        }
    }

    /// Lets another tag point to what `from` (a tag or a digest) points to, and returns its digest.
    #[track_caller]
    pub fn retag(&self, repository: &str, from: &str, to: &str) -> String {
        let found = self.request("GET", &format!("/v2/{repository}/manifests/{from}"), &[("Accept", MANIFESTS)], &[]);
        assert_eq!(found.status, 200, "{repository}:{from} is in the registry");
        let media_type = [("Content-Type", found.header("Content-Type").unwrap_or_default())];
        let put = self.request("PUT", &format!("/v2/{repository}/manifests/{to}"), &media_type, &found.body);
        assert_eq!(put.status, 201, "the registry takes {repository}:{to}: {}", put.text());
        self.digest(repository, to).expect("a tag that was just put is there")
    }

    /// Deletes a manifest, and with it every tag that points to it.
    #[track_caller]
    pub fn delete(&self, repository: &str, digest: &str) {
        let answer = self.request("DELETE", &format!("/v2/{repository}/manifests/{digest}"), &[], &[]);
        assert_eq!(answer.status, 202, "the registry deletes {repository}@{digest}: {}", answer.text());
    }

    /// Damages on the disk the configuration of the image that a tag points to: it is served on, and is not what its digest says.
    #[track_caller]
    pub fn damage(&self, repository: &str, tag: &str) {
        let found = self.request("GET", &format!("/v2/{repository}/manifests/{tag}"), &[("Accept", MANIFESTS)], &[]);
        let manifest: Value = serde_json::from_slice(&found.body).expect("a manifest is JSON");
        let digest = manifest["config"]["digest"].as_str().expect("it names its configuration");
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.directory.path().join("storage/docker/registry/v2/blobs/sha256");
        let blob = blobs.join(&hex[..2]).join(hex).join("data");
        let length = fs::read(&blob).expect("it is there").len();
        fs::write(&blob, vec![b' '; length]).expect("it can be written");
    }

    /// Every request since its first start but the kit's own, in order.
    pub fn requests(&self) -> Vec<Access> {
        let log = self.process.stdout();
        // The closing quotes: an engine that was asked by the kit says so after its own name.
        let own = format!("\"{}\"", http::USER_AGENT);
        log.lines().filter(|line| !line.contains(&own)).filter_map(Access::parse).collect()
    }

    /// How often a manifest of the repository was asked for (GET or HEAD), pushes not counted.
    pub fn manifest_requests(&self, repository: &str) -> usize {
        let prefix = format!("/v2/{repository}/manifests/");
        let is_look = |access: &&Access| matches!(access.method.as_str(), "GET" | "HEAD");
        self.requests().iter().filter(is_look).filter(|access| access.path.starts_with(&prefix)).count()
    }

    /// How often it was asked what a tag points to. An engine does that with HEAD, once, whether it is to pull the tag or
    /// to say what it is; what follows names the digest, as does a pull by digest, and a push asks for no manifest.
    pub fn tag_requests(&self, repository: &str, tag: &str) -> usize {
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.requests().iter().filter(|access| access.method == "HEAD" && access.path == path).count()
    }

    /// A directory for `DOCKER_CONFIG` with the login in it; `None` when no login is needed.
    pub fn docker_config(&self) -> Option<PathBuf> {
        self.options.login.then(|| self.directory.join("docker"))
    }

    /// What it has logged, access log apart.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    #[track_caller]
    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let login = format!("Basic {BASIC}");
        let mut headers = headers.to_vec();
        if self.options.login {
            headers.push(("Authorization", &login));
        }
        let request = Request { headers: &headers, body, ..Request::new(method, path) };
        let sent = request.send(&Address::Tcp(self.address()));
        sent.unwrap_or_else(|error| panic!("{method} {path}: no answer from the registry: {error}"))
    }

    #[track_caller]
    fn wait_until_it_answers(&self) {
        wait_until(Duration::from_secs(20), "the registry to answer", || {
            let answer = Request::new("GET", "/v2/").send(&Address::Tcp(self.address()));
            answer.map(|_| ()).map_err(|error| format!("{error}; its log: {}", self.log()))
        });
    }
}

impl Access {
    /// Reads a line of the combined log format: `host - user [time] "METHOD PATH PROTOCOL" STATUS …`.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once('"')?;
        let (request, rest) = rest.split_once('"')?;
        let mut words = request.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Self { method, path, status: rest.split_whitespace().next()?.parse().ok()? })
    }
}

#[track_caller]
fn launch(directory: &Directory, port: u16, options: &RegistryOptions) -> Process {
    let root = directory.path();
    let endpoints: Vec<_> = options.notifications.iter().enumerate().map(endpoint).collect();
    let mut configuration = json!({
        "version": "0.1",
        "log": { "level": "warn", "accesslog": { "disabled": false } },
        "storage": {
            "filesystem": { "rootdirectory": root.join("storage") },
            "delete": { "enabled": true },
            "maintenance": { "uploadpurging": { "enabled": false } },
        },
        "http": { "addr": format!("127.0.0.1:{port}") },
        "notifications": { "endpoints": endpoints },
    });
    let mut write = vec![];
    if options.login {
        let htpasswd = root.join("htpasswd");
        configuration["auth"] = json!({ "htpasswd": { "realm": "testkit", "path": htpasswd } });
        let hosts = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        let logins: serde_json::Map<_, _> = hosts.map(|host| (host, json!({ "auth": BASIC }))).into_iter().collect();
        write.push((htpasswd, format!("{USER}:{PASSWORD_HASH}\n")));
        write.push((root.join("docker/config.json"), json!({ "auths": logins }).to_string()));
    }
    // JSON is YAML too, and needs no quoting of our own.
    let file = root.join("config.yml");
    write.push((file.clone(), configuration.to_string()));
    fs::create_dir_all(root.join("docker")).expect("a directory in the temporary directory can be made");
    for (path, content) in write {
        fs::write(&path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
    Process::spawn("registry", Command::new("docker-registry").arg("serve").arg(file), root)
}

/// What an operator is told to configure: only pushes of manifests, a timeout above the default second, and quick
/// repeats so that a test of them does not wait.
fn endpoint((index, notification): (usize, &Notification)) -> serde_json::Value {
    let headers = notification.headers.iter().map(|(name, value)| (name.clone(), json!([value])));
    json!({
        "name": format!("endpoint{index}"),
        "url": notification.url,
        "headers": headers.collect::<serde_json::Map<_, _>>(),
        "timeout": "5s",
        "threshold": 3,
        "backoff": "200ms",
        "ignore": {
            "mediatypes": ["application/octet-stream"],
            "actions": ["pull", "mount", "delete"],
        },
    })
}
