//! A simulated engine: images and names, containers and their life as Docker Engine 20.10 leads it, events, and all that can
//! go wrong with it. Calls fail, or succeed although their answer is lost; the engine dies, hangs and comes back (`power`);
//! people use it (`person`). What time brings, it brings at its moment, whoever looks (`life`).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deployer_engine::EngineError;
use deployer_store::news::News;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::ambient::pause;
use crate::history::{Befalling, History};
use crate::registry::SimulatedRegistry;

mod api;
mod container;
mod containers;
mod events;
mod images;
mod life;
mod person;
mod power;

pub use container::id_of;
use containers::State;
use life::Due;
pub use person::{Move, Spec};
use power::Power;

/// After this long without an answer a call has failed, whatever becomes of it.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused with 500, without effect.
    Refused,
    /// No connection, without effect.
    Down,
    /// Done, and the answer lost.
    Lost,
    /// Done this long after the caller was told that there is no answer.
    Late(Duration),
}

/// The engine of one host.
#[derive(Clone)]
pub struct SimulatedEngine {
    shared: Arc<Shared>,
    _clock: Arc<JoinSet<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Changes with everything that a call may wait for.
    news: News,
    /// Rings when something became due at a moment that the clock does not know of.
    due: Notify,
}

impl SimulatedEngine {
    /// An engine without images or containers. Needs a runtime, for the task that lets time do its work.
    pub fn new(host: &str, registry: &SimulatedRegistry, history: &History, seed: u64) -> Self {
        let state = Mutex::new(State::new(host, registry.clone(), history.clone(), seed));
        let shared = Arc::new(Shared { state, news: News::default(), due: Notify::new() });
        let mut clock = JoinSet::new();
        clock.spawn(keep_time(Arc::clone(&shared)));
        Self { shared, _clock: Arc::new(clock) }
    }

    /// Lets each request and answer take up to `way`, and processes up to `life` to begin and to end.
    pub fn slow(&self, way: Duration, life: Duration) {
        let mut state = self.shared.lock();
        (state.way_longest, state.life_longest) = (way, life);
    }

    /// Lets the call of this number go wrong, counted from now.
    pub fn fail(&self, call: u64, fault: Fault) {
        let mut state = self.shared.lock();
        let number = state.calls + call;
        state.faults.insert(number, fault);
    }

    /// Faults that are still to come are not.
    pub fn forgive(&self) {
        self.shared.lock().faults.clear();
    }

    /// Answers every call of this name with an error, without effect.
    pub fn refuse(&self, what: &'static str, error: EngineError) {
        self.shared.lock().refused.insert(what, error);
    }

    /// Refuses calls of this name no more.
    pub fn permit(&self, what: &'static str) {
        self.shared.lock().refused.remove(what);
    }

    /// Answers inspections of this container with an error: it is broken, or another call holds it for good.
    pub fn break_container(&self, id: &str, error: EngineError) {
        self.shared.lock().broken.insert(id.to_owned(), error);
    }

    /// Lets every call of this name end in a panic of its caller, as a fault of our own would.
    pub fn panic_at(&self, what: &'static str) {
        self.shared.lock().panics.insert(what);
    }

    /// Has no room for a further image any more, or again.
    pub fn set_full(&self, is_full: bool) {
        self.shared.lock().is_full = is_full;
    }

    /// From now on it keeps a file of each container there, and says at each pull that its layers are of so many bytes.
    pub fn set_disk(&self, file: &str, layers: u64) {
        self.shared.lock().disk = Some((file.to_owned(), layers));
    }

    /// From now on its inspections leave things out, as Podman's do, and it says so.
    pub fn hide_settings(&self) {
        self.shared.lock().hides_settings = true;
    }

    /// Keeps every call of this name waiting until it is let go.
    pub fn hold(&self, what: &'static str) {
        self.shared.lock().held.insert(what, 0);
    }

    /// Lets one call of this name go on; those after it are kept waiting.
    pub fn let_one_go(&self, what: &'static str) {
        self.shared.with(|state| *state.held.entry(what).or_default() += 1);
        self.shared.tell();
    }

