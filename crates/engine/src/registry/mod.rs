//! Asking a registry by a HEAD of our own, where the engine does not ask for us: Podman has no such call, and what filters
//! a socket mostly forbids it. On Docker Hub a HEAD counts as no pull.
//!
//! The logins are those of `docker login`, the certificates those of the system and of `certs.d`, the proxy that of the
//! environment (`HTTPS_PROXY`, `NO_PROXY`). Nothing is asked in the
//! clear but of this very machine, and of hosts that the settings name. What decides, and what an answer means, is [`deployer_core::registry`].

mod client;
pub mod credentials;

use std::time::Duration;

use deployer_core::image::{Digest, ImageName};
use deployer_core::plain;
use deployer_core::registry::{Challenge, MANIFESTS, challenge, host, is_plain};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::engine::{ResolveError, Resolved};
use credentials::{Login, login};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest manifest that is read where a registry does not tell its digest (the specification's own limit).
const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// The longest answer with a token.
const TOKEN_BYTES_MAX: usize = 64 << 10;
/// The header with a manifest's digest.
const DIGEST: &str = "docker-content-digest";

/// A question about one image.
struct Question<'a> {
    image: &'a str,
    host: &'a str,
    client: Client,
    is_plain: bool,
    url: String,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// Asks what a tag or digest of an image is, in the clear if its host is among these. Which platforms are behind it is not told.
///
/// # Errors
/// [`ResolveError`], but for the engine's own.
pub async fn resolve(
    name: &ImageName,
    reference: &str,
    image: &str,
    plain_http: &[String],
) -> Result<Resolved, ResolveError> {
    let host = host(name);
    let is_plain = is_plain(host, plain_http);
    let client = client::of(host, is_plain).map_err(|message| unavailable(image, message))?;
    let scheme = if is_plain { "http" } else { "https" };
    let url = format!("{scheme}://{host}/v2/{}/manifests/{reference}", name.repository());
    let question = Question { image, host, client, is_plain, url };
    let digest = question.digest(name).await?;
    Ok(Resolved { digest, platforms: Vec::new() })
}

impl Question<'_> {
    async fn digest(&self, name: &ImageName) -> Result<Digest, ResolveError> {
        let mut authorization = None;
        let mut answer = self.send(Method::HEAD, None).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            authorization = Some(self.authorize(name, &answer).await?);
            answer = self.send(Method::HEAD, authorization.as_deref()).await?;
        }
        self.refuse(&answer)?;
        if let Some(digest) = answer.headers().get(DIGEST) {
            let digest = digest.to_str().map_err(|_| self.unavailable("a digest that is no text"))?;
            return Digest::parse(digest).map_err(|error| self.unavailable(error));
        }
        let answer = self.send(Method::GET, authorization.as_deref()).await?;
        self.refuse(&answer)?;
        let manifest = self.read(answer, MANIFEST_BYTES_MAX).await?;
        Digest::parse(&format!("sha256:{}", hex(&Sha256::digest(&manifest)))).map_err(|error| self.unavailable(error))
    }

    async fn send(&self, method: Method, authorization: Option<&str>) -> Result<Response, ResolveError> {
        let mut request = self.client.request(method, &self.url).timeout(LIMIT).header(ACCEPT, MANIFESTS);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|error| self.unavailable(causes(&error)))
    }

    /// What to send as `Authorization` after a refusal.
    async fn authorize(&self, name: &ImageName, refused: &Response) -> Result<String, ResolveError> {
        let registry = name.registry().as_str();
        let login = login(registry).await.map_err(|error| self.denied(error))?;
        match asked_for(refused.headers()) {
            None => Err(self.denied("the registry asks for a login of a kind that is not known here")),
            Some(Challenge::Basic) => {
                let login = login.and_then(|login| login.basic());
                login.ok_or_else(|| self.denied(format!("nobody has logged in to {registry}")))
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                if let Some(token) = login.as_ref().and_then(Login::registry_token) {
                    return Ok(format!("Bearer {token}"));
                }
                self.token(&realm, &service, &scope, login).await
            }
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: &str,
        scope: &str,
        login: Option<Login>,
    ) -> Result<String, ResolveError> {
        if !self.is_plain && !realm.starts_with("https://") {
            return Err(self.denied(format!("the registry gives its tokens in the clear, at {realm}")));
        }
        let asked = [("service", service), ("scope", scope)].into_iter().filter(|(_, value)| !value.is_empty());
        let request = match login.as_ref().and_then(Login::identity_token) {
            Some(token) => {
                let grant = [("grant_type", "refresh_token"), ("client_id", "deployer"), ("refresh_token", token)];
                self.client.post(realm).form(&asked.chain(grant).collect::<Vec<_>>())
            }
            None => {
                let request = self.client.get(realm).query(&asked.collect::<Vec<_>>());
                match login.and_then(|login| login.basic()) {
                    Some(basic) => request.header(AUTHORIZATION, basic),
                    None => request,
                }
            }
        };
        let answer = request.timeout(LIMIT).send().await.map_err(|error| self.unavailable(causes(&error)))?;
        self.refuse(&answer)?;
        let token: Token = serde_json::from_slice(&self.read(answer, TOKEN_BYTES_MAX).await?)
            .map_err(|_| self.unavailable("a token that makes no sense"))?;
        let token = if token.token.is_empty() { token.access_token } else { token.token };
        Ok(format!("Bearer {token}"))
    }

    /// Anything but a success, in the terms of a resolve.
    fn refuse(&self, answer: &Response) -> Result<(), ResolveError> {
        let (image, status) = (self.image.to_owned(), answer.status());
        let message = format!("{} answered {status}", self.host);
        Err(match status {
            status if status.is_success() => return Ok(()),
            StatusCode::NOT_FOUND => ResolveError::Absent { image, message },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ResolveError::Denied { image, message },
            StatusCode::TOO_MANY_REQUESTS => {
                let after = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
                let after = after.map(|after| format!("; it asks to come again after {}", plain::words(after)));
                ResolveError::Throttled { image, message: message + &after.unwrap_or_default() }
            }
            _ => ResolveError::Unavailable { image, message },
        })
    }

    async fn read(&self, mut answer: Response, most: usize) -> Result<Vec<u8>, ResolveError> {
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| self.unavailable(causes(&error)))? {
            if body.len() + piece.len() > most {
                return Err(self.unavailable(format!("an answer of more than {most} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn unavailable(&self, message: impl ToString) -> ResolveError {
        unavailable(self.image, message)
    }

    fn denied(&self, message: impl ToString) -> ResolveError {
        ResolveError::Denied { image: self.image.to_owned(), message: plain::words(&message.to_string()) }
    }
}

fn unavailable(image: &str, message: impl ToString) -> ResolveError {
    ResolveError::Unavailable { image: image.to_owned(), message: plain::words(&message.to_string()) }
}

/// The first challenge that is understood; one that a token answers, if there is one.
fn asked_for(headers: &HeaderMap) -> Option<Challenge> {
    let all = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|header| challenge(header.to_str().ok()?));
    all.max_by_key(|challenge| matches!(challenge, Challenge::Bearer { .. }))
}

/// An error with its causes, in one line; the address is said already.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        text = if text.is_empty() { error.to_string() } else { format!("{text}: {error}") };
        cause = error.source();
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
