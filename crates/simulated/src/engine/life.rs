//! What time brings: processes come up, answer, fall ill, recover and end; the engine starts again what its policy says.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::container::Process;
use super::containers::State;
use super::power::Power;
use crate::history::{By, Deed};
use crate::registry::Behaviour;

/// The wait before the engine's first restart; it doubles with each, and begins anew after a life of [`LONG_LIFE`].
const RESTART_FIRST: Duration = Duration::from_millis(100);
/// The longest wait before a restart.
const RESTART_LONGEST: Duration = Duration::from_secs(60);
/// A process that lived so long is restarted without further delay.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// How long a HEALTHCHECK takes to pass once the process answers, and to fail if it never does.
const CHECK_LONGEST: Duration = Duration::from_secs(2);
/// How long a HEALTHCHECK fails before it says so.
const CHECK_FAILS: Duration = Duration::from_secs(4);

/// A call that is carried out without its caller.
pub type Letter = Box<dyn FnOnce(&mut State) + Send>;

/// What is due at a moment.
pub enum Due {
    /// Something that concerns one life of a container.
    Of { id: String, life: u64, what: Coming },
    /// A call whose caller has given up.
    Late(Letter),
    /// Streams of an engine that has hung all the time break: since the hang of this number.
    Silence(u64),
}

/// What becomes of a life.
#[derive(Clone, Copy, Debug)]
pub enum Coming {
    Serves,
    Checked(&'static str),
    Ends(By, i64),
    Restarts,
}

impl State {
    /// When something is due next.
    pub fn next_due(&self) -> Option<Instant> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Plans something for so long from now.
    pub fn plan(&mut self, after: Duration, due: Due) {
        self.planned += 1;
        self.agenda.insert((Instant::now() + after, self.planned), due);
    }

    /// Keeps a call for when the engine goes on; some are lost with their connection.
    pub fn leave_waiting(&mut self, letter: Letter) {
        if !self.random.random().is_multiple_of(4) {
            self.backlog.push(letter);
        }
    }

    /// Does everything that is due.
    pub fn settle(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.agenda.first_entry().filter(|first| first.key().0 <= now) {
            match first.remove() {
                Due::Late(letter) if self.power == Power::Runs => letter(self),
                Due::Late(_) => {}
                Due::Silence(hang) if self.power == Power::Hung && self.hangs == hang => self.streams.break_off(),
                Due::Silence(_) => {}
                Due::Of { id, life, what } => {
                    if self.containers.get(&id).is_some_and(|container| container.life == life) {
                        self.come(&id, what);
                    }
                }
            }
        }
    }

    fn come(&mut self, id: &str, what: Coming) {
        let Some(container) = self.containers.get_mut(id) else { return };
        match (what, container.process) {
            // What is paused does nothing; what it was about to do is left out.
            (Coming::Ends(By::Itself, _), Process::Lives { ending: None, .. }) if container.is_paused => {}
            (Coming::Serves, Process::Lives { ending: None, .. }) => {
                container.process = Process::Lives { serves: true, ending: None };
            }
            // Nor is it checked before it goes on.
            (Coming::Checked(_), Process::Lives { .. }) if container.is_paused => {
                let life = container.life;
                self.plan(CHECK_LONGEST, Due::Of { id: id.to_owned(), life, what });
            }
            (Coming::Checked(health), Process::Lives { .. }) => self.check(id, health),
            (Coming::Ends(by, code), Process::Lives { ending, .. }) => self.end(ending.unwrap_or(by), id, code),
            (Coming::Restarts, Process::Restarting) => self.restart(id),
            _ => {}
        }
    }

    /// The engine's word on a container's health changes.
    pub fn check(&mut self, id: &str, health: &'static str) {
        if let Some(container) = self.containers.get_mut(id).filter(|container| container.health != Some(health)) {
            container.health = Some(health);
            self.tell_of(id, &format!("health_status: {health}"), &[]);
        }
    }

