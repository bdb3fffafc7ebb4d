//! From what was seen to a [`Situation`], and the decision for each container of a track.

use std::collections::{BTreeMap, BTreeSet};

use deployer_core::asking::may_ask;
use deployer_core::image::{Digest, Track};
use deployer_core::plan::{
    Answer, Known, LocalTag, Naming, Obstacle, Ownership, Row, Situation, Target, Trigger, decide,
};
use deployer_core::policy::{DIGEST, TXN};
use deployer_core::record::{Record, Verdicts, Version};
use deployer_core::slot::Grounds;
use deployer_core::store::Revision;
use deployer_core::successor::DependenceKind;
use deployer_core::trouble::Trouble;
use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::ledger::{self, Ledger};
use crate::survey::{Survey, Surveyed};
use crate::world::World;

mod projects;

/// What was decided about one container, and what the decision rests on.
pub struct Decision {
    /// The container.
    pub container: Surveyed,
    /// Its service.
    pub service: String,
    /// The facts, each from a small closed set.
    pub situation: Situation,
    /// The row that decided.
    pub row: &'static Row,
    /// What should run.
    pub target: Option<Version>,
    /// ID of the target's local image.
    pub target_image: Option<String>,
    /// The service's verdicts.
    pub verdicts: Verdicts,
    /// What must still stand when the decision is carried out; `None` without a target.
    pub grounds: Option<Grounds>,
    /// More than the row says, for people; may be empty.
    pub note: String,
    /// The trouble that the target met here and that another try is not likely to end, if it halts the rollout. While it
    /// is tried again all the same, it stays.
    pub trouble: Option<String>,
}

/// Everything known of a track, and the decisions that follow.
pub struct TrackView {
    /// The track.
    pub track: Track,
    /// What the store holds.
    pub ledger: Ledger,
    /// One decision for each container that names the track.
    pub decisions: Vec<Decision>,
}

impl TrackView {
    /// Decides for every container of a track. Nothing is changed.
    ///
    /// # Errors
    /// [`deployer_store::StoreError`] if the store does not answer.
    pub async fn of(
        world: &World,
        survey: &Survey,
        track: &Track,
        answer: Answer,
    ) -> Result<Self, deployer_store::StoreError> {
        let containers: Vec<&Surveyed> =
            survey.containers.iter().filter(|container| container.track().as_ref() == Some(track)).collect();
        let services: BTreeSet<String> = containers.iter().map(|container| container.service(track)).collect();
        // Side by side: over a network each of them is a round trip.
        let verdicts = try_join_all(services.iter().map(|service| ledger::verdicts(world, service)));
        let (ledger, verdicts) = tokio::try_join!(Ledger::read(world, track), verdicts)?;
        let verdicts: BTreeMap<&String, _> = services.iter().zip(verdicts).collect();
        let decide = |container: &&Surveyed| {
            let (verdicts, revisions) = verdicts[&container.service(track)].clone();
            decision(world, survey, track, &ledger, container, verdicts, &revisions, answer)
        };
        let mut decisions: Vec<Decision> = containers.iter().map(decide).collect();
        projects::keep_to_projects(world, survey, &mut decisions);
        Ok(Self { track: track.clone(), ledger, decisions })
    }

    /// The registry's digest by which the image of a container is known.
    pub fn digest_of(&self, survey: &Survey, decision: &Decision) -> Option<Digest> {
        let record = self.ledger.record.as_ref().map(|record| &record.value);
        let digests = survey.digests_of(&self.track, &decision.container.summary.image_id);
        Record::known_as(record, decision.target.as_ref(), &digests)
    }
}

#[expect(clippy::too_many_arguments, reason = "each is one independent fact that the decision reads")]
fn decision(
    world: &World,
    survey: &Survey,
    track: &Track,
    ledger: &Ledger,
    container: &Surveyed,
    verdicts: Verdicts,
    revisions: &[(Digest, Revision)],
    answer: Answer,
) -> Decision {
    let service = container.service(track);
    let target = ledger.record.as_ref().and_then(|record| record.value.target(&verdicts)).cloned();
    let target_image = target.as_ref().and_then(|target| survey.image_at(track, &target.digest)).map(|i| i.id.clone());
    let (ownership, mut note) = ownership(world, container, track, ledger);
    let (local_tag, tag_note) = local_tag(world, survey, track, ledger);
    let (target_state, target_note) =
        target_state(world, track, ledger, container, target.as_ref(), target_image.as_ref());
    // What runs already has nothing in its way.
    let wanted = target.as_ref().filter(|_| target_state != Target::Running);
    let (obstacle, obstacle_note) = obstacle(world, track, ledger, container, wanted);
    let situation = Situation {
        naming: Naming::Tag,
        ownership,
        local_tag,
        trigger: trigger(world, ledger, track),
        answer: if answer == Answer::NotAsked { unasked(world, ledger, track) } else { answer },
        known: if ledger.record.is_some() { Known::Yes } else { Known::No },
        target: target_state,
        obstacle,
    };
    for further in [tag_note, obstacle_note, target_note] {
        if note.is_empty() {
            note = further;
        }
    }
    let grounds = target.as_ref().map(|t| ledger::grounds(ledger, &service, &t.digest, revisions));
    let row = decide(&situation);
    let trouble = target.as_ref().and_then(|target| trouble(world, track, ledger, container, target));
    let container = container.clone();
    Decision { container, service, situation, row, target, target_image, verdicts, grounds, note, trouble }
}

