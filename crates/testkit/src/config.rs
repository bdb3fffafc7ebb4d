//! The daemon's configuration file, as an operator would write it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::registry::Notification;
use crate::scene::random_hex;

/// A route for webhooks, with a random secret.
#[derive(Clone, Debug)]
pub struct Hook {
    path: String,
    source: &'static str,
    secret: String,
    registry_host: Option<String>,
}

impl Hook {
    /// A route for a Distribution registry, whose secret is the whole expected `Authorization` header. Its events name
    /// the host that was pushed to; `registry_host` is the one in the names of the images.
    pub fn distribution(path: &str, registry_host: &str) -> Self {
        let secret = format!("Bearer {}{}", random_hex(), random_hex());
        Self { path: path.to_owned(), source: "distribution", secret, registry_host: Some(registry_host.to_owned()) }
    }

    /// A route for any CI, whose secret is a bearer token.
    pub fn native(path: &str) -> Self {
        let secret = format!("{}{}", random_hex(), random_hex());
        Self { path: path.to_owned(), source: "native", secret, registry_host: None }
    }

    /// A route for Docker Hub, whose secret ends the path. What it tells of is looked for in another registry.
    pub fn dockerhub(path: &str, registry_host: &str) -> Self {
        let secret = format!("{}{}{}{}", random_hex(), random_hex(), random_hex(), random_hex());
        Self { path: path.to_owned(), source: "dockerhub", secret, registry_host: Some(registry_host.to_owned()) }
    }

    /// The path that a sender calls.
    pub fn path(&self) -> String {
        if self.source == "dockerhub" { format!("{}/{}", self.path, self.secret) } else { self.path.clone() }
    }

    /// The secret.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The whole `Authorization` header that the route wants; empty if it looks at none.
    pub fn authorization(&self) -> String {
        match self.source {
            "native" => format!("Bearer {}", self.secret),
            "dockerhub" => String::new(),
            _ => self.secret.clone(),
        }
    }

    /// What a registry has to be told so that it calls this route of a daemon at `address` (`host:port`).
    pub fn notification(&self, address: &str) -> Notification {
        let headers = vec![("Authorization".to_owned(), self.authorization())];
        Notification { url: format!("http://{address}{}", self.path), headers }
    }
}

/// Writes `deployer.toml` into `directory`: `settings` (TOML for the top level, and further tables after it) and the
/// hooks, each with its secret in a file only its owner can read. Returns the path of `deployer.toml`.
///
/// # Panics
///
/// When a file cannot be written.
#[track_caller]
pub fn write_config(directory: &Path, hooks: &[Hook], settings: &str) -> PathBuf {
    let mut text = settings.to_owned();
    for (index, hook) in hooks.iter().enumerate() {
        let secret_file = directory.join(format!("secret-{index}"));
        write_private(&secret_file, &hook.secret);
        text.push_str(&format!("\n[[hook]]\npath = {:?}\nsource = {:?}\n", hook.path, hook.source));
        text.push_str(&format!("secret_file = {secret_file:?}\n"));
        if let Some(host) = &hook.registry_host {
            text.push_str(&format!("registry_host = {host:?}\n"));
        }
    }
    let file = directory.join("deployer.toml");
    write_private(&file, &text);
    file
}

fn write_private(path: &Path, content: &str) {
    let opened = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(content.as_bytes()));
    written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
