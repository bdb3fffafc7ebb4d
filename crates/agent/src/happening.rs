//! What the daemon tells people as it works: the lines of `deployer events`.

use deployer_core::ambient::Ambient;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use std::sync::Arc;

/// Lines kept for a follower that reads slowly; beyond that it misses some and is told so.
const BACKLOG_MAX: usize = 1024;

/// One line of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// Unix seconds.
    pub at: i64,
    /// A fixed word: `hook`, `record`, `pull`, `replace`, `verdict`, `trouble`, …
    pub kind: String,
    /// The track concerned, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The container concerned, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The phase of a replacement, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// A sentence for people.
    pub text: String,
}

/// Where happenings are told and heard.
#[derive(Clone)]
pub struct Account {
    sender: broadcast::Sender<Happening>,
    ambient: Arc<Ambient>,
}

impl Account {
    /// An account that nobody follows yet.
    pub fn new(ambient: Arc<Ambient>) -> Self {
        Self { sender: broadcast::channel(BACKLOG_MAX).0, ambient }
    }

    /// Follows from now on.
    pub fn follow(&self) -> broadcast::Receiver<Happening> {
        self.sender.subscribe()
    }

    /// Tells of something about a track, and logs it.
    pub fn tell(&self, kind: &str, image: &impl ToString, text: String) {
        self.publish(Happening { image: Some(image.to_string()), ..self.line(kind, text) });
    }

    /// Tells of something about a container of a track, and logs it.
    pub fn tell_of(&self, kind: &str, image: &impl ToString, container: &str, phase: Option<String>, text: String) {
        let line = self.line(kind, text);
        self.publish(Happening {
            image: Some(image.to_string()),
            container: Some(container.to_owned()),
            phase,
            ..line
        });
    }

    fn line(&self, kind: &str, text: String) -> Happening {
        Happening { at: self.ambient.now(), kind: kind.to_owned(), image: None, container: None, phase: None, text }
    }

    fn publish(&self, happening: Happening) {
        let Happening { kind, image, container, text, .. } = &happening;
        tracing::info!(kind, image, container, "{text}");
        // Nobody following is no mistake.
        let _ = self.sender.send(happening);
    }
}
