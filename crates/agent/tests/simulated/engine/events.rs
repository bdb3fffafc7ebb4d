//! The simulated engine's events: of what it is told to do, and of processes that end in their own time.

use std::collections::BTreeMap;

use deployer_engine::{EngineError, EngineEvent};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What a stream brings.
type Item = Result<EngineEvent, EngineError>;

/// Everybody who listens, each with the events that happen or will happen.
#[derive(Default)]
pub struct Events {
    listeners: Vec<mpsc::UnboundedSender<(Instant, EngineEvent)>>,
    sent: i64,
}

impl Events {
    /// Events from now on, until the engine dies.
    pub fn listen(&mut self) -> BoxStream<'static, Item> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners.push(sender);
        stream::unfold((receiver, BTreeMap::new()), next).boxed()
    }

    /// Ends every stream.
    pub fn break_off(&mut self) {
        self.listeners.clear();
    }

    /// Tells of something that happens now.
    pub fn tell(&mut self, kind: &str, action: &str, id: &str) {
        self.tell_at(Instant::now(), kind, action, id);
    }

    /// Tells those who listen now of something that happens in its own time.
    pub fn tell_at(&mut self, moment: Instant, kind: &str, action: &str, id: &str) {
        self.sent += 1;
        let (kind, action, id) = (kind.to_owned(), action.to_owned(), id.to_owned());
        let (detail, attributes) = (String::new(), BTreeMap::new());
        let event = EngineEvent { kind, action, detail, id, attributes, time_nano: self.sent };
        self.listeners.retain(|listener| listener.send((moment, event.clone())).is_ok());
    }
}

/// What a listener waits with: its channel, and what it will hear at which moment.
type Waiting = (mpsc::UnboundedReceiver<(Instant, EngineEvent)>, BTreeMap<(Instant, i64), EngineEvent>);

async fn next((mut receiver, mut later): Waiting) -> Option<(Item, Waiting)> {
    loop {
        let first = later.first_key_value().map(|((moment, _), _)| *moment);
        tokio::select! {
            biased;
            told = receiver.recv() => {
                let (moment, event) = told?;
                later.insert((moment, event.time_nano), event);
            }
            () = reached(first) => {
                let (_, event) = later.pop_first()?;
                return Some((Ok(event), (receiver, later)));
            }
        }
    }
}

async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
