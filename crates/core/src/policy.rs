//! What a container's labels say about its service.
//!
//! Labels `deployer.*` are the whole configuration of a service. A label with a bad value makes that container
//! be left alone, with the reason shown; the others go on. An unknown `deployer.` label is a bad value too: a
//! misspelt setting that is silently ignored is found out only when it is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::availability::Limit;
use crate::ownership::LABEL_SUPERVISOR;
use crate::plain;

/// Whether a daemon manages a container: `deployer.enable=true`, or another value that the daemon was given.
pub const ENABLE: &str = "deployer.enable";
/// Labels that deployer itself writes on a candidate.
pub const BOOKKEEPING: [&str; 5] = [TXN, REPLACES, DIGEST, ADOPTED, USER];
/// The replacement that created a container.
pub const TXN: &str = "deployer.txn";
/// The ID of the container that was replaced.
pub const REPLACES: &str = "deployer.replaces";
/// The registry digest that a container was created for.
pub const DIGEST: &str = "deployer.digest";
/// The digest that was adopted from the first of a container's predecessors, which it may go back to.
pub const ADOPTED: &str = "deployer.adopted";
/// Which settings are the user's, so that the next replacement need not guess.
pub const USER: &str = "deployer.user";

/// Why a container's labels cannot be followed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LabelError {
    /// The value is not of the label's kind.
    #[error("label {label}={value} is not {expected}")]
    Value {
        /// The label's name.
        label: String,
        /// Its value.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// No such label exists.
    #[error("label {label} is unknown; the labels are {known}", known = KNOWN.join(", "))]
    Unknown {
        /// The label's name.
        label: String,
    },
}

const KNOWN: [&str; 13] = [
    ENABLE,
    LABEL_SUPERVISOR,
    "deployer.service",
    "deployer.max_unavailable",
    "deployer.strategy",
    "deployer.discard",
    "deployer.health.tcp",
    "deployer.health.http",
    "deployer.health.timeout",
    "deployer.health.stable",
    "deployer.health.restarts",
    "deployer.monitor",
    "deployer.stop.timeout",
];

/// Which containers a daemon manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manage {
    /// Those with `deployer.enable` set to this value.
    Labeled(String),
    /// All, but those with `deployer.enable=false`.
    All,
}

impl Manage {
    /// Reads `labeled`, `labeled=VALUE` or `all`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('=') {
            None if text == "all" => Some(Self::All),
            None if text == "labeled" => Some(Self::Labeled("true".to_owned())),
            Some(("labeled", value)) if !value.is_empty() => Some(Self::Labeled(value.to_owned())),
            _ => None,
        }
    }

    /// Whether a container with these labels is this daemon's.
    pub fn includes(&self, labels: &BTreeMap<String, String>) -> bool {
        let enabled = labels.get(ENABLE);
        match self {
            Self::Labeled(value) => enabled == Some(value),
            Self::All => enabled.is_none_or(|value| value == "true"),
        }
    }
}

/// A path to ask over HTTP, and the container's port to ask it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheck {
    /// Port inside the container; if not given, the first TCP port that is required, or else the only one that is known.
    pub port: Option<u16>,
    /// Path with its leading slash.
    pub path: String,
}

/// The windows and limits of the gate, all in real time. Zero is allowed for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateSettings {
    /// How long a candidate may take, in milliseconds, before it has missed the gate.
    pub timeout_ms: u64,
    /// How long it must have run without a restart, in milliseconds.
    pub stable_ms: u64,
    /// How long the first instance of a digest is watched further, in milliseconds.
    pub monitor_ms: u64,
    /// Whether a HEALTHCHECK that says unhealthy is waited for until the gate's time is up: its user said how long that is.
    #[serde(default)]
    pub waits_for_health: bool,
    /// How often the engine may start it again before it has passed.
    #[serde(default)]
    pub restarts_max: u64,
}

/// What the labels of one container come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// The service's name, if a label gives one; the track otherwise.
    pub service: Option<String>,
    /// How many instances of the service may be down together.
    pub max_unavailable: Limit,
    /// TCP ports inside the container that must answer, and no others; empty: as the predecessor does.
    pub tcp: Vec<u16>,
    /// A path that must answer with 2xx.
    pub http: Option<HttpCheck>,
    /// How long the gate may take; `None`: 60 s, or what the HEALTHCHECK needs if that is longer.
    pub timeout: Option<Duration>,
    /// How long the candidate must have run; `None`: 5 s, or 2 s with a HEALTHCHECK or HTTP check.
    pub stable: Option<Duration>,
    /// How often the engine may start it again before it has passed its gate.
    pub restarts: u64,
    /// Whether files that somebody put into the container may go with it.
    pub discards_files: bool,
    /// How long the first instance of a digest is watched further.
    pub monitor: Duration,
    /// Grace of the stop; `None`: the container's own, else the engine's 10 s.
    pub stop_timeout: Option<Duration>,
}

/// The longest that a label or an image can make anybody wait, for the slot of a cluster is held as long. A label beyond
/// it is refused; a HEALTHCHECK that would need longer to say unhealthy is cut.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// The longest name of a service, which is part of many keys. A longer one is refused.
const SERVICE_CHARS_MAX: usize = 256;

/// The most restarts that a label can allow: what needs more does not come up.
const RESTARTS_MAX: u64 = 10;

