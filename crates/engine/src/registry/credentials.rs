//! Credentials for registries, from where `docker login` leaves them.
//!
//! The file is read anew for each call, since it changes under a running daemon. Secrets appear in no log, no
//! error and no debug output. Format: Docker's `config.json` and the credential helper protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use deployer_core::image::DOCKER_HUB;
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// How long a credential helper may take.
const HELPER_LIMIT: Duration = Duration::from_secs(10);
/// Longest answer of a credential helper; a longer one is an error rather than memory.
const HELPER_BYTES_MAX: u64 = 64 << 10;
/// Variables by which a service manager speaks with this process: with them a helper could say that it is ready.
const SERVICE_VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
/// What the variables of our own settings begin with. They may hold secrets.
const OWN_VARIABLES: &[u8] = b"DEPLOYER_";
/// The key under which Docker stores Docker Hub's credentials.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name by which a helper says that its secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Why credentials cannot be had.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The file exists and cannot be read.
    #[error("cannot read {path}: {message}; run `docker login` again, or repair the file")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A helper failed.
    #[error("credential helper {helper} failed: {message}")]
    Helper {
        /// Its name, as the file gives it.
        helper: String,
        /// What went wrong.
        message: String,
    },
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Where logins come from, without any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logins {
    /// Docker's file.
    pub file: PathBuf,
    /// The programs that it names, each once.
    pub helpers: Vec<String>,
}

/// What Docker's file says of logins; `None` if there is none.
///
/// # Errors
/// [`CredentialsError::File`] if it cannot be used.
pub fn logins() -> Result<Option<Logins>, CredentialsError> {
    let Some(file) = config_file().filter(|file| file.exists()) else { return Ok(None) };
    let config = read_config()?;
    let named = config.cred_helpers.into_values().chain([config.creds_store]).filter(|helper| !helper.is_empty());
    let programs: BTreeSet<String> = named.map(|helper| program(&helper)).collect();
    Ok(Some(Logins { file, helpers: programs.into_iter().collect() }))
}

/// A login in a registry. Its secrets are shown nowhere.
pub struct Login {
    username: String,
    password: String,
    identity_token: String,
    registry_token: String,
}

impl Login {
    /// What a helper answers.
    pub fn of(username: &str, secret: &str) -> Self {
        let (registry_token, secret) = (String::new(), secret.to_owned());
        if username == TOKEN_USER {
            let (username, password) = (String::new(), String::new());
            return Self { username, password, identity_token: secret, registry_token };
        }
        Self { username: username.to_owned(), password: secret, identity_token: String::new(), registry_token }
    }

    /// `Authorization` by user and password, if that is what it is.
    pub fn basic(&self) -> Option<String> {
        let pair = format!("{}:{}", self.username, self.password);
        (!self.username.is_empty()).then(|| format!("Basic {}", STANDARD.encode(pair)))
    }

    /// What tokens are asked for with, instead of user and password.
    pub fn identity_token(&self) -> Option<&str> {
        Some(self.identity_token.as_str()).filter(|token| !token.is_empty())
    }

    /// A token that the registry takes as it is.
    pub fn registry_token(&self) -> Option<&str> {
        Some(self.registry_token.as_str()).filter(|token| !token.is_empty())
    }
}

/// The value of `X-Registry-Auth` for a registry; `None` if nobody has logged in there.
pub async fn header(registry: &str) -> Result<Option<String>, CredentialsError> {
    Ok(login(registry).await?.map(|login| encode(key_of(registry), &login)))
}

/// The login in a registry; `None` if nobody has logged in there.
pub async fn login(registry: &str) -> Result<Option<Login>, CredentialsError> {
    let config = read_config()?;
    let key = key_of(registry);
    let helper = config.cred_helpers.get(registry).or(Some(&config.creds_store)).filter(|h| !h.is_empty());
    if let Some(helper) = helper {
        return Ok(ask_helper(helper, key).await?.map(|answer| Login::of(&answer.username, &answer.secret)));
    }
    let stored = config.auths.into_iter().find(|(name, _)| normalised(name) == normalised(key));
    Ok(stored.map(|(_, auth)| of_file(auth)))
}

/// The key under which a registry's login is kept.
fn key_of(registry: &str) -> &str {
    if registry == DOCKER_HUB { DOCKER_HUB_KEY } else { registry }
}

fn config_file() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
    folder.map(|folder| folder.join("config.json"))
}

fn program(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

fn read_config() -> Result<DockerConfig, CredentialsError> {
    let Some(path) = config_file() else { return Ok(DockerConfig::default()) };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(DockerConfig::default()),
        Err(error) => return Err(CredentialsError::File { path, message: error.to_string() }),
    };
    // Only the place of a mistake is told: serde's own text could quote a secret.
    serde_json::from_slice(&text).map_err(|error| CredentialsError::File {
        path,
        message: format!("line {}, column {} is not what Docker writes", error.line(), error.column()),
    })
}

/// Keys are written with or without scheme and path; the host counts.
fn normalised(key: &str) -> &str {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    host.split('/').next().unwrap_or(host)
}

/// Asks a helper for the login of a registry.
async fn ask_helper(helper: &str, key: &str) -> Result<Option<HelperAnswer>, CredentialsError> {
    ask_program(Path::new(&program(helper)), helper, key).await
}

