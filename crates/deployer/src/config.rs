//! Settings: a TOML file, then `DEPLOYER_*` from the environment, then flags; the later wins.
//!
//! Everything is parsed once, here, into values that the rest trusts. Unknown keys are refused with their place.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use deployer_core::policy::{Manage, parse_duration};
use serde::Deserialize;
use thiserror::Error;

use crate::http::Hook;
use crate::wire::Endpoint;

mod hook;

/// Where hooks are taken unless told otherwise.
const LISTEN: &str = "127.0.0.1:7380";
/// Where state lies unless told otherwise.
const STATE_DIR: &str = "/var/lib/deployer";
/// Where Docker listens unless told otherwise.
const DOCKER: &str = "unix:///var/run/docker.sock";
/// The file that is read if it exists and no other is named.
const FILE: &str = "/etc/deployer/deployer.toml";
/// The name of the local API's socket in the state directory.
pub const SOCKET: &str = "deployer.sock";

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
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FileForm {
    docker: Option<String>,
    state_dir: Option<PathBuf>,
    listen: Option<String>,
    node: Option<String>,
    manage: Option<String>,
    interval: Option<String>,
    registry_check: Option<String>,
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
    /// The file is not what it should be; the text has line and column.
    #[error("{path}: {message}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Place, key and hint.
        message: String,
    },
    /// A setting's value cannot be used.
    #[error("{setting}: {message}")]
    Value {
        /// The setting.
        setting: String,
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
        let (file, folder) = read_file(flags.config.as_deref())?;
        let pick = |flag: &Option<String>, file: &Option<String>| flag.clone().or_else(|| file.clone());
        let docker = pick(&flags.docker, &file.docker)
            .or_else(|| std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()))
            .unwrap_or_else(|| DOCKER.to_owned());
        let listen = pick(&flags.listen, &file.listen).unwrap_or_else(|| LISTEN.to_owned());
        let manage = pick(&flags.manage, &file.manage).unwrap_or_else(|| "labeled".to_owned());
        let interval = pick(&flags.interval, &file.interval).unwrap_or_else(|| "1h".to_owned());
        let check = file.registry_check.unwrap_or_else(|| "1d".to_owned());
        let hooks = file.hook.into_iter().map(|form| form.parse(&folder)).collect::<Result<Vec<_>, _>>()?;
        hook::refuse_doubles(&hooks)?;
        Ok(Self {
            docker: Endpoint::parse(&docker).map_err(|message| value("docker", message))?,
            state_dir: flags.state_dir.clone().or(file.state_dir).unwrap_or_else(|| STATE_DIR.into()),
            listen: listen
                .parse()
                .map_err(|_| value("listen", format!("'{listen}' is not an address such as {LISTEN}")))?,
            node: pick(&flags.node, &file.node).unwrap_or_else(host_name),
            manage: Manage::parse(&manage)
                .ok_or_else(|| value("manage", format!("'{manage}' is not labeled, labeled=VALUE or all")))?,
            interval: duration("interval", &interval)?,
            registry_check: if check == "off" { None } else { Some(duration("registry_check", &check)?) },
            hooks,
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
        for hook in &self.hooks {
            write!(f, "{hook}")?;
        }
        Ok(())
    }
}

fn value(setting: &str, message: String) -> ConfigError {
    ConfigError::Value { setting: setting.to_owned(), message }
}

fn duration(setting: &str, text: &str) -> Result<Duration, ConfigError> {
    let parsed = parse_duration(text).filter(|duration| !duration.is_zero());
    parsed.ok_or_else(|| value(setting, format!("'{text}' is not a duration such as 90s, 15m, 1h or 1d")))
}

/// The file's content, and the folder that its relative paths start from.
fn read_file(named: Option<&Path>) -> Result<(FileForm, PathBuf), ConfigError> {
    let path = named.unwrap_or(Path::new(FILE));
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok((FileForm::default(), folder));
        }
        Err(error) => return Err(ConfigError::File { path: path.to_owned(), message: error.to_string() }),
    };
    let form = toml::from_str(&text).map_err(|error| {
        let place = error.span().map(|span| place(&text, span.start)).unwrap_or_default();
        let message = format!("{place}{}", error.message().replace('\n', " "));
        ConfigError::Form { path: path.to_owned(), message }
    })?;
    Ok((form, folder))
}

/// `line 3, column 1: ` of a byte's place.
fn place(text: &str, byte: usize) -> String {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
    format!("line {line}, column {column}: ")
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
