//! The gate: whether a container that was started may stay.
//!
//! The gate is a judge over samples: an edge looks at the container at growing intervals and asks [`Gate::judge`]
//! each time. It passes when the container has run for its stable window without a restart, is healthy where it
//! has a HEALTHCHECK, and answers on every required port, twice in a row. The first instance of a digest is then
//! watched for the monitor window too.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::Value;

use crate::policy::GateSettings;

/// How long a port may take to accept, and a path to answer.
pub const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// Failed looks in a row that end the monitor window badly. One alone may be a slow moment of the machine.
const MONITOR_MISSES_MAX: u32 = 3;

/// The engine's word on a container's own HEALTHCHECK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It has none, or it is switched off.
    NoCheck,
    /// Not decided yet.
    Starting,
    /// The last check passed.
    Healthy,
    /// It failed as often as the check allows.
    Unhealthy,
}

/// One look at the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Whether its process runs, and not on its way to a restart.
    pub is_running: bool,
    /// Whether it has ended, and the engine is about to start it again.
    pub is_restarting: bool,
    /// Whether somebody froze its process: it neither serves nor has failed.
    pub is_paused: bool,
    /// The exit code if it does not run.
    pub exit_code: i64,
    /// When its process was started, as the engine writes it.
    pub started_at: String,
    /// How often the engine has restarted it.
    pub restart_count: u64,
    /// The HEALTHCHECK's state.
    pub health: Health,
    /// Required ports and paths that did not answer, in words; empty if all did.
    pub silent: Vec<String>,
}

/// What the samples so far come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Not decided; the reason is what is missing.
    Wait(String),
    /// It may stay.
    Passed,
    /// It may not.
    Failed(String),
}

const UNHEALTHY: &str = "its HEALTHCHECK reports unhealthy";

/// One life of a container, from a start to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Life {
    started_at: String,
    restart_count: u64,
}

/// The judge of one container's gate.
#[derive(Clone, Debug)]
pub struct Gate {
    settings: GateSettings,
    monitors: bool,
    first: Option<Life>,
    /// How often the engine has started it again, as it may.
    restarts: u64,
    /// When its process of now was first seen.
    begun_ms: u64,
    passes: u32,
    passed_at_ms: Option<u64>,
    misses: u32,
    /// Time of the last look, and how much of all before it was spent paused.
    seen_ms: u64,
    paused_ms: u64,
}

impl Gate {
    /// A gate without a monitor window: for the put-back predecessor and for later instances of a good digest.
    pub fn new(settings: GateSettings) -> Self {
        Self {
            settings,
            monitors: false,
            first: None,
            restarts: 0,
            begun_ms: 0,
            passes: 0,
            passed_at_ms: None,
            misses: 0,
            seen_ms: 0,
            paused_ms: 0,
        }
    }

    /// A gate followed by the monitor window: for the first instance of a digest.
    pub fn with_monitor(settings: GateSettings) -> Self {
        Self { monitors: true, ..Self::new(settings) }
    }

    /// Takes in one look, `now_ms` milliseconds after the start was asked for.
    pub fn judge(&mut self, now_ms: u64, sample: &Sample) -> Judgement {
        if let Some(end) = self.end(now_ms, sample) {
            return end;
        }
        let since_seen_ms = now_ms.saturating_sub(self.seen_ms);
        self.seen_ms = now_ms;
        if sample.is_paused {
            self.paused_ms += since_seen_ms;
            return Judgement::Wait("paused by somebody; waiting until it goes on".to_owned());
        }
        // A person's pause is held against nobody: its time does not count.
        let now_ms = now_ms.saturating_sub(self.paused_ms);
        let missing = self.missing(now_ms, sample);
        match self.passed_at_ms {
            Some(passed_at_ms) => self.monitor(now_ms.saturating_sub(passed_at_ms), missing),
            None => self.probe(now_ms, missing),
        }
    }

    /// What is to be said of a container whose process has ended or fallen ill, if it has.
    fn end(&mut self, now_ms: u64, sample: &Sample) -> Option<Judgement> {
        let failed = |reason: String| Some(Judgement::Failed(reason));
        let life = Life { started_at: sample.started_at.clone(), restart_count: sample.restart_count };
        let first = self.first.get_or_insert_with(|| life.clone());
        if !sample.is_running {
            let may_go_on = self.restarts < self.settings.restarts_max && self.passed_at_ms.is_none();
            if may_go_on && sample.is_restarting {
                return Some(Judgement::Wait("it has ended, and is started again, as it may be".to_owned()));
            }
            return failed(format!("exited with code {}", sample.exit_code));
        }
        if *first != life {
            self.restarts += life.restart_count.saturating_sub(first.restart_count).max(1);
            if self.restarts > self.settings.restarts_max || self.passed_at_ms.is_some() {
                return failed("exited and was started again by the engine (see deployer.health.restarts)".to_owned());
            }
            (*first, self.begun_ms, self.passes) = (life, now_ms.saturating_sub(self.paused_ms), 0);
        }
        let is_waited_for = self.settings.waits_for_health && self.passed_at_ms.is_none();
        if sample.health == Health::Unhealthy && !is_waited_for {
            return failed(format!("{UNHEALTHY}; deployer.health.timeout may give it longer"));
        }
        None
    }

