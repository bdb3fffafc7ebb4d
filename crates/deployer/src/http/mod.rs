//! The public listener: hooks and health, and nothing else.
//!
//! `hooks` answers requests, `intake` makes what they say durable, `server` holds slow and greedy clients within
//! their limits.

mod hooks;
mod intake;
mod server;

use std::fmt;

use deployer_core::image::Registry;
use deployer_core::webhook::{Auth, Source};

pub use hooks::router;
pub use intake::{Intake, Sink};
pub use server::serve;

/// A configured route.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The path, from its leading slash. May hold a secret of the sender's.
    pub path: String,
    /// Who sends.
    pub source: Source,
    /// How a genuine request is told.
    pub auth: Auth,
    /// The registry's host as this cluster pulls from it, where the sender names another.
    pub registry_host: Option<Registry>,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[hook]]\npath = \"{}\"\nsource = \"{}\"", self.path, self.source.word())?;
        match &self.auth {
            Auth::Insecure => writeln!(f, "insecure = true")?,
            auth => writeln!(f, "auth = \"{}\"\nsecret = \"***\"", auth.word())?,
        }
        match &self.registry_host {
            Some(host) => writeln!(f, "registry_host = \"{}\"", host.as_str()),
            None => Ok(()),
        }
    }
}
