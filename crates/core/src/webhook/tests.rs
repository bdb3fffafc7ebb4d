//! The recorded requests of `tests/webhooks`, each through verification and parsing.

use serde_json::Value;

use super::*;

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
        kind => panic!("no such kind of authentication here: {kind}"),
    }
}

/// The outcome's word, the images, and the reasons in order of their names.
fn receive(case: &Value) -> (&'static str, Vec<String>, Vec<&'static str>) {
    let headers = case.pointer("/request/headers").and_then(Value::as_object).expect("headers");
    let headers: Vec<(&str, &[u8])> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default().as_bytes())).collect();
    let body = read(text(case, "/file"));
    let request = Request { headers: &headers, body: &body };
    let now = if case.get("now").and_then(Value::as_str) == Some("2026-11-20T10:30:00Z") {
        1_795_170_600
    } else {
        1_795_168_860
    };
    if auth(case).verify(&request, now).is_err() {
        return ("rejected", Vec::new(), Vec::new());
    }
    let source = if text(case, "/source") == "native" { Source::Native } else { Source::Distribution };
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
    assert!(cases.len() >= 16, "the samples are there");
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
    let request = Request { headers: &headers, body: b"{}" };
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
}

#[test]
fn debug_output_holds_no_secret() {
    assert_eq!(format!("{:?}", Auth::Bearer(vec!["hunter2".into()])), "bearer");
}

proptest::proptest! {
    #[test]
    fn no_body_is_too_strange(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let request = Request { headers: &[], body: &body };
        for source in Source::ALL {
            let _ = parse(source, &request, None);
        }
    }

    #[test]
    fn no_event_is_too_strange(action in ".{0,8}", tag in ".{0,20}", repository in ".{0,30}", host in ".{0,20}") {
        let body = serde_json::json!({"events": [{"action": "push", "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "tag": tag, "repository": repository},
            "request": {"host": host}}, {"action": action}]}).to_string();
        let parsed = parse(Source::Distribution, &Request { headers: &[], body: body.as_bytes() }, None).expect("JSON");
        proptest::prop_assert!(parsed.notices.len() <= 1 && !parsed.passed.is_empty());
    }
}

#[test]
fn deep_json_is_refused_rather_than_followed() {
    let body = "[".repeat(100_000);
    assert!(parse(Source::Native, &Request { headers: &[], body: body.as_bytes() }, None).is_err());
}
