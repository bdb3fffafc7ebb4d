//! The engine's events, as Docker sends them: which, in which order, and with which attributes.

use std::collections::BTreeMap;
use std::time::Duration;

use deployer_engine::{EngineError, EngineEvent};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use super::containers::State;
use super::power::Power;
use super::unreachable;

/// Events that a listener may be behind. Further ones are not sent to it, which nobody tells it.
const LISTENER_BEHIND_MAX: usize = 1024;
/// How long a stream of a hung engine is believed: half a minute of silence, and a ping that is not answered.
pub const STREAM_SILENCE: Duration = Duration::from_secs(40);

/// What a stream brings.
type Item = Result<EngineEvent, EngineError>;

/// Everybody who listens.
#[derive(Default)]
pub struct Streams {
    listeners: Vec<mpsc::Sender<Item>>,
    sent: i64,
    /// What a hung engine will send when it goes on.
    withheld: Vec<EngineEvent>,
}

impl Streams {
    /// Events from now on.
    pub fn listen(&mut self) -> BoxStream<'static, Item> {
        let (sender, receiver) = mpsc::channel(LISTENER_BEHIND_MAX);
        self.listeners.push(sender);
        let items = stream::unfold(Some(receiver), |receiver| async {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(Ok(event)) => Some((Ok(event), Some(receiver))),
                Some(Err(error)) => Some((Err(error), None)),
                // The sender went without a word: the connection broke.
                None => Some((Err(unreachable("events")), None)),
            }
        });
        items.boxed()
    }

    /// When the next event happens, by the engine's clock.
    pub fn next(&self) -> i64 {
        self.sent + 1
    }

    /// Ends every stream with an error.
    pub fn break_off(&mut self) {
        self.withheld.clear();
        self.listeners.clear();
    }

    /// Sends what was withheld.
    pub fn go_on(&mut self) {
        std::mem::take(&mut self.withheld).into_iter().for_each(|event| self.send(event));
    }

    fn send(&mut self, event: EngineEvent) {
        self.listeners.retain(|listener| !listener.is_closed());
        for listener in &self.listeners {
            // One that is too far behind misses it.
            let _ = listener.try_send(Ok(event.clone()));
        }
    }
}

impl State {
    /// Sends an event of a container: with its labels, its image and its name.
    pub fn tell_of(&mut self, id: &str, action: &str, more: &[(&str, &str)]) {
        let Some(container) = self.containers.get(id) else { return };
        let labels = container.body["Labels"].as_object().into_iter().flatten();
        let mut attributes: BTreeMap<String, String> =
            labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
        attributes.insert("image".to_owned(), container.reference().to_owned());
        attributes.insert("name".to_owned(), container.name.clone());
        attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.send("container", action, id, attributes);
    }

    /// Sends an event of an image.
    pub fn tell_of_image(&mut self, id: &str, action: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.send("image", action, id, attributes);
    }

    fn send(&mut self, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        self.streams.sent += 1;
        let (action, detail) = action.split_once(": ").unwrap_or((action, ""));
        let [kind, action, detail, id] = [kind, action, detail, id].map(str::to_owned);
        let event = EngineEvent { kind, action, detail, id, attributes, time_nano: self.streams.sent };
        match self.power {
            Power::Runs => self.streams.send(event),
            Power::Hung => self.streams.withheld.push(event),
            Power::Gone => {}
        }
    }
}