/// How a helper is run: with the environment of this process, where logins of clouds lie, but for what is the service
/// manager's and our own.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let own =
        std::env::vars_os().map(|(name, _)| name).filter(|name| name.as_encoded_bytes().starts_with(OWN_VARIABLES));
    for name in SERVICE_VARIABLES.iter().map(OsString::from).chain(own) {
        command.env_remove(name);
    }
    command
}

async fn ask_program(program: &Path, helper: &str, key: &str) -> Result<Option<HelperAnswer>, CredentialsError> {
    let failed = |message: String| CredentialsError::Helper { helper: helper.to_owned(), message };
    let mut child = command(program).spawn().map_err(|error| failed(error.to_string()))?;
    let (answer, status) = tokio::time::timeout(HELPER_LIMIT, exchange(&mut child, key))
        .await
        .map_err(|_| failed(format!("no answer within {HELPER_LIMIT:?}")))?
        .map_err(|error| failed(error.to_string()))?;
    let Some(status) = status else {
        return Err(failed(format!("its answer is longer than {HELPER_BYTES_MAX} bytes")));
    };
    if !status.success() {
        // Every helper says this on standard output when nobody has logged in.
        let is_unknown = String::from_utf8_lossy(&answer).contains("credentials not found");
        return if is_unknown { Ok(None) } else { Err(failed(status.to_string())) };
    }
    serde_json::from_slice(&answer).map(Some).map_err(|_| failed("its answer is not JSON".to_owned()))
}

/// Asks a helper, and waits for its end; without a status if it says more than is read.
async fn exchange(child: &mut Child, key: &str) -> std::io::Result<(Vec<u8>, Option<ExitStatus>)> {
    if let Some(mut input) = child.stdin.take() {
        // One that knows without asking, such as that nobody has logged in, does not read.
        match input.write_all(key.as_bytes()).await {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(HELPER_BYTES_MAX + 1).read_to_end(&mut answer).await?;
    }
    if answer.len() as u64 > HELPER_BYTES_MAX {
        return Ok((answer, None));
    }
    Ok((answer, Some(child.wait().await?)))
}

fn of_file(auth: Auth) -> Login {
    let Auth { auth, mut username, mut password, identitytoken: identity_token, registrytoken: registry_token } = auth;
    if let Some(pair) = STANDARD.decode(auth.trim()).ok().and_then(|pair| String::from_utf8(pair).ok())
        && let Some((user, secret)) = pair.split_once(':')
    {
        (username, password) = (user.to_owned(), secret.trim_end_matches('\0').to_owned());
    }
    Login { username, password, identity_token, registry_token }
}

/// The engine reads the URL-safe alphabet only; a header in the other one is silently dropped.
fn encode(key: &str, login: &Login) -> String {
    let body = json!({
        "username": login.username,
        "password": login.password,
        "identitytoken": login.identity_token,
        "registrytoken": login.registry_token,
        "serveraddress": key,
    });
    URL_SAFE.encode(body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_url_safe_and_holds_what_login_stored() {
        let auth = Auth { auth: STANDARD.encode("robot:p>>?~ü:x"), ..Auth::default() };
        let header = encode("registry:5000", &of_file(auth));
        assert!(!header.contains(['+', '/']), "{header}");
        let body: serde_json::Value = serde_json::from_slice(&URL_SAFE.decode(header).expect("base64")).expect("JSON");
        assert_eq!((&body["username"], &body["password"]), (&json!("robot"), &json!("p>>?~ü:x")));
    }

    /// A helper of a few lines of shell.
    async fn helped(script: &str) -> Result<Option<HelperAnswer>, CredentialsError> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("ours");
        ask_program(&path, "test", "registry:5000").await
    }

    #[tokio::test]
    async fn security_17_a_helpers_answer_has_a_length() {
        let answer = helped(r#"read key; echo "{\"Username\": \"u\", \"Secret\": \"$key\"}""#).await.expect("helped");
        assert_eq!(answer.map(|answer| (answer.username, answer.secret)), Some(("u".into(), "registry:5000".into())));
        assert!(helped("echo credentials not found in native keychain; exit 1").await.expect("helped").is_none());
        // It does not end by itself: what is too long is read no further.
        let script = format!("head -c {} /dev/zero | tr '\\0' x; exec sleep 60", HELPER_BYTES_MAX + 1);
        let long = helped(&script).await.map(drop).expect_err("too long").to_string();
        assert!(long.contains("longer than"), "{long}");
        let failed = helped("exit 3").await.map(drop).expect_err("failed").to_string();
        assert!(failed.contains("exit status: 3"), "{failed}");
        assert!(helped("echo no").await.map(drop).expect_err("no JSON").to_string().contains("not JSON"));
    }

    /// It could tell the service manager that deployer is ready, or stopping.
    #[test]
    fn security_17_a_helper_gets_nothing_of_the_service_managers() {
        let command = command(std::path::Path::new("docker-credential-test"));
        let removed: Vec<&str> = command
            .as_std()
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .filter_map(|(name, _)| name.to_str())
            .collect();
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
            assert!(removed.contains(&name), "{name}: {removed:?}");
        }
    }

    #[test]
    fn keys_are_compared_by_host() {
        for key in ["registry:5000", "https://registry:5000", "https://registry:5000/v1/"] {
            assert_eq!(normalised(key), "registry:5000");
        }
    }
}
