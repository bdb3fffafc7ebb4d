//! Settings: a TOML file, then `DEPLOYER_*` from the environment, then flags; the later wins.
//!
//! Everything is parsed once, here, into values that the rest trusts. Unknown keys are refused with their place.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use deployer_core::policy::{Manage, parse_duration};
use deployer_core::slot::Scope;
use deployer_hooks::http::Hook;
use deployer_wire::Endpoint;
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

pub use etcd::EtcdConfig;
use place::{Document, Setting};

mod certificates;
mod etcd;
mod file;
mod hook;
mod place;

/// Where hooks are taken unless told otherwise.
const LISTEN: &str = "127.0.0.1:7380";
/// Where state lies unless told otherwise.
const STATE_DIR: &str = "/var/lib/deployer";
/// Where Docker listens unless told otherwise.
const DOCKER: &str = "unix:///var/run/docker.sock";
/// The longest period that can be set. Far beyond it a moment to come could no longer be computed.
const PERIOD_LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// What every key in the store begins with unless told otherwise.
pub const PREFIX: &str = "/deployer";
/// Longest name of a node, in bytes: that of a host.
const NODE_BYTES_MAX: usize = 253;
/// The file that is read if it exists and no other is named.
const FILE: &str = "/etc/deployer/deployer.toml";
/// The name of the local API's socket in the state directory.
pub const SOCKET: &str = "deployer.sock";
/// The name of the embedded store in the state directory.
pub const STORE: &str = "store.redb";

/// The flags of `deployer run`. Each can be given in the environment or, but for the file itself, in the file.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Configuration file [default: /etc/deployer/deployer.toml, if it exists]
    #[arg(long, env = "DEPLOYER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the Docker Engine [default: $DOCKER_HOST, or unix:///var/run/docker.sock]
    #[arg(long, env = "DEPLOYER_DOCKER", value_name = "ADDRESS")]
    pub docker: Option<String>,
    /// Folder of the store, the journals and the socket [default: /var/lib/deployer]
    #[arg(long, env = "DEPLOYER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where hooks are taken; port 0 takes a free one, written to STATE_DIR/listen [default: 127.0.0.1:7380]
    #[arg(long, env = "DEPLOYER_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// This node's name [default: the host's name]
    #[arg(long, env = "DEPLOYER_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// Containers to manage: labeled (deployer.enable=true), labeled=VALUE, or all [default: labeled]
    #[arg(long, env = "DEPLOYER_MANAGE", value_name = "WHICH")]
    pub manage: Option<String>,
    /// How often everything is looked at without any event [default: 1h]
    #[arg(long, env = "DEPLOYER_INTERVAL", value_name = "DURATION")]
    pub interval: Option<String>,
    /// URLs of the etcd that the machines of a cluster share, with commas between [default: a store of this machine]
    #[arg(long, env = "DEPLOYER_ETCD", value_name = "URLS")]
    pub etcd: Option<String>,
    /// What deployer's keys in etcd begin with [default: /deployer]
    #[arg(long, env = "DEPLOYER_ETCD_PREFIX", value_name = "PREFIX")]
    pub etcd_prefix: Option<String>,
}

