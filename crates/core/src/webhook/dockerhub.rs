//! Docker Hub: one push of one tag, without a digest, an id or a signature.
//! Format: Docker Hub's documentation, "Webhooks". Older senders leave the tag out, or write times as fractions.

use serde_json::Value;

use super::callback::Callback;
use super::reading::{BUILD_CACHE_CONFIG, HELM_CONFIG, Passed, notice, text};
use super::{Malformed, Notice, Parsed};
use crate::image::{DOCKER_HUB, Registry};

pub fn parse(body: &Value, registry: Option<&Registry>) -> Result<Parsed, Malformed> {
    let is_object = |name: &str| body.get(name).is_some_and(Value::is_object);
    if !is_object("push_data") || !is_object("repository") {
        return Err(Malformed("dockerhub", "there is no push_data with its repository".to_owned()));
    }
    let mut parsed = Parsed::default();
    parsed.take(read(body, registry));
    let url = text(body, "/callback_url");
    parsed.callback = (!url.is_empty()).then(|| Callback::parse(url));
    Ok(parsed)
}

fn read(body: &Value, registry: Option<&Registry>) -> Result<Notice, Passed> {
    match text(body, "/push_data/media_type") {
        HELM_CONFIG => return Err(Passed::Chart),
        BUILD_CACHE_CONFIG => return Err(Passed::BuildCache),
        _ => {}
    }
    let tag = text(body, "/push_data/tag");
    if tag.is_empty() {
        return Err(Passed::Untagged);
    }
    let registry = match registry {
        Some(registry) => registry.clone(),
        None => Registry::parse(DOCKER_HUB).map_err(|_| Passed::InvalidRef)?,
    };
    notice(registry, &repository(body), tag, None)
}

/// `namespace/name`, written whole or in two fields.
fn repository(body: &Value) -> String {
    match text(body, "/repository/repo_name") {
        "" => format!("{}/{}", text(body, "/repository/namespace"), text(body, "/repository/name")),
        whole => whole.to_owned(),
    }
}
