//! What becomes of an act that the engine goes on refusing, or does not answer for though it answers otherwise: a container that
//! is broken, or that another call holds for good. Trying for ever would hold the slot.

use std::time::Duration;

use deployer_core::replacement::{Act, Event, Failure, Phase, Replacement};
use deployer_engine::EngineError;
use serde_json::json;

use super::acts::{ActError, start};
use super::way_back;
use crate::site::Site;
use crate::world::World;

/// Failures in a row after which an act is given up: about a minute of refusals, and longer of calls without an answer.
pub const REFUSALS_MAX: u32 = 12;

/// What an act comes to after so many failures in a row; `None`: try again. On the way forward it is trouble of this machine. On
/// the way back a person may have removed or renamed what it needs; a predecessor that does not start has failed its
/// control, and is owed: it is started again and again, without the slot.
pub async fn given_up(
    world: &World,
    replacement: &Replacement,
    act: Act,
    error: &ActError,
    failures: u32,
) -> Option<Event> {
    let ActError::Engine(error) = error else { return None };
    if failures < REFUSALS_MAX || (error.is_ambiguous() && world.engine.info().await.is_err()) {
        return None;
    }
    match replacement.phase {
        phase if phase < Phase::Observed => Some(Event::Failed(Failure::Node(error.to_string()))),
        phase if !phase.is_return() => None,
        _ if act == Act::ObservePredecessor => Some(Event::Control(false)),
        _ => Some(Event::Done),
    }
}

/// Whether an engine that answers does not show a container.
pub async fn is_unshown(world: &World, error: &EngineError) -> bool {
    match error {
        EngineError::Timeout { .. } => world.engine.info().await.is_ok(),
        error => !error.is_ambiguous(),
    }
}

/// Carries out what of an act of the way back can be done without a look, once it is given up: the predecessor may be whole though
/// its candidate is not.
pub async fn do_blindly(site: &Site<'_>, replacement: &Replacement, act: Act) {
    let facts = &replacement.facts;
    let candidate = replacement.candidate.as_deref();
    let (is_down, is_ours) = (replacement.may_have_stopped_predecessor(), !replacement.kept_disarmed);
    let say = |outcome: Result<(), EngineError>| {
        if let Err(error) = outcome {
            tracing::warn!(container = facts.container, error = %error, "not done without a look, either");
        }
    };
    match act {
        Act::StopCandidate => {
            let Some(candidate) = candidate else { return };
            say(site.hand.set_restart_policy(candidate, &json!({"Name": "no"})).await);
            say(site.hand.stop(candidate, Duration::from_millis(facts.grace_ms)).await);
        }
        Act::SwapNamesBack if is_down => {
            if let Some(candidate) = candidate {
                say(site.hand.rename(candidate, &replacement.candidate_name()).await);
            }
            say(site.hand.rename(&facts.predecessor, &facts.container).await);
        }
        Act::RearmPredecessor if replacement.reached >= Phase::Created && is_ours => {
            say(way_back::give_policy_back(site, replacement).await);
        }
        Act::StartPredecessor if replacement.owes_a_start() => say(start(site, &facts.predecessor).await),
        _ => {}
    }
}
