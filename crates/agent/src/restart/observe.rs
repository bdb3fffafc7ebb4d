//! The gate's eye: looks at a container until the gate has judged it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use deployer_core::gate::{Gate, Health, Judgement, Sample};
use deployer_core::replacement::Facts;
use deployer_engine::mirror::{DeedKind, nanos};
use deployer_engine::{EngineError, HttpProbe};
use serde_json::Value;
use tokio::time::Instant;

use crate::world::World;

/// How long a port may take to accept, and a path to answer.
pub const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// The first pause between two looks; it grows to the longest, so that a fast start is seen at once.
const PAUSE_FIRST: Duration = Duration::from_millis(25);
/// Refusals in a row to show a container after which watching it ends: about half a minute.
const MISSES_MAX: u32 = 60;
/// The longest pause between two looks.
const PAUSE_LONGEST: Duration = Duration::from_millis(500);

/// How long the word of what somebody did to a container may take: failures that were seen before are taken for its own.
const WORD_TAKES: Duration = Duration::from_millis(200);
/// How long a container that somebody is restarting may be down. Beyond it: stopped.
const RESTART_LONGEST: Duration = Duration::from_secs(3);
/// How long a container may fail its gate and go on after somebody has asked it to end. Beyond it: an attempt that proves
/// nothing.
const END_LONGEST: Duration = Duration::from_secs(60);

/// What came of watching a container at its gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// It may stay.
    Passed,
    /// It may not, for this reason.
    Failed(String),
    /// Somebody removed it.
    Gone,
    /// Somebody stopped it.
    StoppedByHand,
    /// It fails since somebody asked it to end, which it does not.
    Disturbed(String),
    /// The engine was away meanwhile, and the container's process is not the one from before: what became of that one is
    /// nobody's failure.
    EngineReturned,
}

