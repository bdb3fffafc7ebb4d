//! The public listener: hooks and health, and nothing else.
//!
//! `hooks` answers requests, `body` reads them, `sink` hands on what they say to be made durable, `server` holds slow and greedy
//! clients within their limits, and `strangers` counts those without the secret.

mod body;
mod hooks;
mod server;
mod sink;
mod strangers;

use std::fmt;

use deployer_core::image::Registry;
use deployer_core::webhook::{Auth, Source};

pub use hooks::{SERVER, router};
pub use server::serve;
pub use sink::{Sink, Waiting};

/// A configured route.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The path, from its leading slash. May hold a secret of the sender's, but for that of [`Auth::Path`], which follows.
    pub path: String,
    /// Who sends.
    pub source: Source,
    /// How a genuine request is told.
    pub auth: Auth,
    /// The registry's host as this cluster pulls from it, where the sender names another.
    pub registry_host: Option<Registry>,
    /// Whether a sender that waits to hear that its notification was taken is told so.
    pub callback: bool,
}

/// Length at which the end of a path that needs no other secret is taken for one: 64 bits in hexadecimal.
const MASKED_BYTES_MIN: usize = 16;

impl Hook {
    /// What the router has to match. Where the secret is in the URL, the path without one is a route as well, so that
    /// it is answered, and told of, like any wrong secret.
    fn patterns(&self) -> Vec<String> {
        let mut patterns = vec![self.path.clone()];
        if matches!(self.auth, Auth::Path(_)) {
            patterns.extend([format!("{}/", self.path), format!("{}/{{*secret}}", self.path)]);
        }
        patterns
    }

    /// What follows the path in the URL of a request.
    fn rest<'a>(&self, url: &'a str) -> &'a str {
        url.strip_prefix(self.path.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default()
    }

    /// The path as it may be printed. Where nothing else is asked of a sender, a long last part is its secret.
    pub fn shown_path(&self) -> String {
        match (self.path.rsplit_once('/'), &self.auth) {
            (Some((front, last)), Auth::Insecure) if last.len() >= MASKED_BYTES_MIN => format!("{front}/***"),
            _ => self.path.clone(),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[hook]]\npath = \"{}\"\nsource = \"{}\"", self.shown_path(), self.source.word())?;
        match &self.auth {
            Auth::Insecure => writeln!(f, "insecure = true")?,
            auth => writeln!(f, "auth = \"{}\"\nsecret = \"***\"", auth.word())?,
        }
        if let Some(host) = &self.registry_host {
            writeln!(f, "registry_host = \"{}\"", host.as_str())?;
        }
        if self.callback { writeln!(f, "callback = true") } else { Ok(()) }
    }
}