impl Flags {
    /// The file that is read, if it exists or was asked for.
    pub fn file(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(FILE))
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FileForm {
    docker: Option<Spanned<String>>,
    state_dir: Option<PathBuf>,
    listen: Option<Spanned<String>>,
    node: Option<Spanned<String>>,
    manage: Option<Spanned<String>>,
    interval: Option<Spanned<String>>,
    registry_check: Option<Spanned<String>>,
    scope: Option<Spanned<String>>,
    plain_http: Vec<Spanned<String>>,
    etcd: Option<Spanned<etcd::EtcdForm>>,
    hook: Vec<hook::HookForm>,
}

/// The settings.
#[derive(Debug)]
pub struct Config {
    /// The engine's address.
    pub docker: Endpoint,
    /// Folder of the store, the journals and the socket.
    pub state_dir: PathBuf,
    /// Where hooks are taken.
    pub listen: SocketAddr,
    /// This node's name.
    pub node: String,
    /// Which containers are managed.
    pub manage: Manage,
    /// How often everything is looked at without any event.
    pub interval: Duration,
    /// How often the registry is asked to heal lost hooks; `None`: never.
    pub registry_check: Option<Duration>,
    /// Whose instances wait for each other.
    pub scope: Scope,
    /// Hosts of registries, with their ports, that may be asked in the clear.
    pub plain_http: Vec<String>,
    /// The store that machines share; `None`: this machine has its own.
    pub etcd: Option<EtcdConfig>,
    /// The routes of hooks.
    pub hooks: Vec<Hook>,
}

/// Why the settings cannot be used. All are the user's to mend: exit code 2.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// The file is not what it should be: no TOML, or an unknown key.
    #[error("{place}: {message}")]
    Form {
        /// `file:line:column`.
        place: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// A setting's value cannot be used.
    #[error("{place}: {setting}: {message}")]
    Value {
        /// `file:line:column`, or the flag or variable it came from.
        place: String,
        /// The setting.
        setting: &'static str,
        /// What is wrong, and what would be right.
        message: String,
    },
}

impl Config {
    /// Reads file, environment and flags.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that is wrong.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let document = Document::read(flags.file(), flags.config.is_some())?;
        let file = parse(&document)?;
        let pick = |name, from: (&Option<String>, &str), file: Option<Spanned<String>>| match (from, file) {
            ((Some(flag), origin), _) => Some(Setting::new(name, flag.clone(), origin.to_owned())),
            ((None, _), Some(file)) => {
                let place = document.place(file.span());
                Some(Setting::new(name, file.into_inner(), place))
            }
            ((None, _), None) => None,
        };
        let or = |setting: Option<Setting>, name, text: &str| {
            setting.unwrap_or_else(|| Setting::new(name, text.to_owned(), "default".to_owned()))
        };
        let docker = pick("docker", (&flags.docker, "--docker or DEPLOYER_DOCKER"), file.docker).or_else(docker_host);
        let docker = or(docker, "docker", DOCKER);
        let listen = or(pick("listen", (&flags.listen, "--listen or DEPLOYER_LISTEN"), file.listen), "listen", LISTEN);
        let manage =
            or(pick("manage", (&flags.manage, "--manage or DEPLOYER_MANAGE"), file.manage), "manage", "labeled");
        let interval = pick("interval", (&flags.interval, "--interval or DEPLOYER_INTERVAL"), file.interval);
        let check = or(pick("registry_check", (&None, ""), file.registry_check), "registry_check", "1d");
        let scope = or(pick("scope", (&None, ""), file.scope), "scope", Scope::Cluster.word());
        let node = pick("node", (&flags.node, "--node or DEPLOYER_NODE"), file.node);
        Ok(Self {
            docker: Endpoint::parse(&docker.text).map_err(|message| docker.wrong(message))?,
            state_dir: flags.state_dir.clone().or(file.state_dir).unwrap_or_else(|| STATE_DIR.into()),
            listen: listen.text.parse().map_err(|_| listen.is_not(&format!("an address such as {LISTEN}")))?,
            node: node_name(node.unwrap_or_else(host_name))?,
            manage: Manage::parse(&manage.text).ok_or_else(|| manage.is_not("labeled, labeled=VALUE or all"))?,
            interval: duration(&or(interval, "interval", "1h"))?,
            registry_check: if check.text == "off" { None } else { Some(duration(&check)?) },
            scope: Scope::ALL
                .into_iter()
                .find(|known| known.word() == scope.text)
                .ok_or_else(|| scope.is_not("cluster or service"))?,
            plain_http: file
                .plain_http
                .into_iter()
                .map(|host| registry_host(host, &document))
                .collect::<Result<_, _>>()?,
            etcd: etcd::parse(file.etcd, flags, &document)?,
            hooks: hook::parse(file.hook, &document)?,
        })
    }
}

impl fmt::Display for Config {
    /// The settings as they came out, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "docker = \"{}\"", self.docker)?;
        writeln!(f, "state_dir = \"{}\"", self.state_dir.display())?;
        writeln!(f, "listen = \"{}\"", self.listen)?;
        writeln!(f, "node = \"{}\"", self.node)?;
        let manage = match &self.manage {
            Manage::All => "all".to_owned(),
            Manage::Labeled(label) => format!("labeled={label}"),
        };
        writeln!(f, "manage = \"{manage}\"")?;
        writeln!(f, "interval = \"{}s\"", self.interval.as_secs())?;
        match self.registry_check {
            Some(period) => writeln!(f, "registry_check = \"{}s\"", period.as_secs())?,
            None => writeln!(f, "registry_check = \"off\"")?,
        }
        writeln!(f, "scope = \"{}\"", self.scope.word())?;
        if !self.plain_http.is_empty() {
            writeln!(f, "plain_http = {:?}", self.plain_http)?;
        }
        if let Some(etcd) = &self.etcd {
            write!(f, "{etcd}")?;
        }
        for hook in &self.hooks {
            write!(f, "{hook}")?;
        }
        Ok(())
    }
}

fn parse(document: &Document) -> Result<FileForm, ConfigError> {
    toml::from_str(&document.text).map_err(|error| ConfigError::Form {
        place: document.place(error.span().unwrap_or_default()),
        // The message alone: the whole error shows the line, in which a secret may stand.
        message: error.message().replace('\n', " "),
    })
}

fn duration(setting: &Setting) -> Result<Duration, ConfigError> {
    let parsed = parse_duration(&setting.text).filter(|period| !period.is_zero() && *period <= PERIOD_LONGEST);
    parsed.ok_or_else(|| setting.is_not("a duration such as 90s, 15m, 1h or 1d, up to 365d"))
}

/// A registry's host as it stands in the names of images.
fn registry_host(host: Spanned<String>, document: &Document) -> Result<String, ConfigError> {
    let place = document.place(host.span());
    let host = Setting::new("plain_http", host.into_inner(), place);
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
    let is_host = !host.text.is_empty() && host.text.bytes().all(is_of_host);
    if is_host {
        Ok(host.text)
    } else {
        Err(host.is_not("a registry's host as in images' names, such as registry.lan:5000"))
    }
}

/// A node's name stands in tables and messages; other characters would break them.
fn node_name(setting: Setting) -> Result<String, ConfigError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = (1..=NODE_BYTES_MAX).contains(&setting.text.len()) && setting.text.bytes().all(is_plain);
    if is_name { Ok(setting.text) } else { Err(setting.is_not("a name from letters, digits and -._")) }
}

fn host_name() -> Setting {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Setting::new("node", name, "the host's name".to_owned())
}

fn docker_host() -> Option<Setting> {
    let address = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())?;
    Some(Setting::new("docker", address, "DOCKER_HOST".to_owned()))
}
