//! The rules of the end: every instance is as somebody wants it, runs its target or says why not, and nothing is left over.

use deployer_core::image::Digest;
use deployer_core::record::Opinion;
use deployer_simulated::history::{By, EndOfContainer, Purpose, Shown, instance_of, short, transition_of};

use super::replay::{Instance, Replay, Will};
use super::{End, Kind};

/// States in which a container is not what it should be, and says why.
const EXCUSES: [&str; 2] = ["failed_here", "held_back"];

/// Looks at the end.
pub fn check(replay: &Replay, end: &End, report: &mut impl FnMut(Kind, String)) {
    for host in &end.hosts {
        let name = &host.host;
        host.journals.iter().for_each(|txn| report(Kind::LeftOver, format!("{name}: journal {txn}")));
        for container in &host.containers {
            if transition_of(&container.name).is_some() {
                report(Kind::LeftOver, format!("{name}: container {} is {:?}", container.name, container.shown));
            } else if let Some(why) = is_no_target(replay, end, name, container) {
                report(Kind::NotConverged, format!("{name}: {} {why}", container.name));
            }
        }
    }
    end.left.iter().for_each(|key| report(Kind::LeftOver, format!("store: {key}")));
    for ((host, name), instance) in &replay.instances {
        let Some(of_host) = end.hosts.iter().find(|end| end.host == *host) else { continue };
        let bodies = of_host.containers.iter().filter(|container| instance_of(&container.name) == name);
        check_instance(replay, host, name, instance, &bodies.collect::<Vec<_>>(), report);
    }
}

fn check_instance(
    replay: &Replay,
    host: &str,
    name: &str,
    instance: &Instance,
    bodies: &[&EndOfContainer],
    report: &mut impl FnMut(Kind, String),
) {
    let running =
        bodies.iter().find(|body| matches!(body.shown, Shown::Running | Shown::Unhealthy | Shown::Restarting));
    if let Some(body) = running {
        let started = replay.containers[&(host.to_owned(), body.number)].started;
        let is_ours = started.is_some_and(|(by, _)| by == By::Us);
        if instance.will != Will::Runs && is_ours && !instance.is_too_late {
            report(Kind::Resurrected, format!("{host}: {} runs, and a person wants it {:?}", body.name, instance.will));
        }
    } else if instance.will == Will::Runs && instance.is_owed && !instance.is_doubtful {
        report(Kind::Lost, format!("{host}: nothing of {name} runs: {bodies:?}"));
    }
}

/// Why a container is not what it should be, unless it says so itself.
fn is_no_target(replay: &Replay, end: &End, host: &str, container: &EndOfContainer) -> Option<String> {
    let purpose = &replay.containers.get(&(host.to_owned(), container.number))?.purpose;
    let is_meant = matches!(container.shown, Shown::Running | Shown::Unhealthy | Shown::Restarting);
    let target = target(replay, purpose);
    if !is_meant || !purpose.is_managed || container.digest.as_ref() == target {
        return None;
    }
    let [runs, target] = [container.digest.as_ref(), target].map(|digest| digest.map(short));
    let said = end.said.get(&container.id);
    if said.is_some_and(|(state, _)| EXCUSES.contains(&state.as_str())) {
        return None;
    }
    Some(format!("runs {runs:?} and not {target:?}; said of it: {said:?}"))
}

/// The newest of what its tag has pointed to that nobody found bad.
fn target<'a>(replay: &'a Replay, purpose: &Purpose) -> Option<&'a Digest> {
    let is_bad =
        |digest: &&Digest| replay.verdicts.get(&(purpose.service.clone(), (*digest).clone())) == Some(&Opinion::Bad);
    replay.tags.get(&purpose.track)?.iter().rev().find(|digest| !is_bad(digest))
}
