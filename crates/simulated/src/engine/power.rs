//! The engine's own life: it dies, hangs, ends and comes back, and what then becomes of the containers. As measured on
//! Engine 20.10 without live-restore.

use deployer_core::image::{Digest, Track};

use super::SimulatedEngine;
use super::container::{Container, Process, number_of};
use super::containers::State;
use super::events::STREAM_SILENCE;
use super::life::Due;
use crate::history::{Befalling, By, EndOfContainer};

/// Whether the engine answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    Runs,
    /// It stands still: calls wait, and nothing that happens is seen.
    Hung,
    /// There is no process.
    Gone,
}

impl SimulatedEngine {
    /// `kill -9` of the engine: its containers live on until it comes back and ends them.
    pub fn crash(&self) {
        self.go(|_| {});
    }

    /// `systemctl stop docker`: first nobody is answered any more, then the containers are asked to end.
    pub fn shut_down(&self) {
        self.go(|state| {
            for id in state.living() {
                // It lives, so it is found.
                let _ = state.stop(By::Engine, &id);
            }
        });
    }

    /// The machine loses its power.
    pub fn lose_power(&self) {
        self.go(|state| {
            for id in state.living() {
                state.end(By::Engine, &id, 255);
            }
        });
    }

    fn go(&self, end: impl FnOnce(&mut State)) {
        self.shared.with(|state| {
            if state.power != Power::Gone {
                state.power = Power::Gone;
                state.backlog.clear();
                state.streams.break_off();
                state.history.befell(&state.host, Befalling::EngineGone);
            }
            end(state);
        });
        self.shared.tell();
    }

    /// Starts the engine again. What still lives it ends, as if a person had stopped it; then its policies decide.
    pub fn come_back(&self) {
        self.shared.with(|state| {
            if state.power == Power::Gone {
                state.end_what_lives();
                for id in state.containers.keys().cloned().collect::<Vec<_>>() {
                    state.containers.get_mut(&id).expect("just listed").unseen = None;
                    let was_begun = matches!(state.containers[&id].process, Process::Gone | Process::Restarting);
                    if was_begun {
                        state.containers.get_mut(&id).expect("just listed").process = Process::Gone;
                        if state.is_to_restart(&id) && state.refuse_to_begin(&id).is_ok() {
                            state.begin(By::Engine, &id);
                        }
                    }
                }
                state.power = Power::Runs;
                state.history.befell(&state.host, Befalling::EngineBack);
            }
        });
        self.shared.tell();
    }

    /// `kill -STOP` of the engine.
    pub fn hang(&self) {
        self.shared.with(|state| {
            if state.power == Power::Runs {
                state.power = Power::Hung;
                state.hangs += 1;
                let hang = state.hangs;
                state.plan(STREAM_SILENCE, Due::Silence(hang));
                state.history.befell(&state.host, Befalling::EngineHung);
            }
        });
    }

    /// Lets it go on: it sees what has happened, and does what was asked meanwhile.
    pub fn go_on(&self) {
        self.shared.with(|state| {
            if state.power == Power::Hung {
                state.power = Power::Runs;
                state.history.befell(&state.host, Befalling::EngineBack);
                state.streams.go_on();
                for id in state.containers.keys().cloned().collect::<Vec<_>>() {
                    state.notice(&id, false);
                }
                std::mem::take(&mut state.backlog).into_iter().for_each(|letter| letter(state));
            }
        });
        self.shared.tell();
    }

    /// `kill -9` of the engine, or its start.
    pub fn set_dead(&self, is_dead: bool) {
        if is_dead { self.crash() } else { self.come_back() }
    }

    /// Whether it answers.
    pub fn is_heard(&self) -> bool {
        self.shared.lock().power == Power::Runs
    }

    /// Every container as it is, for the checker.
    pub fn everything(&self) -> Vec<EndOfContainer> {
        let line = |state: &State, id: &String, container: &Container| EndOfContainer {
            id: id.clone(),
            number: number_of(id),
            name: container.name.clone(),
            digest: state.registry.digest_of(&container.image),
            shown: container.shown(),
        };
        self.shared.with(|state| state.containers.iter().map(|(id, container)| line(state, id, container)).collect())
    }

    /// Whether a container that is opted in is meant to run something of a track.
    pub fn runs_track(&self, track: &Track) -> bool {
        let name = track.familiar();
        let runs = |container: &Container| container.is_meant_to_run() && container.reference() == name;
        self.shared.with(|state| state.containers.values().any(runs))
    }

    /// Whether a container that is opted in runs anything but what its tag points to in the registry.
    pub fn has_strays(&self) -> bool {
        let is_stray = |state: &State, container: &Container| {
            let track = Track::parse(container.reference()).expect("a track");
            container.is_meant_to_run() && state.registry.digest_of(&container.image) != state.registry.tag(&track)
        };
        self.shared.with(|state| state.containers.values().any(|container| is_stray(state, container)))
    }

    /// Every container: name, the digest of its image, and whether its process lives.
    pub fn containers(&self) -> Vec<(String, Option<Digest>, bool)> {
        self.shared.with(|state| {
            let line = |c: &Container| (c.name.clone(), state.registry.digest_of(&c.image), c.lives());
            state.containers.values().map(line).collect()
        })
    }
}

impl State {
    fn living(&self) -> Vec<String> {
        self.containers.iter().filter(|(_, container)| container.lives()).map(|(id, _)| id.clone()).collect()
    }

    fn end_what_lives(&mut self) {
        for id in self.living() {
            let container = self.containers.get_mut(&id).expect("just listed");
            let is_ending = matches!(container.process, Process::Lives { ending: Some(_), .. });
            // The mark of a kill, which the engine's own orderly end does not leave.
            container.is_stopped_by_hand |= !is_ending;
            self.end(By::Engine, &id, if is_ending { 0 } else { 137 });
        }
    }
}
