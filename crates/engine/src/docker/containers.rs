//! Calls that concern containers.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use deployer_core::plain;
use deployer_core::policy::LONGEST;
use deployer_core::successor::ChangedFile;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Client, Request, short};
use super::endpoints;
use crate::engine::{ContainerSummary, EngineError};

/// Time that an engine may need beyond the grace of a stop, to kill and to clean up.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// Longest log tail that is kept.
const LOG_BYTES_MAX: usize = 16 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default, rename = "ImageID")]
    image_id: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    status: String,
}

/// All containers. An entry that cannot be read is left out rather than hiding the others.
pub async fn list(client: &Client) -> Result<Vec<ContainerSummary>, EngineError> {
    let what = "list containers";
    let entries: Vec<Value> = client.read(Request::new(&endpoints::CONTAINERS, &[], what)).await?;
    Ok(entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).map(summary).collect())
}

fn summary(listed: Listed) -> ContainerSummary {
    // A linked container has further names of the form /other/alias; its own has one slash.
    let name = listed
        .names
        .unwrap_or_default()
        .iter()
        .find_map(|name| name.strip_prefix('/').filter(|name| !name.contains('/')).map(str::to_owned))
        .unwrap_or_default();
    ContainerSummary {
        id: listed.id,
        name,
        image_id: listed.image_id,
        labels: listed.labels.unwrap_or_default(),
        state: listed.state,
        status: listed.status,
    }
}

