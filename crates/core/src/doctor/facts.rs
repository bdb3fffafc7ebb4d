//! What was seen. Texts are for people; whatever is judged by is a number or a word of a closed set.

use std::net::SocketAddr;

/// Everything that was looked at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// This program's version.
    pub version: String,
    /// What the configuration came to.
    pub settings: Settings,
    /// The engine.
    pub engine: EngineFacts,
    /// Docker's own file of logins.
    pub logins: Logins,
    /// The state directory, by its path.
    pub state_dir: (String, StateDir),
    /// The daemon on its socket.
    pub daemon: Daemon,
    /// The embedded store, where the daemon cannot be asked.
    pub store: Store,
    /// What answers where hooks are taken.
    pub listener: Listener,
    /// The clocks.
    pub clock: Clock,
}

/// What the configuration came to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file.
    pub file: String,
    /// Whether there is one.
    pub is_there: bool,
    /// The routes.
    pub hooks: Vec<Route>,
    /// The socket of the daemon that runs with this configuration.
    pub socket: String,
    /// The socket that the command line would ask.
    pub socket_asked: String,
}

/// A route of hooks.
#[derive(Clone, Debug)]
pub struct Route {
    /// The path, as it may be printed.
    pub path: String,
    /// Whether anybody may call it.
    pub is_open: bool,
}

/// The engine.
#[derive(Clone, Debug)]
pub struct EngineFacts {
    /// Where it was looked for.
    pub address: String,
    /// How it introduced itself, or why it did not.
    pub answer: Result<Engine, Away>,
}

/// An engine that answered.
#[derive(Clone, Debug)]
pub struct Engine {
    /// `docker` or `podman`.
    pub product: String,
    /// Its version.
    pub version: String,
    /// The API version in use.
    pub api: (u32, u32),
    /// Whether it is part of a swarm.
    pub is_in_swarm: bool,
    /// Whether containers outlive its restart.
    pub has_live_restore: bool,
    /// Calls that it does not have, or that what filters its socket lets not through.
    pub denied: Vec<String>,
}

/// Why an engine did not answer.
#[derive(Clone, Debug)]
pub enum Away {
    /// There is no such socket.
    Missing,
    /// Nobody listens.
    Refused,
    /// This user may not connect.
    Denied,
    /// It is too old.
    TooOld(String),
    /// Anything else.
    Silent(String),
}

/// Docker's `config.json`.
#[derive(Clone, Debug)]
pub enum Logins {
    /// There is none.
    Absent,
    /// It cannot be used.
    Broken(String),
    /// It can be read.
    Here {
        /// The file.
        file: String,
        /// The helpers that it names.
        helpers: Vec<Helper>,
    },
}

/// A credentials helper.
#[derive(Clone, Debug)]
pub struct Helper {
    /// The program's name.
    pub program: String,
    /// Whether it is in the search path.
    pub is_there: bool,
}

/// The state directory.
#[derive(Clone, Debug)]
pub enum StateDir {
    /// There is none.
    Missing,
    /// Something else has its name.
    NoFolder,
    /// It cannot be looked at.
    Hidden(String),
    /// It is there.
    There {
        /// The user whose it is.
        owner: u32,
        /// Its permissions.
        mode: u32,
        /// The user who looks.
        looker: u32,
        /// Whether that user can write to it.
        is_writable: bool,
        /// Whether a daemon holds it.
        lock: Lock,
    },
}

/// The lock on the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It was not touched, since the daemon that holds it answered, or could not be.
    Unknown,
    /// Nobody holds it.
    Free,
    /// Somebody does.
    Held,
}

/// The daemon.
#[derive(Clone, Debug)]
pub enum Daemon {
    /// Nobody listens on its socket.
    Absent,
    /// This user may not ask it.
    Denied,
    /// It gave no answer that makes sense.
    Silent(String),
    /// It answers that the engine or the store does not.
    Troubled(String),
    /// It answers.
    Answers {
        /// Its version; empty where it tells none.
        version: String,
    },
}

/// The store, where no daemon speaks for it.
#[derive(Clone, Debug)]
pub enum Store {
    /// It was not looked at: the daemon has it open, or it is not ours to read.
    Unknown,
    /// The embedded one has no file yet.
    Absent,
    /// Its file opens.
    Sound,
    /// Its file was not closed, and has to be repaired.
    Unfinished,
    /// Its file does not open.
    Broken(String),
    /// etcd, which let this installation read what is below its prefix.
    Shared,
    /// etcd, which did not, and why.
    Away(String),
}

/// What answers where hooks are taken.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address; `None` if the system is to choose a port and has not.
    pub address: Option<SocketAddr>,
    /// What answered there.
    pub health: Health,
}

/// An answer to `/healthz`.
#[derive(Clone, Debug)]
pub enum Health {
    /// Nobody listens.
    Nobody,
    /// A connection and no answer.
    Silent(String),
    /// Another program.
    Stranger,
    /// deployer, which takes hooks.
    Ready,
    /// deployer, which does not take hooks yet.
    NotReady(String),
}

/// The clocks.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Whether the kernel says that its clock follows a better one; `None` if it cannot be told.
    pub is_synchronised: Option<bool>,
    /// Seconds that the engine's clock is ahead of this machine's, if it told.
    pub engine_ahead: Option<i64>,
}
