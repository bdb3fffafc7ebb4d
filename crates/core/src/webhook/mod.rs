//! Registry notifications: whether one is genuine, and which images it speaks of.
//!
//! A notification is a hint, never an order: it selects among the images that run here, and what they should be
//! is asked of the registry. The route says which source a request comes from; nothing is guessed from its body.

mod callback;
mod distribution;
mod dockerhub;
mod native;
mod reading;
mod verify;

use crate::image::{Digest, ImageName, Registry, Tag};

pub use callback::{CALLBACK_HOST, Callback, NotCalled, is_public};
pub use reading::Passed;
pub use verify::{Auth, PATH_SECRET_BYTES_MIN, SIGNING_KEY_BYTES_MIN, Unauthorized};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What follows the route's own path and a slash: the secret of a sender that has no other place for it.
    pub rest: &'a str,
    /// Header names and values; names in any case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body, byte for byte: signatures cover it as it is.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// Who sends to a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A CNCF Distribution registry.
    Distribution,
    /// Docker Hub.
    DockerHub,
    /// Any CI, with the project's own call.
    Native,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 3] = [Self::Distribution, Self::DockerHub, Self::Native];

    /// The word for it in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Distribution => "distribution",
            Self::DockerHub => "dockerhub",
            Self::Native => "native",
        }
    }
}

/// An image that a notification says may be new.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// Registry and repository.
    pub name: ImageName,
    /// The tag.
    pub tag: Tag,
    /// The digest that the sender names: a hint.
    pub digest: Option<Digest>,
}

/// What a genuine request comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Images to look at, in order, each once.
    pub notices: Vec<Notice>,
    /// Why other parts of it were passed over.
    pub passed: Vec<Passed>,
    /// Where the sender waits to hear that it was taken, if it does and if that may be called.
    pub callback: Option<Result<Callback, NotCalled>>,
}

/// A body that is not of the source's shape at all.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the body is not what {0} sends: {1}")]
pub struct Malformed(pub &'static str, pub String);

/// Reads a genuine request. `registry` overrides the host that the sender names, which may be an internal one.
///
/// # Errors
/// [`Malformed`] only for what is not JSON of the source's shape; whatever else is not ours is passed over, since
/// senders repeat a refused notification for ever, or switch themselves off.
pub fn parse(source: Source, request: &Request<'_>, registry: Option<&Registry>) -> Result<Parsed, Malformed> {
    let value = serde_json::from_slice(request.body).map_err(|error| Malformed(source.word(), error.to_string()))?;
    let parsed = match source {
        Source::Distribution => distribution::parse(&value, registry),
        Source::DockerHub => dockerhub::parse(&value, registry),
        Source::Native => native::parse(&value, registry),
    };
    parsed.map(Parsed::without_doubles)
}

#[cfg(test)]
mod tests;
