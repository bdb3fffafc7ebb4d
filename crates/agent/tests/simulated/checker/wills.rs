//! The rules of what people want: nothing of theirs is touched, nothing that they stopped is started, nothing vanishes.

use std::time::Duration;

use deployer_simulated::history::{By, Deed, Entry, What, instance_of};

use super::replay::{Replay, Will};
use super::{Kind, NEWS_OF_A_PERSON};

/// No gate lets pass what has run for less.
const STABLE: Duration = Duration::from_secs(2);

/// Looks at a deed before it has any effect.
pub fn check(replay: &Replay, entry: &Entry, report: &mut impl FnMut(Kind, String)) {
    let What::Done(By::Us, id, deed) = &entry.what else { return };
    let host = entry.host.as_str();
    if let Deed::Create(purpose) = deed {
        if !purpose.is_managed {
            report(Kind::Trespass, format!("{} was created", purpose.name));
        }
        return;
    }
    let Some((container, instance)) = replay.instance(host, *id) else { return };
    let name = instance_of(&container.name);
    if !container.purpose.is_managed {
        report(Kind::Trespass, format!("{}: {deed:?}", container.name));
    }
    let is_known = entry.at > instance.willed + NEWS_OF_A_PERSON && !instance.is_too_late;
    if *deed == Deed::Start && instance.will != Will::Runs && is_known {
        let (will, willed) = (instance.will, instance.willed.as_secs_f64());
        report(
            Kind::Resurrected,
            format!("{} was started, and a person wants it {will:?} since {willed:.3}", container.name),
        );
    }
    let is_last = replay.bodies(host, name).all(|(other, _)| other == *id);
    if *deed == Deed::Remove && is_last && instance.will != Will::Removed && !instance.is_doubtful {
        report(Kind::Vanished, format!("{} was the last of {name}", container.name));
    }
    // What a person did to the other is that person's business.
    let successors = replay.bodies(host, name).filter(|(_, body)| body.made_by == By::Us && body.made > container.made);
    let watched = successors.map(|(_, body)| replay.watched(host, body, entry.at)).max();
    // What has never run is nothing to go back to.
    let is_way_back =
        (container.started.is_some() || container.can_serve) && instance.will == Will::Runs && !instance.is_doubtful;
    if *deed == Deed::Remove && is_way_back && watched.is_some_and(|watched| watched < STABLE) {
        report(Kind::Unproven, format!("{} was removed, and nobody had watched what takes its place", container.name));
    }
}