    /// Lets calls of this name go on.
    pub fn let_go(&self, what: &'static str) {
        self.shared.with(|state| state.held.remove(what));
        self.shared.tell();
    }

    /// Whether a call of this name is kept waiting.
    pub fn is_waited_for(&self, what: &'static str) -> bool {
        self.shared.lock().waiting.contains(what)
    }

    /// The host that it is the engine of.
    pub fn node(&self) -> String {
        self.shared.lock().host.clone()
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.shared.lock().calls
    }

    /// Calls of this name so far, whatever came of them.
    pub fn calls_of(&self, what: &str) -> u64 {
        self.shared.lock().calls_of.get(what).copied().unwrap_or_default()
    }

    /// One call: counted, and failed if its number says so.
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        act: impl FnOnce(&mut State) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (fault, refusal, [there, back]) = self.begin(what);
        pause(there).await;
        let limit = Instant::now() + CALL_LIMIT;
        if timeout_at(limit, self.heard(what)).await.is_err() {
            // It lies in the engine's own queue, and is mostly done when that goes on.
            self.shared.with(|state| state.leave_waiting(Box::new(|state| drop(act(state)))));
            return Err(timed_out(what));
        }
        let outcome = match fault {
            _ if self.shared.lock().power == Power::Gone => Err(unreachable(what)),
            None => refusal.map_or_else(|| self.shared.with(act), Err),
            Some(Fault::Refused) => {
                Err(EngineError::Refused { what: what.to_owned(), status: 500, message: "simulated".into() })
            }
            Some(Fault::Down) => Err(unreachable(what)),
            Some(Fault::Lost) => {
                let _ = self.shared.with(act);
                Err(timed_out(what))
            }
            Some(Fault::Late(late)) => {
                pause(CALL_LIMIT).await;
                self.shared.with(|state| state.plan(late, Due::Late(Box::new(|state| drop(act(state))))));
                Err(timed_out(what))
            }
        };
        pause(back).await;
        outcome
    }

    /// What becomes of the next call, and how long it and its answer are on their way.
    fn begin(&self, what: &'static str) -> (Option<Fault>, Option<EngineError>, [Duration; 2]) {
        let mut state = self.shared.lock();
        state.calls += 1;
        *state.calls_of.entry(what).or_default() += 1;
        let number = state.calls;
        let ways = [state.some(state.way_longest), state.some(state.way_longest)];
        let fault = state.faults.remove(&number);
        if let Some(fault) = fault {
            state.history.befell(&state.host, Befalling::Fault(format!("{what}: {fault:?}")));
        }
        let (refusal, panics) = (state.refused.get(what).cloned(), state.panics.contains(what));
        drop(state);
        assert!(!panics, "a fault of our own");
        (fault, refusal, ways)
    }

    /// Waits until the engine takes up a call, or is gone.
    async fn heard(&self, what: &'static str) {
        loop {
            let told = self.shared.news.told();
            {
                let mut state = self.shared.lock();
                if state.power != Power::Hung && state.may_go(what) {
                    state.waiting.remove(what);
                    return;
                }
                state.waiting.insert(what);
            }
            self.shared.news.beyond(told).await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    /// Does something now, after everything that was due before, and notes what came of it.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.next_due();
        state.settle();
        let outcome = act(&mut state);
        let has_changed = state.show();
        let is_sooner = state.next_due() != before;
        drop(state);
        if has_changed {
            self.tell();
        }
        if is_sooner {
            self.due.notify_one();
        }
        outcome
    }

    /// Wakes every call that waits for something.
    fn tell(&self) {
        self.news.tell();
    }
}

/// Does what is due when it is due, until dropped.
async fn keep_time(shared: Arc<Shared>) {
    loop {
        let next = shared.with(|state| state.next_due());
        tokio::select! {
            biased;
            () = shared.due.notified() => {}
            () = reached(next) => {}
        }
    }
}

async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn unreachable(what: &str) -> EngineError {
    EngineError::Unreachable { what: what.to_owned(), address: "simulated".into(), message: "simulated".into() }
}

fn timed_out(what: &str) -> EngineError {
    EngineError::Timeout { what: what.to_owned(), limit: CALL_LIMIT }
}
