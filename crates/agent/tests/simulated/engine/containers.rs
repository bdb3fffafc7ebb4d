//! What a simulated engine holds: names of images, and containers with their life.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_engine::{EngineError, ImageSummary};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::registry::{Behaviour, SimulatedRegistry};
use super::Fault;
use super::events::Events;

/// A moment that no test reaches.
const NEVER: Duration = Duration::from_secs(1_000_000);

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub body: Value,
    pub policy: Value,
    /// While its process lives, and from its readiness on serves; `None` if it was never started or its end is past.
    pub life: Option<Life>,
    pub exit_code: i64,
    pub started: u32,
}

/// The life of a container's process.
#[derive(Clone, Debug)]
pub struct Life {
    /// When it answers.
    pub serves: Range<Instant>,
    /// When its process is gone.
    pub ends: Instant,
}

impl Container {
    pub fn is_running(&self) -> bool {
        self.life.as_ref().is_some_and(|life| Instant::now() < life.ends)
    }

    /// The word for its state.
    pub fn word(&self) -> &'static str {
        if self.is_running() { "running" } else { "exited" }
    }

    pub fn serves(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.serves.contains(&Instant::now()))
    }
}

/// The engine's state.
pub struct State {
    pub node: String,
    pub registry: SimulatedRegistry,
    /// Names (tags and digests) to image IDs.
    pub names: BTreeMap<String, String>,
    pub containers: BTreeMap<String, Container>,
    pub made: u32,
    pub calls: u64,
    /// Faults to come, by number of the call.
    pub faults: BTreeMap<u64, Fault>,
    /// Whether nothing is answered.
    pub is_dead: bool,
    /// Whether there is no room for a further image.
    pub is_full: bool,
    /// Whether the networks that containers ask for are gone.
    pub has_no_networks: bool,
    /// Calls that are refused for as long as they are in here.
    pub refused: BTreeSet<&'static str>,
    /// The longest that a request or an answer is on its way, and that a process takes to begin or to end.
    pub way_longest: Duration,
    pub life_longest: Duration,
    pub random: Ambient,
    pub events: Events,
    /// Names of the containers whose attendance is taken.
    pub watched: BTreeSet<String>,
}

impl State {
    pub fn new(node: &str, registry: SimulatedRegistry, seed: u64) -> Self {
        Self {
            node: node.to_owned(),
            registry,
            names: BTreeMap::new(),
            containers: BTreeMap::new(),
            made: 0,
            calls: 0,
            faults: BTreeMap::new(),
            is_dead: false,
            is_full: false,
            has_no_networks: false,
            refused: BTreeSet::new(),
            way_longest: Duration::ZERO,
            life_longest: Duration::ZERO,
            random: Ambient::chosen(|| 0, seed),
            events: Events::default(),
            watched: BTreeSet::new(),
        }
    }

