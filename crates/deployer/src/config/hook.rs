//! `[[hook]]` tables: one route each, and no route without a secret.

use std::collections::BTreeMap;
use std::path::Path;

use deployer_core::image::Registry;
use deployer_core::webhook::{Auth, PATH_SECRET_BYTES_MIN, SIGNING_KEY_BYTES_MIN, Source};
use deployer_hooks::http::Hook;
use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::file::read_private;
use super::place::{Document, Setting};

/// A table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookForm {
    path: Spanned<String>,
    source: Spanned<String>,
    #[serde(default)]
    auth: Option<Spanned<String>>,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    secret_file: Option<Spanned<String>>,
    #[serde(default)]
    registry_host: Option<Spanned<String>>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    callback: Option<Spanned<bool>>,
}

/// Reads all tables. Two routes on one path would leave open which secret counts.
pub fn parse(forms: Vec<HookForm>, document: &Document) -> Result<Vec<Hook>, ConfigError> {
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let mut hooks = Vec::new();
    for form in forms {
        let place = document.place(form.path.span());
        if let Some(first) = taken.insert(form.path.as_ref().clone(), place.clone()) {
            let path = Setting::new("hook.path", String::new(), place);
            return Err(path.wrong(format!("another hook has the same path, at {first}")));
        }
        hooks.push(form.parse(document)?);
    }
    Ok(hooks)
}

impl HookForm {
    /// Reads a table; a relative `secret_file` starts from the configuration's folder.
    fn parse(self, document: &Document) -> Result<Hook, ConfigError> {
        let at = |name, text: Spanned<String>| {
            let place = document.place(text.span());
            Setting::new(name, text.into_inner(), place)
        };
        let path = at("hook.path", self.path);
        if !is_path(&path.text) {
            return Err(path.wrong("write a path of its own from letters, digits and -._~/, such as /hooks/registry"));
        }
        let source = at("hook.source", self.source);
        let source = Source::ALL.into_iter().find(|known| known.word() == source.text).ok_or_else(|| {
            let known: Vec<&str> = Source::ALL.into_iter().map(Source::word).collect();
            source.wrong(format!("'{}' is unknown; the sources are {}", source.text, known.join(", ")))
        })?;
        let registry_host = match self.registry_host.map(|host| at("hook.registry_host", host)) {
            Some(host) => Some(Registry::parse(&host.text).map_err(|error| host.wrong(error))?),
            None => None,
        };
        let mut secrets = self.secrets;
        secrets.extend(self.secret);
        if let Some(file) = self.secret_file.map(|file| at("hook.secret_file", file)) {
            let found = read_secrets(&document.folder().join(&file.text));
            secrets.extend(found.map_err(|message| file.wrong(message))?);
        }
        secrets.retain(|secret| !secret.is_empty());
        let auth = match (secrets.is_empty(), self.insecure) {
            (true, true) => Auth::Insecure,
            (true, false) => {
                let hint = "it has no secret; set secret_file, or insecure = true if anybody may call it";
                return Err(path.wrong(hint));
            }
            (false, true) => return Err(path.wrong("it has a secret and insecure = true; keep one of them")),
            (false, false) => authentication(source, self.auth.map(|auth| at("hook.auth", auth)), secrets, &path)?,
        };
        let callback = match self.callback {
            Some(callback) => {
                let place = Setting::new("hook.callback", String::new(), document.place(callback.span()));
                callback.into_inner() && is_called_back(source, &auth).map_err(|message| place.wrong(message))?
            }
            None => false,
        };
        Ok(Hook { path: path.text, source, auth, registry_host, callback })
    }
}

/// Only characters that stand for themselves in a URL and in the router's patterns.
fn is_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.starts_with('/') && path.bytes().all(is_plain) && path != "/healthz"
}

/// Calling somebody on a stranger's word would be a service to strangers.
fn is_called_back(source: Source, auth: &Auth) -> Result<bool, &'static str> {
    match (source, auth) {
        (Source::DockerHub, Auth::Insecure) => Err("a hook that anybody may call is not called back; give it a secret"),
        (Source::DockerHub, _) => Ok(true),
        _ => Err("only Docker Hub waits to be called back; leave it out"),
    }
}

fn authentication(
    source: Source,
    named: Option<Setting>,
    secrets: Vec<String>,
    path: &Setting,
) -> Result<Auth, ConfigError> {
    let usual = match source {
        Source::Distribution => "header",
        Source::DockerHub => "path",
        Source::Native => "bearer",
    };
    match named.as_ref().map_or(usual, |auth| auth.text.as_str()) {
        "header" => Ok(Auth::Header(secrets)),
        "bearer" => Ok(Auth::Bearer(secrets)),
        "path" if path.text.ends_with('/') => Err(path.wrong("the secret follows it; leave the last slash out")),
        "path" => match secrets.iter().all(|secret| Auth::is_path_secret(secret)) {
            true => Ok(Auth::Path(secrets)),
            false => Err(path.wrong(format!(
                "a secret of it is not {PATH_SECRET_BYTES_MIN} or more letters, digits and -._~; \
                 make one with: openssl rand -hex 16"
            ))),
        },
        "standard-webhooks" => {
            let keys: Option<Vec<Vec<u8>>> = secrets.iter().map(|secret| Auth::signing_key(secret)).collect();
            keys.map(Auth::StandardWebhooks).ok_or_else(|| {
                let expected = format!("base64 of {SIGNING_KEY_BYTES_MIN} bytes or more, with or without whsec_");
                path.wrong(format!("a secret of it is not {expected}; make one with: openssl rand -base64 32"))
            })
        }
        other => Err(named
            .as_ref()
            .unwrap_or(path)
            .wrong(format!("'{other}' is unknown; it is header, bearer, path or standard-webhooks"))),
    }
}

/// One secret a line, so that a new one can stand beside the old while senders change over.
fn read_secrets(path: &Path) -> Result<Vec<String>, String> {
    let text = read_private(path)?;
    let secrets: Vec<String> =
        text.lines().map(str::trim).filter(|secret| !secret.is_empty()).map(str::to_owned).collect();
    if secrets.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(secrets) }
}
