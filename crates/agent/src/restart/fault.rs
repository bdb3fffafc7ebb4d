//! What becomes of a replacement when one of its acts panics, or the code around them.
//!
//! On the way forward a panic is trouble of this node: the old one is put back, and the rollout halts. On the way back
//! there is nowhere else to go: the act is tried again, ever more rarely, and given up where nothing that serves depends
//! on it. A panic outside of an act leaves a journal that nobody may guess at here: the next start recovers it.

use std::time::Duration;

use deployer_core::backoff::Backoff;
use deployer_core::replacement::{Act, Event, Failure, Phase, Replacement};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::acts::{self, ActError};
use super::{claim, refused};
use crate::fault::{Fault, caught};
use crate::site::Site;
use crate::world::World;

/// Panics in a row after which an act on the way back is given up, if it may be: about half a minute.
const FAULTS_MAX: u32 = 4;

/// Why an act has to be tried again.
#[derive(Debug, Error)]
pub enum StepError {
    /// The engine or the store.
    #[error(transparent)]
    Act(#[from] ActError),
    /// Ourselves.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl StepError {
    /// What the act comes to if it is not tried again; `None`: it is.
    pub async fn given_up(&self, world: &World, replacement: &Replacement, act: Act, failures: u32) -> Option<Event> {
        match self {
            Self::Act(error) => refused::given_up(world, replacement, act, error, failures).await,
            Self::Fault(_) => given_up(act, failures),
        }
    }

    /// Whether it ends with the daemon.
    pub fn is_left(&self) -> bool {
        matches!(self, Self::Act(ActError::Left(_)))
    }

    /// Whether it is ourselves, so that waiting is not likely to help.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Fault(_))
    }

    /// How long to wait before the next try.
    pub fn wait(&self, failures: u32, random: u64) -> Duration {
        match self {
            Self::Act(_) => Backoff::CONNECTION.wait(failures, random),
            Self::Fault(_) => Backoff::REGISTRY.wait(failures, random),
        }
    }
}

/// Carries out one act.
///
/// # Errors
/// [`StepError`]: the same act is tried again.
pub async fn step(
    site: &Site<'_>,
    replacement: &mut Replacement,
    act: Act,
    shutdown: &CancellationToken,
) -> Result<Event, StepError> {
    let fault = match caught(acts::carry_out(site, replacement, act, shutdown)).await {
        Ok(outcome) => return Ok(outcome?),
        Err(fault) => fault,
    };
    if act == Act::Claim {
        claim::leave(site, replacement).await.map_err(ActError::from)?;
    }
    // A candidate that has passed its gate serves, whoever stumbles over writing that down.
    if replacement.phase < Phase::Observed {
        Ok(Event::Failed(Failure::Node(fault.to_string())))
    } else {
        Err(fault.into())
    }
}

/// What an act that cannot lead back any more comes to. The predecessor's start is never given up, and neither is what
/// the others wait for in the store.
fn given_up(act: Act, faults: u32) -> Option<Event> {
    let is_needed = act.needs_store() || act == Act::StartPredecessor;
    let event = if act == Act::ObservePredecessor { Event::Control(false) } else { Event::Done };
    (faults >= FAULTS_MAX && !is_needed).then_some(event)
}

/// After a panic outside of an act. Gives back whether to begin anew, after a pause; `false` once the daemon ends.
pub async fn survive(world: &World, container: &str, fault: &Fault, faults: u32, shutdown: &CancellationToken) -> bool {
    let is_left = |journals: Vec<Replacement>| journals.iter().any(|journal| journal.facts.container == container);
    // A journal that cannot be read might be this one's.
    let is_left = world.journals.all().map_or(true, is_left);
    let wait = Backoff::REGISTRY.wait(faults, world.ambient.random());
    let text = match is_left {
        true => format!("stuck: {fault}; the next start of this daemon goes on"),
        false => format!("stuck: {fault}; trying again in {} s", wait.as_secs()),
    };
    tracing::error!(container, "{text}");
    world.memory().replacing.say(container, text);
    tokio::select! {
        biased;
        () = shutdown.cancelled() => false,
        () = tokio::time::sleep(wait), if !is_left => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_1_what_serves_and_what_others_wait_for_is_never_given_up() {
        for (act, expected) in [
            (Act::StopCandidate, Some(Event::Done)),
            (Act::SwapNamesBack, Some(Event::Done)),
            (Act::StartPredecessor, None),
            (Act::MoveTagBack, Some(Event::Done)),
            (Act::ObservePredecessor, Some(Event::Control(false))),
            (Act::Condemn, None),
            (Act::Release, None),
            (Act::RemoveCandidate, Some(Event::Done)),
            (Act::RemovePredecessor, Some(Event::Done)),
        ] {
            assert_eq!(given_up(act, FAULTS_MAX), expected, "{act:?}");
            assert_eq!(given_up(act, FAULTS_MAX - 1), None, "{act:?}");
        }
    }
}