    /// Some time up to the longest.
    pub fn some(&self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_millis()).expect("a short time");
        Duration::from_millis(self.random.random() % (longest + 1))
    }

    /// From when until when a watched container's instance serves: it, or its predecessor under its other name.
    pub fn attendance(&self, name: &str) -> Option<Range<Instant>> {
        let old = format!("{name}.old-");
        let bodies = self.containers.values().filter(|c| c.name == name || c.name.starts_with(&old));
        bodies.filter_map(|c| c.life.as_ref()).map(|life| life.serves.clone()).max_by_key(|serves| serves.end)
    }

    pub fn find(&self, id: &str) -> Result<String, EngineError> {
        let by_name = || self.containers.iter().find(|(_, container)| container.name == id).map(|(id, _)| id.clone());
        let found = self.containers.contains_key(id).then(|| id.to_owned()).or_else(by_name);
        found.ok_or_else(|| not_found(&format!("container {id}")))
    }

    pub fn found(&mut self, id: &str) -> Result<&mut Container, EngineError> {
        let id = self.find(id)?;
        Ok(self.containers.get_mut(&id).expect("just found"))
    }

    pub fn create(&mut self, name: &str, body: &Value) -> Result<String, EngineError> {
        self.refuse_taken("create", name)?;
        let reference = body["Image"].as_str().unwrap_or_default();
        let image = self.names.get(reference).cloned().ok_or_else(|| not_found(&format!("image {reference}")))?;
        self.made += 1;
        let id = format!("{:064x}", self.made);
        let policy = body["HostConfig"]["RestartPolicy"].clone();
        let (name, body) = (name.to_owned(), body.clone());
        self.containers
            .insert(id.clone(), Container { name, image, body, policy, life: None, exit_code: 0, started: 0 });
        self.events.tell("container", "create", &id);
        Ok(id)
    }

    pub fn refuse_taken(&self, what: &str, name: &str) -> Result<(), EngineError> {
        if self.containers.values().any(|container| container.name == name) {
            return Err(EngineError::Conflict { what: format!("{what} {name}"), message: "name in use".into() });
        }
        Ok(())
    }

    pub fn start(&mut self, id: &str) -> Result<(), EngineError> {
        let now = Instant::now();
        let ready = now + self.some(self.life_longest);
        let image = self.found(id)?.image.clone();
        let behaviour = self.registry.behaviour(&image, &self.node);
        let container = self.found(id)?;
        if behaviour == Behaviour::StartRefused {
            return Err(EngineError::Refused { what: "start".into(), status: 400, message: "no such file".into() });
        }
        if container.is_running() {
            return Ok(());
        }
        container.started += 1;
        container.exit_code = i64::from(matches!(behaviour, Behaviour::ExitsAtOnce | Behaviour::DiesAfter(_)));
        let serves_until = |ends| Some(Life { serves: ready..ends, ends });
        container.life = match behaviour {
            Behaviour::Serves | Behaviour::StartRefused => serves_until(now + NEVER),
            Behaviour::DiesAfter(time) => serves_until(now + time),
            Behaviour::NeverListens => Some(Life { serves: now..now, ends: now + NEVER }),
            Behaviour::ExitsAtOnce => None,
        };
        let (id, ends) = (self.find(id)?, container_end(self.found(id)?));
        self.events.tell("container", "start", &id);
        self.events.tell_at(ends, "container", "die", &id);
        Ok(())
    }

    /// Asks a process to end, which it does in its own time, whoever waits for it. Until then it runs and no longer
    /// serves. Gives back when it is gone.
    pub fn stop(&mut self, id: &str) -> Result<Instant, EngineError> {
        let now = Instant::now();
        let gone = now + self.some(self.life_longest);
        let container = self.found(id)?;
        let Some(life) = container.life.as_mut().filter(|life| now < life.ends) else { return Ok(now) };
        container.exit_code = 0;
        *life = Life { serves: life.serves.start.min(now)..now, ends: life.ends.min(gone) };
        let ends = life.ends;
        let id = self.find(id)?;
        self.events.tell("container", "kill", &id);
        self.events.tell_at(ends, "container", "die", &id);
        Ok(ends)
    }

    pub fn image_summary(&self, id: &str) -> ImageSummary {
        let names = self.names.iter().filter(|(_, image)| *image == id);
        ImageSummary::named(id, names.map(|(name, _)| name.as_str()))
    }

    pub fn inspect(&self, id: &str) -> Result<Value, EngineError> {
        let id = self.find(id)?;
        let container = &self.containers[&id];
        let mut config = container.body.clone();
        // As an engine shows it: merged with the image's defaults.
        config["ExposedPorts"]["80/tcp"] = json!({});
        let mut host = config.as_object_mut().and_then(|config| config.remove("HostConfig")).unwrap_or_default();
        host["RestartPolicy"] = container.policy.clone();
        Ok(json!({
            "Id": id, "Name": format!("/{}", container.name), "Image": container.image, "Created": "2026-01-01T00:00:00Z",
            "Config": config, "HostConfig": host, "RestartCount": 0, "Mounts": [],
            "State": {"Status": container.word(), "Running": container.is_running(), "ExitCode": container.exit_code,
                      "StartedAt": format!("2026-01-01T00:00:{:02}Z", container.started)},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": address_of(&id).to_string()}}},
        }))
    }
}

/// When a container's process is gone, if it was ever there.
fn container_end(container: &Container) -> Instant {
    container.life.as_ref().map_or_else(Instant::now, |life| life.ends)
}

/// The address of the container of an ID.
pub fn address_of(id: &str) -> Ipv4Addr {
    let number = u16::from_str_radix(&id[56..], 16).unwrap_or_default();
    Ipv4Addr::new(10, 0, (number >> 8) as u8, (number & 255) as u8)
}

pub fn not_found(what: &str) -> EngineError {
    EngineError::NotFound { what: what.to_owned(), message: format!("No such {what}") }
}
