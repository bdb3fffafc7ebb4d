//! How each entry of a history changes the state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deployer_core::availability;
use deployer_core::record::{Record, Verdict};
use deployer_core::slot::{Claim, ClaimPhase};
use deployer_core::store::Change;
use deployer_simulated::history::{Befalling, By, Deed, Entry, Purpose, Shown, What, instance_of, transition_of};

use super::judgements::PATIENCE;
use super::replay::{Claimed, Container, Host, Instance, Replay, Will, key, registered, verdict_of};
use super::{NEWS_FROM_TROUBLE, NEWS_OF_A_PERSON};

/// How long before the end of a replacement its gate may have had its last look.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How long after its start a candidate that serves has certainly passed its gate and monitor.
const GATE_LONGEST: Duration = Duration::from_secs(15);

/// Within what time a container that is owed, and does not stay up, is started again.
const OWED_AGAIN: Duration = Duration::from_secs(60);

impl Replay {
    /// Takes in what happened.
    pub fn step(&mut self, entry: &Entry) {
        let (host, at) = (entry.host.as_str(), entry.at);
        match &entry.what {
            What::Done(by, id, deed) => self.done(host, at, *by, *id, deed),
            What::Is(id, shown, serves) => {
                if let Some(container) = self.containers.get_mut(&(host.to_owned(), *id)) {
                    (container.shown, container.serves) = (*shown, *serves);
                    container.has_served |= *serves;
                    container.can_serve |= *serves;
                    container.has_failed |= *shown == Shown::Unhealthy;
                    let name = container.name.clone();
                    self.look(host, at, &name);
                }
            }
            What::Befell(what) => self.befell(host, at, what),
            What::Stored(change) => self.stored(host, at, change),
            What::Pushed(track, digest, behaviour) => {
                self.tags.entry(track.clone()).or_default().push(digest.clone());
                self.behaviours.insert(digest.clone(), *behaviour);
                self.pushed.insert(digest.clone(), at);
            }
            What::Told(_) => {}
        }
    }

    fn done(&mut self, host: &str, at: Duration, by: By, id: u32, deed: &Deed) {
        if let Deed::Create(purpose) = deed {
            self.create(host, at, by, id, purpose);
            return;
        }
        let daemon_since = self.hosts.get(host).map_or(Duration::ZERO, |host| host.daemon_since);
        let Some(container) = self.containers.get_mut(&(host.to_owned(), id)) else { return };
        let name = container.name.clone();
        match deed {
            Deed::Start => {
                (container.started, container.ended) = (Some((by, at)), None);
                (container.has_served, container.is_being_stopped) = (false, false);
            }
            Deed::Stop => {
                container.is_being_stopped |= by == By::Us;
                container.was_taken_down |= by == By::Us;
            }
            Deed::End(_) => {
                container.was_watched = container.watched(at, daemon_since);
                container.has_missed |= container.never_served(at, PATIENCE);
                container.ended = Some((by, at));
                container.has_failed |= by == By::Itself;
            }
            Deed::Rename(new) => container.name.clone_from(new),
            Deed::Remove => container.is_removed = true,
            Deed::Create(_) | Deed::Pause | Deed::Unpause => {}
        }
        let has_claim = self.claim(host, instance_of(&name)).is_some();
        let is_taken_down = *deed == Deed::Stop && by == By::Us && has_claim;
        self.will(host, at, by, id, &name, deed);
        if let Some(instance) = self.instances.get_mut(&key(host, &name)).filter(|_| is_taken_down) {
            instance.in_transition |= instance.will == Will::Runs;
            instance.is_owed |= instance.will == Will::Runs;
        }
        let is_last = self.bodies(host, instance_of(&name)).next().is_none();
        if *deed == Deed::Remove && by == By::Person && is_last {
            // Images may be pruned with the last of it: nobody owes it to anybody any more.
            self.set_will(host, at, &name, Will::Removed, true);
        }
        // How it is after anything else is told by the next entry.
        if matches!(deed, Deed::Remove | Deed::Rename(_)) {
            self.look(host, at, &name);
        }
        if let Deed::Rename(new) = deed {
            self.look(host, at, new);
        }
    }

