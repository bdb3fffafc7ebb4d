//! Everything a replacement needs, found and written down before anything is touched.
//!
//! What cannot be carried over, or is missing, is refused here with its reason. The predecessor is probed, so
//! that the candidate is asked for what the predecessor did and nothing else.

use std::collections::BTreeMap;

use deployer_core::gate::Ports;
use deployer_core::healthcheck;
use deployer_core::image::{Digest, Track};
use deployer_core::policy::{ADOPTED, DIGEST, LabelError};
use deployer_core::replacement::Facts;
use deployer_core::successor::{Refusal, changeable};
use deployer_core::trouble::Trouble;
use deployer_engine::EngineError;
use thiserror::Error;

use super::baseline;
use super::carry::{Carried, carry_over};
use crate::keep;
use crate::site::Site;
use crate::situation::{Decision, TrackView};
use crate::supervision::Supervisors;
use crate::survey::Survey;

/// Refusals in a row of what the engine only has to look at, after which they count: about half a minute.
const FAILURES_MAX: u32 = 4;

/// Why a replacement cannot begin.
#[derive(Debug, Error)]
pub enum PrefetchError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine failed to tell which files were put into the container.
    #[error("nobody knows which files were put into the container: {0}")]
    Files(#[source] EngineError),
    /// The container's settings cannot be carried over.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A label is wrong.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The image is for another machine.
    #[error("no image for this platform: {0}")]
    Platform(String),
    /// Somebody else looks after the container by now.
    #[error("{0}")]
    Foreign(String),
    /// A network or volume that the container uses is gone.
    #[error("{kind} {name} does not exist any more; make it again, or recreate the container without it")]
    Missing {
        /// `network`, `volume`, `device` or `mounted file or directory`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// What is mounted from the machine has become a directory, or a file.
    #[error(
        "{path}, which is mounted at {target}, is {} now and was {} when the container was started, so that another one would \
         mostly not start, nor this one again; put back what was there, or recreate the container",
        kind(*.is_directory), kind(!.is_directory)
    )]
    OtherKind {
        /// Where it lies on the machine.
        path: String,
        /// Where it is mounted.
        target: String,
        /// Whether it is a directory now.
        is_directory: bool,
    },
    /// The container's own grace has no end, or none within the hour for which a slot may be held.
    #[error(
        "the container may take longer than an hour to stop (--stop-timeout {seconds}), and others wait for the end of a \
         replacement: say how long at most in the label deployer.stop.timeout"
    )]
    LongStop {
        /// What the container was made with; a negative number stands for ever.
        seconds: i64,
    },
    /// A path is to be asked, and nobody knows on which port: a check that is not made would pass whatever comes.
    #[error(
        "deployer.health.http={0} names no port, and the container has none that answers: write the port in front, as in 8080{0}"
    )]
    NoHttpPort(String),
    /// The path answers with a redirection, which no candidate would be better at.
    #[error(
        "deployer.health.http: the running container answers {path} with status {status}, too, and 2xx is asked for: name a path \
         that answers itself"
    )]
    LeadsElsewhere {
        /// The path.
        path: String,
        /// What it answers.
        status: u16,
    },
    /// The decision has no target: it was not one to replace.
    #[error("there is nothing to deploy")]
    NoTarget,
}

fn kind(is_directory: bool) -> &'static str {
    if is_directory { "a directory" } else { "no directory" }
}

impl PrefetchError {
    /// Whether another try may well end better, after so many failures in a row: no answer says nothing, and an engine
    /// may refuse for a moment what it only has to look at.
    pub fn may_pass(&self, failures: u32) -> bool {
        let (Self::Engine(error) | Self::Files(error)) = self else { return false };
        match error {
            EngineError::NotFound { .. }
            | EngineError::Unreachable { .. }
            | EngineError::Timeout { .. }
            | EngineError::NotHeard { .. } => true,
            EngineError::Refused { .. }
            | EngineError::NotOffered { .. }
            | EngineError::Conflict { .. }
            | EngineError::Nonsense { .. } => failures < FAILURES_MAX,
            EngineError::TooLong { .. } => false,
        }
    }

    /// Whether this is about the one container, or about something that may be wrong elsewhere, too.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Engine(EngineError::TooLong { .. }) => Trouble::Refused(self.to_string()),
            Self::Engine(_) | Self::Platform(_) => Trouble::Failed(self.to_string()),
            _ => Trouble::Refused(self.to_string()),
        }
    }
}

