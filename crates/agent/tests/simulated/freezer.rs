//! What SIGSTOP does to a process: its futures are not polled, while the world goes on.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

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
        Held { freezer: self.clone(), future: Box::pin(future) }
    }
}

/// A future that can be frozen.
pub struct Held<F> {
    freezer: Freezer,
    future: Pin<Box<F>>,
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
        self.future.as_mut().poll(context)
    }
}