/// Looks until the gate has judged. An engine that does not answer is waited for, and the gate goes on where it was if
/// the process has not changed. A container that somebody restarts stands at a new gate. What was done to it until a moment
/// of the engine's clock was done by this daemon.
///
/// # Errors
/// [`EngineError`] if the engine refuses to show the container time and again.
pub async fn watch(
    world: &World,
    facts: &Facts,
    id: &str,
    gate: Gate,
    ours_until: i64,
) -> Result<Watched, EngineError> {
    let mut watch = Watch::new(gate, ours_until);
    let mut pause = PAUSE_FIRST;
    let mut misses = 0;
    loop {
        match world.engine.container(id).await {
            Err(EngineError::NotFound { .. }) => return Ok(Watched::Gone),
            Err(error) if error.is_ambiguous() => watch.was_away = true,
            Err(error) => {
                misses += 1;
                if misses >= MISSES_MAX {
                    return Err(error);
                }
            }
            Ok(container) => {
                misses = 0;
                let sample = sample(world, facts, &container).await;
                match watch.take(world, id, &sample) {
                    Some(watched) => return Ok(watched),
                    None => drop(world.memory().replacing.insert(facts.container.clone(), watch.waits_for.clone())),
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(1.5).min(PAUSE_LONGEST);
    }
}

/// What is remembered from look to look.
struct Watch {
    /// The gate as it was before the first look.
    fresh: Gate,
    ours_until: i64,
    gate: Gate,
    begun: Instant,
    /// When the process that is watched was started, as the engine writes it.
    process: Option<String>,
    was_away: bool,
    /// Since when it has failed without an end.
    failing: Option<Instant>,
    /// In words.
    waits_for: String,
}

impl Watch {
    fn new(gate: Gate, ours_until: i64) -> Self {
        let (fresh, begun, waits_for) = (gate.clone(), Instant::now(), String::new());
        Self { fresh, ours_until, gate, begun, process: None, was_away: false, failing: None, waits_for }
    }

    /// Takes in one look. `None`: not decided.
    fn take(&mut self, world: &World, id: &str, sample: &Sample) -> Option<Watched> {
        let process = self.process.get_or_insert_with(|| sample.started_at.clone());
        let is_another = *process != sample.started_at;
        if std::mem::take(&mut self.was_away) && (!sample.is_running || is_another) {
            return Some(Watched::EngineReturned);
        }
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let reason = match self.gate.judge(now_ms, sample) {
            Judgement::Passed => return Some(Watched::Passed),
            Judgement::Failed(reason) => reason,
            Judgement::Wait(why) => {
                (self.failing, self.waits_for) = (None, why);
                return None;
            }
        };
        let failing = self.failing.get_or_insert_with(Instant::now).elapsed();
        if !was_asked_to_end(world, id, nanos(process).max(self.ours_until)) {
            return (failing >= WORD_TAKES).then_some(Watched::Failed(reason));
        }
        if sample.is_running && is_another {
            *self = Self::new(self.fresh.clone(), self.ours_until);
            "restarted by somebody".clone_into(&mut self.waits_for);
        } else if !sample.is_running && failing >= RESTART_LONGEST {
            return Some(Watched::StoppedByHand);
        } else if failing >= END_LONGEST {
            return Some(Watched::Disturbed(reason));
        }
        None
    }
}

/// Whether somebody asked a process to end after a moment.
fn was_asked_to_end(world: &World, id: &str, after: i64) -> bool {
    let deeds = world.engine_mirror.deeds(id, after);
    deeds.iter().any(|deed| matches!(deed.kind, DeedKind::Stop | DeedKind::Kill { signal: None | Some(9 | 15) }))
}

async fn sample(world: &World, facts: &Facts, container: &Value) -> Sample {
    let state = container.get("State").unwrap_or(&Value::Null);
    let is = |field: &str| state.get(field).and_then(Value::as_bool).unwrap_or(false);
    let is_running = is("Running") && !is("Restarting");
    let health = match state.pointer("/Health/Status").and_then(Value::as_str) {
        Some("healthy") => Health::Healthy,
        Some("unhealthy") => Health::Unhealthy,
        Some("starting") => Health::Starting,
        _ => Health::NoCheck,
    };
    Sample {
        is_running,
        is_paused: is("Paused"),
        exit_code: state.get("ExitCode").and_then(Value::as_i64).unwrap_or_default(),
        started_at: state.get("StartedAt").and_then(Value::as_str).unwrap_or_default().to_owned(),
        restart_count: container.get("RestartCount").and_then(Value::as_u64).unwrap_or_default(),
        health,
        silent: if is_running && !is("Paused") { silent(world, facts, container).await } else { Vec::new() },
    }
}

/// Required ports and paths that do not answer at the container's own address. The published port is never
/// asked: Docker's userland proxy accepts there with nothing behind it.
async fn silent(world: &World, facts: &Facts, container: &Value) -> Vec<String> {
    let Some(address) = address(container) else {
        return facts.ports.iter().map(|port| format!("TCP port {port}: the container has no address")).collect();
    };
    let mut silent = Vec::new();
    for port in &facts.ports {
        if !world.engine.connects(SocketAddr::new(address, *port), PROBE_LIMIT).await {
            silent.push(format!("TCP port {port}"));
        }
    }
    let http_port = facts.http.as_ref().and_then(|http| http.port.or(facts.ports.first().copied()));
    if let (Some(http), Some(port)) = (&facts.http, http_port) {
        match world.engine.http_get(SocketAddr::new(address, port), &http.path, PROBE_LIMIT).await {
            HttpProbe::Status(200..=299) => {}
            HttpProbe::Status(status) => silent.push(format!("{} (status {status})", http.path)),
            HttpProbe::NoAnswer(reason) => silent.push(format!("{} ({reason})", http.path)),
        }
    }
    silent
}

/// A container's own address: the first of its networks that has one; this machine's for host networking.
pub fn address(container: &Value) -> Option<IpAddr> {
    if container.pointer("/HostConfig/NetworkMode").and_then(Value::as_str) == Some("host") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let networks = container.pointer("/NetworkSettings/Networks").and_then(Value::as_object)?;
    let addresses = networks.values().flat_map(|network| ["IPAddress", "GlobalIPv6Address"].map(|f| network.get(f)));
    addresses.flatten().filter_map(Value::as_str).find_map(|address| address.parse().ok())
}