fn trouble(world: &World, track: &Track, ledger: &Ledger, container: &Surveyed, target: &Version) -> Option<String> {
    let memory = world.memory();
    if let Some(Trouble::Failed(reason)) = memory.troubles.standing(&container.summary.id, target.seq, ledger.retry) {
        return Some(reason.clone());
    }
    memory.fetches.hopeless(track, &target.digest, ledger.retry).map(ToOwned::to_owned)
}

/// Whether it is the container that this daemon runs in. One that uses another's network has the files mounted by which a container
/// is known from that one: then it may be either.
fn is_own(world: &World, container: &Surveyed) -> bool {
    let Some(own) = &world.settings.own_container else { return false };
    let mut networks = container.summary.leans_on.iter().filter(|used| used.kind == DependenceKind::Network);
    container.summary.id == *own || networks.any(|used| used.is_on("", own))
}

fn ownership(world: &World, container: &Surveyed, track: &Track, ledger: &Ledger) -> (Ownership, String) {
    if !world.settings.manage.includes(&container.summary.labels) {
        return (Ownership::NotManaged, String::new());
    }
    if is_own(world, container) {
        return (Ownership::Foreign, "deployer does not replace itself".to_owned());
    }
    if let Some(reason) = container.summary.owner.reason() {
        return (Ownership::Foreign, reason);
    }
    let written = &container.summary.config_image;
    if !track.is_written(written) {
        let text = format!(
            "it names its image {written}, which this engine does not take for {0}; name it {0}",
            track.familiar()
        );
        return (Ownership::Refused, text);
    }
    match &container.policy {
        Ok(_) if ledger.has_unreadable_record() => {
            let key = world.keys.record(track);
            (Ownership::Refused, format!("what the store holds as the image's record makes no sense ({key})"))
        }
        Ok(_) => (Ownership::Managed, String::new()),
        Err(error) => (Ownership::Refused, error.to_string()),
    }
}

fn local_tag(world: &World, survey: &Survey, track: &Track, ledger: &Ledger) -> (LocalTag, String) {
    let image = survey.image_under(track);
    if image.is_some_and(|image| survey.digests_of(track, &image.id).is_empty()) {
        return (LocalTag::Build, String::new());
    }
    let memory = world.memory();
    if let Some(digest) = survey.unverified(track).filter(|digest| !ledger.knows(digest)) {
        let image = (track.name().clone(), digest.clone());
        if !memory.verified.has(&image) {
            return match memory.verified.resting(&image, ledger.retry, Instant::now()) {
                Some(reason) => (LocalTag::Build, reason.to_owned()),
                None => (LocalTag::Unverified, String::new()),
            };
        }
    }
    drop(memory);
    let local_tag = if survey.is_tag_moved(world, track) { LocalTag::Moved } else { LocalTag::Known };
    (local_tag, String::new())
}

fn trigger(world: &World, ledger: &Ledger, track: &Track) -> Trigger {
    if ledger.pending.is_some() {
        Trigger::Hook
    } else if world.memory().asking.is_lost(track) {
        Trigger::Lost
    } else if !ledger.is_checked && world.settings.registry_check.is_some() {
        Trigger::Check
    } else {
        Trigger::None
    }
}

/// Why the registry has not been asked for this look, and whether it may be.
fn unasked(world: &World, ledger: &Ledger, track: &Track) -> Answer {
    let (node, pending) = (&world.settings.node, ledger.pending_revision());
    let is_waiting = ledger.wait(world, track).is_some_and(|wait| wait.due > Instant::now());
    let resolver = ledger.resolver.as_ref().map(|resolver| &resolver.value);
    if is_waiting {
        Answer::BackingOff
    } else if resolver.is_some_and(|resolver| resolver.node != *node) {
        Answer::Elsewhere
    } else if !ledger.is_asking(world) && !may_ask(ledger.setbacks.iter(), node, pending) {
        Answer::BackingOff
    } else {
        Answer::NotAsked
    }
}

