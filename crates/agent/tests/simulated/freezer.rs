//! What SIGSTOP does to a process: its futures are not polled, while the world goes on.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

/// How often a future may be asked at one moment whether it goes on. One that is asked more often spins, and no time would
/// ever pass again.
const POLLS_MAX: u32 = 5_000;
/// What one that spins dies of.
pub const SPINS: &str = "spins";

/// Holds the futures of one process.
#[derive(Clone, Default)]
pub struct Freezer {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    waiting: Vec<Waker>,
}

impl Freezer {
    /// Stops the process where it waits now.
    pub fn freeze(&self) {
        self.state.lock().expect("no test panics with the lock").is_closed = true;
    }

    /// Lets it go on, with everything that came meanwhile.
    pub fn thaw(&self) {
        let mut state = self.state.lock().expect("no test panics with the lock");
        state.is_closed = false;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// A future of the process.
    pub fn hold<F: Future>(&self, future: F) -> Held<F> {
        Held { freezer: self.clone(), future: Box::pin(future), polls: 0, moment: None }
    }
}

/// A future that can be frozen.
pub struct Held<F> {
    freezer: Freezer,
    future: Pin<Box<F>>,
    /// How often it was asked at this moment.
    polls: u32,
    moment: Option<Instant>,
}

impl<F: Future> Future for Held<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut state = self.freezer.state.lock().expect("no test panics with the lock");
        if state.is_closed {
            state.waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        let now = Some(Instant::now());
        self.polls = if self.moment == now { self.polls + 1 } else { 0 };
        self.moment = now;
        assert!(self.polls < POLLS_MAX, "{SPINS}: asked {} times at one moment", self.polls);
        self.future.as_mut().poll(context)
    }
}
