//! What people do with the `docker` command, and what workloads do by themselves.

use std::time::Duration;

use deployer_core::image::{Digest, Track};
use deployer_core::policy::BOOKKEEPING;
use serde_json::{Value, json};

use super::SimulatedEngine;
use super::containers::State;
use super::life::{Coming, Due};
use super::power::Power;
use crate::history::{By, Deed};

/// How a person runs a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub name: String,
    pub track: Track,
    /// Text of labels and settings; empty: not set.
    pub service: String,
    pub limit: String,
    /// `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:3`.
    pub policy: &'static str,
    pub has_check: bool,
    pub is_managed: bool,
    pub network: &'static str,
    /// The port of the machine that it publishes.
    pub port: Option<u16>,
    /// How long the first of its version is watched, such as `10s`.
    pub monitor: &'static str,
}

impl Spec {
    /// A managed container of a track, as most are.
    pub fn new(name: &str, track: &Track) -> Self {
        Self {
            name: name.to_owned(),
            track: track.clone(),
            service: String::new(),
            limit: String::new(),
            policy: "always",
            has_check: false,
            is_managed: true,
            network: "default",
            port: None,
            monitor: "30s",
        }
    }

    fn body(&self) -> Value {
        let mut labels = json!({"deployer.health.timeout": "5s", "deployer.monitor": self.monitor});
        let given = [("deployer.service", &self.service), ("deployer.max_unavailable", &self.limit)];
        for (label, value) in given.into_iter().filter(|(_, value)| !value.is_empty()) {
            labels[label] = json!(value);
        }
        if self.is_managed {
            labels["deployer.enable"] = json!("true");
        }
        let mut body = json!({
            "Image": self.track.familiar(), "Labels": labels,
            "HostConfig": {"RestartPolicy": State::policy(self.policy), "NetworkMode": self.network},
        });
        if let Some(port) = self.port {
            body["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostIp": "", "HostPort": port.to_string()}]});
        }
        if self.has_check {
            body["Healthcheck"] = json!({"Test": ["CMD", "check"], "Interval": 2_000_000_000_u64});
        }
        body
    }
}

/// What a person does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    Stop,
    Start,
    Restart,
    /// `docker rm -f`.
    Remove,
    Rename(String),
    /// `docker compose up`: a container of the same name and settings, from what the tag names now.
    MakeAnew,
    Pause,
    Unpause,
}

impl SimulatedEngine {
    /// Runs a container of what the registry has, as a person would.
    pub fn run(&self, track: &Track, name: &str) {
        self.run_as(&Spec::new(name, track));
    }

    /// The same with everything that can be said.
    pub fn run_as(&self, spec: &Spec) {
        self.run_body(&spec.track, &spec.name, &spec.body());
    }

    /// The same, with a change of what the engine is asked for.
    pub fn run_with(&self, spec: &Spec, change: impl FnOnce(&mut Value)) {
        let mut body = spec.body();
        change(&mut body);
        self.run_body(&spec.track, &spec.name, &body);
    }

    /// Runs a container that shares the network of another one, whose replacement would take it away.
    pub fn lean_on(&self, track: &Track, name: &str, other: &str) {
        let other = self.shared.lock().find(other).expect("a container of this name");
        let mut body = Spec { is_managed: false, ..Spec::new(name, track) }.body();
        body["HostConfig"]["NetworkMode"] = json!(format!("container:{other}"));
        self.run_body(track, name, &body);
    }

    fn run_body(&self, track: &Track, name: &str, body: &Value) {
        self.shared.with(|state| {
            state.pull_tag(track).expect("it was pushed");
            let id = state.create(By::Person, name, body).expect("a new container");
            // What cannot be started is left as it is.
            let _ = state.start(By::Person, &id);
        });
    }

    /// Does something to a container by its name. Whether the engine was there to do it, and did.
    pub fn does(&self, name: &str, what: &Move) -> bool {
        self.shared.with(|state| {
            if state.power != Power::Runs {
                return false;
            }
            let Ok(id) = state.find(name) else { return false };
            state.does(&id, what)
        })
    }

    /// `docker container prune`, and then `docker image prune` or `docker image prune -a` where that is said.
    pub fn prune(&self, images: Option<bool>) {
        self.shared.with(|state| {
            if state.power != Power::Runs {
                return;
            }
            for id in state.containers.keys().cloned().collect::<Vec<_>>() {
                // What runs is refused, which is what is wanted.
                let _ = state.remove(By::Person, &id, false);
            }
            if let Some(with_tags) = images {
                state.prune_images(with_tags);
            }
        });
    }

    /// Has lost the networks that people made, or has them again.
    pub fn set_without_networks(&self, has_no_networks: bool) {
        self.shared.with(|state| state.has_no_networks = has_no_networks);
    }

    /// Has lost what every workload needs at its beginning, or has it again.
    pub fn set_without_dependency(&self, has_no_dependency: bool) {
        self.shared.with(|state| state.has_no_dependency = has_no_dependency);
    }

    /// Stops a container, as a person would who waits until its process is gone.
    pub fn stop_by_hand(&self, name: &str) {
        assert!(self.does(name, &Move::Stop), "a container of this name runs");
        self.shared.with(|state| {
            let id = state.find(name).expect("just found");
            state.end(By::Person, &id, 0);
        });
    }

    /// Removes a container, as a person would.
    pub fn remove_by_hand(&self, name: &str) {
        assert!(self.does(name, &Move::Remove), "a container of this name");
    }

