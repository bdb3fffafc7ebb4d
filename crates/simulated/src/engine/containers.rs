//! What a simulated engine holds, and what is done to containers by whomever.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_engine::EngineError;
use serde_json::Value;
use tokio::time::Instant;

use super::Fault;
use super::container::{Container, Process, address_of, id_of, number_of};
use super::events::Streams;
use super::images::Untold;
use super::life::{Coming, Due, Letter};
use super::power::Power;
use crate::ambient::chances;
use crate::history::{By, Deed, History, Purpose, What};
use crate::registry::{Behaviour, SimulatedRegistry};

/// The engine's state.
pub struct State {
    pub host: String,
    pub registry: SimulatedRegistry,
    pub history: History,
    pub power: Power,
    /// How often the engine has hung.
    pub hangs: u64,
    /// Images on the disk, and names (tags and digests) to image IDs.
    pub images: BTreeSet<String>,
    pub names: BTreeMap<String, String>,
    pub containers: BTreeMap<String, Container>,
    /// Whether there is no room for a further image.
    pub is_full: bool,
    /// Where it keeps a file of each container, and of how many bytes it says the layers of each pull to be; nothing is said of
    /// either if there is no such file.
    pub disk: Option<(String, u64)>,
    /// Whether its inspections leave out settings.
    pub hides_settings: bool,
    /// Whether the networks that people make are gone.
    pub has_no_networks: bool,
    /// Whether what every workload needs at its beginning, such as a database, is away: whatever starts exits at once.
    pub has_no_dependency: bool,
    /// Whether no container can be reached from the machine.
    pub is_cut_off: bool,
    /// What every path of a container that serves answers; `None`: nothing.
    pub http_status: Option<u16>,
    /// What it does not tell of its images.
    pub untold: Untold,
    /// Calls that are refused for as long as they are in here, and those that end in a panic.
    pub refused: BTreeMap<&'static str, EngineError>,
    /// What inspections of these containers are answered with, by ID.
    pub broken: BTreeMap<String, EngineError>,
    pub panics: BTreeSet<&'static str>,
    pub made: u32,
    pub calls: u64,
    pub calls_of: BTreeMap<&'static str, u64>,
    /// Faults to come, by number of the call.
    pub faults: BTreeMap<u64, Fault>,
    /// Names of calls that are kept waiting, with how many may go on all the same, and of those that wait.
    pub held: BTreeMap<&'static str, u32>,
    pub waiting: BTreeSet<&'static str>,
    /// What time will bring, by its moment and the order of planning.
    pub agenda: BTreeMap<(Instant, u64), Due>,
    pub planned: u64,
    /// Calls whose callers have given up, for when the engine goes on.
    pub backlog: Vec<Letter>,
    pub streams: Streams,
    /// The longest that a request or an answer is on its way, and that a process takes to begin or to end.
    pub way_longest: Duration,
    pub life_longest: Duration,
    pub random: Ambient,
}

impl State {
    pub fn new(host: &str, registry: SimulatedRegistry, history: History, seed: u64) -> Self {
        Self {
            host: host.to_owned(),
            registry,
            history,
            power: Power::Runs,
            hangs: 0,
            images: BTreeSet::new(),
            names: BTreeMap::new(),
            containers: BTreeMap::new(),
            is_full: false,
            disk: None,
            hides_settings: false,
            has_no_networks: false,
            has_no_dependency: false,
            is_cut_off: false,
            http_status: None,
            untold: Untold::default(),
            refused: BTreeMap::new(),
            broken: BTreeMap::new(),
            panics: BTreeSet::new(),
            made: 0,
            calls: 0,
            calls_of: BTreeMap::new(),
            faults: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeSet::new(),
            agenda: BTreeMap::new(),
            planned: 0,
            backlog: Vec::new(),
            streams: Streams::default(),
            way_longest: Duration::ZERO,
            life_longest: Duration::ZERO,
            random: chances(seed),
        }
    }

    /// Whether a call of this name goes on, as far as it is kept waiting.
    pub fn may_go(&mut self, what: &str) -> bool {
        match self.held.get_mut(what) {
            None => true,
            Some(0) => false,
            Some(free) => {
                *free -= 1;
                true
            }
        }
    }

