//! A simulated engine with its registry: images and names, containers and their life, name conflicts, exits, and
//! calls that fail, or succeed although their answer is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use deployer::engine::{
    ContainerSummary, Engine, EngineError, EngineEvent, EngineInfo, HttpProbe, ImageSummary, PullError, PullProgress,
    ResolveError, Resolved,
};
use deployer_core::image::{Digest, ImageRef, Track};
use deployer_core::successor::ChangedFile;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};

/// What containers of an image do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Serves,
    ExitsAtOnce,
    NeverListens,
    StartRefused,
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused with 500, without effect.
    Refused,
    /// No connection, without effect.
    Down,
    /// Done, and the answer lost.
    Lost,
}

/// A container.
#[derive(Clone, Debug)]
struct Container {
    name: String,
    image: String,
    body: Value,
    is_running: bool,
    exit_code: i64,
    started: u32,
    policy: Value,
}

/// The engine's and the registry's state.
#[derive(Default)]
struct State {
    /// Names (tags and digests) to image IDs.
    names: BTreeMap<String, String>,
    /// What the registry has: track to digest.
    registry: BTreeMap<String, Digest>,
    /// Image ID and behaviour of each digest.
    contents: BTreeMap<Digest, (String, Behaviour)>,
    containers: BTreeMap<String, Container>,
    made: u32,
    calls: u64,
    /// How long a registry's answer is on its way.
    resolve_time: Duration,
    /// Faults to come, by number of the call.
    faults: BTreeMap<u64, Fault>,
    /// The fewest of the watched containers that ran at any moment.
    fewest_running: Option<usize>,
    watched: BTreeSet<String>,
}

/// The engine.
#[derive(Clone, Default)]
pub struct Simulated {
    state: Arc<Mutex<State>>,
}

impl Simulated {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    /// Pushes a version and gives back its digest.
    pub fn push(&self, track: &Track, number: u32, behaviour: Behaviour) -> Digest {
        let digest = Digest::parse(&format!("sha256:{number:064x}")).expect("a digest");
        let mut state = self.lock();
        state.contents.insert(digest.clone(), (format!("sha256:{:064x}", number + 0x1000), behaviour));
        state.registry.insert(track.to_string(), digest.clone());
        digest
    }

    /// Runs a container of what the registry has, as a person would.
    pub fn run(&self, track: &Track, name: &str) {
        let mut state = self.lock();
        let digest = state.registry[&track.to_string()].clone();
        let image = state.contents[&digest].0.clone();
        state.names.insert(track.familiar(), image.clone());
        state.names.insert(format!("{}@{digest}", track.name().familiar()), image);
        let body = json!({
            "Image": track.familiar(),
            "ExposedPorts": {"80/tcp": {}},
            "Labels": {"deployer.enable": "true", "deployer.health.timeout": "5s"},
            "HostConfig": {"RestartPolicy": {"Name": "always"}, "NetworkMode": "default"},
        });
        let id = state.create(name, &body).expect("a new container");
        state.start(&id).expect("it starts");
        state.watched.insert(name.to_owned());
    }

    /// Lets a registry's answer take this long to arrive: what it says is older than its arrival.
    pub fn slow_resolves(&self, time: Duration) {
        self.lock().resolve_time = time;
    }

    /// Lets the call of this number go wrong, counted from now.
    pub fn fail(&self, call: u64, fault: Fault) {
        let mut state = self.lock();
        let number = state.calls + call;
        state.faults.insert(number, fault);
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// The fewest of the watched containers that ran at any moment since they were started.
    pub fn fewest_running(&self) -> Option<usize> {
        self.lock().fewest_running
    }

    /// Every container: name, the digest of its image, and whether it runs.
    pub fn containers(&self) -> Vec<(String, Option<Digest>, bool)> {
        let state = self.lock();
        let digest =
            |image: &String| state.contents.iter().find(|(_, c)| c.0 == *image).map(|(digest, _)| digest.clone());
        state.containers.values().map(|c| (c.name.clone(), digest(&c.image), c.is_running)).collect()
    }

    /// One call: counted, and failed if its number says so.
    fn call<T>(&self, what: &str, act: impl FnOnce(&mut State) -> Result<T, EngineError>) -> Result<T, EngineError> {
        let mut state = self.lock();
        state.calls += 1;
        let number = state.calls;
        let what = what.to_owned();
        match state.faults.remove(&number) {
            None => {
                let outcome = act(&mut state);
                state.count();
                outcome
            }
            Some(Fault::Refused) => Err(EngineError::Refused { what, status: 500, message: "simulated".into() }),
            Some(Fault::Down) => {
                Err(EngineError::Unreachable { what, address: "simulated".into(), message: "simulated".into() })
            }
            Some(Fault::Lost) => {
                let _ = act(&mut state);
                state.count();
                Err(EngineError::Timeout { what, limit: Duration::from_secs(1) })
            }
        }
    }
}

impl State {
    fn count(&mut self) {
        let up = |name: &String| {
            let old = format!("{name}.old-");
            self.containers.values().any(|c| c.is_running && (c.name == *name || c.name.starts_with(&old)))
        };
        let running = self.watched.iter().filter(|name| up(name)).count();
        self.fewest_running = Some(self.fewest_running.map_or(running, |fewest| fewest.min(running)));
    }

