//! The rules of a stop: the service can spare the instance, and a claim past its fence stands for it.

use deployer_simulated::history::{By, Deed, Entry, Purpose, Shown, What, instance_of};

use std::time::Duration;

use super::replay::{Claimed, Host, Instance, Replay, Will};
use super::{Kind, NEWS, NEWS_FROM_TROUBLE};

/// How long after its caller was told that there is no answer a call may still be carried out.
const LATE_CALLS: Duration = Duration::from_secs(120);

/// Looks at a stop before it has any effect.
pub fn check(replay: &Replay, entry: &Entry, report: &mut impl FnMut(Kind, String)) {
    let What::Done(By::Us, id, Deed::Stop) = entry.what else { return };
    let host = entry.host.as_str();
    let Some((container, instance)) = replay.instance(host, id) else { return };
    let name = instance_of(&container.name);
    let mut bodies = replay.bodies(host, name);
    let another_serves = bodies.any(|(other, body)| other != id && body.shown == Shown::Running && body.serves);
    let claim = replay.claim(host, name);
    // On the way back nothing goes down that was not given for down.
    let is_candidate = container.made_by == By::Us && claim.is_some_and(|claim| container.made >= claim.at);
    let is_taken_down =
        instance.is_up && !instance.is_doubtful && !instance.in_transition && !is_candidate && !another_serves;
    if !is_taken_down || replay.is_store_not_to_be_believed(entry.at) {
        return;
    }
    if !claim.is_some_and(|claim| claim.is_past_fence) {
        // A call that nobody waits for any more may still be carried out by an engine that was slow.
        let is_late = claim.is_none() && is_troubled(replay, host, entry.at);
        if is_late {
            return;
        }
        let what = if claim.is_some() { "a claim that is not past its fence" } else { "no claim" };
        report(Kind::Unfenced, format!("{name} was stopped with {what}"));
    }
    let Some(claim) = claim else { return };
    // One that is down may always be replaced, and may have come up since that was decided.
    if instance.up_since.is_some_and(|since| claim.at < since + NEWS) {
        return;
    }
    if let Some((kind, text)) = cannot_be_spared(replay, host, name, claim) {
        report(kind, text);
    }
}

fn is_troubled(replay: &Replay, host: &str, now: Duration) -> bool {
    replay.troubled(host).is_some_and(|troubled| now < troubled + LATE_CALLS)
}

fn cannot_be_spared(replay: &Replay, host: &str, name: &str, claim: &Claimed) -> Option<(Kind, String)> {
    let purpose = replay.instances[&(host.to_owned(), name.to_owned())].purpose.as_ref()?;
    let is_like_it = |other: &Purpose| other.is_managed && other.service == purpose.service;
    let is_of_service = |instance: &Instance| instance.purpose.as_ref().is_some_and(is_like_it);
    let all: Vec<(&(String, String), &Instance)> = replay
        .instances
        .iter()
        .filter(|(_, instance)| is_of_service(instance))
        // What runs counts, though a person said too late that it should not.
        .filter(|((host, name), it)| has_not_left(replay, host) && (it.is_up || replay.is_meant(host, name)))
        .collect();
    let is_other = |place: &(String, String)| (place.0.as_str(), place.1.as_str()) != (host, name);
    let down: Vec<_> = all
        .iter()
        .filter(|(place, instance)| is_other(place) && !instance.is_up && is_known(replay, &place.0, instance))
        .filter(|(place, instance)| !went_by_a_wider_limit(replay, place, instance, purpose, claim))
        .filter(|(place, instance)| instance.in_transition || could_be_known(replay, &place.0, instance, claim.at))
        .collect();
    // Of a percentage, what has just ended, or a person has taken away or looks after no more, may still have been counted.
    let is_news = |at: Duration| claim.at < at + NEWS;
    let is_gone = |it: &Instance| it.will != Will::Runs && is_news(it.willed) || it.down_since.is_some_and(is_news);
    let is_off = |host: &str| !has_not_left(replay, host) && is_news(replay.hosts[host].left);
    let of_service = replay.instances.iter().filter(|(_, instance)| is_of_service(instance));
    let not_counted = of_service.filter(|(place, _)| !all.iter().any(|(counted, _)| counted == place));
    let just_left = not_counted.filter(|((host, _), instance)| is_gone(instance) || is_off(host)).count();
    if down.len() < Replay::limit(purpose, all.len() + just_left) {
        return None;
    }
    let at_reboot = down.iter().any(|((host, _), _)| replay.hosts[host].is_rebooting);
    let kind = if at_reboot { Kind::DownAtReboot } else { Kind::TwoDown };
    let down: Vec<String> = down.iter().map(|((host, name), _)| format!("{name} on {host}")).collect();
    let claimed = claim.at.as_secs_f64();
    Some((kind, format!("{name} was stopped, claimed at {claimed:.3}, while {} was down", down.join(", "))))
}

/// Whether an instance was claimed later than this one, by a limit that allows it both: labels of one service may differ.
fn went_by_a_wider_limit(
    replay: &Replay,
    (host, name): &(String, String),
    instance: &Instance,
    purpose: &Purpose,
    claim: &Claimed,
) -> bool {
    let is_later = replay.claim(host, name).is_some_and(|other| other.at > claim.at);
    is_later && instance.purpose.as_ref().is_some_and(|other| other.limit != purpose.limit)
}

/// Whether the instances of a host are counted. Whoever stops a daemon knows that nobody looks after its containers; a machine
/// that goes down as a whole is another matter.
fn has_not_left(replay: &Replay, name: &str) -> bool {
    let host = &replay.hosts[name];
    !host.has_left || host.is_rebooting
}

/// Of two machines of one name nobody can know more than what this system itself has stopped there; of a container that a
/// person renamed in the middle of a replacement, or that the other machine says there is none of, not even that.
fn is_known(replay: &Replay, name: &str, instance: &Instance) -> bool {
    let host = &replay.hosts[name];
    let is_twin = |other: &Host| !other.is_gone && other.twin_of.as_deref() == Some(name);
    let is_doubtful = host.twin_of.is_some() || replay.hosts.values().any(is_twin);
    !instance.is_doubtful && !instance.is_withdrawn && (instance.in_transition || !is_doubtful)
}

/// Whether whoever claimed at a moment could know that an instance was down.
fn could_be_known(replay: &Replay, host: &str, instance: &Instance, claimed: Duration) -> bool {
    // What a person began to want while nobody listened there was nobody's loss, and nobody has been told of it.
    let left_alone = replay.hosts.get(host).and_then(|host| host.left_alone);
    if left_alone.is_some_and(|left| instance.wanted_since > Some(left)) {
        return false;
    }
    // One that a person has only just begun to want was nobody's loss either, and is down until its port is open.
    let Some(since) = instance.down_since.max(instance.wanted_since) else { return false };
    let in_peace = replay.troubled(host).map_or(Duration::ZERO, |troubled| troubled + NEWS_FROM_TROUBLE);
    in_peace.max(since + NEWS) <= claimed
}