    /// Some time up to the longest.
    pub fn some(&self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_millis()).expect("a short time");
        Duration::from_millis(self.random.random() % (longest + 1))
    }

    /// Notes what somebody does to a container.
    pub fn did(&self, by: By, id: &str, deed: Deed) {
        self.history.note(&self.host, What::Done(by, number_of(id), deed));
    }

    /// Notes how every container is that is not as it was. Whether there is one.
    pub fn show(&mut self) -> bool {
        let mut has_changed = false;
        for (id, container) in &mut self.containers {
            let now = (container.shown(), container.serves());
            if container.noted.replace(now) != Some(now) {
                has_changed = true;
                self.history.note(&self.host, What::Is(number_of(id), now.0, now.1));
            }
        }
        has_changed
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

    pub fn create(&mut self, by: By, name: &str, body: &Value) -> Result<String, EngineError> {
        self.refuse_taken("create", name)?;
        let reference = body["Image"].as_str().unwrap_or_default();
        let image = self.image_of(reference).ok_or_else(|| not_found(&format!("image {reference}")))?;
        self.made += 1;
        let id = id_of(&self.host, self.made);
        let container = Container {
            name: name.to_owned(),
            policy: body["HostConfig"]["RestartPolicy"].clone(),
            body: body.clone(),
            image,
            process: Process::Never,
            life: 0,
            begun: Instant::now(),
            is_paused: false,
            health: None,
            exit_code: 0,
            started: 0,
            restarts: 0,
            is_stopped_by_hand: false,
            unseen: None,
            again: None,
            changes: Vec::new(),
            noted: None,
        };
        self.did(by, &id, Deed::Create(self.purpose(&container)));
        self.containers.insert(id.clone(), container);
        self.tell_of(&id, "create", &[]);
        Ok(id)
    }

    fn purpose(&self, container: &Container) -> Purpose {
        Purpose {
            name: container.name.clone(),
            track: container.reference().to_owned(),
            service: container.label("deployer.service").unwrap_or(container.reference()).to_owned(),
            limit: container.label("deployer.max_unavailable").unwrap_or_default().to_owned(),
            is_managed: container.is_managed(),
            digest: self.registry.digest_of(&container.image),
        }
    }

    pub fn refuse_taken(&self, what: &str, name: &str) -> Result<(), EngineError> {
        if self.containers.values().any(|container| container.name == name) {
            return Err(conflict(&format!("{what} {name}"), "name in use"));
        }
        Ok(())
    }

    pub fn start(&mut self, by: By, id: &str) -> Result<(), EngineError> {
        let id = self.find(id)?;
        if self.containers[&id].is_paused {
            return Err(conflict("start", "cannot start a paused container, try unpause instead"));
        }
        if self.containers[&id].lives() {
            return Ok(());
        }
        self.refuse_to_begin(&id)?;
        let container = self.containers.get_mut(&id).expect("just found");
        container.is_stopped_by_hand = false;
        container.restarts = 0;
        self.begin(by, &id);
        Ok(())
    }

    /// What keeps a process from coming up, whoever starts it.
    pub fn refuse_to_begin(&self, id: &str) -> Result<(), EngineError> {
        let container = &self.containers[id];
        let refused = |status, message: &str| {
            let what = format!("start container {}", container.name);
            Err(EngineError::Refused { what, status, message: message.to_owned() })
        };
        let network = container.body["HostConfig"]["NetworkMode"].as_str().unwrap_or("default");
        if network != "default" && self.has_no_networks {
            return Err(not_found(&format!("network {network}")));
        }
        let others = self.containers.iter().filter(|(other, c)| *other != id && c.lives());
        if container.port().is_some() && others.map(|(_, other)| other.port()).any(|port| port == container.port()) {
            return refused(500, "port is already allocated");
        }
        if self.registry.behaviour(&container.image, &self.host) == Behaviour::StartRefused {
            return refused(400, "no such file");
        }
        Ok(())
    }

    /// Asks a process to end, which it does in its own time, whoever waits for it. Until then it runs and no longer
    /// serves. Gives back which life of which container is to end, if one is.
    pub fn stop(&mut self, by: By, id: &str) -> Result<Option<(String, u64)>, EngineError> {
        let id = self.find(id)?;
        let gone = self.some(self.life_longest);
        let container = self.containers.get_mut(&id).expect("just found");
        container.is_stopped_by_hand |= by != By::Engine;
        match container.process {
            Process::Lives { .. } => {
                container.process = Process::Lives { serves: false, ending: Some(by) };
                container.is_paused = false;
            }
            Process::Restarting => {
                container.life += 1;
                container.process = Process::Gone;
                self.did(by, &id, Deed::Stop);
                // There is no process to send a signal to (Engine 20.10 tells of the stop alone).
                self.tell_of(&id, "stop", &[]);
                return Ok(None);
            }
            Process::Never | Process::Gone => return Ok(None),
        }
        let life = container.life;
        self.did(by, &id, Deed::Stop);
        self.tell_of(&id, "kill", &[("signal", "15")]);
        self.plan(gone, Due::Of { id: id.clone(), life, what: Coming::Ends(by, 0) });
        Ok(Some((id, life)))
    }

    /// Whether a container that serves has this address, and can be reached.
    pub fn answers(&self, address: IpAddr) -> bool {
        let is_its = |id: &String| IpAddr::V4(address_of(id)) == address;
        !self.is_cut_off && self.containers.iter().any(|(id, container)| is_its(id) && container.serves())
    }

    /// Whether a life that was to end has.
    pub fn has_ended(&self, id: &str, life: u64) -> bool {
        self.containers.get(id).is_none_or(|container| container.life != life || !container.lives())
    }

    pub fn rename(&mut self, by: By, id: &str, name: &str) -> Result<(), EngineError> {
        let id = self.find(id)?;
        if self.containers[&id].name == name {
            let message = "a container is not renamed to its own name".to_owned();
            return Err(EngineError::Refused { what: "rename".into(), status: 400, message });
        }
        self.refuse_taken("rename", name)?;
        let container = self.containers.get_mut(&id).expect("just found");
        let old = format!("/{}", std::mem::replace(&mut container.name, name.to_owned()));
        self.did(by, &id, Deed::Rename(name.to_owned()));
        self.tell_of(&id, "rename", &[("oldName", &old)]);
        Ok(())
    }

    pub fn set_policy(&mut self, id: &str, policy: &Value) -> Result<(), EngineError> {
        let id = self.find(id)?;
        self.found(&id)?.policy = policy.clone();
        self.tell_of(&id, "update", &[]);
        Ok(())
    }

    /// Removes what does not run; by force, whatever it does.
    pub fn remove(&mut self, by: By, id: &str, by_force: bool) -> Result<(), EngineError> {
        let Ok(id) = self.find(id) else { return Ok(()) };
        let is_idle = matches!(self.containers[&id].process, Process::Never | Process::Gone);
        if !is_idle && !by_force {
            return Err(conflict("remove", "it runs"));
        }
        if self.containers[&id].lives() {
            self.tell_of(&id, "kill", &[("signal", "9")]);
            self.end(by, &id, 137);
        }
        self.tell_of(&id, "destroy", &[]);
        self.did(by, &id, Deed::Remove);
        self.containers.remove(&id);
        Ok(())
    }

    /// Paths at which the files of a container are not those of its image.
    pub fn changes(&self, id: &str) -> Vec<String> {
        self.containers.get(id).map(|container| container.changes.clone()).unwrap_or_default()
    }

    pub fn inspect(&self, id: &str) -> Result<Value, EngineError> {
        let id = self.find(id)?;
        if let Some(error) = self.broken.get(&id) {
            return Err(error.clone());
        }
        let container = &self.containers[&id];
        let mut inspection = container.inspection(&id, &self.registry.exposed(&container.image));
        if let Some((file, _)) = &self.disk {
            inspection["HostnamePath"] = Value::from(file.as_str());
        }
        Ok(inspection)
    }
}

pub fn not_found(what: &str) -> EngineError {
    EngineError::NotFound { what: what.to_owned(), message: format!("No such {what}") }
}

pub fn conflict(what: &str, message: &str) -> EngineError {
    EngineError::Conflict { what: what.to_owned(), message: message.to_owned() }
}
