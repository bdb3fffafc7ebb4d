//! What no sender of a registry's would write.

use super::*;

/// The sender signed it; it is a number all the same only to us.
#[test]
fn security_17_a_signed_time_is_digits_alone() {
    use base64::Engine as _;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let key = vec![7; 16];
    for (timestamp, expected) in [("1000", true), ("+1000", false), ("-1000", false), ("", false), ("1000 ", false)] {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).expect("any length");
        mac.update(format!("msg.{timestamp}.body").as_bytes());
        let code = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        let signature = format!("v1,{code}");
        let headers: [(&str, &[u8]); 3] = [
            ("webhook-id", b"msg"),
            ("webhook-timestamp", timestamp.as_bytes()),
            ("webhook-signature", signature.as_bytes()),
        ];
        let request = Request { rest: "", headers: &headers, body: b"body" };
        let auth = Auth::StandardWebhooks(vec![key.clone()]);
        assert_eq!(auth.verify(&request, 1000).is_ok(), expected, "{timestamp:?}");
    }
}

/// What a pushed manifest refers to tells an image from what else is kept in registries.
#[test]
fn security_head_an_artifact_is_no_image() {
    let image = "application/vnd.oci.image.config.v1+json";
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    for (manifest, references, expected) in [
        ("application/vnd.oci.image.manifest.v1+json", vec![image, layer], None),
        (
            "application/vnd.docker.distribution.manifest.v2+json",
            vec!["application/vnd.docker.container.image.v1+json"],
            None,
        ),
        ("application/vnd.oci.image.manifest.v1+json", vec![], None),
        ("application/vnd.oci.image.manifest.v1+json", vec![layer], None),
        (
            "application/vnd.docker.distribution.manifest.v2+json",
            vec!["application/vnd.docker.image.rootfs.diff.tar.gzip"],
            None,
        ),
        ("application/vnd.oci.image.index.v1+json", vec!["application/vnd.oci.image.manifest.v1+json"], None),
        (
            "application/vnd.oci.image.manifest.v1+json",
            vec!["application/vnd.wasm.config.v0+json", "application/wasm"],
            Some("artifact"),
        ),
        (
            "application/vnd.oci.image.manifest.v1+json",
            vec!["application/vnd.oci.empty.v1+json", layer],
            Some("artifact"),
        ),
        (
            "application/vnd.docker.distribution.manifest.v2+json",
            vec!["application/vnd.docker.plugin.v1+json"],
            Some("artifact"),
        ),
        ("application/vnd.oci.image.manifest.v1+json", vec!["application/vnd.cncf.helm.config.v1+json"], Some("chart")),
    ] {
        let references: Vec<Value> = references.iter().map(|kind| serde_json::json!({ "mediaType": kind })).collect();
        let body = serde_json::json!({"events": [{"action": "push", "request": {"host": "h:5000"}, "target": {
            "mediaType": manifest, "tag": "1", "repository": "acme/web", "references": references}}]});
        let body = body.to_string();
        let request = Request { rest: "", headers: &[], body: body.as_bytes() };
        let parsed = parse(Source::Distribution, &request, None).expect("JSON");
        let passed: Vec<&str> = parsed.passed.iter().map(|passed| passed.word()).collect();
        assert_eq!(passed, expected.into_iter().collect::<Vec<_>>(), "{body}");
        assert_eq!(parsed.notices.len(), usize::from(expected.is_none()), "{body}");
    }
}
