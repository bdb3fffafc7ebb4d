//! CNCF Distribution: an envelope of events, of which pushes of tagged manifests count.
//! Format: the registry's documentation, "Work with notifications", and its `notifications/event.go`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::reading::{BUILD_CACHE_CONFIG, HELM_CONFIG, Passed, is_artifact, notice, text};
use super::{Malformed, Notice, Parsed};
use crate::image::Registry;

/// Those of one image, or of one of whatever else is kept in its form.
const SINGLE_MANIFESTS: [&str; 2] =
    ["application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json"];
const MANIFESTS: [&str; 6] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

pub fn parse(body: &Value, registry: Option<&Registry>) -> Result<Parsed, Malformed> {
    let events = match body.get("events") {
        Some(Value::Array(events)) => events.as_slice(),
        Some(Value::Null) => &[],
        _ => return Err(Malformed("distribution", "there is no list of events".to_owned())),
    };
    let mut parsed = Parsed::default();
    let mut seen = BTreeSet::new();
    for event in events {
        let id = text(event, "/id");
        let is_first = id.is_empty() || seen.insert(id);
        parsed.take(if is_first { read(event, registry) } else { Err(Passed::Duplicate) });
    }
    Ok(parsed)
}

fn read(event: &Value, registry: Option<&Registry>) -> Result<Notice, Passed> {
    match text(event, "/action") {
        "push" => {}
        "pull" => return Err(Passed::Pull),
        "delete" => return Err(Passed::Delete),
        "mount" => return Err(Passed::Mount),
        _ => return Err(Passed::OtherEvent),
    }
    if !MANIFESTS.contains(&text(event, "/target/mediaType")) {
        return Err(Passed::Blob);
    }
    let tag = text(event, "/target/tag");
    if tag.is_empty() {
        return Err(Passed::Untagged);
    }
    // Where the registry tells what a manifest refers to, charts and caches show themselves.
    let references = event.pointer("/target/references").and_then(Value::as_array);
    let kinds: Vec<&str> = references.into_iter().flatten().map(|part| text(part, "/mediaType")).collect();
    if kinds.contains(&HELM_CONFIG) {
        return Err(Passed::Chart);
    }
    if kinds.contains(&BUILD_CACHE_CONFIG) {
        return Err(Passed::BuildCache);
    }
    if SINGLE_MANIFESTS.contains(&text(event, "/target/mediaType")) && is_artifact(&kinds) {
        return Err(Passed::Artifact);
    }
    let registry = match registry {
        Some(registry) => registry.clone(),
        None => Registry::parse(host(event)).map_err(|_| Passed::InvalidRef)?,
    };
    let digest = event.pointer("/target/digest").and_then(Value::as_str);
    notice(registry, text(event, "/target/repository"), tag, digest)
}

/// The host that the pusher used, or else that of the manifest's URL.
fn host(event: &Value) -> &str {
    let host = text(event, "/request/host");
    if !host.is_empty() {
        return host;
    }
    let url = text(event, "/target/url");
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}
