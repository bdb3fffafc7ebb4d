//! The gate's eye: looks at a container until the gate has judged it.

use std::time::Duration;

use deployer_core::deed::{Deed, Doing, Process, doing, is_doubtful};
use deployer_core::gate::{Gate, Health, Judgement, Sample};
use deployer_core::replacement::Facts;
use deployer_engine::mirror::{Hearing, nanos};
use deployer_engine::{EngineError, HttpProbe, if_found};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::providers;
use crate::probe;
use crate::world::World;

/// The first pause between two looks; it grows to the longest, so that a fast start is seen at once.
const PAUSE_FIRST: Duration = Duration::from_millis(25);
/// How long an engine that answers may not show a container until watching it ends; and how long one that does not answer is
/// waited for by a daemon that ends.
const UNSHOWN_LONGEST: Duration = Duration::from_secs(60);
/// The longest pause between two looks.
const PAUSE_LONGEST: Duration = Duration::from_millis(500);

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
    Stopped,
    /// What it uses of another container is not there as it was: that one was restarted, or is gone.
    Deprived,
    /// Its process ended by no doing of its own, for this reason, and nobody wants it to stay down.
    Anew(&'static str),
    /// The engine answers, and does not show it, with these words.
    Unshown(String),
    /// The daemon ends, and there is no end of what is waited for, which is this.
    Left(&'static str),
}

/// How long it may take until the engine is heard, before a container is watched all the same.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);
/// How long the engine's events may take to tell of an end that an inspection shows.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// How long it is watched whether an engine that has ended a container goes down itself, or tells more of that end.
pub const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Without a look for so long, the daemon or its engine stood still.
const STOOD_STILL: Duration = Duration::from_secs(5);
/// How long past its grace a container that somebody stops may take to end.
const ENDING_MARGIN: Duration = Duration::from_secs(5);

/// Looks until the gate has judged. An engine that does not answer is waited for, and the gate goes on where it was if
/// the process has not changed. A daemon that ends waits for a gate, and for nothing that may never end.
pub async fn watch(world: &World, facts: &Facts, id: &str, mut gate: Gate, shutdown: &CancellationToken) -> Watched {
    // Of what comes now every event is to be heard. After a start of this daemon the mirror has just begun to listen.
    let asked = Instant::now();
    let mut shown = world.engine_mirror.subscribe();
    let heard = shown.wait_for(|now| now.is_heard().is_ok());
    // One that is not heard in time goes on unheard.
    drop(tokio::time::timeout(LISTENS_WITHIN, heard).await);
    let begun = Instant::now();
    let mut clock = Clock { begun, seen: begun };
    let mut pause = PAUSE_FIRST;
    let mut misses = Misses::default();
    let mut end = End::default();
    let mut process = None;
    let mut lived = None;
    let mut used = None;
    loop {
        match world.engine.container(id).await {
            Err(EngineError::NotFound { .. }) => return Watched::Gone,
            Err(error) => {
                if let Some(watched) = misses.miss(world, &error, shutdown).await {
                    return watched;
                }
            }
            Ok(container) => {
                let stood_still = clock.seen.elapsed() > STOOD_STILL;
                let Misses { since, was_away, .. } = std::mem::take(&mut misses);
                let now_ms = clock.look(since.is_some());
                let uses = providers::processes(world, &container);
                if *used.get_or_insert_with(|| uses.clone()) != uses {
                    return Watched::Deprived;
                }
                let sample = sample(world, facts, &container).await;
                let before = process.get_or_insert_with(|| sample.started_at.clone());
                let now = process_of(&sample, before);
                if now == Process::Lives {
                    lived.get_or_insert_with(Instant::now);
                }
                if was_away && now != Process::Lives {
                    return Watched::Anew("the engine was away");
                }
                if sample.is_paused && shutdown.is_cancelled() {
                    return Watched::Left("somebody paused it");
                }
                match gate.judge(now_ms, &sample) {
                    Judgement::Passed => {
                        world.memory().settled.note(id, &sample.started_at);
                        return Watched::Passed;
                    }
                    Judgement::Failed(reason) => {
                        let ended =
                            Ended { id, process: before, is: now, known: Some(lived.unwrap_or(asked)), stood_still };
                        if let Some(watched) = end.judge(world, facts, &ended, reason).await {
                            return watched;
                        }
                    }
                    Judgement::Wait(why) => {
                        // Another process is one that it may have.
                        lived = lived.filter(|_| now == Process::Lives);
                        process = Some(sample.started_at);
                        world.memory().replacing.say(&facts.container, why);
                    }
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(1.5).min(PAUSE_LONGEST);
    }
}

/// Looks in a row at which the engine did not show a container.
#[derive(Default)]
struct Misses {
    /// When the first of them was.
    since: Option<Instant>,
    /// Since when the engine answers all the same, if it does.
    unshown: Option<Instant>,
    /// Whether at one of them the engine did not answer.
    was_away: bool,
}

impl Misses {
    /// Counts one more; gives what that comes to, if it was the last.
    async fn miss(&mut self, world: &World, error: &EngineError, shutdown: &CancellationToken) -> Option<Watched> {
        let is_over = |since: Instant| since.elapsed() >= UNSHOWN_LONGEST;
        let since = *self.since.get_or_insert_with(Instant::now);
        self.was_away |= error.is_ambiguous();
        if world.engine.info().await.is_ok() {
            let unshown = *self.unshown.get_or_insert_with(Instant::now);
            return is_over(unshown).then(|| Watched::Unshown(error.to_string()));
        }
        self.unshown = None;
        (is_over(since) && shutdown.is_cancelled()).then_some(Watched::Left("the engine does not answer"))
    }
}

/// For how long a container was seen. While its engine does not answer nobody knows how it is, and the engine runs no
/// HEALTHCHECK either.
struct Clock {
    begun: Instant,
    seen: Instant,
}

impl Clock {
    /// The time of a look in milliseconds; what went by since the look before does not count if there were misses.
    fn look(&mut self, has_missed: bool) -> u64 {
        let now = Instant::now();
        if has_missed {
            self.begun += now - self.seen;
        }
        self.seen = now;
        u64::try_from((now - self.begun).as_millis()).unwrap_or(u64::MAX)
    }
}

fn process_of(sample: &Sample, before: &str) -> Process {
    match sample.is_running {
        false => Process::Ended,
        true if sample.started_at == before => Process::Lives,
        true => Process::Replaced,
    }
}

/// A container that does not pass.
struct Ended<'a> {
    id: &'a str,
    /// When its process was started, as the engine writes it.
    process: &'a str,
    /// What became of that.
    is: Process,
    /// When it was first seen to live, or else was to be watched: from then on every event must have been heard. `None`: nobody
    /// knows, so that only what was heard tells.
    known: Option<Instant>,
    /// Whether it was not looked at for a while: what happened meanwhile may be about to be told.
    stood_still: bool,
}

/// Finds out who ended a container, with a second look where the first may have come too early.
#[derive(Default)]
struct End {
    is_second_look: bool,
    /// Since when somebody is about to end it.
    ending: Option<Instant>,
}

impl End {
    /// Whose doing it is that a container does not pass; `None`: look again.
    async fn judge(&mut self, world: &World, facts: &Facts, ended: &Ended<'_>, reason: String) -> Option<Watched> {
        let (whose, deeds) = whose(world, ended).await;
        // An engine that goes down ends its containers first, and a stop is told of after the end. One that is ending does not
        // answer any more, and seems to live.
        let is_early = match ended.is {
            _ if ended.stood_still => true,
            Process::Lives => whose == Doing::Own,
            Process::Ended => is_doubtful(&deeds),
            Process::Replaced => false,
        };
        if is_early && !std::mem::replace(&mut self.is_second_look, true) {
            tokio::time::sleep(SECOND_LOOK).await;
            return None;
        }
        match whose {
            Doing::Own => Some(Watched::Failed(reason)),
            Doing::Unknown => Some(Watched::Anew("it ended while the engine was not heard")),
            Doing::Ended => Some(Watched::Stopped),
            Doing::Restarted => Some(Watched::Anew("somebody restarted it")),
            Doing::Ending => {
                let since = *self.ending.get_or_insert_with(Instant::now);
                let is_over = since.elapsed() > Duration::from_millis(facts.grace_ms) + ENDING_MARGIN;
                is_over.then_some(Watched::Failed(reason))
            }
        }
    }
}

/// Whose doing the end of a container is, by what was done to it, and what that was.
async fn whose(world: &World, ended: &Ended<'_>) -> (Doing, Vec<Deed>) {
    let mirror = &world.engine_mirror;
    if ended.is != Process::Lives {
        let is_news = |known: &str, state: &str| known != ended.process || state != "running";
        let mut shown = mirror.subscribe();
        let told = shown
            .wait_for(|now| now.containers.get(ended.id).is_none_or(|seen| is_news(&seen.started_at, &seen.state)));
        // What is not told in time is judged by what was.
        let _ = tokio::time::timeout(HEARD_WITHIN, told).await;
    }
    let heard = mirror.snapshot().hearing.clone();
    let is_all_heard = matches!(heard, Hearing::Heard { since } if ended.known.is_some_and(|known| since <= known));
    let deeds = mirror.deeds(ended.id, nanos(ended.process));
    (doing(&deeds, is_all_heard, ended.is), deeds)
}

/// Whose doing it is that a container that had passed its gate is down.
///
/// # Errors
/// [`EngineError`] if the engine does not show it.
pub async fn whose_end(world: &World, id: &str) -> Result<Doing, EngineError> {
    // An engine that went down meanwhile, too, has come back a moment ago.
    tokio::time::sleep(SECOND_LOOK).await;
    let container = world.engine.container(id).await?;
    let process = container.pointer("/State/StartedAt").and_then(Value::as_str).unwrap_or_default();
    let known = world.memory().settled.since(id, process);
    Ok(whose(world, &Ended { id, process, is: Process::Ended, known, stood_still: false }).await.0)
}

/// Whether a container is down because somebody ended it, as far as that was heard.
///
/// # Errors
/// [`EngineError`] if the engine does not show it.
pub async fn was_ended_by_hand(world: &World, id: &str) -> Result<bool, EngineError> {
    let Some(container) = if_found(world.engine.container(id).await)? else { return Ok(false) };
    let is = |field: &str| container.pointer(field).and_then(Value::as_bool).unwrap_or(false);
    let started_at = container.pointer("/State/StartedAt").and_then(Value::as_str).unwrap_or_default();
    let deeds = world.engine_mirror.deeds(id, nanos(started_at));
    Ok(!is("/State/Running") && doing(&deeds, true, Process::Ended) == Doing::Ended)
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
        is_restarting: is("Restarting"),
        is_paused: is("Paused"),
        exit_code: state.get("ExitCode").and_then(Value::as_i64).unwrap_or_default(),
        started_at: state.get("StartedAt").and_then(Value::as_str).unwrap_or_default().to_owned(),
        restart_count: container.get("RestartCount").and_then(Value::as_u64).unwrap_or_default(),
        health,
        silent: if is_running && !is("Paused") { silent(world, facts, container).await } else { Vec::new() },
    }
}

/// Required ports and paths that do not answer at any of the container's own addresses.
async fn silent(world: &World, facts: &Facts, container: &Value) -> Vec<String> {
    let addresses = providers::addresses_of(world, container);
    if addresses.is_empty() {
        let asked = facts.ports.iter().map(|port| format!("TCP port {port}"));
        let asked = asked.chain(facts.http.iter().map(|http| http.path.clone()));
        return asked.map(|asked| format!("{asked}: the container has no address")).collect();
    }
    let mut silent = Vec::new();
    for port in &facts.ports {
        if !probe::connects(world, &addresses, *port).await {
            silent.push(format!("TCP port {port}"));
        }
    }
    let http_port = facts.http.as_ref().and_then(|http| http.port.or(facts.ports.first().copied()));
    if let (Some(http), Some(port)) = (&facts.http, http_port) {
        match probe::asks(world, &addresses, port, &http.path).await {
            HttpProbe::Status(200..=299) => {}
            HttpProbe::Status(status) => silent.push(format!("{} (status {status})", http.path)),
            HttpProbe::NoAnswer(reason) => silent.push(format!("{} ({reason})", http.path)),
        }
    }
    silent
}