    fn create(&mut self, host: &str, at: Duration, by: By, id: u32, purpose: &Purpose) {
        self.hosts.entry(host.to_owned()).or_default();
        let container = Container {
            name: purpose.name.clone(),
            purpose: purpose.clone(),
            made_by: by,
            made: at,
            shown: Shown::Created,
            serves: false,
            is_removed: false,
            started: None,
            ended: None,
            is_being_stopped: false,
            has_served: false,
            can_serve: false,
            has_failed: false,
            has_missed: false,
            was_watched: Duration::ZERO,
            was_taken_down: false,
        };
        self.containers.insert((host.to_owned(), id), container);
        let instance = self.instances.entry(key(host, &purpose.name)).or_default();
        instance
            .purpose
            .get_or_insert_with(|| Purpose { name: instance_of(&purpose.name).to_owned(), ..purpose.clone() });
        if by == By::Person {
            (instance.will, instance.willed, instance.is_too_late) = (Will::Runs, at, false);
        }
    }

    /// What a deed says of what a person wants.
    fn will(&mut self, host: &str, at: Duration, by: By, id: u32, name: &str, deed: &Deed) {
        let is_paused = self.instances.get(&key(host, name)).is_some_and(|instance| instance.will == Will::Paused);
        if by == By::Engine && (*deed == Deed::Start || is_paused && matches!(deed, Deed::End(_))) {
            // A policy of the person's own: what was stopped by hand comes up again. A pause ends with its process.
            self.set_will(host, at, name, Will::Runs, false);
            return;
        }
        if by != By::Person || transition_of(name).is_some() {
            return;
        }
        let container = &self.containers[&(host.to_owned(), id)];
        let claimed = self.claim(host, instance_of(name)).map(|claim| claim.at);
        // While a replacement has two containers of the instance, the other takes the place of one that is removed.
        let has_two = self.bodies(host, instance_of(name)).any(|(other, body)| other != id && !body.is_theirs());
        // A daemon that is away hears nothing of it, ever, and goes on where its journals end; so does one that has not found
        // its engine again.
        let is_hardly_back = |back: Duration| at < back + NEWS_FROM_TROUBLE;
        let is_deaf = |host: &Host| host.left_alone.is_some() || host.engine_back.is_some_and(is_hardly_back);
        let is_unheard = self.hosts.get(host).is_some_and(is_deaf);
        // One that was put back and ends whenever it is started is owed for as long as it does.
        let is_open = container.is_put_back_in_vain()
            || self.instances.get(&key(host, name)).is_some_and(|it| it.was_owed || it.is_doubtful);
        // A candidate that has failed is on its way back, and what comes back is another.
        let is_on_the_way_back = claimed.is_some_and(|claimed| container.made >= claimed) && container.has_failed;
        let is_too_late = container.is_being_stopped
            || is_on_the_way_back
            || (is_unheard && (claimed.is_some() || has_two || is_open))
            || (has_two && (claimed.is_none() || container.is_theirs()))
            || claimed.is_some_and(|claimed| container.made < claimed || container.started.is_none());
        match deed {
            Deed::Start | Deed::Unpause => {
                self.set_will(host, at, name, Will::Runs, false);
                if let Some(instance) = self.instances.get_mut(&key(host, name)) {
                    instance.wanted_since = Some(at);
                }
            }
            Deed::Stop => self.set_will(host, at, name, Will::Stopped, is_too_late),
            Deed::Pause => self.set_will(host, at, name, Will::Paused, is_too_late),
            Deed::Remove => self.set_will(host, at, name, Will::Removed, is_too_late),
            Deed::Rename(new) => {
                let before = self.instances.get(&key(host, name)).map_or(Will::Runs, |instance| instance.will);
                // It is there, under a name that a replacement gave back to it, or runs whatever was said of another of that name.
                let is_there = before == Will::Removed || container.shown == Shown::Running;
                let before = if is_there { Will::Runs } else { before };
                // What is started again and again goes by the name that it is started under.
                let is_tried = container.started.is_some_and(|(by, begun)| by == By::Us && at < begun + OWED_AGAIN);
                let is_owed = self.instances.get(&key(host, name)).is_some_and(|it| it.is_owed || is_tried);
                if claimed.is_some() || has_two || is_owed {
                    // Which of the names the replacement ends with, it may decide.
                    self.instances.entry(key(host, new)).or_default().is_doubtful = true;
                    self.instances.entry(key(host, name)).or_default().is_doubtful = true;
                }
                let purpose = Purpose { name: new.clone(), ..self.containers[&(host.to_owned(), id)].purpose.clone() };
                self.set_will(host, at, name, Will::Removed, is_too_late || has_two || is_owed);
                self.instances.entry(key(host, new)).or_default().purpose = Some(purpose);
                self.set_will(host, at, new, before, false);
            }
            Deed::Create(_) | Deed::End(_) => {}
        }
    }

