//! Labels as text, and what they come to.

use super::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(label, value)| (format!("deployer.{label}"), value.to_owned()))
        .collect()
}

#[track_caller]
fn check(text: &str, expected: Result<(u64, u64, u64), &str>) {
    let gate = Policy::of_labels(&labels(text))
        .map(|policy| policy.gate(None))
        .map(|gate| (gate.timeout_ms, gate.stable_ms, gate.monitor_ms))
        .map_err(|error| error.to_string());
    assert_eq!(gate, expected.map_err(str::to_owned), "{text}");
}

#[test]
fn labels_set_the_gate() {
    check("enable=true", Ok((60_000, 5_000, 30_000)));
    check("health.http=/up", Ok((60_000, 2_000, 30_000)));
    check("health.timeout=5s health.stable=0 monitor=0s", Ok((5_000, 0, 0)));
    check("monitor=2m health.stable=500ms", Ok((60_000, 500, 120_000)));
}

#[test]
fn a_timeout_of_the_users_own_is_patience_with_the_healthcheck() {
    let gate = |text| Policy::of_labels(&labels(text)).expect("right").gate(Some(Duration::from_secs(3)));
    assert!(!gate("health.stable=1s").waits_for_health);
    assert!(gate("health.timeout=40s").waits_for_health);
    assert_eq!(gate("health.restarts=2").restarts_max, 2);
}

#[test]
fn each_label_sets_its_own_part_of_the_policy() {
    let check = |text: &str, expected: fn(&mut Policy)| {
        let mut policy = Policy::of_labels(&BTreeMap::new()).expect("no label is no error");
        expected(&mut policy);
        assert_eq!(Policy::of_labels(&labels(text)), Ok(policy), "{text}");
    };
    check("service=shop", |policy| policy.service = Some("shop".into()));
    check("max_unavailable=25%", |policy| policy.max_unavailable = Limit::Percent(25));
    check("health.tcp=80,8080", |policy| policy.tcp = vec![80, 8080]);
    check("health.http=/up", |policy| policy.http = Some(HttpCheck { port: None, path: "/up".into() }));
    check("health.http=8080/up", |policy| policy.http = Some(HttpCheck { port: Some(8080), path: "/up".into() }));
    check("health.http=:8080/up", |policy| policy.http = Some(HttpCheck { port: Some(8080), path: "/up".into() }));
    check("health.timeout=90s", |policy| policy.timeout = Some(Duration::from_secs(90)));
    check("health.stable=1s", |policy| policy.stable = Some(Duration::from_secs(1)));
    check("discard=files", |policy| policy.discards_files = true);
    check("health.restarts=1", |policy| policy.restarts = 1);
    check("monitor=2m", |policy| policy.monitor = Duration::from_secs(120));
    check("stop.timeout=1s", |policy| policy.stop_timeout = Some(Duration::from_secs(1)));
    for text in ["", "strategy=auto", "strategy=recreate", "supervisor=none", "supervisor=systemd:web.service"] {
        check(text, |_| ());
    }
    check("txn=1 replaces=1 digest=1 user=1", |_| ());
}

#[test]
fn a_value_of_another_kind_is_refused() {
    for text in [
        "supervisor=runit",
        "service=",
        "max_unavailable=0",
        "health.tcp=0",
        "health.tcp=",
        "health.tcp=65536",
        "health.http=up",
        "health.http=x/up",
        "health.http=/größe",
        "health.timeout=5",
        "discard=everything",
        "health.restarts=-1",
        "health.restarts=11",
        "stop.timeout=5min",
    ] {
        let error = Policy::of_labels(&labels(text)).expect_err(text).to_string();
        assert!(error.starts_with(&format!("label deployer.{text} is not ")), "{error}");
    }
}

#[test]
fn a_duration_is_a_number_and_a_unit() {
    let check = |text: &str, seconds: Option<f64>| {
        assert_eq!(parse_duration(text), seconds.map(Duration::from_secs_f64), "{text}");
    };
    check("500ms", Some(0.5));
    check("5s", Some(5.0));
    check("2m", Some(120.0));
    check("3h", Some(10_800.0));
    check("2d", Some(172_800.0));
    check("0", Some(0.0));
    for text in ["", "5", "s", "-1s", "1.5s", "5 s", "5S", "99999999999999999999s", "9999999999999999999d"] {
        check(text, None);
    }
}