/// The raw inspection.
pub async fn inspect(client: &Client, id: &str) -> Result<Value, EngineError> {
    let what = format!("inspect container {}", short(id));
    client.read(Request::new(&endpoints::CONTAINER, &[id], &what)).await
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

/// Creates a container from a raw body.
pub async fn create(client: &Client, name: &str, body: &Value) -> Result<String, EngineError> {
    let what = format!("create container {name}");
    let created: Created = client.read(Request::new(&endpoints::CREATE, &[name], &what).body(body)).await?;
    Ok(created.id)
}

/// Connects a container to a network.
pub async fn connect(client: &Client, network: &str, container: &str, endpoint: &Value) -> Result<(), EngineError> {
    let what = format!("connect container {} to network {network}", short(container));
    let body = json!({ "Container": container, "EndpointConfig": endpoint });
    client.perform(Request::new(&endpoints::CONNECT, &[network], &what).body(&body)).await
}

/// Starts a container; 304 means that it runs.
pub async fn start(client: &Client, id: &str) -> Result<(), EngineError> {
    let what = format!("start container {}", short(id));
    client.perform(Request::new(&endpoints::START, &[id], &what)).await
}

/// Stops a container; 304 means that it does not run.
pub async fn stop(client: &Client, id: &str, grace: Duration) -> Result<(), EngineError> {
    let what = format!("stop container {}", short(id));
    let (grace_seconds, limit) = patience(grace);
    let request = Request::new(&endpoints::STOP, &[id, &grace_seconds.to_string()], &what).limit(limit);
    absent_is_done(client.perform(request).await)
}

/// The seconds of grace that a stop is sent with, and how long its answer may take.
fn patience(grace: Duration) -> (u64, Duration) {
    let seconds = grace.min(LONGEST).as_secs_f64().ceil() as u64;
    (seconds, Duration::from_secs(seconds) + STOP_MARGIN)
}

/// Renames a container.
pub async fn rename(client: &Client, id: &str, name: &str) -> Result<(), EngineError> {
    let what = format!("rename container {} to {name}", short(id));
    client.perform(Request::new(&endpoints::RENAME, &[id, name], &what)).await
}

/// Sets the restart policy.
pub async fn set_restart_policy(client: &Client, id: &str, policy: &Value) -> Result<(), EngineError> {
    let what = format!("set the restart policy of container {}", short(id));
    let body = json!({ "RestartPolicy": policy });
    client.perform(Request::new(&endpoints::UPDATE, &[id], &what).body(&body)).await
}

/// Removes a stopped container, and never its volumes.
pub async fn remove(client: &Client, id: &str) -> Result<(), EngineError> {
    let what = format!("remove container {}", short(id));
    match absent_is_done(client.perform(Request::new(&endpoints::REMOVE, &[id], &what)).await) {
        Err(EngineError::Conflict { message, .. }) if message.contains("already in progress") => Ok(()),
        outcome => outcome,
    }
}

/// The last lines of both streams.
pub async fn log_tail(client: &Client, id: &str, lines: u32) -> Result<String, EngineError> {
    let what = format!("read the log of container {}", short(id));
    let answer = client.send(Request::new(&endpoints::LOG, &[id, &lines.to_string()], &what)).await?;
    let bytes = client.bytes(&what, answer, super::client::CALL_LIMIT).await?;
    Ok(said(&bytes))
}

/// The end of a log.
fn said(bytes: &[u8]) -> String {
    let text = demultiplex(bytes);
    let start = text.len().saturating_sub(LOG_BYTES_MAX);
    // A program ends its lines as it likes; what else it does to a terminal is not handed on.
    let text = String::from_utf8_lossy(&text[start..]).replace("\r\n", "\n");
    plain::lines(&text).into_owned()
}

/// Takes the frame headers out of a log without a terminal; a log with one has none and is given back whole.
/// Docker API, "Attach to a container", stream format: stream byte, three zero bytes, length in four.
fn demultiplex(mut bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let [0..=2, 0, 0, 0, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (frame, following) = rest.split_at(length.min(rest.len()));
        text.extend_from_slice(frame);
        bytes = following;
    }
    text.extend_from_slice(bytes);
    text
}

/// The header in which the engine describes a file: JSON in base64.
const FILE_HEADER: &str = "x-docker-container-path-stat";
/// The bit that Go's `fs.FileMode` has for directories.
const GO_MODE_DIRECTORY: u32 = 1 << 31;

#[derive(Deserialize)]
struct File {
    mode: u32,
    mtime: String,
}

/// What a file in the container is, without its content.
pub async fn file(client: &Client, id: &str, path: &str) -> Result<Option<ChangedFile>, EngineError> {
    let what = format!("look at {path} in container {}", short(id));
    let answer = match client.send(Request::new(&endpoints::FILE, &[id, path], &what)).await {
        Ok(answer) => answer,
        Err(EngineError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let header = answer.headers.get(FILE_HEADER).map_or(&b""[..], |value| value.as_bytes());
    match described(path, header) {
        Some(file) => Ok(Some(file)),
        None => Err(EngineError::Nonsense { what, message: format!("the header {FILE_HEADER} cannot be read") }),
    }
}

fn described(path: &str, header: &[u8]) -> Option<ChangedFile> {
    let file: File = serde_json::from_slice(&STANDARD.decode(header).ok()?).ok()?;
    Some(ChangedFile { path: path.to_owned(), is_directory: file.mode & GO_MODE_DIRECTORY != 0, modified: file.mtime })
}

fn absent_is_done(outcome: Result<(), EngineError>) -> Result<(), EngineError> {
    match outcome {
        Err(EngineError::NotFound { .. }) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_state_is_kept_and_a_link_is_no_name() {
        let entry = json!({"Id": "a", "Names": ["/other/alias", "/web"], "ImageID": "sha256:1", "State": "hibernating",
                           "Labels": null});
        let listed = summary(serde_json::from_value(entry).expect("tolerant"));
        assert_eq!((listed.name.as_str(), listed.state.as_str()), ("web", "hibernating"));
    }

    #[test]
    fn security_7_no_stop_is_asked_to_take_longer_than_an_hour() {
        for (grace, expected) in [
            (Duration::ZERO, (0, 30)),
            (Duration::from_millis(1500), (2, 32)),
            (Duration::from_secs(3600), (3600, 3630)),
            (Duration::from_secs(3601), (3600, 3630)),
            (Duration::from_millis(u64::MAX), (3600, 3630)),
            (Duration::MAX, (3600, 3630)),
        ] {
            let (grace_seconds, limit) = patience(grace);
            assert_eq!((grace_seconds, limit.as_secs()), expected, "{grace:?}");
        }
    }

    #[test]
    fn a_files_description_is_read_from_its_header() {
        // As Engine 20.10 sent it for a file, and with the mode of a directory.
        let header = b"eyJuYW1lIjoieCIsInNpemUiOjEzNTgsIm1vZGUiOjQyMCwibXRpbWUiOiIyMDI2LTExLTI0VDEzOjE0OjA0WiIsImxpbmtUYXJnZXQiOiIifQ==";
        let file = described("/etc/x", header).expect("a description");
        assert_eq!(
            (file.path.as_str(), file.is_directory, file.modified.as_str()),
            ("/etc/x", false, "2026-11-24T13:14:04Z")
        );
        let directory = STANDARD.encode(r#"{"name":"x","mode":2147484141,"mtime":"2026-11-24T13:14:04+01:00"}"#);
        assert!(described("/etc", directory.as_bytes()).is_some_and(|file| file.is_directory));
        assert_eq!(described("/etc", b""), None);
    }

    #[test]
    fn security_9_last_words_are_lines_and_nothing_else() {
        let log = b"\x01\0\0\0\0\0\0\x13a\rb\r\n\x1b[2Jc\n\x9b\xc2\x9bd\t\n\n";
        assert_eq!(said(log), "a\\rb\n\\u001b[2Jc\n\u{fffd}\\u009bd\\t\n\n");
        assert!(said(&[b'x'; 1 << 20]).len() <= LOG_BYTES_MAX);
    }

    #[test]
    fn log_frames_are_taken_apart_and_a_terminals_log_is_not() {
        assert_eq!(demultiplex(b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\x01d"), b"abcd");
        assert_eq!(demultiplex(b"plain\r\n"), b"plain\r\n");
        assert_eq!(demultiplex(b"\x01\0\0\0\0\0\0\x09cut"), b"cut");
    }
}
