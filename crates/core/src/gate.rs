//! The gate: whether a container that was started may stay.
//!
//! The gate is a judge over samples: an edge looks at the container at growing intervals and asks [`Gate::judge`]
//! each time. It passes when the container has run for its stable window without a restart, is healthy where it
//! has a HEALTHCHECK, and answers on every required port, twice in a row. The first instance of a digest is then
//! watched for the monitor window too.

use serde_json::Value;

use crate::policy::GateSettings;

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

/// The judge of one container's gate.
#[derive(Clone, Debug)]
pub struct Gate {
    settings: GateSettings,
    monitors: bool,
    first: Option<(String, u64)>,
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
        if let Some(reason) = self.death(sample) {
            return Judgement::Failed(reason);
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

    /// Why the container is beyond waiting for, if it is.
    fn death(&mut self, sample: &Sample) -> Option<String> {
        let (started_at, restart_count) =
            self.first.get_or_insert_with(|| (sample.started_at.clone(), sample.restart_count));
        if !sample.is_running {
            return Some(format!("exited with code {}", sample.exit_code));
        }
        if sample.restart_count > *restart_count || sample.started_at != *started_at {
            return Some("exited and was started again by the engine".to_owned());
        }
        (sample.health == Health::Unhealthy).then(|| "its HEALTHCHECK reports unhealthy".to_owned())
    }

    fn missing(&self, now_ms: u64, sample: &Sample) -> Option<String> {
        if let Some(silent) = sample.silent.first() {
            return Some(format!("no answer on {silent}"));
        }
        if sample.health == Health::Starting {
            return Some("its HEALTHCHECK has not passed yet".to_owned());
        }
        let left_ms = self.settings.stable_ms.saturating_sub(now_ms);
        (left_ms > 0).then(|| format!("up, {:.1} s left of its stable window", left_ms as f64 / 1000.0))
    }

    fn probe(&mut self, now_ms: u64, missing: Option<String>) -> Judgement {
        if let Some(missing) = missing {
            self.passes = 0;
            if now_ms >= self.settings.timeout_ms.max(self.settings.stable_ms) {
                let limit = self.settings.timeout_ms as f64 / 1000.0;
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

fn tcp_ports(ports: Option<&Value>) -> Vec<u16> {
    let keys = ports.and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key.as_str());
    keys.filter_map(|key| key.strip_suffix("/tcp").unwrap_or(key).parse().ok()).collect()
}

/// The TCP ports that a candidate must answer on.
///
/// A known port that the predecessor answered on from here is required, or one that a label names; when the
/// predecessor is not running, the published ones are. UDP is never probed.
pub fn required_ports(labelled: &[u16], answered: &[u16], published: &[u16], predecessor_runs: bool) -> Vec<u16> {
    let measured = if predecessor_runs { answered } else { published };
    let mut ports: Vec<u16> = labelled.iter().chain(measured).copied().collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SETTINGS: GateSettings = GateSettings { timeout_ms: 10_000, stable_ms: 2_000, monitor_ms: 5_000 };

    fn up() -> Sample {
        Sample {
            is_running: true,
            is_paused: false,
            exit_code: 0,
            started_at: "t0".into(),
            restart_count: 0,
            health: Health::NoCheck,
            silent: Vec::new(),
        }
    }

    fn silent() -> Sample {
        Sample { silent: vec!["TCP port 80".into()], ..up() }
    }

    /// Plays samples at their times and gives the first judgement that is not "wait", with its time.
    #[track_caller]
    fn check(mut gate: Gate, samples: &[(u64, Sample)], expected: Option<(u64, &str)>) {
        let end = samples.iter().find_map(|(now, sample)| match gate.judge(*now, sample) {
            Judgement::Wait(_) => None,
            Judgement::Passed => Some((*now, "passed".to_owned())),
            Judgement::Failed(reason) => Some((*now, reason)),
        });
        assert_eq!(end.as_ref().map(|(at, text)| (*at, text.as_str())), expected);
    }

    fn every(step: u64, until: u64, sample: impl Fn(u64) -> Sample) -> Vec<(u64, Sample)> {
        (0..=until / step).map(|i| (i * step, sample(i * step))).collect()
    }

    #[test]
    fn passes_after_the_stable_window_and_two_looks() {
        check(Gate::new(SETTINGS), &every(500, 9_000, |_| up()), Some((2_500, "passed")));
    }

    #[test]
    fn with_zero_windows_one_good_look_is_enough() {
        let zero = GateSettings { timeout_ms: 0, stable_ms: 0, monitor_ms: 0 };
        check(Gate::with_monitor(zero), &[(3, up())], Some((3, "passed")));
    }

    #[test]
    fn the_first_instance_is_watched_longer() {
        check(Gate::with_monitor(SETTINGS), &every(500, 9_000, |_| up()), Some((7_500, "passed")));
    }

    #[test]
    fn dying_in_the_monitor_window_fails() {
        let dies = |now| if now < 6_000 { up() } else { Sample { is_running: false, exit_code: 3, ..up() } };
        check(Gate::with_monitor(SETTINGS), &every(500, 9_000, dies), Some((6_000, "exited with code 3")));
    }

    #[test]
    fn a_restart_by_the_engine_fails_even_if_it_runs_now() {
        let looped = |now| Sample { restart_count: u64::from(now > 500), ..up() };
        let reason = "exited and was started again by the engine";
        check(Gate::new(SETTINGS), &every(500, 9_000, looped), Some((1_000, reason)));
    }

    #[test]
    fn never_listening_misses_the_gate() {
        let reason = "not ready within 10 s: no answer on TCP port 80";
        check(Gate::new(SETTINGS), &every(500, 20_000, |_| silent()), Some((10_000, reason)));
    }

    #[test]
    fn health_must_be_healthy_and_unhealthy_ends_it_at_once() {
        let healthy_late =
            |now| Sample { health: if now < 4_000 { Health::Starting } else { Health::Healthy }, ..up() };
        check(Gate::new(SETTINGS), &every(500, 9_000, healthy_late), Some((4_500, "passed")));
        let unhealthy = |_| Sample { health: Health::Unhealthy, ..up() };
        check(Gate::new(SETTINGS), &every(500, 9_000, unhealthy), Some((0, "its HEALTHCHECK reports unhealthy")));
    }

    #[test]
    fn one_slow_look_does_not_end_the_monitor_window() {
        let slow_once = |now| if now == 4_000 { silent() } else { up() };
        check(Gate::with_monitor(SETTINGS), &every(500, 9_000, slow_once), Some((7_500, "passed")));
        let gone = |now| if now >= 4_000 { silent() } else { up() };
        let reason = "was ready, then not any more: no answer on TCP port 80";
        check(Gate::with_monitor(SETTINGS), &every(500, 9_000, gone), Some((5_000, reason)));
    }

    #[test]
    fn a_pause_is_no_failure_and_its_time_does_not_count() {
        let paused = |now| match now {
            1_000..60_000 => Sample { is_paused: true, ..silent() },
            _ => up(),
        };
        check(Gate::new(SETTINGS), &every(500, 90_000, paused), Some((61_500, "passed")));
    }

    #[test]
    fn ports_are_known_from_the_request_and_the_new_image() {
        let ports = |names: &[&str]| Value::Object(names.iter().map(|name| ((*name).to_owned(), json!({}))).collect());
        let request = json!({"HostConfig": {"PortBindings": ports(&["443/tcp", "53/udp"])}, "ExposedPorts": ports(&["443/tcp", "9000"])});
        let image = json!({"Config": {"ExposedPorts": ports(&["80/tcp", "9000/tcp", "x/tcp", "70000/tcp"])}});
        let both = Ports::of_candidate(&request, &image);
        assert_eq!((both.published, both.known), (vec![443], vec![80, 443, 9000]));
        assert_eq!(Ports::of_candidate(&json!({}), &Value::Null), Ports { published: vec![], known: vec![] });
    }

    #[test]
    fn ports_are_required_as_the_predecessor_answered() {
        assert_eq!(required_ports(&[90], &[80], &[80, 443], true), [80, 90]);
        assert_eq!(required_ports(&[], &[], &[443], false), [443]);
        assert_eq!(
            required_ports(&[], &[], &[443], true),
            [0u16; 0],
            "a port that nobody listened on is not asked for"
        );
    }
}
