//! What the daemon tells people as it works: the lines of `deployer events`.

use deployer_core::ambient::Ambient;
use deployer_core::plain;
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
        self.publish(Happening { image: Some(plain::line(&image.to_string()).into_owned()), ..self.line(kind, text) });
    }

    /// Tells of something about a container of a track, and logs it.
    pub fn tell_of(&self, kind: &str, image: &impl ToString, container: &str, phase: Option<String>, text: String) {
        let line = self.line(kind, text);
        self.publish(Happening {
            image: Some(plain::line(&image.to_string()).into_owned()),
            container: Some(plain::line(container).into_owned()),
            phase,
            ..line
        });
    }

    fn line(&self, kind: &str, text: String) -> Happening {
        let text = plain::line(&text).into_owned();
        Happening { at: self.ambient.now(), kind: kind.to_owned(), image: None, container: None, phase: None, text }
    }

    fn publish(&self, happening: Happening) {
        let Happening { kind, image, container, text, .. } = &happening;
        tracing::info!(kind, image, container, "{text}");
        // Nobody following is no mistake.
        let _ = self.sender.send(happening);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_9_no_happening_holds_a_control_character() {
        let account = Account::new(Arc::new(Ambient::chosen(|| 0, 7)));
        let mut heard = account.follow();
        account.tell_of("trouble", &"web:1", "web\n", None, "boom\n\u{1b}[2J\u{202e}".to_owned());
        let heard = heard.try_recv().expect("told");
        assert_eq!((heard.text.as_str(), heard.container.as_deref()), (r"boom\n\u001b[2J\u202e", Some(r"web\n")));
    }
}