    fn set_will(&mut self, host: &str, at: Duration, name: &str, will: Will, is_too_late: bool) {
        if let Some(instance) = self.instances.get_mut(&key(host, name)) {
            if will == Will::Runs && instance.will != Will::Runs {
                instance.wanted_since = Some(at);
            }
            (instance.will, instance.willed, instance.is_too_late) = (will, at, is_too_late);
            if will != Will::Runs {
                (instance.in_transition, instance.is_owed) = (false, false);
            }
        }
    }

    /// Finds out anew whether an instance is up.
    fn look(&mut self, host: &str, at: Duration, name: &str) {
        let key = key(host, name);
        let has_claim = self.claim(host, instance_of(name)).is_some();
        let in_transition = has_claim && self.instances.get(&key).is_some_and(|instance| instance.in_transition);
        // What never listens may have passed a gate that asks for no port. What has served once has not come up before it
        // does again.
        let is_ready = |c: &Container| c.serves || !(in_transition || c.can_serve);
        let is_up = |c: &Container| c.shown == Shown::Running && is_ready(c);
        let is_up = self.bodies(host, instance_of(name)).any(|(_, container)| is_up(container));
        let Some(instance) = self.instances.get_mut(&key) else { return };
        if is_up {
            if instance.down_since.is_some() {
                instance.up_since = Some(at);
            }
            (instance.in_transition, instance.down_since) = (false, None);
            instance.is_owed &= has_claim;
        } else if instance.down_since.is_none() {
            instance.down_since = Some(at);
        }
        instance.is_up = is_up;
    }

    fn befell(&mut self, host: &str, at: Duration, what: &Befalling) {
        if *what == Befalling::EngineGone {
            self.remember_who_was_meant(host);
        }
        if *what == Befalling::Snapshot {
            self.verdicts_copied.clone_from(&self.verdicts);
            self.recorded_copied.clone_from(&self.recorded);
            return;
        }
        if *what == Befalling::Restored {
            self.restored = Some(at);
            self.verdicts.clone_from(&self.verdicts_copied);
            // What it has forgotten is news again, in whichever order it comes.
            self.recorded.clone_from(&self.recorded_copied);
            for (_, claim) in std::mem::take(&mut self.claims) {
                if claim.is_past_fence {
                    self.robbed.insert(claim.host.clone());
                }
                self.is_released(at, &claim);
            }
        }
        if host.is_empty() {
            self.troubled = Some(at);
            return;
        }
        if matches!(what, Befalling::DaemonLeft | Befalling::DaemonKilled | Befalling::DaemonDied(_)) {
            let ended: BTreeMap<String, Duration> = self
                .containers
                .range((host.to_owned(), 0)..=(host.to_owned(), u32::MAX))
                .filter_map(|(_, container)| Some((instance_of(&container.name).to_owned(), container.ended?.1)))
                .collect();
            let loops: BTreeSet<String> = self
                .containers
                .range((host.to_owned(), 0)..=(host.to_owned(), u32::MAX))
                .filter(|(_, container)| container.is_put_back_in_vain())
                .map(|(_, container)| instance_of(&container.name).to_owned())
                .collect();
            let of_host = self.instances.iter_mut().filter(|((on, _), _)| on == host);
            of_host.for_each(|((_, name), instance)| {
                instance.was_owed = instance.is_owed || loops.contains(name);
                // What ended as long ago as news takes, or later, it has not understood, and never will.
                let since = ended.get(name).map_or(instance.willed, |ended| instance.willed.max(*ended));
                instance.is_too_late |= instance.will != Will::Runs && at <= since + NEWS_OF_A_PERSON;
            });
            let daemon_since = self.hosts.get(host).map_or(Duration::ZERO, |host| host.daemon_since);
            let of_host = self.containers.range_mut((host.to_owned(), 0)..=(host.to_owned(), u32::MAX));
            of_host.for_each(|(_, container)| container.was_watched = container.watched(at, daemon_since));
        }
        if *what == Befalling::TwinGone
            && let Some(original) = self.hosts.get(host).and_then(|host| host.twin_of.clone())
        {
            // Its daemon has been kept from saying anything for as long as the other had its name.
            self.hosts.entry(original).or_default().troubled = Some(at);
        }
        let host = self.hosts.entry(host.to_owned()).or_default();
        host.troubled = Some(at);
        match what {
            Befalling::EngineGone => host.is_engine_gone = true,
            Befalling::EngineBack => (host.is_engine_gone, host.engine_back) = (false, Some(at)),
            Befalling::DaemonLeft => (host.has_left, host.left, host.left_alone) = (true, at, Some(at)),
            Befalling::DaemonKilled | Befalling::DaemonDied(_) | Befalling::DaemonFrozen => host.left_alone = Some(at),
            Befalling::DaemonThawed => host.left_alone = None,
            // A daemon that has not heard its engine since a person stopped it counts nothing again.
            Befalling::Reboots => host.is_rebooting = !host.has_left,
            Befalling::DaemonStarted => {
                (host.is_rebooting, host.left_alone, host.daemon_since) = (false, None, at);
            }
            Befalling::TwinGone => host.is_gone = true,
            Befalling::TwinOf(original) => host.twin_of = Some(original.clone()),
            _ => {}
        }
    }

