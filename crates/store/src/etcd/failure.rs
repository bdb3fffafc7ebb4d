//! What became of a request that was not done, by what can be done about it.

use std::error::Error;
use std::io::ErrorKind;

use deployer_core::store::Revision;
use etcd_client::WatchResponse;

use super::request;
use crate::store::StoreError;

/// gRPC's numbers of the codes that mean the same whatever the sentence.
const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const OUT_OF_RANGE: i32 = 11;
const UNIMPLEMENTED: i32 = 12;
const UNAVAILABLE: i32 = 14;

/// What etcd says to whom it does not know; it may have asked for nobody's name until now.
pub(super) const NOBODY: &str = "user name is empty";

/// The token is unknown (etcd was restarted, the token expired), older than the last change of users and roles, or
/// missing.
const TOKEN: &[&str] = &["invalid auth token", "revision of auth store is old", NOBODY];

/// What a person has to mend, and how.
const BROKEN: &[(&str, &str)] = &[
    ("database space exceeded", "compact and defragment it, then run: etcdctl alarm disarm"),
    ("permission denied", "grant the user's role readwrite on the whole prefix"),
    ("authentication failed", "check user and password_file"),
    ("request is too large", "start etcd with its default --max-request-bytes or more"),
    ("too many operations in txn", "start etcd with its default --max-txn-ops or more"),
    ("corrupt cluster", "a member's data is damaged and that member must be replaced"),
];

/// Why a request was not done, or not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It never left this machine: nothing was done, another member may be asked.
    Unsent(String),
    /// One side does not trust the other's certificate. Another member may have a better one.
    Untrusted(String),
    /// It was refused because of the token alone: nothing was done, a new token may help.
    Token(String),
    /// No answer, or one that this member gives only for now. It may have been done.
    Away(String),
    /// The lease has ended.
    LeaseGone,
    /// The changes up to a revision are forgotten.
    Compacted(Revision),
    /// A person must act.
    Broken(String),
}

impl Failure {
    /// What happened to the connection. The stub's code tells whether there ever was one: an error of the system has
    /// this code only while connecting. Later the same error says nothing about what the server has done.
    fn of_transport(code: i32, source: &(dyn Error + 'static)) -> Self {
        let message = chain(source);
        let mut system = causes(source).filter_map(|cause| cause.downcast_ref::<std::io::Error>());
        match system.next().map(std::io::Error::kind) {
            // What TLS says of certificates, ours or theirs, has this kind.
            Some(ErrorKind::InvalidData) => {
                Self::Untrusted(format!("{message}: check ca_file, cert_file and key_file"))
            }
            Some(_) if code == UNAVAILABLE => Self::Unsent(message),
            _ => Self::Away(message),
        }
    }

    /// Why the server ended a watch.
    pub fn of_canceled(response: &WatchResponse) -> Self {
        if response.compact_revision() > 0 {
            return Self::Compacted(request::unsigned(response.compact_revision()));
        }
        // The reason has no code, only the text of the error that a call would have met.
        let (_, reason) = response.cancel_reason().rsplit_once("desc = ").unwrap_or(("", response.cancel_reason()));
        Self::said(reason).unwrap_or_else(|| Self::Away(format!("the watch was ended: {reason}")))
    }

    /// Adds what may be behind it if the connection broke off without a word of etcd's.
    pub fn with_hint(self, hint: Option<&str>) -> Self {
        match (self, hint) {
            (Self::Away(message), Some(hint)) if !message.starts_with("etcdserver") => {
                Self::Away(format!("{message}; {hint}"))
            }
            (failure, _) => failure,
        }
    }

    /// Whether it is certain that nothing was done, so that the request may be sent again.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::Unsent(_) | Self::Token(_))
    }

    /// The same as the store's error.
    pub fn at(self, endpoint: &str) -> StoreError {
        match self {
            Self::Unsent(message) | Self::Token(message) | Self::Away(message) => {
                StoreError::Away(format!("{endpoint}: {message}"))
            }
            Self::LeaseGone => StoreError::LeaseGone,
            Self::Compacted(revision) => StoreError::Compacted(revision),
            Self::Untrusted(message) | Self::Broken(message) => StoreError::Broken(format!("{endpoint}: {message}")),
        }
    }

    /// What etcd's own sentences mean. They are compared as text: one code covers several of them, a watch gives no
    /// code at all, and between versions the codes have changed while the sentences stayed.
    fn said(message: &str) -> Option<Self> {
        if message.contains("lease not found") {
            return Some(Self::LeaseGone);
        }
        if TOKEN.iter().any(|text| message.contains(text)) {
            return Some(Self::Token(message.to_owned()));
        }
        let (_, hint) = BROKEN.iter().find(|(text, _)| message.contains(text))?;
        Some(Self::Broken(format!("{message}: {hint}")))
    }
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        use etcd_client::Error;
        let status = match error {
            Error::GRpcStatus(status) => status,
            // The stub's own word for a lease that the server answers is over.
            Error::LeaseKeepAliveError(message) if message == "lease not found" => return Self::LeaseGone,
            Error::TransportError(error) => return Self::Broken(chain(&error)),
            other => return Self::Away(other.to_string()),
        };
        // What comes from the server has no source.
        if let Some(source) = status.source() {
            return Self::of_transport(status.code() as i32, source);
        }
        let message = status.message();
        Self::said(message).unwrap_or_else(|| match status.code() as i32 {
            UNIMPLEMENTED => Self::Broken(format!("{message}: this is no etcd v3; is it the client port?")),
            INVALID_ARGUMENT | PERMISSION_DENIED | OUT_OF_RANGE => Self::Broken(message.to_owned()),
            _ => Self::Away(message.to_owned()),
        })
    }
}

/// What caused an error of the transport, each cause said once. Of itself it says only that it is one.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for error in causes(error.source().unwrap_or(error)) {
        let part = error.to_string();
        if !text.contains(&part) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{part}");
        }
    }
    text
}

/// The error itself, then what caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
