//! The engine's events, as a stream that ends with an error when it can no longer be trusted.

use std::collections::BTreeMap;
use std::time::Duration;

use deployer_wire::WireError;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::json;

use super::client::{Client, Request};
use super::endpoints;
use crate::engine::{EngineError, EngineEvent};

/// How long the stream may be silent before the engine is asked whether it lives.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The events that say something of what is kept of a container or an image. The engine sends no others, above all none
/// of `exec`, of which every HEALTHCHECK makes three. It takes each word for a beginning, so that the outcome of
/// `health_status` comes, too.
const ACTIONS: [&str; 18] = [
    "create",
    "start",
    "die",
    "kill",
    "stop",
    "restart",
    "pause",
    "unpause",
    "rename",
    "destroy",
    "health_status",
    "tag",
    "untag",
    "pull",
    "push",
    "load",
    "import",
    "delete",
];
/// How long it may take to answer that.
const PING_LIMIT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: Actor,
    #[serde(rename = "timeNano", default)]
    time_nano: i64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    attributes: BTreeMap<String, String>,
}

/// Events of containers and images from now on. A hung engine sends nothing and breaks nothing, so silence is
/// answered with a ping.
pub async fn stream(client: &Client) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
    let what = "watch the engine's events";
    let filters = json!({"type": ["container", "image"], "event": ACTIONS}).to_string();
    let answer = client.send(Request::new(&endpoints::EVENTS, &[&filters], what)).await?;
    let (client, lines) = (client.clone(), Box::pin(answer.lines()));
    let events = futures_util::stream::unfold(Some((client, lines)), move |state| async move {
        let (client, mut lines) = state?;
        match next(&client, &mut lines).await {
            Ok(event) => Some((Ok(event), Some((client, lines)))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(events.boxed())
}

async fn next(
    client: &Client,
    lines: &mut (impl Stream<Item = Result<bytes::Bytes, WireError>> + Unpin),
) -> Result<EngineEvent, EngineError> {
    let what = "watch the engine's events";
    loop {
        match tokio::time::timeout(SILENCE_MAX, lines.next()).await {
            Ok(Some(Ok(line))) => {
                if let Ok(line) = serde_json::from_slice::<Line>(&line) {
                    return Ok(event(line));
                }
            }
            Ok(Some(Err(error))) => return Err(client.wire_error(what, error)),
            Ok(None) => return Err(client.wire_error(what, WireError::Closed)),
            Err(_) => {
                client.perform(Request::new(&endpoints::PING, &[], "ping the engine").limit(PING_LIMIT)).await?;
            }
        }
    }
}

/// An action may carry more after a colon, such as `health_status: healthy`.
fn event(line: Line) -> EngineEvent {
    let (action, detail) = line.action.split_once(':').unwrap_or((&line.action, ""));
    let (action, detail) = (action.trim().to_owned(), detail.trim().to_owned());
    EngineEvent {
        kind: line.kind,
        action,
        detail,
        id: line.actor.id,
        attributes: line.actor.attributes,
        time_nano: line.time_nano,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_its_first_word() {
        let line = r#"{"Type":"container","Action":"health_status: healthy","Actor":{"ID":"a","Attributes":{"name":"web"}},"timeNano":7}"#;
        let event = event(serde_json::from_str(line).expect("an event"));
        let said = (event.action.as_str(), event.detail.as_str(), event.attributes["name"].as_str());
        assert_eq!(said, ("health_status", "healthy", "web"));
    }
}
