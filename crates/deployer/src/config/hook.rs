//! `[[hook]]` tables: one route each, and no route without a secret.

use std::path::{Path, PathBuf};

use deployer_core::image::Registry;
use deployer_core::webhook::{Auth, Source};
use serde::Deserialize;

use super::{ConfigError, value};
use crate::http::Hook;

/// A table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookForm {
    path: String,
    source: String,
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    secret_file: Option<PathBuf>,
    #[serde(default)]
    registry_host: Option<String>,
    #[serde(default)]
    insecure: bool,
}

impl HookForm {
    /// Reads a table; a relative `secret_file` starts from the configuration's folder.
    pub fn parse(self, folder: &Path) -> Result<Hook, ConfigError> {
        let name = format!("hook {}", self.path);
        let wrong = |message: String| value(&name, message);
        // The router reads a segment that begins with ':' or '*' as a pattern, and panics.
        let is_plain = |segment: &str| !segment.starts_with([':', '*']);
        let is_path = self.path.starts_with('/')
            && self.path.split('/').all(is_plain)
            && !self.path.contains(['{', '}', '?', '#', ' ']);
        if !is_path || self.path == "/healthz" {
            return Err(wrong("path must begin with '/' and be a plain path of its own".to_owned()));
        }
        let source = Source::ALL.into_iter().find(|source| source.word() == self.source).ok_or_else(|| {
            let known: Vec<&str> = Source::ALL.into_iter().map(Source::word).collect();
            wrong(format!("source '{}' is unknown; the sources are {}", self.source, known.join(", ")))
        })?;
        let registry_host = match &self.registry_host {
            Some(host) => Some(Registry::parse(host).map_err(|error| wrong(error.to_string()))?),
            None => None,
        };
        let mut secrets = self.secrets;
        secrets.extend(self.secret);
        if let Some(file) = &self.secret_file {
            secrets.push(read_secret(&folder.join(file)).map_err(&wrong)?);
        }
        secrets.retain(|secret| !secret.is_empty());
        let auth = match (secrets.is_empty(), self.insecure) {
            (true, true) => Auth::Insecure,
            (true, false) => {
                return Err(wrong(
                    "it has no secret; set secret_file, or insecure = true if anybody may call it".to_owned(),
                ));
            }
            (false, true) => return Err(wrong("it has a secret and insecure = true; keep one of them".to_owned())),
            (false, false) => authentication(source, self.auth.as_deref(), secrets).map_err(&wrong)?,
        };
        Ok(Hook { path: self.path, source, auth, registry_host })
    }
}

fn authentication(source: Source, named: Option<&str>, secrets: Vec<String>) -> Result<Auth, String> {
    let usual = match source {
        Source::Distribution => "header",
        Source::Native => "bearer",
    };
    match named.unwrap_or(usual) {
        "header" => Ok(Auth::Header(secrets)),
        "bearer" => Ok(Auth::Bearer(secrets)),
        "standard-webhooks" => {
            let keys: Option<Vec<Vec<u8>>> = secrets.iter().map(|secret| Auth::signing_key(secret)).collect();
            keys.map(Auth::StandardWebhooks)
                .ok_or_else(|| "its secret is not base64, with or without whsec_".to_owned())
        }
        other => Err(format!("auth '{other}' is unknown; it is header, bearer or standard-webhooks")),
    }
}

/// A secret that others on the machine can read is none.
fn read_secret(path: &Path) -> Result<String, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let cannot = |error: std::io::Error| format!("cannot read secret_file {}: {error}", path.display());
    let mode = std::fs::metadata(path).map_err(cannot)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(format!("secret_file {0} can be read by everybody; run: chmod 600 {0}", path.display()));
    }
    let secret = std::fs::read_to_string(path).map_err(cannot)?.trim().to_owned();
    if secret.is_empty() { Err(format!("secret_file {} is empty", path.display())) } else { Ok(secret) }
}

/// Two routes on one path would leave open which secret counts.
pub fn refuse_doubles(hooks: &[Hook]) -> Result<(), ConfigError> {
    let mut paths: Vec<&str> = hooks.iter().map(|hook| hook.path.as_str()).collect();
    paths.sort_unstable();
    match paths.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(value(&format!("hook {}", pair[0]), "it is there twice".to_owned())),
        None => Ok(()),
    }
}
