//! The state of a cluster at a moment of its history.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use deployer_core::availability::Limit;
use deployer_core::image::Digest;
use deployer_core::record::Opinion;
use deployer_simulated::history::{By, Purpose, Shown, instance_of, transition_of};
use deployer_simulated::registry::Behaviour;

use super::NEWS_FROM_TROUBLE;

/// Everything that is known.
#[derive(Default)]
pub struct Replay {
    pub hosts: BTreeMap<String, Host>,
    pub containers: BTreeMap<(String, u32), Container>,
    pub instances: BTreeMap<(String, String), Instance>,
    /// Claims by key.
    pub claims: BTreeMap<String, Claimed>,
    /// Verdicts by service and digest.
    pub verdicts: BTreeMap<(String, Digest), Opinion>,
    /// Those that stood when the store was copied.
    pub verdicts_copied: BTreeMap<(String, Digest), Opinion>,
    /// What each tag pointed to, the last at the end.
    pub tags: BTreeMap<String, Vec<Digest>>,
    pub behaviours: BTreeMap<Digest, Behaviour>,
    /// When each was last pushed.
    pub pushed: BTreeMap<Digest, Duration>,
    /// The digests that a record has ever known, in the order in which it learned of them.
    pub recorded: Vec<Digest>,
    /// Those that it knew when the store was copied.
    pub recorded_copied: Vec<Digest>,
    /// When the store was last put back to an older state.
    pub restored: Option<Duration>,
    /// When something last befell the whole cluster.
    pub troubled: Option<Duration>,
    /// Hosts whose claims past the fence a restored store does not know, until they claim anew: they go on all the same.
    pub robbed: BTreeSet<String>,
}

/// A host.
#[derive(Default)]
pub struct Host {
    /// The host whose name its daemon bears, too.
    pub twin_of: Option<String>,
    pub troubled: Option<Duration>,
    pub is_engine_gone: bool,
    /// When its engine last came back.
    pub engine_back: Option<Duration>,
    /// Its daemon was stopped by a person, and nobody has looked after its containers since.
    pub has_left: bool,
    pub left: Duration,
    pub is_rebooting: bool,
    /// Since when its daemon does not run.
    pub left_alone: Option<Duration>,
    /// The machine was taken away.
    pub is_gone: bool,
    /// When the daemon of now began.
    pub daemon_since: Duration,
}

/// A container, as long as it exists and after.
pub struct Container {
    pub name: String,
    pub purpose: Purpose,
    pub made_by: By,
    pub made: Duration,
    pub shown: Shown,
    pub serves: bool,
    pub is_removed: bool,
    /// Who last started it, and when.
    pub started: Option<(By, Duration)>,
    pub ended: Option<(By, Duration)>,
    /// A stop of ours is under way, or was the last of it.
    pub is_being_stopped: bool,
    /// Its process of now has served.
    pub has_served: bool,
    /// One of its processes has.
    pub can_serve: bool,
    /// It failed in a life that this system began: it exited by itself, or fell ill.
    pub has_failed: bool,
    /// A life of it that has ended came to nothing in all the time that it was given.
    pub has_missed: bool,
    /// A replacement has stopped it once.
    pub was_taken_down: bool,
    /// How long a life of it was watched at the most that has ended, or whose daemon has.
    pub was_watched: Duration,
}

impl Container {
    /// Whether it is shown as one that should run.
    pub fn is_meant(&self) -> bool {
        matches!(self.shown, Shown::Running | Shown::Unhealthy | Shown::Restarting)
    }

    /// How long a life of it was watched at the most, by a daemon that began then or by one before.
    pub fn watched(&self, now: Duration, daemon_since: Duration) -> Duration {
        let runs_since = self.started.filter(|_| self.ended.is_none()).map(|(_, at)| at.max(daemon_since));
        self.was_watched.max(runs_since.map_or(Duration::ZERO, |since| now.saturating_sub(since)))
    }

    /// Whether it ends whenever it is started, and a replacement had taken it down: then it is owed for as long as it does.
    pub fn is_put_back_in_vain(&self) -> bool {
        self.shown == Shown::Restarting && self.was_taken_down
    }

    /// Whether it is a person's, and not one that a replacement has named.
    pub fn is_theirs(&self) -> bool {
        self.made_by == By::Person && transition_of(&self.name).is_none()
    }

    /// Whether a life, whoever began it, came to nothing in all the time that it was given, by now or by its end.
    pub fn never_served(&self, now: Duration, patience: Duration) -> bool {
        let until = self.ended.map_or(now, |(_, at)| at);
        self.started.is_some_and(|(_, at)| !self.has_served && until >= at + patience)
    }
}