#[test]
fn a_bad_label_says_what_was_expected() {
    check(
        "monitor=soon",
        Err("label deployer.monitor=soon is not a duration such as 500ms, 5s or 2m, of an hour at most"),
    );
    check("health.tcp=80,x", Err("label deployer.health.tcp=80,x is not a list of ports such as 80,8080"));
    check(
        "strategy=rolling",
        Err("label deployer.strategy=rolling is not a strategy that this version has: auto or recreate"),
    );
    let unknown = Policy::of_labels(&labels("healt.tcp=1")).expect_err("misspelt").to_string();
    assert!(unknown.starts_with("label deployer.healt.tcp is unknown; the labels are"), "{unknown}");
}

/// The label may be the image's, and holds the cluster's slot for as long.
#[test]
fn security_7_no_label_makes_anybody_wait_for_longer_than_an_hour() {
    for label in ["health.timeout", "health.stable", "monitor", "stop.timeout"] {
        for value in ["1h", "60m", "3600s", "3600000ms", "0"] {
            assert!(Policy::of_labels(&labels(&format!("{label}={value}"))).is_ok(), "{label}={value}");
        }
        for value in ["3601s", "61m", "2h", "36500d", "3600001ms", "18446744073709551615s", "18446744073709551615ms"] {
            let expected =
                format!("label deployer.{label}={value} is not a duration such as 500ms, 5s or 2m, of an hour at most");
            check(&format!("{label}={value}"), Err(&expected));
        }
    }
}

/// A label may be the image's, and what is wrong with it is shown on every terminal.
#[test]
fn security_9_no_label_brings_a_control_character_before_people() {
    let refused = |label: &str, value: &str| {
        let labels = BTreeMap::from([(label.to_owned(), value.to_owned())]);
        Policy::of_labels(&labels).expect_err("refused").to_string()
    };
    let text = refused("deployer.monitor", "soon \u{1b}[2J\n");
    assert!(text.starts_with(r"label deployer.monitor=soon \u001b[2J\n is not a duration"), "{text}");
    let text = refused("deployer.\u{1b}[2Jx\r\n", "1");
    assert!(text.starts_with(r"label deployer.\u001b[2Jx\r\n is unknown"), "{text}");
    for name in ["web\n", "\u{1b}[2J", "a\u{202e}b", &"x".repeat(257)] {
        let text = refused("deployer.service", name);
        assert!(text.contains("is not a service's name") && text.chars().count() < 1200, "{text}");
    }
}

#[test]
fn a_slow_healthcheck_lengthens_the_limit() {
    let policy = Policy::of_labels(&labels("enable=true")).expect("plain");
    assert_eq!(policy.gate(Some(Duration::from_secs(200))).timeout_ms, 200_000);
    assert_eq!(policy.gate(Some(Duration::from_secs(2))).timeout_ms, 60_000);
    assert_eq!(policy.gate(Some(Duration::MAX)).timeout_ms, 3_600_000);
    assert!(policy.cuts(Some(LONGEST + Duration::from_secs(1))) && !policy.cuts(Some(LONGEST)) && !policy.cuts(None));
    let labelled = Policy::of_labels(&labels("health.timeout=5s")).expect("plain");
    assert!(!labelled.cuts(Some(Duration::MAX)), "whoever wrote the label knows how long the gate is");
    assert_eq!(policy.gate(Some(Duration::ZERO)).stable_ms, 2_000, "a check says more than time");
}

#[test]
fn daemons_share_an_engine_by_the_value_of_enable() {
    let mine = Manage::parse("labeled=blue").expect("a value");
    assert!(mine.includes(&labels("enable=blue")) && !mine.includes(&labels("enable=true")));
    let all = Manage::parse("all").expect("all");
    assert!(all.includes(&labels("")) && !all.includes(&labels("enable=false")));
    assert_eq!(Manage::parse("labeled"), Manage::parse("labeled=true"));
    for text in ["labelled", "labeled=", "all=true", ""] {
        assert_eq!(Manage::parse(text), None, "{text}");
    }
}