/// Finds out everything.
pub async fn prefetch(
    site: &Site<'_>,
    survey: &Survey,
    supervisors: &Supervisors,
    view: &TrackView,
    decision: &Decision,
) -> Result<Facts, PrefetchError> {
    let (Some(target), Some(new_image_id), Some(grounds)) =
        (&decision.target, &decision.target_image, &decision.grounds)
    else {
        return Err(PrefetchError::NoTarget);
    };
    let summary = &decision.container.summary;
    let mut labels = BTreeMap::from([(DIGEST.to_owned(), target.digest.to_string())]);
    labels.extend(adopted(survey, view, decision).map(|adopted| (ADOPTED.to_owned(), adopted.to_string())));
    let carried = carry_over(site, survey, supervisors, &decision.container, new_image_id, &labels).await?;
    let Carried { container, new_image, policy, grace, successor } = carried;
    keep_predecessors_image(site, survey, view, decision).await?;
    let ran = decision.container.is_meant_to_run();
    let is_owed = site.memory().owed.includes(&summary.id);
    let healthcheck = healthcheck::time_needed(&container, &new_image);
    if policy.cuts(healthcheck) {
        let text =
            "its HEALTHCHECK may take longer than an hour to say unhealthy; the gate waits for an hour".to_owned();
        site.account.tell_of("replace", &view.track, &summary.name, None, text);
    }
    let ports = Ports::of_candidate(&successor.body, &new_image);
    let required = baseline::ports(site, &container, &ports, &policy.tcp, ran).await;
    let http = baseline::http_check(site, &container, policy.http.clone(), &required, &ports.known).await?;
    Ok(Facts {
        track: view.track.clone(),
        service: decision.service.clone(),
        digest: target.digest.clone(),
        seq: target.seq,
        container: summary.name.clone(),
        predecessor: summary.id.clone(),
        predecessor_ran: ran || is_owed,
        predecessor_was_owed: is_owed,
        new_image: new_image_id.clone(),
        tag_before: tag_to_go_back_to(survey, &view.track, new_image_id, &summary.image_id),
        restart_policy: successor.restart_policy,
        body: successor.body,
        connect: successor.connect,
        grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        gate: policy.gate(healthcheck),
        ports: required,
        http,
        is_first: !decision.verdicts.is_good(&target.digest),
        scope: site.settings.scope.name(&decision.service),
        limit: policy.max_unavailable,
        runs: runs(survey, view, &summary.image_id),
        settings: changeable(&container),
        grounds: grounds.clone(),
    })
}

/// What was adopted from the container, or from the first of its predecessors.
fn adopted(survey: &Survey, view: &TrackView, decision: &Decision) -> Option<Digest> {
    let container = &decision.container;
    let digests = survey.digests_of(&view.track, &container.summary.image_id);
    let unsaid = view.ledger.record.as_ref().and_then(|record| record.value.unsaid());
    let own = unsaid.filter(|unsaid| digests.contains(&unsaid.digest)).map(|unsaid| unsaid.digest.clone());
    container.adopted().or(own)
}

/// The newest place in the record of what a container runs; 0 if the record does not know it.
fn runs(survey: &Survey, view: &TrackView, image: &str) -> u64 {
    let digests = survey.digests_of(&view.track, image);
    let history = view.ledger.record.iter().flat_map(|record| record.value.history());
    history.filter(|version| digests.contains(&version.digest)).map(|version| version.seq).max().unwrap_or_default()
}

/// Where the tag belongs if the candidate fails. Whoever builds and pushes on this machine has moved the tag to the
/// new image already; left there, `compose up` would start what was just put back.
fn tag_to_go_back_to(survey: &Survey, track: &Track, new_image: &str, old_image: &str) -> Option<String> {
    let image = survey.image_under(track)?;
    Some(if image.id == new_image { old_image.to_owned() } else { image.id.clone() })
}

/// Without a tag of its own, the image to go back to would be open to a pruner once the repository's tag moves.
async fn keep_predecessors_image(
    site: &Site<'_>,
    survey: &Survey,
    view: &TrackView,
    decision: &Decision,
) -> Result<(), EngineError> {
    let id = &decision.container.summary.image_id;
    let is_kept = survey.images.iter().any(|image| image.id == *id && keep::is_kept(image));
    match survey.digests_of(&view.track, id).first() {
        Some(digest) if !is_kept => keep::keep(site, site.hand, &view.track, digest, id, keep::Kind::Kept).await,
        _ => Ok(()),
    }
}
