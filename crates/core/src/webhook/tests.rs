//! The recorded requests of `tests/webhooks`, each through verification and parsing.

use serde_json::Value;

use super::*;

mod hostile;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/webhooks");

fn read(file: &str) -> Vec<u8> {
    std::fs::read(format!("{FOLDER}/{file}")).expect("a sample")
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn auth(case: &Value) -> Auth {
    match text(case, "/config/auth/kind") {
        "header" => Auth::Header(vec![text(case, "/config/auth/value").to_owned()]),
        "standard-webhooks" => {
            Auth::StandardWebhooks(vec![Auth::signing_key(text(case, "/config/auth/secret")).expect("a key")])
        }
        "url-token" => Auth::Path(vec![text(case, "/config/auth/token").to_owned()]),
        kind => panic!("no such kind of authentication here: {kind}"),
    }
}

/// The outcome's word, the images, and the reasons in order of their names.
fn receive(case: &Value) -> (&'static str, Vec<String>, Vec<&'static str>) {
    let headers = case.pointer("/request/headers").and_then(Value::as_object).expect("headers");
    let headers: Vec<(&str, &[u8])> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default().as_bytes())).collect();
    let body = read(text(case, "/file"));
    let request = Request { rest: text(case, "/request/url_token"), headers: &headers, body: &body };
    let now = if case.get("now").and_then(Value::as_str) == Some("2026-11-20T10:30:00Z") {
        1_795_170_600
    } else {
        1_795_168_860
    };
    if auth(case).verify(&request, now).is_err() {
        return ("rejected", Vec::new(), Vec::new());
    }
    let source = Source::ALL.into_iter().find(|source| source.word() == text(case, "/source")).expect("a source");
    let registry = case
        .pointer("/config/registry_host")
        .and_then(Value::as_str)
        .map(|host| Registry::parse(host).expect("a host"));
    let Ok(parsed) = parse(source, &request, registry.as_ref()) else { return ("rejected", Vec::new(), Vec::new()) };
    let print = |notice: &Notice| {
        let digest = notice.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{}:{}{digest}", notice.name, notice.tag.as_str())
    };
    let images: Vec<String> = parsed.notices.iter().map(print).collect();
    let mut reasons: Vec<&str> = parsed.passed.iter().map(|passed| passed.word()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    (if images.is_empty() { "ignored" } else { "accepted" }, images, reasons)
}

#[test]
fn every_recorded_request_is_received_as_it_should_be() {
    let cases: Vec<Value> = serde_json::from_slice(&read("cases.json")).expect("cases");
    assert!(cases.len() >= 25, "the samples are there");
    for case in cases {
        let strings = |pointer: &str, field: &str| {
            let list = case.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
            list.iter().map(|item| text(item, field).to_owned()).collect::<Vec<_>>()
        };
        let (outcome, images, reasons) = receive(&case);
        assert_eq!(outcome, text(&case, "/expect/outcome"), "{}", text(&case, "/id"));
        assert_eq!(images, strings("/expect/images", "/ref"), "{}", text(&case, "/id"));
        if case.pointer("/expect/reasons").is_some() {
            assert_eq!(reasons, strings("/expect/reasons", ""), "{}", text(&case, "/id"));
        }
    }
}

#[track_caller]
fn check_auth(auth: &Auth, header: &str, expected: bool) {
    let headers: [(&str, &[u8]); 1] = [("AUTHORIZATION", header.as_bytes())];
    let request = Request { rest: "", headers: &headers, body: b"{}" };
    assert_eq!(auth.verify(&request, 0).is_ok(), expected, "{header}");
}

#[test]
fn any_of_several_secrets_will_do_and_nothing_else() {
    let bearer = Auth::Bearer(vec!["old".into(), "new".into()]);
    check_auth(&bearer, "Bearer old", true);
    check_auth(&bearer, "bearer new", true);
    check_auth(&bearer, "Bearer ", false);
    check_auth(&bearer, "Basic new", false);
    check_auth(&bearer, "", false);
    check_auth(&Auth::Header(vec!["Basic eDp5".into()]), "Basic eDp5", true);
    check_auth(&Auth::Header(Vec::new()), "", false);
    check_auth(&Auth::Header(vec![String::new()]), "", false);
    check_auth(&Auth::Bearer(vec![String::new()]), "Bearer ", false);
    let nothing = Request { rest: "", headers: &[], body: b"{}" };
    assert!(Auth::Header(vec![String::new()]).verify(&nothing, 0).is_err());
}

