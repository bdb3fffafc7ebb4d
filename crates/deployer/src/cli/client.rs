//! Calls to the local daemon over its socket.

use std::path::Path;
use std::time::Duration;

use deployer_core::plain;
use deployer_wire::{self as wire, Answer, Call, Endpoint, WireError};
use hyper::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Ended, say};
use crate::control::{Ask, Said};

/// How long the daemon may take to answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Reads something.
pub async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Ended> {
    let answer = send(socket, Method::GET, path, None).await?;
    let bytes = answer.bytes(LIMIT).await.map_err(|error| Ended::Failed(error.to_string()))?;
    read(&bytes)
}

/// Reads an answer, without what could do something to a terminal.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Ended> {
    let read = serde_json::from_slice(bytes).and_then(|mut answer: Value| {
        plain::value(&mut answer);
        serde_json::from_value(answer)
    });
    read.map_err(|error| Ended::Failed(format!("the daemon's answer makes no sense: {error}; is it another version?")))
}

/// Opens a stream of JSON lines.
pub async fn open(socket: &Path, path: &str) -> Result<Answer, Ended> {
    send(socket, Method::GET, path, None).await
}

/// Asks for something to be done, and says what the daemon says.
pub async fn ask(socket: &Path, verb: &str, of: &str) -> Result<(), Ended> {
    say::line(&request(socket, verb, of).await?)
}

/// Asks for something to be done.
pub async fn request(socket: &Path, verb: &str, of: &str) -> Result<String, Ended> {
    let ask = serde_json::to_vec(&Ask { of: of.to_owned() }).map_err(|error| Ended::Failed(error.to_string()))?;
    let answer = send(socket, Method::POST, &format!("/v1/{verb}"), Some(ask.into())).await?;
    let bytes = answer.bytes(LIMIT).await.map_err(|error| Ended::Failed(error.to_string()))?;
    read::<Said>(&bytes).map(|said| said.text)
}

async fn send(socket: &Path, method: Method, path: &str, body: Option<bytes::Bytes>) -> Result<Answer, Ended> {
    let endpoint = Endpoint::Unix(socket.to_owned());
    let call = Call { method, path, headers: Vec::new(), body };
    let answer = wire::send(&endpoint, call, LIMIT).await.map_err(|error| explain(socket, &error))?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    let is_mistake = answer.status.is_client_error();
    let bytes = answer.bytes(LIMIT).await.unwrap_or_default();
    let said = read::<Said>(&bytes).map(|said| said.text);
    let text = said.unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned());
    Err(if is_mistake { Ended::Mistake(text) } else { Ended::Failed(text) })
}

fn explain(socket: &Path, error: &WireError) -> Ended {
    let hint = match error {
        WireError::Connect(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            "; run it as root, or as a member of the socket's group"
        }
        WireError::Connect(_) => "; is `deployer run` running, and is --socket right?",
        _ => "",
    };
    Ended::Failed(format!("the daemon at {} was not reached: {error}{hint}", socket.display()))
}