    /// A process comes up.
    pub fn begin(&mut self, by: By, id: &str) {
        self.did(by, id, Deed::Start);
        let (ready, checked) = (self.some(self.life_longest), self.some(CHECK_LONGEST));
        let now = self.streams.next();
        let container = self.containers.get_mut(id).expect("whoever begins it has found it");
        let behaviour = match self.has_no_dependency {
            true => Behaviour::ExitsAtOnce,
            false => self.registry.behaviour(&container.image, &self.host),
        };
        container.life += 1;
        container.started = now;
        container.begun = Instant::now();
        container.exit_code = 0;
        container.process = Process::Lives { serves: false, ending: None };
        let has_check = container.body["Healthcheck"].is_object();
        container.health = has_check.then_some("starting");
        let life = container.life;
        let mut plan = |after, what| self.plan(after, Due::Of { id: id.to_owned(), life, what });
        if !matches!(behaviour, Behaviour::NeverListens | Behaviour::ExitsAtOnce) {
            plan(ready, Coming::Serves);
        }
        match behaviour {
            Behaviour::Sickens | Behaviour::NeverListens if has_check => {
                plan(CHECK_FAILS, Coming::Checked("unhealthy"))
            }
            Behaviour::DiesAfter(time) => plan(time, Coming::Ends(By::Itself, 1)),
            _ => {}
        }
        if has_check && !matches!(behaviour, Behaviour::Sickens | Behaviour::NeverListens) {
            plan(ready + checked, Coming::Checked("healthy"));
        }
        self.tell_of(id, "start", &[]);
        if behaviour == Behaviour::ExitsAtOnce {
            self.end(By::Itself, id, 1);
        }
    }

    /// A process is gone.
    pub fn end(&mut self, by: By, id: &str, code: i64) {
        let Some(container) = self.containers.get_mut(id).filter(|container| container.lives()) else { return };
        let is_asked = matches!(container.process, Process::Lives { ending: Some(_), .. });
        container.process = Process::Gone;
        container.is_paused = false;
        container.exit_code = code;
        // The engine's word for every container whose checks have ended.
        container.health = container.health.map(|_| "unhealthy");
        container.unseen = Some(by);
        self.did(by, id, Deed::End(code));
        if self.power == Power::Runs {
            self.notice(id, is_asked);
        }
    }

    /// The engine sees that a process is gone.
    pub fn notice(&mut self, id: &str, is_asked: bool) {
        let container = self.found(id).expect("whoever notices has found it");
        let Some(by) = container.unseen.take() else { return };
        let (code, again) = (container.exit_code.to_string(), container.again.take());
        self.tell_of(id, "die", &[("exitCode", &code)]);
        if is_asked {
            self.tell_of(id, "stop", &[]);
        }
        if let Some(again) = again {
            // What is refused stays down, as the person sees on the spot.
            let _ = self.start(again, id);
            self.tell_of(id, "restart", &[]);
        } else if by == By::Itself && self.is_to_restart(id) {
            self.restart_later(id);
        }
    }

    /// Whether the restart policy wants a container that has ended started again.
    pub fn is_to_restart(&self, id: &str) -> bool {
        let container = &self.containers[id];
        let retries_max = container.policy["MaximumRetryCount"].as_u64().unwrap_or_default();
        match container.policy["Name"].as_str() {
            Some("always") => true,
            Some("unless-stopped") => !container.is_stopped_by_hand,
            Some("on-failure") => {
                container.exit_code != 0 && (retries_max == 0 || u64::from(container.restarts) < retries_max)
            }
            _ => false,
        }
    }

    fn restart(&mut self, id: &str) {
        match self.power {
            // What the engine cannot start it does not try again.
            Power::Runs if self.refuse_to_begin(id).is_err() => {
                self.containers.get_mut(id).expect("it is restarting").process = Process::Gone;
            }
            Power::Runs => self.begin(By::Engine, id),
            Power::Hung => self.restart_later(id),
            // Whether it is started is asked when the engine comes back.
            Power::Gone => {}
        }
    }

    fn restart_later(&mut self, id: &str) {
        let container = self.containers.get_mut(id).expect("just found");
        let doublings = if container.begun.elapsed() >= LONG_LIFE { 0 } else { container.restarts.min(16) };
        let wait = RESTART_FIRST.saturating_mul(1 << doublings).min(RESTART_LONGEST);
        container.restarts += 1;
        container.process = Process::Restarting;
        let life = container.life;
        self.plan(wait, Due::Of { id: id.to_owned(), life, what: Coming::Restarts });
    }

    /// A policy as the API writes it: `always`, `on-failure:3`.
    pub fn policy(text: &str) -> Value {
        let (name, retries) = text.split_once(':').unwrap_or((text, "0"));
        serde_json::json!({"Name": name, "MaximumRetryCount": retries.parse::<u64>().expect("a number")})
    }
}