#[track_caller]
fn check_path(secrets: &[&str], rest: &str, expected: bool) {
    let auth = Auth::Path(secrets.iter().map(|secret| (*secret).to_owned()).collect());
    let headers: [(&str, &[u8]); 1] = [("Authorization", b"0123456789abcdef012345")];
    let request = Request { rest, headers: &headers, body: b"{}" };
    assert_eq!(auth.verify(&request, 0).is_ok(), expected, "{rest}");
}

#[test]
fn a_secret_in_the_path_is_the_whole_rest_of_it() {
    let secrets = ["0123456789abcdef012345", "543210fedcba9876543210"];
    check_path(&secrets, "0123456789abcdef012345", true);
    check_path(&secrets, "543210fedcba9876543210", true);
    for rest in ["", "0123456789abcdef01234", "0123456789abcdef0123456", "0123456789ABCDEF012345"] {
        check_path(&secrets, rest, false);
    }
    for rest in ["0123456789abcdef012345/", "a/0123456789abcdef012345", "%30123456789abcdef012345"] {
        check_path(&secrets, rest, false);
    }
    check_path(&[""], "", false);
}

#[test]
fn what_is_short_or_would_be_written_otherwise_is_no_secret_of_a_path() {
    for (secret, expected) in [
        ("0123456789abcdef012345", true),
        ("aA0-._~aA0-._~aA0-._~a", true),
        ("0123456789abcdef01234", false),
        ("0123456789abcdef01234+", false),
        ("0123456789abcdef01234/", false),
        ("0123456789abcdef012345%20", false),
        ("0123456789abcdef0123é", false),
    ] {
        assert_eq!(Auth::is_path_secret(secret), expected, "{secret}");
    }
}

/// `{}` signed at second 1000 under the id `msg`, with the key 0, 1, 2, … 23.
const SIGNATURE: &str = "v1,eZjh6Uys6lC4zICouMX0wFMWp6ucBfPwAYCI8pWibNE=";

#[track_caller]
fn check_signed(id: &str, signatures: &str, now: i64, expected: bool) {
    let key = Auth::signing_key("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX").expect("a key");
    let other = Auth::signing_key("////////////////////////////////").expect("a key");
    let headers: [(&str, &[u8]); 3] =
        [("Webhook-Id", id.as_bytes()), ("Webhook-Timestamp", b"1000"), ("Webhook-Signature", signatures.as_bytes())];
    let request = Request { rest: "", headers: &headers, body: b"{}" };
    let auth = Auth::StandardWebhooks(vec![other, key]);
    assert_eq!(auth.verify(&request, now).is_ok(), expected, "{id} {signatures} at {now}");
}

#[test]
fn a_signature_counts_for_its_id_its_body_and_five_minutes() {
    check_signed("msg", SIGNATURE, 1000, true);
    check_signed("msg", SIGNATURE, 1300, true);
    check_signed("msg", SIGNATURE, 1301, false);
    check_signed("msg", SIGNATURE, 700, true);
    check_signed("msg", SIGNATURE, 699, false);
    check_signed("msg", SIGNATURE, i64::MIN, false);
    check_signed("another", SIGNATURE, 1000, false);
    check_signed("msg", &format!("v1a,AAAA v1,AAAA v1,*** {SIGNATURE}"), 1000, true);
    check_signed("msg", SIGNATURE.trim_start_matches("v1,"), 1000, false);
    check_signed("msg", "v1,", 1000, false);
    check_signed("msg", "", 1000, false);
}

#[test]
fn a_password_is_no_signing_key() {
    assert_eq!(Auth::signing_key("password"), None, "it is base64 of 6 bytes");
    assert_eq!(Auth::signing_key("whsec_"), None);
    assert_eq!(Auth::signing_key("not base64!"), None);
    assert_eq!(Auth::signing_key(" whsec_AAECAwQFBgcICQoLDA0ODw== ").map(|key| key.len()), Some(16));
}

#[test]
fn debug_output_holds_no_secret() {
    assert_eq!(format!("{:?}", Auth::Bearer(vec!["hunter2".into()])), "bearer");
    assert_eq!(format!("{:?}", Auth::Path(vec!["hunter2".into()])), "path");
}