    fn find(&self, id: &str) -> Result<String, EngineError> {
        let by_name = || self.containers.iter().find(|(_, container)| container.name == id).map(|(id, _)| id.clone());
        let found = self.containers.contains_key(id).then(|| id.to_owned()).or_else(by_name);
        found.ok_or_else(|| not_found(&format!("container {id}")))
    }

    fn create(&mut self, name: &str, body: &Value) -> Result<String, EngineError> {
        if self.containers.values().any(|container| container.name == name) {
            return Err(EngineError::Conflict { what: format!("create {name}"), message: "name in use".into() });
        }
        let reference = body["Image"].as_str().unwrap_or_default();
        let image = self.names.get(reference).cloned().ok_or_else(|| not_found(&format!("image {reference}")))?;
        self.made += 1;
        let id = format!("{:064x}", self.made);
        let container = Container {
            name: name.to_owned(),
            image,
            body: body.clone(),
            is_running: false,
            exit_code: 0,
            started: 0,
            policy: body["HostConfig"]["RestartPolicy"].clone(),
        };
        self.containers.insert(id.clone(), container);
        Ok(id)
    }

    fn behaviour(&self, image: &str) -> Behaviour {
        self.contents.values().find(|(id, _)| id == image).map_or(Behaviour::Serves, |(_, behaviour)| *behaviour)
    }

    fn start(&mut self, id: &str) -> Result<(), EngineError> {
        let id = self.find(id)?;
        let behaviour = self.behaviour(&self.containers[&id].image.clone());
        let container = self.containers.get_mut(&id).expect("just found");
        if behaviour == Behaviour::StartRefused {
            return Err(EngineError::Refused { what: "start".into(), status: 400, message: "no such file".into() });
        }
        if !container.is_running {
            container.started += 1;
            container.is_running = behaviour != Behaviour::ExitsAtOnce;
            container.exit_code = i64::from(behaviour == Behaviour::ExitsAtOnce);
        }
        Ok(())
    }

    fn inspect(&self, id: &str) -> Result<Value, EngineError> {
        let id = self.find(id)?;
        let container = &self.containers[&id];
        let mut config = container.body.clone();
        // As an engine shows it: merged with the image's defaults.
        config["ExposedPorts"]["80/tcp"] = json!({});
        let mut host = config.as_object_mut().and_then(|config| config.remove("HostConfig")).unwrap_or_default();
        host["RestartPolicy"] = container.policy.clone();
        let number = u16::from_str_radix(&id[56..], 16).unwrap_or_default();
        Ok(json!({
            "Id": id, "Name": format!("/{}", container.name), "Image": container.image, "Created": "2026-01-01T00:00:00Z",
            "Config": config, "HostConfig": host, "RestartCount": 0, "Mounts": [],
            "State": {"Running": container.is_running, "ExitCode": container.exit_code,
                      "StartedAt": format!("2026-01-01T00:00:{:02}Z", container.started)},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": format!("10.0.{}.{}", number >> 8, number & 255)}}},
        }))
    }
}

fn not_found(what: &str) -> EngineError {
    EngineError::NotFound { what: what.to_owned(), message: format!("No such {what}") }
}

#[async_trait]
impl Engine for Simulated {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.call("info", |_| {
            Ok(EngineInfo {
                product: "docker".into(),
                version: "simulated".into(),
                api: (1, 41),
                os: "linux".into(),
                architecture: "amd64".into(),
            })
        })
    }

    async fn containers(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        self.call("list containers", |state| {
            let summary = |(id, container): (&String, &Container)| ContainerSummary {
                id: id.clone(),
                name: container.name.clone(),
                image_id: container.image.clone(),
                labels: serde_json::from_value(container.body["Labels"].clone()).unwrap_or_default(),
                state: if container.is_running { "running" } else { "exited" }.into(),
                status: String::new(),
            };
            Ok(state.containers.iter().map(summary).collect())
        })
    }

    async fn container(&self, id: &str) -> Result<Value, EngineError> {
        self.call("inspect container", |state| state.inspect(id))
    }

    async fn images(&self) -> Result<Vec<ImageSummary>, EngineError> {
        self.call("list images", |state| {
            let ids: BTreeSet<&String> = state.names.values().collect();
            let named = |id: &String, is_digest: bool| {
                let names = state.names.iter().filter(|(name, image)| *image == id && name.contains('@') == is_digest);
                names.map(|(name, _)| name.clone()).collect()
            };
            let summary = |id: &String| ImageSummary {
                id: id.clone(),
                repo_tags: named(id, false),
                repo_digests: named(id, true),
            };
            Ok(ids.into_iter().map(summary).collect())
        })
    }