    fn missing(&self, now_ms: u64, sample: &Sample) -> Option<String> {
        if let Some(silent) = sample.silent.first() {
            return Some(format!("no answer on {silent}"));
        }
        match sample.health {
            Health::Starting => return Some("its HEALTHCHECK has not passed yet".to_owned()),
            Health::Unhealthy => return Some(UNHEALTHY.to_owned()),
            Health::Healthy | Health::NoCheck => {}
        }
        let left_ms = self.settings.stable_ms.saturating_sub(now_ms.saturating_sub(self.begun_ms));
        (left_ms > 0).then(|| format!("up, {:.1} s left of its stable window", left_ms as f64 / 1000.0))
    }

    fn probe(&mut self, now_ms: u64, missing: Option<String>) -> Judgement {
        if let Some(missing) = missing {
            self.passes = 0;
            let limit_ms = self.settings.timeout_ms.max(self.settings.stable_ms);
            if now_ms >= limit_ms {
                let limit = limit_ms as f64 / 1000.0;
                return Judgement::Failed(format!("not ready within {limit} s: {missing}"));
            }
            return Judgement::Wait(missing);
        }
        self.passes += 1;
        let passes_needed = if self.settings.stable_ms == 0 { 1 } else { 2 };
        if self.passes < passes_needed {
            return Judgement::Wait("ready, looking once more".to_owned());
        }
        self.passed_at_ms = Some(now_ms);
        self.monitor(0, None)
    }

    fn monitor(&mut self, watched_ms: u64, missing: Option<String>) -> Judgement {
        self.misses = if missing.is_some() { self.misses + 1 } else { 0 };
        match missing {
            Some(missing) if self.misses >= MONITOR_MISSES_MAX => {
                Judgement::Failed(format!("was ready, then not any more: {missing}"))
            }
            _ if self.monitors && watched_ms < self.settings.monitor_ms => {
                let left = (self.settings.monitor_ms - watched_ms) as f64 / 1000.0;
                Judgement::Wait(format!("ready; first of its version, watched for {left:.0} s more"))
            }
            _ => Judgement::Passed,
        }
    }
}

/// The TCP ports of a service whose answer may count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// What the user published.
    pub published: Vec<u16>,
    /// What the user published or exposed, and what the image exposes.
    pub known: Vec<u16>,
}

impl Ports {
    /// Reads them off a candidate's create request and its image. What the predecessor's image exposed and this one does
    /// not any more is none of them: what runs has no say in what comes after it.
    pub fn of_candidate(request: &Value, image: &Value) -> Self {
        let published = tcp_ports(request.pointer("/HostConfig/PortBindings"));
        let mut known = published.clone();
        known.extend(tcp_ports(request.get("ExposedPorts")));
        known.extend(tcp_ports(image.pointer("/Config/ExposedPorts")));
        known.sort_unstable();
        known.dedup();
        Self { published, known }
    }
}

/// The TCP ports that a container publishes or exposes, by its raw inspection.
pub fn known_ports(inspection: &Value) -> Vec<u16> {
    let mut ports = tcp_ports(inspection.pointer("/HostConfig/PortBindings"));
    ports.extend(tcp_ports(inspection.pointer("/Config/ExposedPorts")));
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// A container's own addresses, in its networks' order, by its raw inspection; this machine's for host networking.
pub fn addresses(inspection: &Value) -> Vec<IpAddr> {
    if inspection.pointer("/HostConfig/NetworkMode").and_then(Value::as_str) == Some("host") {
        return vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    }
    let networks = inspection.pointer("/NetworkSettings/Networks").and_then(Value::as_object).into_iter().flatten();
    let addresses = networks.flat_map(|(_, network)| ["IPAddress", "GlobalIPv6Address"].map(|f| network.get(f)));
    addresses.flatten().filter_map(Value::as_str).filter_map(|address| address.parse().ok()).collect()
}

fn tcp_ports(ports: Option<&Value>) -> Vec<u16> {
    let keys = ports.and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key.as_str());
    keys.filter_map(|key| key.strip_suffix("/tcp").unwrap_or(key).parse().ok()).collect()
}

/// The TCP ports that a candidate must answer on.
///
/// Those that a label names, and no others; without one, each known port that the predecessor answered on from here, or
/// the published ones when the predecessor is not running. UDP is never probed.
pub fn required_ports(labelled: &[u16], answered: &[u16], published: &[u16], predecessor_runs: bool) -> Vec<u16> {
    let measured = if predecessor_runs { answered } else { published };
    let mut ports = if labelled.is_empty() { measured } else { labelled }.to_vec();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests;