proptest::proptest! {
    #[test]
    fn no_body_is_too_strange(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let request = Request { rest: "", headers: &[], body: &body };
        for source in Source::ALL {
            let _ = parse(source, &request, None);
        }
    }

    #[test]
    fn no_event_is_too_strange(action in ".{0,8}", tag in ".{0,20}", repository in ".{0,30}", host in ".{0,20}") {
        let body = serde_json::json!({"events": [{"action": "push", "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "tag": tag, "repository": repository},
            "request": {"host": host}}, {"action": action}]}).to_string();
        let parsed = parse(Source::Distribution, &Request { rest: "", headers: &[], body: body.as_bytes() }, None).expect("JSON");
        proptest::prop_assert!(parsed.notices.len() <= 1 && !parsed.passed.is_empty());
    }
}

#[test]
fn deep_json_is_refused_rather_than_followed() {
    let body = "[".repeat(100_000);
    assert!(parse(Source::Native, &Request { rest: "", headers: &[], body: body.as_bytes() }, None).is_err());
}

/// What each image comes to: printed in order, the reasons after it.
#[track_caller]
fn check(source: Source, body: &str, registry: Option<&str>, expected: &str) {
    let registry = registry.map(|host| Registry::parse(host).expect("a host"));
    let request = Request { rest: "", headers: &[], body: body.as_bytes() };
    let found = match parse(source, &request, registry.as_ref()) {
        Err(malformed) => malformed.to_string(),
        Ok(parsed) => {
            let images = parsed.notices.iter().map(|notice| format!("{}:{}", notice.name, notice.tag.as_str()));
            let passed = parsed.passed.iter().map(|passed| passed.word().to_owned());
            images.chain(passed).collect::<Vec<_>>().join(" ")
        }
    };
    assert_eq!(found, expected, "{body}");
}