    fn remember_who_was_meant(&mut self, host: &str) {
        let names: Vec<String> =
            self.instances.keys().filter(|(on, _)| on == host).map(|(_, name)| name.clone()).collect();
        for name in names {
            let is_meant = self.is_meant(host, &name);
            self.instances.get_mut(&(host.to_owned(), name)).expect("just listed").was_meant = is_meant;
        }
    }

    fn stored(&mut self, writer: &str, at: Duration, change: &Change) {
        match change {
            Change::Put(entry) => {
                if let Some(place) = verdict_of(&entry.key)
                    && let Ok(verdict) = serde_json::from_slice::<Verdict>(&entry.value)
                {
                    self.verdicts.insert(place, verdict.verdict);
                } else if entry.key.contains("/instances/") {
                    let instance = serde_json::from_slice::<availability::Instance>(&entry.value);
                    // A daemon that has come back counts its containers as soon as it has heard its engine.
                    let is_counted = instance.as_ref().is_ok_and(|instance| !instance.off);
                    self.hosts.entry(writer.to_owned()).or_default().has_left &= !is_counted;
                    if let Some(known) =
                        instance.ok().and_then(|it| self.instances.get_mut(&key(writer, &it.container)))
                    {
                        known.is_withdrawn = false;
                    }
                } else if let Ok(record) = serde_json::from_slice::<Record>(&entry.value) {
                    for version in record.history().iter().rev() {
                        if !self.recorded.contains(&version.digest) {
                            self.recorded.push(version.digest.clone());
                        }
                    }
                } else if let Ok(claim) = serde_json::from_slice::<Claim>(&entry.value) {
                    let (host, container) = (writer.to_owned(), claim.container);
                    let fresh = Claimed { host, container, at, is_past_fence: false };
                    let is_same = |held: &Claimed| held.host == fresh.host && held.container == fresh.container;
                    if !self.claims.get(&entry.key).is_some_and(is_same) {
                        // A person's stop that has not done its work yet is seen by nobody.
                        let is_stopping = self.bodies(&fresh.host, &fresh.container).any(|(_, body)| body.is_meant());
                        if let Some(instance) = self.instances.get_mut(&key(&fresh.host, &fresh.container)) {
                            instance.is_too_late |= is_stopping && instance.will == Will::Stopped;
                        }
                        self.robbed.remove(&fresh.host);
                        self.claims.insert(entry.key.clone(), fresh);
                    }
                    let claimed = self.claims.get_mut(&entry.key).expect("just put there");
                    claimed.is_past_fence = claim.phase == ClaimPhase::Stopping;
                }
            }
            Change::Delete(key, _) => {
                if let Some(place) = verdict_of(key) {
                    self.verdicts.remove(&place);
                } else if let Some(claim) = self.claims.remove(key) {
                    self.is_released(at, &claim);
                } else if let Some(name) = registered(key)
                    && let Some(original) = self.hosts.get(writer).and_then(|host| host.twin_of.clone())
                    // What is claimed is not the twin's to withdraw, and counts all the same.
                    && self.claim(&original, &name).is_none()
                    && let Some(instance) = self.instances.get_mut(&(original, name))
                {
                    instance.is_withdrawn = true;
                }
            }
        }
    }

    /// The replacement has ended. What runs then has passed its gate, or was put back; what becomes of it is not its doing.
    fn is_released(&mut self, at: Duration, claim: &Claimed) {
        let (host, name) = (claim.host.as_str(), claim.container.as_str());
        // Whatever became of it then: its slot may be held for as long as the store is away.
        let has_passed = |body: &Container| {
            let by_itself = body.ended.filter(|(by, _)| *by == By::Itself && body.has_served);
            let was_long_up = |ended| body.started.is_some_and(|(_, begun)| ended > begun + GATE_LONGEST);
            by_itself.is_some_and(|(_, ended)| at < ended + LAST_LOOK || was_long_up(ended))
        };
        if self.bodies(host, name).any(|(_, body)| body.is_meant() || has_passed(body)) {
            if let Some(instance) = self.instances.get_mut(&key(host, name)) {
                (instance.is_owed, instance.in_transition) = (false, false);
            }
            self.look(host, at, name);
        }
    }
}
