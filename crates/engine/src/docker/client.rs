//! Versions, requests and errors: what every call shares.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use deployer_core::plain;
use deployer_wire::{self as wire, Answer, Call, Endpoint, WireError};
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::endpoints::{self, Endpoint as Called};
use crate::engine::{Api, EngineError, EngineInfo};

/// The newest API version that this client was written for. From 1.52 an inspection no longer shows which MAC address
/// the user asked for.
const API_NEWEST: (u32, u32) = (1, 51);
/// The oldest it works with: Engine 20.10. Older ones lack platform checks that a replacement relies on.
const API_OLDEST: (u32, u32) = (1, 41);
/// How long an ordinary call may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(60);

/// A connectionless client; clones share the negotiated version.
#[derive(Clone)]
pub struct Client {
    endpoint: Endpoint,
    api: Arc<Mutex<Option<Api>>>,
    /// Hosts of registries that are asked in the clear, where we ask by ourselves.
    pub plain_http: Vec<String>,
}

/// One call, and the words for it in errors.
pub struct Request<'a> {
    method: Method,
    path: String,
    pub what: &'a str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<&'a Value>,
    pub limit: Duration,
}

impl<'a> Request<'a> {
    /// A call with the words of its path, in their order.
    pub fn new(endpoint: &Called, words: &[&str], what: &'a str) -> Self {
        let (method, path) = (endpoint.method.clone(), endpoint.with(words));
        Self { method, path, what, headers: Vec::new(), body: None, limit: CALL_LIMIT }
    }

    pub fn body(mut self, body: &'a Value) -> Self {
        self.body = Some(body);
        self
    }

    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub fn header(mut self, name: &'static str, value: Option<String>) -> Self {
        self.headers.extend(value.map(|value| (name, value)));
        self
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Version {
    version: String,
    os: String,
    arch: String,
}

impl Client {
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, api: Arc::default(), plain_http: Vec::new() }
    }

    /// Asks the engine who it is.
    pub async fn info(&self) -> Result<EngineInfo, EngineError> {
        let version: Version = self.read(Request::new(&endpoints::VERSION, &[], "ask the engine's version")).await?;
        let api = self.api().await?;
        let product = if api.shows_all_settings { "docker" } else { "podman" }.to_owned();
        Ok(EngineInfo {
            product,
            version: version.version,
            api: api.version,
            os: version.os,
            architecture: version.arch,
        })
    }

    /// The version that calls are made in, settled by `/_ping` (the header `Api-Version`) with the first call, and with
    /// the first after the engine was away: another version may have come back.
    pub async fn api(&self) -> Result<Api, EngineError> {
        let settled = *self.settled();
        if let Some(api) = settled {
            return Ok(api);
        }
        let what = "ask the engine for its API version";
        let request = Request::new(&endpoints::PING, &[], what);
        let answer = self.send_to(request.path.clone(), request).await?;
        let newest = answer.headers.get("Api-Version").and_then(|version| version.to_str().ok()).unwrap_or_default();
        // Podman says there which version of its own API it has.
        let shows_all_settings = !answer.headers.contains_key("Libpod-Api-Version");
        let api = Api { version: self.negotiate(newest)?, shows_all_settings };
        *self.settled() = Some(api);
        Ok(api)
    }

    fn negotiate(&self, newest: &str) -> Result<(u32, u32), EngineError> {
        let known = parse_api(newest).ok_or_else(|| EngineError::Nonsense {
            what: format!("ask the engine at {} for its API version", self.endpoint),
            message: format!("it says '{newest}'; is this a container engine?"),
        })?;
        if known < API_OLDEST {
            return Err(EngineError::Refused {
                what: format!("use the engine at {}", self.endpoint),
                status: 400,
                message: format!(
                    "it has API {newest}; deployer needs API {}.{} (Docker Engine 20.10) or later",
                    API_OLDEST.0, API_OLDEST.1
                ),
            });
        }
        Ok(known.min(API_NEWEST))
    }

    fn settled(&self) -> MutexGuard<'_, Option<Api>> {
        self.api.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a call below the negotiated version and gives back an answer of 2xx or 304.
    pub async fn send(&self, request: Request<'_>) -> Result<Answer, EngineError> {
        let (major, minor) = self.api().await?.version;
        self.send_to(format!("/v{major}.{minor}{}", request.path), request).await
    }

    async fn send_to(&self, path: String, request: Request<'_>) -> Result<Answer, EngineError> {
        let body = request.body.map(|body| Bytes::from(body.to_string()));
        let call = Call { method: request.method, path: &path, headers: request.headers, body };
        let answer = wire::send(&self.endpoint, call, request.limit)
            .await
            .map_err(|error| self.wire_error(request.what, error))?;
        if answer.status.is_success() || answer.status == 304 {
            return Ok(answer);
        }
        Err(self.refusal(request.what, answer).await)
    }

    /// Sends a call and reads its answer as JSON.
    pub async fn read<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<T, EngineError> {
        let (what, limit) = (request.what, request.limit);
        let answer = self.send(request).await?;
        self.json(what, answer, limit).await
    }

    /// Sends a call whose answer is of no interest.
    pub async fn perform(&self, request: Request<'_>) -> Result<(), EngineError> {
        self.send(request).await.map(drop)
    }