#[test]
fn the_native_call_takes_one_image_or_several() {
    let check = |body: &str, registry: Option<&str>, expected: &str| check(Source::Native, body, registry, expected);
    check(r#"{"image": "ghcr.io/acme/web:1"}"#, None, "ghcr.io/acme/web:1");
    check(
        r#"{"image": "web:1", "images": ["web:2", "web:1"]}"#,
        None,
        "docker.io/library/web:1 docker.io/library/web:2 duplicate",
    );
    check(r#"{"image": "inside:5000/acme/web:1"}"#, Some("outside.example"), "outside.example/acme/web:1");
    check(r#"{"image": "ghcr.io/acme/web"}"#, None, "untagged");
    check(
        r#"{"images": ["ghcr.io/Acme/web:1", "ghcr.io/acme/web:1", "web:"]}"#,
        None,
        "ghcr.io/acme/web:1 invalid-ref invalid-ref",
    );
    check(
        r#"{"image": "ghcr.io/Acme/web:1"}"#,
        None,
        "the body is not what native sends: 'Acme/web' is not a repository (expected lower-case parts of letters, \
         digits, '.', '_' and '-' joined by '/')",
    );
    check(r#"{"images": []}"#, None, r#"the body is not what native sends: write {"image": "host/path:tag"}"#);
    check(r#"["web:1"]"#, None, r#"the body is not what native sends: write {"image": "host/path:tag"}"#);
    check(
        r#"{"image": {"name": "web"}}"#,
        None,
        r#"the body is not what native sends: an image is a text, such as "host/path:tag""#,
    );
}

#[test]
fn the_registry_is_read_tolerantly() {
    let check =
        |body: &str, registry: Option<&str>, expected: &str| check(Source::Distribution, body, registry, expected);
    let event = |fields: &str| {
        format!(
            r#"{{"events": [{{"id": null, "action": "push", "target": {{"repository": "acme/web", "tag": "1", "size": "12",
            "mediaType": "application/vnd.oci.image.index.v1+json"{fields}}}]}}"#
        )
    };
    check(&event(r#", "url": "https://r.example:5000/v2/acme/web/manifests/1"}"#), None, "r.example:5000/acme/web:1");
    check(&event(r#"}, "request": {"host": "R.example"}, "new": [{}]"#), None, "r.example/acme/web:1");
    check(&event("}"), None, "invalid-ref");
    check(&event("}"), Some("r.example"), "r.example/acme/web:1");
    check(
        &event(r#", "references": [null, {"mediaType": "application/vnd.cncf.helm.config.v1+json"}]}"#),
        None,
        "chart",
    );
    check(
        r#"{"events": [null, 1, {}, {"action": "push", "target": null}]}"#,
        None,
        "other-event other-event other-event blob",
    );
    check(r#"{"events": null}"#, None, "");
    check("{}", None, "the body is not what distribution sends: there is no list of events");
}

#[test]
fn docker_hub_is_read_tolerantly() {
    let check = |body: &str, registry: Option<&str>, expected: &str| check(Source::DockerHub, body, registry, expected);
    let whole = r#""repository": {"repo_name": "acme/web", "namespace": "other", "name": null}"#;
    let push = |tag: &str, rest: &str| format!(r#"{{"push_data": {{"tag": {tag}, "images": null}}, {rest}}}"#);
    check(&push("\"1\"", whole), None, "docker.io/acme/web:1");
    check(&push("\"1\"", whole), Some("mirror.example"), "mirror.example/acme/web:1");
    check(&push("\"1\"", r#""repository": {"namespace": "acme", "name": "web"}"#), None, "docker.io/acme/web:1");
    check(&push("\"1\"", r#""repository": {"name": "web"}"#), None, "invalid-ref");
    check(&push("\"1\"", r#""repository": {}"#), None, "invalid-ref");
    for tag in ["null", "\"\"", "14", "[\"1\"]"] {
        check(&push(tag, whole), None, "untagged");
    }
    check(&push("\"a b\"", whole), None, "invalid-ref");
    let malformed = "the body is not what dockerhub sends: there is no push_data with its repository";
    for body in ["{}", "null", "[]", r#"{"push_data": {"tag": "1"}}"#, &push("\"1\"", r#""repository": "acme/web""#)] {
        check(body, None, malformed);
    }
}

#[track_caller]
fn check_callback(body: &[u8], expected: Option<Result<&str, NotCalled>>) {
    let parsed = parse(Source::DockerHub, &Request { rest: "", headers: &[], body }, None).expect("a push");
    let found =
        parsed.callback.as_ref().map(|callback| callback.as_ref().map(Callback::path).map_err(|refused| *refused));
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(body));
}

#[test]
fn the_sender_says_where_it_waits_but_not_where_we_connect_to() {
    check_callback(&read("dockerhub-push.json"), Some(Ok("/u/acme/web/hook/2b0f1c5a9d3e4f60718293a4b5c6d7e8/")));
    check_callback(
        &read("dockerhub-helm-chart.json"),
        Some(Ok("/u/acme/web-chart/hook/2b0f1c5a9d3e4f60718293a4b5c6d7e8/")),
    );
    check_callback(&read("dockerhub-callback-ssrf.json"), Some(Err(NotCalled)));
    for url in ["", r#", "callback_url": null"#, r#", "callback_url": """#, r#", "callback_url": ["https://x"]"#] {
        check_callback(format!(r#"{{"push_data": {{}}, "repository": {{}}{url}}}"#).as_bytes(), None);
    }
}

/// Comparing each event with all others would keep a thread busy for minutes with a body of 8 MiB.
#[test]
fn a_body_full_of_equal_or_differing_events_is_read_in_one_go() {
    let events = |id: fn(usize) -> usize, tag: fn(usize) -> usize| {
        let event = |n| {
            format!(
                r#"{{"id":"{}","action":"push","target":{{"repository":"w","tag":"{}","mediaType":"application/vnd.oci.image.index.v1+json"}}}}"#,
                id(n),
                tag(n)
            )
        };
        let events: Vec<String> = (0..10_000).map(event).collect();
        format!("{{\"events\":[{}]}}", events.join(","))
    };
    for (body, notices) in [(events(|n| n, |n| n), 10_000), (events(|n| n, |_| 1), 1), (events(|_| 1, |n| n), 1)] {
        let request = Request { rest: "", headers: &[], body: body.as_bytes() };
        let host = Registry::parse("r.example").expect("a host");
        let parsed = parse(Source::Distribution, &request, Some(&host)).expect("an envelope");
        assert_eq!((parsed.notices.len(), parsed.notices.len() + parsed.passed.len()), (notices, 10_000));
    }
}
