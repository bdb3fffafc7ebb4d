//! A simulated engine: images and names, containers and their life, name conflicts, exits, and calls that fail, or
//! succeed although their answer is lost.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deployer_core::image::{Digest, Track};
use deployer_engine::EngineError;
use serde_json::{Value, json};

use super::attendance::Attendance;
use super::pause;
use super::registry::SimulatedRegistry;

mod api;
mod containers;
mod events;

use containers::State;

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

/// The engine of one node.
#[derive(Clone)]
pub struct SimulatedEngine {
    attendance: Attendance,
    state: Arc<Mutex<State>>,
}

impl SimulatedEngine {
    /// An engine without images or containers.
    pub fn new(node: &str, registry: &SimulatedRegistry, attendance: &Attendance, seed: u64) -> Self {
        let state = Arc::new(Mutex::new(State::new(node, registry.clone(), seed)));
        Self { attendance: attendance.clone(), state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    /// Runs a container of what the registry has, as a person would. Its attendance is taken from now on.
    pub fn run(&self, track: &Track, name: &str) {
        self.run_labeled(track, name, json!({"deployer.enable": "true", "deployer.health.timeout": "5s"}));
    }

    /// The same, with labels of one's own.
    pub fn run_labeled(&self, track: &Track, name: &str, labels: Value) {
        let mut state = self.lock();
        let digest = state.registry.tag(track).expect("it was pushed");
        let image = state.registry.image_id(&digest).expect("it was pushed");
        state.names.insert(track.familiar(), image.clone());
        state.names.insert(format!("{}@{digest}", track.name().familiar()), image);
        state.events.tell("image", "pull", &track.familiar());
        let body = json!({
            "Image": track.familiar(),
            "ExposedPorts": {"80/tcp": {}},
            "Labels": labels,
            "HostConfig": {"RestartPolicy": {"Name": "always"}, "NetworkMode": "default"},
        });
        let id = state.create(name, &body).expect("a new container");
        state.start(&id).expect("it starts");
        state.watched.insert(name.to_owned());
        self.take_attendance(&state);
    }

    /// Stops a container, as a person would.
    pub fn stop_by_hand(&self, name: &str) {
        let mut state = self.lock();
        state.found(name).expect("a container of this name").life = None;
        let id = state.find(name).expect("a container of this name");
        ["kill", "die", "stop"].into_iter().for_each(|action| state.events.tell("container", action, &id));
        self.take_attendance(&state);
    }

    /// Removes a container, as a person would.
    pub fn remove_by_hand(&self, name: &str) {
        let mut state = self.lock();
        let id = state.find(name).expect("a container of this name");
        state.containers.remove(&id);
        state.events.tell("container", "destroy", &id);
        self.take_attendance(&state);
    }

    /// Answers nothing any more, or again.
    pub fn set_dead(&self, is_dead: bool) {
        let mut state = self.lock();
        state.is_dead = is_dead;
        state.events.break_off();
    }

    /// Has no room for a further image any more, or again.
    pub fn set_full(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    /// Has lost the networks that containers ask for, or has them again.
    pub fn set_without_networks(&self, has_no_networks: bool) {
        self.lock().has_no_networks = has_no_networks;
    }

    /// Refuses a call, or does not any more.
    pub fn set_refused(&self, call: &'static str, is_refused: bool) {
        let refused = &mut self.lock().refused;
        let _ = if is_refused { refused.insert(call) } else { refused.remove(call) };
    }

    /// Every name of an image.
    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// Lets each request and answer take up to `way`, and processes up to `life` to begin and to end.
    pub fn slow(&self, way: Duration, life: Duration) {
        let mut state = self.lock();
        (state.way_longest, state.life_longest) = (way, life);
    }

    /// Lets the call of this number go wrong, counted from now.
    pub fn fail(&self, call: u64, fault: Fault) {
        let mut state = self.lock();
        let number = state.calls + call;
        state.faults.insert(number, fault);
    }

    /// Faults that are still to come are not.
    pub fn forgive(&self) {
        self.lock().faults.clear();
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Every container: name, the digest of its image, and whether it runs.
    pub fn containers(&self) -> Vec<(String, Option<Digest>, bool)> {
        let state = self.lock();
        let line = |c: &containers::Container| (c.name.clone(), state.registry.digest_of(&c.image), c.is_running());
        state.containers.values().map(line).collect()
    }

    /// One call: counted, and failed if its number says so.
    async fn call<T: Send>(
        &self,
        what: &str,
        act: impl FnOnce(&mut State) -> Result<T, EngineError> + Send,
    ) -> Result<T, EngineError> {
        let (fault, [there, back]) = self.begin(what);
        pause(there).await;
        let what = what.to_owned();
        let outcome = match fault {
            None => self.carry_out(act),
            Some(Fault::Refused) => Err(EngineError::Refused { what, status: 500, message: "simulated".into() }),
            Some(Fault::Down) => {
                Err(EngineError::Unreachable { what, address: "simulated".into(), message: "simulated".into() })
            }
            Some(Fault::Lost) => {
                let _ = self.carry_out(act);
                Err(EngineError::Timeout { what, limit: Duration::from_secs(1) })
            }
        };
        pause(back).await;
        outcome
    }

    /// What becomes of the next call, and how long it and its answer are on their way.
    fn begin(&self, what: &str) -> (Option<Fault>, [Duration; 2]) {
        let mut state = self.lock();
        state.calls += 1;
        let number = state.calls;
        let ways = [state.some(state.way_longest), state.some(state.way_longest)];
        let fault = state.faults.remove(&number).or(state.refused.contains(what).then_some(Fault::Refused));
        (if state.is_dead { Some(Fault::Down) } else { fault }, ways)
    }

    fn carry_out<T>(&self, act: impl FnOnce(&mut State) -> Result<T, EngineError>) -> Result<T, EngineError> {
        let mut state = self.lock();
        let outcome = act(&mut state);
        self.take_attendance(&state);
        outcome
    }

    fn take_attendance(&self, state: &State) {
        for name in &state.watched {
            self.attendance.note(&state.node, name, state.attendance(name));
        }
    }
}
