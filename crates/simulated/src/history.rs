//! What happened in a simulated world, in order: what was done to containers and by whom, how each was from then on, what
//! befell hosts, and what was written in the store. The checker reads this and nothing else, and a failing storm prints it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deployer_core::image::Digest;
use deployer_core::store::Change;
use tokio::time::Instant;

/// Whose doing something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The daemon's.
    Us,
    /// A person's, with the `docker` command.
    Person,
    /// The engine's: its end, its start, a restart policy.
    Engine,
    /// The workload's own.
    Itself,
}

/// How a container is, as an engine would show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Created,
    Running,
    Unhealthy,
    Restarting,
    Paused,
    Exited,
}

/// What a container was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purpose {
    pub name: String,
    /// The tag that it names, as Docker prints it.
    pub track: String,
    pub service: String,
    /// The label's text, such as `2` or `25%`; empty: the default.
    pub limit: String,
    /// Whether the container is opted in.
    pub is_managed: bool,
    /// What runs in it; `None` if no registry knows it.
    pub digest: Option<Digest>,
}

/// What is done to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Create(Purpose),
    Start,
    /// Asks the process to end, which it does in its own time.
    Stop,
    /// The process is gone, with this code.
    End(i64),
    Rename(String),
    Remove,
    Pause,
    Unpause,
}

/// What containers of an image do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Serves,
    ExitsAtOnce,
    /// Serves at first, and exits after so long.
    DiesAfter(Duration),
    NeverListens,
    StartRefused,
    /// Never passes its HEALTHCHECK, where it has one.
    Sickens,
}

/// Why a node gets no answer when it asks for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstruction {
    /// No way there: a certificate, a proxy, a name that is not found.
    Unreachable,
    /// No leave.
    Denied,
}

/// What befalls a host, or with no name the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Befalling {
    EngineGone,
    EngineHung,
    EngineBack,
    DaemonStarted,
    DaemonKilled,
    DaemonFrozen,
    DaemonThawed,
    /// It was asked to end, as `systemctl stop` does.
    DaemonAsked,
    /// It ended as asked.
    DaemonLeft,
    /// It ended without being asked.
    DaemonDied(String),
    /// The machine goes down as a whole, and comes back.
    Reboots,
    LineCut,
    LineHealed,
    QuorumLost,
    QuorumRegained,
    /// Somebody took a snapshot of the store.
    Snapshot,
    /// The store is what it was at the snapshot.
    Restored,
    DiskFull,
    DiskFree,
    /// The registry does not answer it any more, or does again.
    Registry(Option<Obstruction>),
    /// One call went wrong, or will.
    Fault(String),
    /// From now on the host bears the same name as this one.
    TwinOf(String),
    /// The host is no more.
    TwinGone,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Done(By, u32, Deed),
    /// A container is shown so from now on, and serves or does not.
    Is(u32, Shown, bool),
    Befell(Befalling),
    /// A change of the store, written by the host; by nobody where a lease ended.
    Stored(Change),
    /// A tag of the registry points to a digest from now on, whose containers do this.
    Pushed(String, Digest, Behaviour),
    /// Nothing but a word for people.
    Told(String),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Duration,
    pub host: String,
    pub what: What,
}

/// How a container was in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndOfContainer {
    pub id: String,
    pub number: u32,
    pub name: String,
    pub digest: Option<Digest>,
    pub shown: Shown,
}

/// The history, written by everything simulated.
#[derive(Clone)]
pub struct History {
    begun: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Default for History {
    fn default() -> Self {
        Self { begun: Instant::now(), entries: Arc::default() }
    }
}

impl History {
    /// Notes what happens now.
    pub fn note(&self, host: &str, what: What) {
        let entry = Entry { at: self.begun.elapsed(), host: host.to_owned(), what };
        self.entries.lock().expect("no test panics with the lock").push(entry);
    }

    /// Notes what befalls a host.
    pub fn befell(&self, host: &str, what: Befalling) {
        self.note(host, What::Befell(what));
    }

    /// Everything so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().expect("no test panics with the lock").clone()
    }

    /// How much has happened, and when something last did.
    pub fn length(&self) -> usize {
        self.entries.lock().expect("no test panics with the lock").len()
    }

    /// The time since the beginning.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// The instance whose container bears a name: `web` for `web`, `web.old-00c0ffee` and `web.new-00c0ffee`.
pub fn instance_of(name: &str) -> &str {
    transition_of(name).map_or(name, |(instance, _)| instance)
}

/// The instance and the replacement that a name tells of, if a replacement gave it.
pub fn transition_of(name: &str) -> Option<(&str, &str)> {
    [".old-", ".new-"].into_iter().find_map(|infix| {
        let (instance, txn) = name.rsplit_once(infix)?;
        (txn.len() == 8 && txn.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some((instance, txn))
    })
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:9.3} {:2} ", self.at.as_secs_f64(), self.host)?;
        match &self.what {
            What::Done(by, id, Deed::Create(purpose)) => {
                let digest = purpose.digest.as_ref().map_or("?", short);
                write!(f, "{by:?}: {id} is created as {} with …{digest}", purpose.name)
            }
            What::Done(by, id, deed) => write!(f, "{by:?}: {id} {deed:?}"),
            What::Is(id, shown, serves) => {
                write!(f, "      {id} is {shown:?}{}", if *serves { ", serves" } else { "" })
            }
            What::Befell(what) => write!(f, "----- {what:?}"),
            What::Stored(Change::Put(entry)) => {
                write!(f, "store {} := {}", tail_of_key(&entry.key), String::from_utf8_lossy(&entry.value))
            }
            What::Stored(Change::Delete(key, _)) => write!(f, "store {} gone", tail_of_key(key)),
            What::Pushed(track, digest, behaviour) => {
                write!(f, "----- push of …{} as {track}, {behaviour:?}", short(digest))
            }
            What::Told(text) => write!(f, "----- {text}"),
        }
    }
}

/// The end of a digest, which is the version's number.
pub fn short(digest: &Digest) -> &str {
    let digest = digest.as_str();
    &digest[digest.len().saturating_sub(4)..]
}

fn tail_of_key(key: &str) -> &str {
    let cut = key.match_indices('/').nth(1).map_or(0, |(index, _)| index);
    &key[cut..]
}