/// The digest for which a replacement made this container, if the record does not know it and the registry was not asked
/// since. Only a mark that came with the replacement counts.
pub fn unrecorded(world: &World, ledger: &Ledger, track: &Track, container: &Surveyed) -> Option<Digest> {
    made_for_unknown(ledger, container).filter(|digest| !world.memory().asking.has_heard(track, digest))
}

/// The digest for which a replacement made this container, if the record does not know it.
fn made_for_unknown(ledger: &Ledger, container: &Surveyed) -> Option<Digest> {
    let labels = &container.summary.labels;
    let digest = labels.get(TXN).and_then(|_| Digest::parse(labels.get(DIGEST)?).ok())?;
    let record = &ledger.record.as_ref()?.value;
    let is_known = record.history().iter().any(|version| version.digest == digest);
    (!is_known).then_some(digest)
}

fn obstacle(
    world: &World,
    track: &Track,
    ledger: &Ledger,
    container: &Surveyed,
    target: Option<&Version>,
) -> (Obstacle, String) {
    if !container.is_meant_to_run() && !world.memory().owed.includes(&container.summary.id) {
        let state = &container.summary.state;
        return (Obstacle::NotMeantToRun, format!("its state is {state}: it is left as it is"));
    }
    let Some(target) = target else { return (Obstacle::None, String::new()) };
    if let Some(digest) = unrecorded(world, ledger, track, container) {
        let text = format!("the record does not know {}, which it runs: the registry is asked first", digest.short());
        return (Obstacle::Unrecorded, text);
    }
    let newest = ledger.record.as_ref().and_then(|record| record.value.newest());
    if let Some(digest) = made_for_unknown(ledger, container).filter(|_| newest.is_some_and(|v| v.seq != target.seq)) {
        let text =
            format!("the record does not know {}, which may be newer than version {}", digest.short(), target.seq);
        return (Obstacle::PerhapsNewer, text);
    }
    if !target.is_for(container.adopted().as_ref()) {
        let text = format!("version {} is what another container ran before, and this one never did", target.seq);
        return (Obstacle::NeverRan, text);
    }
    if let Some(trouble) = world.memory().troubles.standing(&container.summary.id, target.seq, ledger.retry) {
        return (Obstacle::FailedHere, trouble.reason().to_owned());
    }
    if ledger.is_paused {
        return (Obstacle::Paused, String::new());
    }
    match ledger.standing_halt(world, track, target.seq) {
        Some(halt) => (Obstacle::Halted, format!("halted by trouble on {}: {}", halt.node, halt.reason)),
        None => (Obstacle::None, String::new()),
    }
}

fn target_state(
    world: &World,
    track: &Track,
    ledger: &Ledger,
    container: &Surveyed,
    target: Option<&Version>,
    target_image: Option<&String>,
) -> (Target, String) {
    let Some(target) = target else { return (Target::None, String::new()) };
    match target_image {
        Some(image) if *image == container.summary.image_id => (Target::Running, String::new()),
        Some(_) => (Target::Present, String::new()),
        None => match world.memory().fetches.resting(track, &target.digest, ledger.retry, Instant::now()) {
            Some(reason) => (Target::Unavailable, reason.to_owned()),
            None => (Target::Absent, String::new()),
        },
    }
}

/// How a container is, in a word, while nothing is being done to it, and why.
pub fn state_of(decision: &Decision) -> (&'static str, String) {
    let is_target = decision.target_image.as_ref() == Some(&decision.container.summary.image_id);
    let because = || if decision.note.is_empty() { decision.row.state.to_owned() } else { decision.note.clone() };
    match decision.row.name {
        "pinned" | "not_managed" | "foreign" => ("unmanaged", because()),
        "refused" | "local_build" | "unverified" | "no_version" | "halted" | "ahead" | "perhaps_newer"
        | "never_ran" => ("held_back", because()),
        "failed_here" => ("failed_here", because()),
        "follows" => ("waiting", because()),
        "unavailable" if decision.trouble.is_some() => ("failed_here", because()),
        "absent" | "unavailable" => ("pulling", because()),
        "nothing_to_do" if is_target && decision.note.is_empty() => ("current", String::new()),
        "nothing_to_do" => ("held_back", because()),
        "hook" | "first_sight" | "moved_by_hand" | "lost" | "check" if is_target => ("current", because()),
        _ => ("stale", because()),
    }
}