    /// `docker pull` of a tag, or of a digest of its repository.
    pub fn pull_by_hand(&self, track: &Track, digest: Option<&Digest>) {
        let pulled = self.shared.with(|state| match digest {
            Some(digest) => state.bring(&track.name().familiar(), digest).map(drop),
            None => state.pull_tag(track),
        });
        pulled.expect("it was pushed");
    }

    /// `docker tag`.
    pub fn tag_by_hand(&self, image_id: &str, name: &str) {
        self.shared.with(|state| state.tag(image_id, name)).expect("the image is here");
    }

    /// Every name of an image.
    pub fn names(&self) -> Vec<String> {
        self.shared.lock().names.keys().cloned().collect()
    }

    /// Lets no container be reached from the machine any more, or again.
    pub fn set_cut_off(&self, is_cut_off: bool) {
        self.shared.with(|state| state.is_cut_off = is_cut_off);
    }

    /// What every path of a container answers from now on, as long as it serves.
    pub fn answer_http(&self, status: u16) {
        self.shared.with(|state| state.http_status = Some(status));
    }

    /// Shows no image by this digest, though it has it, as an engine did whose list said less than its inspection.
    pub fn hide_digest(&self, digest: &Digest) {
        self.shared.with(|state| state.untold.digests.insert(digest.clone()));
    }

    /// Does not know any more whether a registry has what is tagged here, as one with containerd's image store.
    pub fn forget_origins(&self) {
        self.shared.with(|state| state.untold.origins = true);
    }

    /// The workload of a container writes a file.
    pub fn writes(&self, name: &str, path: &str) {
        self.shared.with(|state| state.found(name).expect("a container of this name").changes.push(path.to_owned()));
    }

    /// The workload of a container ends by itself.
    pub fn dies(&self, name: &str) -> bool {
        self.shared.with(|state| {
            let Ok(id) = state.find(name) else { return false };
            // What is paused does nothing.
            let can = state.containers[&id].lives() && !state.containers[&id].is_paused;
            if can {
                state.end(By::Itself, &id, 1);
            }
            can
        })
    }

    /// The HEALTHCHECK of a container fails from now on, for so long if it recovers by itself.
    pub fn falls_ill(&self, name: &str, recovers_after: Option<Duration>) -> bool {
        self.shared.with(|state| {
            let Ok(id) = state.find(name) else { return false };
            let container = &state.containers[&id];
            let life = container.life;
            if !container.lives() || container.is_paused || container.health != Some("healthy") {
                return false;
            }
            state.check(&id, "unhealthy");
            if let Some(after) = recovers_after {
                state.plan(after, Due::Of { id, life, what: Coming::Checked("healthy") });
            }
            true
        })
    }

    /// The HEALTHCHECK of a container passes now, whatever its image does.
    pub fn passes_its_check(&self, name: &str) {
        self.shared.with(|state| {
            let id = state.find(name).expect("a container of this name");
            state.check(&id, "healthy");
        });
    }

    /// A container by name: its ID, the digest of its image, and its state's word.
    pub fn container_of(&self, name: &str) -> Option<(String, Option<Digest>, &'static str)> {
        self.shared.with(|state| {
            let id = state.find(name).ok()?;
            let container = &state.containers[&id];
            Some((id.clone(), state.registry.digest_of(&container.image), container.word()))
        })
    }
}

impl State {
    fn does(&mut self, id: &str, what: &Move) -> bool {
        let by = By::Person;
        let lives = self.containers[id].lives();
        match what {
            Move::Stop => self.stop(by, id).is_ok_and(|ends| ends.is_some()),
            Move::Start => self.start(by, id).is_ok(),
            Move::Restart if lives => {
                self.containers.get_mut(id).expect("just found").again = Some(by);
                self.stop(by, id).is_ok()
            }
            Move::Restart => {
                let starts = self.start(by, id).is_ok();
                if starts {
                    self.tell_of(id, "restart", &[]);
                }
                starts
            }
            Move::Remove => self.remove(by, id, true).is_ok(),
            Move::Rename(name) => self.rename(by, id, name).is_ok(),
            Move::MakeAnew => {
                let (name, body) = (self.containers[id].name.clone(), self.made_with(id));
                self.remove(by, id, true).is_ok()
                    && self.create(by, &name, &body).and_then(|id| self.start(by, &id)).is_ok()
            }
            Move::Pause => self.pause(id, lives && !self.containers[id].is_paused, true),
            Move::Unpause => self.pause(id, lives && self.containers[id].is_paused, false),
        }
    }

    fn pause(&mut self, id: &str, may_be: bool, is_paused: bool) -> bool {
        if may_be {
            self.containers.get_mut(id).expect("just found").is_paused = is_paused;
            self.did(By::Person, id, if is_paused { Deed::Pause } else { Deed::Unpause });
            self.tell_of(id, if is_paused { "pause" } else { "unpause" }, &[]);
        }
        may_be
    }

    /// What the person who made a container would make it with: without what a replacement has added.
    fn made_with(&self, id: &str) -> Value {
        let container = &self.containers[id];
        let mut body = container.body.clone();
        if let Some(labels) = body["Labels"].as_object_mut() {
            labels.retain(|label, _| !BOOKKEEPING.contains(&label.as_str()));
        }
        body["HostConfig"]["RestartPolicy"] = container.policy.clone();
        body
    }
}