/// The default of `deployer.monitor`.
const MONITOR: Duration = Duration::from_secs(30);
/// The default of `deployer.health.timeout`.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The default of `deployer.health.stable`.
const STABLE: Duration = Duration::from_secs(5);
/// The same where a check of the container's own tells that it serves.
const STABLE_WITH_CHECK: Duration = Duration::from_secs(2);

impl Policy {
    /// Reads the labels of one container.
    ///
    /// # Errors
    /// [`LabelError`] names the first label that cannot be followed, in order of their names.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Result<Self, LabelError> {
        let mut policy = Self {
            service: None,
            max_unavailable: Limit::default(),
            tcp: Vec::new(),
            http: None,
            timeout: None,
            stable: None,
            restarts: 0,
            discards_files: false,
            monitor: MONITOR,
            stop_timeout: None,
        };
        for (label, value) in labels.iter().filter(|(label, _)| label.starts_with("deployer.")) {
            policy.follow(label, value)?;
        }
        Ok(policy)
    }

    fn follow(&mut self, label: &str, value: &str) -> Result<(), LabelError> {
        let refused = |expected| LabelError::Value { label: plain::words(label), value: plain::words(value), expected };
        let duration = || {
            let duration = parse_duration(value).filter(|duration| *duration <= LONGEST);
            duration.ok_or_else(|| refused("a duration such as 500ms, 5s or 2m, of an hour at most"))
        };
        match label {
            ENABLE | TXN | REPLACES | DIGEST | ADOPTED | USER => {}
            LABEL_SUPERVISOR if value == "none" || value.starts_with("systemd:") => {}
            LABEL_SUPERVISOR => return Err(refused("none, or systemd: and the name of a unit")),
            "deployer.service" if !is_name(value) => {
                return Err(refused("a service's name: some letters, not too many, and nothing that is not seen"));
            }
            "deployer.service" => self.service = Some(value.to_owned()),
            "deployer.max_unavailable" => {
                self.max_unavailable = Limit::parse(value).ok_or_else(|| refused("a number such as 2, or 25%"))?;
            }
            "deployer.strategy" if matches!(value, "auto" | "recreate") => {}
            "deployer.strategy" => return Err(refused("a strategy that this version has: auto or recreate")),
            "deployer.health.tcp" => {
                self.tcp = parse_ports(value).ok_or_else(|| refused("a list of ports such as 80,8080"))?
            }
            "deployer.health.http" => {
                self.http = Some(parse_http(value).ok_or_else(|| refused("a path such as /healthz or 8080/healthz"))?);
            }
            "deployer.health.timeout" => self.timeout = Some(duration()?),
            "deployer.health.stable" => self.stable = Some(duration()?),
            "deployer.health.restarts" => {
                let restarts = value.parse().ok().filter(|restarts| *restarts <= RESTARTS_MAX);
                self.restarts = restarts.ok_or_else(|| refused("a number of restarts, 10 at most"))?;
            }
            "deployer.discard" if value == "files" => self.discards_files = true,
            "deployer.discard" => return Err(refused("what may go: files")),
            "deployer.monitor" => self.monitor = duration()?,
            "deployer.stop.timeout" => self.stop_timeout = Some(duration()?),
            _ => return Err(LabelError::Unknown { label: plain::words(label) }),
        }
        Ok(())
    }

    /// Whether the gate is shorter than what the HEALTHCHECK needs because there is a limit to it, for a note.
    pub fn cuts(&self, healthcheck: Option<Duration>) -> bool {
        self.timeout.is_none() && healthcheck.is_some_and(|needed| needed > LONGEST)
    }

    /// The gate's windows for a container whose HEALTHCHECK, if it has one, needs up to `healthcheck`.
    pub fn gate(&self, healthcheck: Option<Duration>) -> GateSettings {
        let has_check = healthcheck.is_some() || self.http.is_some();
        let timeout =
            self.timeout.unwrap_or_else(|| healthcheck.map_or(TIMEOUT, |needs| needs.clamp(TIMEOUT, LONGEST)));
        let stable = self.stable.unwrap_or(if has_check { STABLE_WITH_CHECK } else { STABLE });
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        GateSettings {
            timeout_ms: millis(timeout),
            stable_ms: millis(stable),
            monitor_ms: millis(self.monitor),
            waits_for_health: self.timeout.is_some(),
            restarts_max: self.restarts,
        }
    }
}

/// Reads `500ms`, `5s`, `2m`, `1h` or `1d`; a bare `0` is zero.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let unit_start = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_start);
    let number: u64 = number.parse().ok()?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86400),
        _ => None,
    }
}

fn is_name(text: &str) -> bool {
    (1..=SERVICE_CHARS_MAX).contains(&text.chars().count()) && plain::line(text) == text
}

fn parse_ports(text: &str) -> Option<Vec<u16>> {
    text.split(',').map(|port| port.trim().parse().ok().filter(|port| *port > 0)).collect()
}

fn parse_http(text: &str) -> Option<HttpCheck> {
    let slash = text.find('/')?;
    let (port, path) = text.split_at(slash);
    let port = match port.trim_start_matches(':') {
        "" => None,
        port => Some(port.parse().ok()?),
    };
    let is_plain = path.bytes().all(|b| b.is_ascii_graphic());
    is_plain.then(|| HttpCheck { port, path: path.to_owned() })
}

#[cfg(test)]
mod tests;