    async fn image(&self, reference: &str) -> Result<Value, EngineError> {
        self.call("inspect image", |state| {
            let by_id = state.names.values().find(|id| *id == reference);
            let id = state.names.get(reference).or(by_id).ok_or_else(|| not_found(&format!("image {reference}")))?;
            Ok(json!({"Id": id, "Os": "linux", "Architecture": "amd64", "Config": {"ExposedPorts": {"80/tcp": {}}}}))
        })
    }

    async fn resolve(&self, track: &Track) -> Result<Resolved, ResolveError> {
        let found = self.call("resolve", |state| Ok(state.registry.get(&track.to_string()).cloned()))?;
        let time = self.lock().resolve_time;
        tokio::time::sleep(time).await;
        let absent = || ResolveError::Absent { image: track.to_string(), message: "simulated".into() };
        Ok(Resolved { digest: found.ok_or_else(absent)?, platforms: Vec::new() })
    }

    async fn pull(&self, image: &ImageRef, _: &(dyn Fn(PullProgress) + Send + Sync)) -> Result<(), PullError> {
        let digest = image.digest.clone().expect("pulled by digest");
        self.call("pull", |state| {
            let id = state.contents.get(&digest).map(|(id, _)| id.clone()).ok_or_else(|| not_found("digest"))?;
            state.names.insert(format!("{}@{digest}", image.name.familiar()), id);
            Ok(())
        })?;
        Ok(())
    }

    async fn tag(&self, image_id: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        self.call("tag", |state| {
            if !state.names.values().any(|id| id == image_id) {
                return Err(not_found(&format!("image {image_id}")));
            }
            state.names.insert(format!("{repository}:{tag}"), image_id.to_owned());
            Ok(())
        })
    }

    async fn untag(&self, reference: &str) -> Result<(), EngineError> {
        self.call("untag", |state| {
            state.names.remove(reference);
            Ok(())
        })
    }

    async fn create(&self, name: &str, body: &Value) -> Result<String, EngineError> {
        self.call("create", |state| state.create(name, body))
    }

    async fn connect(&self, _: &str, _: &str, _: &Value) -> Result<(), EngineError> {
        self.call("connect", |_| Ok(()))
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        self.call("start", |state| state.start(id))
    }

    async fn stop(&self, id: &str, _: Duration) -> Result<(), EngineError> {
        self.call("stop", |state| {
            if let Ok(id) = state.find(id)
                && let Some(container) = state.containers.get_mut(&id)
            {
                container.is_running = false;
            }
            Ok(())
        })
    }

    async fn rename(&self, id: &str, name: &str) -> Result<(), EngineError> {
        self.call("rename", |state| {
            let id = state.find(id)?;
            if state.containers.values().any(|container| container.name == name) {
                return Err(EngineError::Conflict { what: "rename".into(), message: "name in use".into() });
            }
            state.containers.get_mut(&id).expect("just found").name = name.to_owned();
            Ok(())
        })
    }

    async fn set_restart_policy(&self, id: &str, policy: &Value) -> Result<(), EngineError> {
        self.call("update", |state| {
            let id = state.find(id)?;
            state.containers.get_mut(&id).expect("just found").policy = policy.clone();
            Ok(())
        })
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.call("remove", |state| {
            let Ok(id) = state.find(id) else { return Ok(()) };
            if state.containers[&id].is_running {
                return Err(EngineError::Conflict { what: "remove".into(), message: "it runs".into() });
            }
            state.containers.remove(&id);
            Ok(())
        })
    }

    async fn log_tail(&self, _: &str, _: u32) -> Result<String, EngineError> {
        self.call("log", |_| Ok(String::new()))
    }

    async fn changes(&self, _: &str) -> Result<Vec<String>, EngineError> {
        self.call("changes", |_| Ok(Vec::new()))
    }

    async fn file(&self, _: &str, _: &str) -> Result<Option<ChangedFile>, EngineError> {
        self.call("file", |_| Ok(None))
    }

    async fn network_exists(&self, _: &str) -> Result<bool, EngineError> {
        self.call("network", |_| Ok(true))
    }

    async fn volume_exists(&self, _: &str) -> Result<bool, EngineError> {
        self.call("volume", |_| Ok(true))
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        Ok(futures_util::stream::pending().boxed())
    }

    async fn connects(&self, address: SocketAddr, _: Duration) -> bool {
        let IpAddr::V4(address) = address.ip() else { return false };
        let state = self.lock();
        state.containers.iter().any(|(id, container)| {
            let number = u16::from_str_radix(&id[56..], 16).unwrap_or_default();
            let own = Ipv4Addr::new(10, 0, (number >> 8) as u8, (number & 255) as u8);
            own == address && container.is_running && state.behaviour(&container.image) == Behaviour::Serves
        })
    }

    async fn http_get(&self, _: SocketAddr, _: &str, _: Duration) -> HttpProbe {
        HttpProbe::NoAnswer("simulated".into())
    }
}