    /// Whether a GET finds something.
    pub async fn exists(&self, kind: &str, endpoint: &Called, name: &str) -> Result<bool, EngineError> {
        let what = format!("inspect {kind} {name}");
        match self.send(Request::new(endpoint, &[name], &what)).await {
            Ok(_) => Ok(true),
            Err(EngineError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The whole body of an answer.
    pub async fn bytes(&self, what: &str, answer: Answer, limit: Duration) -> Result<Bytes, EngineError> {
        answer.bytes(limit).await.map_err(|error| self.wire_error(what, error))
    }

    async fn json<T: DeserializeOwned>(&self, what: &str, answer: Answer, limit: Duration) -> Result<T, EngineError> {
        let bytes = self.bytes(what, answer, limit).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| EngineError::Nonsense { what: what.to_owned(), message: plain::words(&error.to_string()) })
    }

    async fn refusal(&self, what: &str, answer: Answer) -> EngineError {
        let status = answer.status.as_u16();
        let bytes = answer.bytes(CALL_LIMIT).await.unwrap_or_default();
        let words = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|body| Some(body.get("message")?.as_str()?.trim().to_owned()));
        // An answer to a HEAD has no body.
        let is_engines = words.is_some() || bytes.is_empty();
        let message = words.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
        // Often a registry's own words, handed on.
        let message = plain::words(&message);
        let what = what.to_owned();
        match status {
            403 | 404 | 405 | 501 if !is_engines => EngineError::NotOffered { what, status, message },
            404 => EngineError::NotFound { what, message },
            409 => EngineError::Conflict { what, message },
            _ => EngineError::Refused { what, status, message },
        }
    }

    /// An error of the connection in the engine's terms. Another engine may be behind the next connection.
    pub fn wire_error(&self, what: &str, error: WireError) -> EngineError {
        *self.settled() = None;
        let what = what.to_owned();
        match error {
            WireError::Timeout(limit) => EngineError::Timeout { what, limit },
            WireError::TooLong(_) => EngineError::TooLong { what, message: error.to_string() },
            _ => {
                let message = plain::words(&error.to_string());
                EngineError::Unreachable { what, address: self.endpoint.to_string(), message }
            }
        }
    }
}

fn parse_api(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The first twelve digits of an ID, as Docker prints them.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(engine: &str, expected: Result<(u32, u32), &str>) {
        let client = Client::new(Endpoint::Tcp("127.0.0.1:1".into()));
        let outcome = client.negotiate(engine).map_err(|error| error.kind());
        assert_eq!(outcome, expected, "{engine}");
    }

    /// What an engine answers to a call, as its caller tells of it.
    async fn refused(status: &str, body: &str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = Client::new(Endpoint::Tcp(listener.local_addr().expect("bound").to_string()));
        *client.settled() = Some(Api { version: API_OLDEST, shows_all_settings: true });
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let serve = async {
            let (mut connection, _) = listener.accept().await.expect("a call");
            let mut head = [0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut connection, &mut head).await.expect("a head");
            tokio::io::AsyncWriteExt::write_all(&mut connection, answer.as_bytes()).await.expect("written");
        };
        let call = client.read::<Vec<u8>>(Request::new(&endpoints::IMAGES, &[], "do it"));
        let (outcome, ()) = tokio::join!(call, serve);
        outcome.expect_err("refused").to_string()
    }

    /// An engine hands a registry's own words on.
    #[tokio::test]
    async fn security_9_no_answer_brings_a_control_character_before_people() {
        let boom = "{\"message\": \"boom\\u001b]0;PWNED\\u0007\\n2026 INFO version 9 is forged \u{202e}\"}";
        let told = r"boom\u001b]0;PWNED\u0007\n2026 INFO version 9 is forged \u202e";
        assert_eq!(refused("500 no", boom).await, format!("do it: the engine answered 500: {told}"));
        assert_eq!(refused("404 no", boom).await, format!("do it: not found by the engine: {told}"));
        assert_eq!(refused("500 no", "\u{1b}[2J\nx").await, r"do it: the engine answered 500: \u001b[2J\nx");
        let long = format!("{{\"message\": \"{}\"}}", "x".repeat(1 << 20));
        assert!(refused("500 no", &long).await.len() < 1100, "nobody reads more");
        let page = "<html><body><h1>403 Forbidden</h1></body></html>";
        let filtered = refused("403 no", page).await;
        assert!(filtered.contains("what filters its socket, answers 403"), "{filtered}");
        assert!(refused("404 no", "404 page not found").await.contains("answers 404"));
        assert!(refused("403 no", r#"{"message": "denied"}"#).await.contains("the engine answered 403: denied"));
        let nonsense = refused("200 OK", "[\"a\\u001b\"]").await;
        assert!(nonsense.contains("makes no sense") && !nonsense.contains('\u{1b}'), "{nonsense:?}");
    }

    #[test]
    fn the_highest_version_that_both_know_is_used() {
        check("1.41", Ok((1, 41)));
        check("1.45", Ok((1, 45)));
        check("1.99", Ok(API_NEWEST));
        check("1.40", Err("refused"));
        check("next", Err("nonsense"));
    }
}
