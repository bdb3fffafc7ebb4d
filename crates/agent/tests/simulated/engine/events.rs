//! The simulated engine's events: of what it is told to do, and of processes that end in their own time.

use std::collections::BTreeMap;

use deployer_engine::{EngineError, EngineEvent};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What a stream brings.
type Item = Result<EngineEvent, EngineError>;

/// Everybody who listens.
#[derive(Default)]
pub struct Events {
    listeners: Vec<mpsc::UnboundedSender<EngineEvent>>,
    sent: i64,
}

impl Events {
    /// Events from now on, until the engine dies.
    pub fn listen(&mut self) -> BoxStream<'static, Item> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners.push(sender);
        let events = stream::unfold(receiver, |mut receiver| async { Some((Ok(receiver.recv().await?), receiver)) });
        events.boxed()
    }

    /// Ends every stream.
    pub fn break_off(&mut self) {
        self.listeners.clear();
    }

    /// Tells of something that happens now.
    pub fn tell(&mut self, kind: &str, action: &str, id: &str) {
        let event = self.event(kind, action, id);
        self.listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }

    /// Tells those who listen now of something that happens in its own time.
    pub fn tell_at(&mut self, moment: Instant, kind: &str, action: &str, id: &str) {
        if moment <= Instant::now() {
            return self.tell(kind, action, id);
        }
        let (event, listeners) = (self.event(kind, action, id), self.listeners.clone());
        tokio::spawn(async move {
            sleep_until(moment).await;
            // Who does not listen any more does not hear it.
            listeners.into_iter().for_each(|listener| drop(listener.send(event.clone())));
        });
    }

    fn event(&mut self, kind: &str, action: &str, id: &str) -> EngineEvent {
        self.sent += 1;
        let (kind, action, id) = (kind.to_owned(), action.to_owned(), id.to_owned());
        EngineEvent { kind, action, detail: String::new(), id, attributes: BTreeMap::new(), time_nano: self.sent }
    }
}
