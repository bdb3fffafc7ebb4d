//! Whether a request comes from somebody who knows the secret. Everything is compared in constant time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::Request;

/// Shortest signing key, in bytes: 128 bits, so that a password in a key's place is refused rather than used.
pub const SIGNING_KEY_BYTES_MIN: usize = 16;
/// Shortest secret in a path: 128 bits in base64. What a path may hold besides letters and digits is `-._~`.
pub const PATH_SECRET_BYTES_MIN: usize = 22;
/// How far a signed time may lie from ours, in seconds (Standard Webhooks).
const TOLERANCE_SECONDS: i64 = 300;

/// How a route tells a genuine request. Several secrets are for the days on which one replaces another.
#[derive(Clone)]
pub enum Auth {
    /// The whole value of the `Authorization` header.
    Header(Vec<String>),
    /// A token in the `Authorization` header, after `Bearer`.
    Bearer(Vec<String>),
    /// The last part of the URL's path, for senders that neither sign nor send a header of ours. Secrets are such as
    /// [`Auth::is_path_secret`] lets through.
    Path(Vec<String>),
    /// A signature by the rules of Standard Webhooks 1.0, with keys as [`Auth::signing_key`] reads them.
    StandardWebhooks(Vec<Vec<u8>>),
    /// Everybody is believed. The configuration must say so in words.
    Insecure,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// A request that nobody vouches for. The sender is told no more than this.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("unauthorized")]
pub struct Unauthorized;

impl Auth {
    /// The word for it in the configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Header(_) => "header",
            Self::Bearer(_) => "bearer",
            Self::Path(_) => "path",
            Self::StandardWebhooks(_) => "standard-webhooks",
            Self::Insecure => "insecure",
        }
    }

    /// Checks a request, at `now` in Unix seconds.
    ///
    /// # Errors
    /// [`Unauthorized`], whatever is wrong.
    pub fn verify(&self, request: &Request<'_>, now: i64) -> Result<(), Unauthorized> {
        let header = || request.header("authorization").unwrap_or_default();
        let is_genuine = match self {
            Self::Header(values) => equals_any(header(), values),
            Self::Bearer(tokens) => match header().split_at_checked(7) {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => equals_any(token, tokens),
                _ => false,
            },
            Self::Path(secrets) => equals_any(request.rest.as_bytes(), secrets),
            Self::StandardWebhooks(keys) => is_signed(request, keys, now).unwrap_or(false),
            Self::Insecure => true,
        };
        if is_genuine { Ok(()) } else { Err(Unauthorized) }
    }

    /// Whether a secret can stand in a path: long enough that nobody guesses it, since a path is written down in more
    /// places than a header, and of characters that no sender and no proxy writes in another way.
    pub fn is_path_secret(secret: &str) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        secret.len() >= PATH_SECRET_BYTES_MIN && secret.bytes().all(is_plain)
    }

    /// Reads a Standard Webhooks secret: base64, `whsec_` in front or not, of 16 bytes or more.
    pub fn signing_key(text: &str) -> Option<Vec<u8>> {
        let encoded = text.trim().strip_prefix("whsec_").unwrap_or(text.trim());
        STANDARD.decode(encoded).ok().filter(|key| key.len() >= SIGNING_KEY_BYTES_MIN)
    }
}

/// Hashing both sides hides how long the secret is. One that is empty or missing equals nothing, whatever an
/// empty secret among the configured ones would say.
fn equals_any(given: &[u8], secrets: &[String]) -> bool {
    if given.is_empty() {
        return false;
    }
    let given = Sha256::digest(given);
    let equal = secrets.iter().fold(Choice::from(0), |equal, secret| equal | given.ct_eq(&Sha256::digest(secret)));
    equal.into()
}

/// `webhook-signature` holds `v1,<base64>` one or more times, over `id.timestamp.body`.
fn is_signed(request: &Request<'_>, keys: &[Vec<u8>], now: i64) -> Option<bool> {
    let id = request.header("webhook-id")?;
    let timestamp = std::str::from_utf8(request.header("webhook-timestamp")?).ok()?;
    let signatures = std::str::from_utf8(request.header("webhook-signature")?).ok()?;
    // A sign in front parses, too, and no sender writes one.
    let is_number = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || timestamp.parse::<i64>().ok()?.abs_diff(now) > TOLERANCE_SECONDS.unsigned_abs() {
        return None;
    }
    let given: Vec<Vec<u8>> = signatures
        .split_ascii_whitespace()
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .collect();
    // The code is worked out once for a key: a header full of signatures costs a stranger more than it costs us.
    let is_by = |key: &Vec<u8>| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        for part in [id, b".", timestamp.as_bytes(), b".", request.body] {
            mac.update(part);
        }
        let expected = mac.finalize().into_bytes();
        let equal = given.iter().fold(Choice::from(0), |equal, signature| equal | signature.ct_eq(&expected));
        Some(equal.into())
    };
    Some(keys.iter().any(|key| is_by(key).unwrap_or(false)))
}
