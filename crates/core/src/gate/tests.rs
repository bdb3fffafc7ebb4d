//! Looks at a container as data, and how they end.

use serde_json::json;

use super::*;

const SETTINGS: GateSettings =
    GateSettings { timeout_ms: 10_000, stable_ms: 2_000, monitor_ms: 5_000, waits_for_health: false, restarts_max: 0 };

fn up() -> Sample {
    Sample {
        is_running: true,
        is_restarting: false,
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
    let zero = GateSettings { timeout_ms: 0, stable_ms: 0, monitor_ms: 0, ..SETTINGS };
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
    let reason = "exited and was started again by the engine (see deployer.health.restarts)";
    check(Gate::new(SETTINGS), &every(500, 9_000, looped), Some((1_000, reason)));
}

#[test]
fn never_listening_misses_the_gate() {
    let reason = "not ready within 10 s: no answer on TCP port 80";
    check(Gate::new(SETTINGS), &every(500, 20_000, |_| silent()), Some((10_000, reason)));
}

#[test]
fn the_limit_that_is_said_is_the_one_that_was_waited_for() {
    let short = GateSettings { timeout_ms: 0, ..SETTINGS };
    let reason = "not ready within 2 s: no answer on TCP port 80";
    check(Gate::new(short), &every(500, 9_000, |_| silent()), Some((2_000, reason)));
}

#[test]
fn health_must_be_healthy_and_unhealthy_ends_it_at_once() {
    let healthy_late = |now| Sample { health: if now < 4_000 { Health::Starting } else { Health::Healthy }, ..up() };
    check(Gate::new(SETTINGS), &every(500, 9_000, healthy_late), Some((4_500, "passed")));
    let unhealthy = |_| Sample { health: Health::Unhealthy, ..up() };
    check(Gate::new(SETTINGS), &every(500, 9_000, unhealthy), Some((0, UNHEALTHY_ENDS)));
}

const UNHEALTHY_ENDS: &str = "its HEALTHCHECK reports unhealthy; deployer.health.timeout may give it longer";

/// Case PB03: it migrates for longer than its retries last, and its user knows.
#[test]
fn unhealthy_is_waited_for_where_the_user_says_how_long() {
    let patient = GateSettings { waits_for_health: true, ..SETTINGS };
    let well_at = |at| move |now| Sample { health: if now < at { Health::Unhealthy } else { Health::Healthy }, ..up() };
    check(Gate::new(patient.clone()), &every(500, 20_000, well_at(6_000)), Some((6_500, "passed")));
    let reason = "not ready within 10 s: its HEALTHCHECK reports unhealthy";
    check(Gate::new(patient.clone()), &every(500, 20_000, well_at(60_000)), Some((10_000, reason)));
    // One that has been well is not waited for.
    let ill_again = |now| Sample { health: if now < 4_000 { Health::Healthy } else { Health::Unhealthy }, ..up() };
    check(Gate::with_monitor(patient), &every(500, 20_000, ill_again), Some((4_000, UNHEALTHY_ENDS)));
}

/// Case PB16: an image that updates itself at its first start, ends, and relies on its restart policy.
#[test]
fn a_restart_that_the_user_allows_begins_the_stable_window_anew() {
    let allowed = |restarts_max| GateSettings { restarts_max, ..SETTINGS };
    let restarts = |now: u64| match now {
        0..1_000 => up(),
        1_000..2_000 => Sample { is_running: false, is_restarting: true, ..up() },
        _ => Sample { started_at: "t1".into(), restart_count: 1, ..up() },
    };
    check(Gate::new(allowed(1)), &every(500, 9_000, restarts), Some((4_500, "passed")));
    check(Gate::new(allowed(0)), &every(500, 9_000, restarts), Some((1_000, "exited with code 0")));
    let again = |now| if now < 3_000 { restarts(now) } else { Sample { restart_count: 2, ..restarts(now) } };
    let reason = "exited and was started again by the engine (see deployer.health.restarts)";
    check(Gate::new(allowed(1)), &every(500, 9_000, again), Some((3_000, reason)));
    check(Gate::new(allowed(2)), &every(500, 9_000, again), Some((5_500, "passed")));
    let stays_down = |now| Sample { is_restarting: false, ..restarts(now) };
    check(Gate::new(allowed(1)), &every(500, 9_000, stays_down), Some((1_000, "exited with code 0")));
    let after_the_gate = |now: u64| restarts(now.saturating_sub(3_000));
    check(Gate::with_monitor(allowed(1)), &every(500, 9_000, after_the_gate), Some((4_000, "exited with code 0")));
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

/// Plays looks every 500 ms until `now`, and gives what is said to be waited for then.
#[track_caller]
fn check_waiting(now: u64, sample: impl Fn(u64) -> Sample, expected: &str) {
    let mut gate = Gate::with_monitor(SETTINGS);
    let last = every(500, now, sample).iter().map(|(now, sample)| gate.judge(*now, sample)).last();
    assert_eq!(last, Some(Judgement::Wait(expected.to_owned())), "at {now} ms");
}

#[test]
fn whoever_asks_is_told_what_is_waited_for_and_how_long() {
    let starting = |_| Sample { health: Health::Starting, ..up() };
    let paused = |_| Sample { is_paused: true, ..up() };
    check_waiting(500, |_| up(), "up, 1.5 s left of its stable window");
    check_waiting(500, |_| silent(), "no answer on TCP port 80");
    check_waiting(500, starting, "its HEALTHCHECK has not passed yet");
    check_waiting(500, paused, "paused by somebody; waiting until it goes on");
    check_waiting(2_000, |_| up(), "ready, looking once more");
    check_waiting(2_500, |_| up(), "ready; first of its version, watched for 5 s more");
    check_waiting(4_500, |_| up(), "ready; first of its version, watched for 3 s more");
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
fn what_runs_listens_on_what_it_publishes_or_exposes() {
    let ports = |names: &[&str]| Value::Object(names.iter().map(|name| ((*name).to_owned(), json!({}))).collect());
    let bindings = json!({"PortBindings": ports(&["443/tcp", "53/udp"])});
    let container = json!({"HostConfig": bindings, "Config": {"ExposedPorts": ports(&["80/tcp", "443/tcp"])}});
    assert_eq!(known_ports(&container), [80, 443]);
    assert_eq!(known_ports(&json!({})), [0u16; 0]);
}

#[test]
fn a_container_is_asked_at_all_of_its_addresses_and_one_of_the_host_at_the_hosts() {
    let network = |four: &str, six: &str| json!({"IPAddress": four, "GlobalIPv6Address": six});
    let networks = json!({"Networks": {"back": network("10.0.0.2", ""), "front": network("10.1.0.2", "fd00::2")}});
    let container = |mode: &str| json!({"HostConfig": {"NetworkMode": mode}, "NetworkSettings": networks});
    let written = |container: Value| addresses(&container).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(written(container("back")), ["10.0.0.2", "10.1.0.2", "fd00::2"]);
    assert_eq!(written(container("host")), ["127.0.0.1"]);
    assert_eq!(written(json!({})), [""; 0]);
}

#[test]
fn ports_are_required_as_the_predecessor_answered() {
    assert_eq!(required_ports(&[90], &[80], &[80, 443], true), [90], "case PB01: the label has the last word");
    assert_eq!(required_ports(&[], &[], &[443], false), [443]);
    assert_eq!(required_ports(&[], &[], &[443], true), [0u16; 0], "a port that nobody listened on is not asked for");
}
