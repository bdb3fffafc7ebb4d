//! After a start: journals that a daemon before this one left, brought as far as the engine alone allows.
//!
//! The store is never waited for here: a container that should serve does so first. What is left needs the store
//! or time, and the stage takes it up.

use std::time::Duration;

use deployer_core::replacement::{Act, Event, Phase, Replacement, Seen, recover};
use deployer_engine::{EngineError, Hand, if_found};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{acts, late, meanwhile};
use crate::failpoint;
use crate::journal::JournalError;
use crate::site::Site;
use crate::world::World;

/// How long past its grace a stop that was under way may take to show.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// The pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(200);
/// The pause before an act that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Brings every journal as far as the engine alone allows.
///
/// # Errors
/// [`JournalError`] if a journal cannot be read; the daemon must not start over it.
pub async fn recover_with_engine(world: &World, hand: &dyn Hand) -> Result<Vec<Replacement>, JournalError> {
    let site = &Site::new(world, hand);
    let mut left = Vec::new();
    for mut replacement in site.journals.all()? {
        let found = replacement.phase;
        // Of what the daemon before this one asked for last nobody knows what becomes of it.
        late::may_be_renamed(site, &replacement.facts.predecessor);
        if was_taken(site, &replacement).await {
            continue;
        }
        settle(site, &mut replacement).await;
        tracing::warn!(
            txn = replacement.txn,
            container = replacement.facts.container,
            "found a replacement in phase {}, going on from {}",
            found.word(),
            replacement.phase.word()
        );
        let mut failures = 0;
        while let Some((act, _)) = replacement.phase.next().filter(|(act, _)| is_urgent(*act)) {
            // On a full disk a container that should serve is brought up all the same: everything here is repeatable.
            if let Err(error) = site.journals.write(&replacement) {
                tracing::error!(error = &error as &dyn std::error::Error, "the journal cannot be written; going on");
            }
            failpoint::reached(&site.settings.state_dir, replacement.phase).await;
            match super::fault::step(site, &mut replacement, act, &CancellationToken::new()).await {
                Ok(event) => {
                    failures = 0;
                    apply(&mut replacement, event);
                }
                Err(error) => {
                    failures += 1;
                    if let Some(event) = error.given_up(&replacement, act, failures) {
                        failures = 0;
                        super::give_up(site, &mut replacement, event, &error);
                        continue;
                    }
                    if failures >= acts::REFUSALS_MAX {
                        tracing::error!(error = %error, txn = replacement.txn, "left to the stage, which goes on trying");
                        break;
                    }
                    tracing::warn!(error = %error, txn = replacement.txn, "recovery tries again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        left.push(replacement);
    }
    Ok(left)
}

/// Whether a person has given a name of their own to what a replacement owes, while nobody looked: then it is theirs. Another
/// replacement may be at work on it under that one.
async fn was_taken(site: &Site<'_>, replacement: &Replacement) -> bool {
    let Some(id) = replacement.looked_after() else { return false };
    let container = look(site, id).await;
    let Some(new) = container.and_then(|container| meanwhile::given_name(replacement, &container)) else {
        return false;
    };
    tracing::info!(container = replacement.facts.container, new, "renamed by somebody: it is left to them");
    let_go(site, replacement).await;
    true
}

/// Ends a replacement whose container is another's to look after: its failed candidate goes, and its journal.
pub async fn let_go(site: &Site<'_>, replacement: &Replacement) {
    let (owed, container) = (replacement.looked_after(), &replacement.facts.container);
    if let Some(candidate) = replacement.candidate.as_deref().filter(|candidate| owed != Some(candidate))
        && let Err(error) = if_found(site.hand.remove(candidate).await)
    {
        tracing::warn!(container, error = %error, "a failed candidate stays behind");
    }
    if let Err(error) = site.journals.close(&replacement.txn) {
        tracing::error!(error = &error as &dyn std::error::Error, "a journal stays behind");
    }
}

/// Whether an act is carried out before the daemon listens: what brings a container back up is; what needs the
/// store, or watches a container for a while, is left to the stage.
fn is_urgent(act: Act) -> bool {
    !act.needs_store() && !matches!(act, Act::ObserveCandidate | Act::ObservePredecessor)
}

fn apply(replacement: &mut Replacement, event: Event) {
    if let Err(error) = replacement.apply(event) {
        tracing::error!(error = %error, txn = replacement.txn, "recovery met an impossible event");
    }
}

/// Decides where to go on, from what the engine shows.
pub async fn settle(world: &World, replacement: &mut Replacement) {
    if replacement.candidate.is_none() {
        let name = replacement.candidate_name();
        replacement.candidate = look(world, &name).await.and_then(|c| Some(c.get("Id")?.as_str()?.to_owned()));
    }
    let candidate = match &replacement.candidate {
        Some(id) => look(world, id).await,
        None => None,
    };
    let predecessor = look(world, &replacement.facts.predecessor).await;
    let mut predecessor_runs = predecessor.as_ref().is_some_and(runs);
    // A stop that was sent goes on without us; until its time is over nobody knows whether it was.
    if replacement.phase == Phase::PolicyOff {
        let patience = Duration::from_millis(replacement.facts.grace_ms) + STOP_MARGIN;
        let deadline = Instant::now() + patience;
        while predecessor_runs && Instant::now() < deadline {
            tokio::time::sleep(PAUSE).await;
            predecessor_runs = look(world, &replacement.facts.predecessor).await.is_some_and(|c| runs(&c));
        }
    }
    let seen = Seen {
        predecessor_exists: predecessor.is_some(),
        predecessor_runs,
        candidate_exists: candidate.is_some(),
        candidate_runs: candidate.as_ref().is_some_and(runs),
    };
    recover(replacement, seen);
}

fn runs(container: &Value) -> bool {
    container.pointer("/State/Running").and_then(Value::as_bool).unwrap_or(false)
}

/// A container as it is; waits for an engine that does not answer.
async fn look(world: &World, id: &str) -> Option<Value> {
    loop {
        match world.engine.container(id).await {
            Ok(container) => return Some(container),
            Err(EngineError::NotFound { .. }) => return None,
            Err(error) => {
                tracing::warn!(error = %error, "waiting for the engine");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