/// What a person wants of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Will {
    #[default]
    Runs,
    Stopped,
    Paused,
    Removed,
}

/// The container of a name on a host, whichever that is at the moment.
#[derive(Default)]
pub struct Instance {
    pub purpose: Option<Purpose>,
    pub is_up: bool,
    pub down_since: Option<Duration>,
    /// When it last came up again.
    pub up_since: Option<Duration>,
    /// A replacement has stopped it, and nothing of it has served since.
    pub in_transition: bool,
    /// A replacement has stopped it, and has not ended with something that serves.
    pub is_owed: bool,
    /// The same when its daemon went.
    pub was_owed: bool,
    /// Whether it was meant to run when its engine went.
    pub was_meant: bool,
    pub will: Will,
    pub willed: Duration,
    /// When a person wanted it to run again.
    pub wanted_since: Option<Duration>,
    /// A person renamed it in the middle of a replacement.
    pub is_doubtful: bool,
    /// A machine that bears the same name has said that there is none.
    pub is_withdrawn: bool,
    /// The person spoke when it was too late: past the fence, and before the daemon's own stop had done its work.
    pub is_too_late: bool,
}

/// A claim.
pub struct Claimed {
    /// The host that wrote it.
    pub host: String,
    pub container: String,
    pub at: Duration,
    pub is_past_fence: bool,
}

impl Replay {
    /// The instance of a container.
    pub fn instance(&self, host: &str, id: u32) -> Option<(&Container, &Instance)> {
        let container = self.containers.get(&(host.to_owned(), id))?;
        Some((container, self.instances.get(&key(host, &container.name))?))
    }

    /// The containers of an instance that exist, with their numbers.
    pub fn bodies<'a>(&'a self, host: &'a str, name: &'a str) -> impl Iterator<Item = (u32, &'a Container)> {
        let own = self.containers.range((host.to_owned(), 0)..=(host.to_owned(), u32::MAX));
        let of_it = move |container: &&Container| !container.is_removed && instance_of(&container.name) == name;
        own.map(|((_, id), container)| (*id, container)).filter(move |(_, container)| of_it(container))
    }

    /// How long a life of a host's container was watched at the most, by one and the same daemon.
    pub fn watched(&self, host: &str, container: &Container, now: Duration) -> Duration {
        container.watched(now, self.hosts.get(host).map_or(Duration::ZERO, |host| host.daemon_since))
    }

    /// The claim of an instance of a host.
    pub fn claim(&self, host: &str, name: &str) -> Option<&Claimed> {
        self.claims.values().find(|claim| claim.host == host && claim.container == name)
    }

    /// When something last befell a host, or everybody.
    pub fn troubled(&self, host: &str) -> Option<Duration> {
        self.hosts.get(host).and_then(|host| host.troubled).max(self.troubled)
    }

    /// Whether an instance is one that should be up: what is stopped, created or paused is not.
    pub fn is_meant(&self, host: &str, name: &str) -> bool {
        let Some(instance) = self.instances.get(&(host.to_owned(), name.to_owned())) else { return false };
        let is_gone = self.hosts.get(host).is_some_and(|host| host.is_engine_gone);
        let by_engine =
            if is_gone { instance.was_meant } else { self.bodies(host, name).any(|(_, body)| body.is_meant()) };
        instance.will == Will::Runs && (by_engine || instance.in_transition)
    }

    /// After a restore nobody knows what was claimed or thought before, until everybody has spoken again.
    pub fn is_store_not_to_be_believed(&self, now: Duration) -> bool {
        self.restored.is_some_and(|restored| now < restored + NEWS_FROM_TROUBLE)
    }

    /// How many of a service may be down.
    pub fn limit(purpose: &Purpose, total: usize) -> usize {
        Limit::parse(&purpose.limit).unwrap_or_default().of(total)
    }
}

/// Service and digest of a verdict's key.
pub fn verdict_of(key: &str) -> Option<(String, Digest)> {
    let (service, digest) = key.split_once("/verdicts/")?.1.split_once('/')?;
    let service = String::from_utf8(URL_SAFE_NO_PAD.decode(service).ok()?).ok()?;
    Some((service, Digest::parse(digest).ok()?))
}

/// The container of an instance's key.
pub fn registered(key: &str) -> Option<String> {
    let (_, place) = key.split_once("/instances/")?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(place.rsplit('/').next()?).ok()?).ok()
}

/// The place of the instance of a container's name.
pub fn key(host: &str, name: &str) -> (String, String) {
    (host.to_owned(), instance_of(name).to_owned())
}
