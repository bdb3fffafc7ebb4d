//! After a start: journals that a daemon before this one left, brought as far as the engine alone allows.
//!
//! The store is never waited for here: a container that should serve does so first. What is left needs the store
//! or time, and the stage takes it up.

use std::time::Duration;

use deployer_core::backoff::Backoff;
use deployer_core::replacement::{Act, Event, Phase, Replacement, Seen, recover};
use deployer_engine::{EngineError, Hand, if_found};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{acts, late, meanwhile, refused};
use crate::failpoint;
use crate::journal::JournalError;
use crate::site::Site;
use crate::world::World;

/// How long past its grace a stop that was under way may take to show.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// How long, over all journals, an engine that answers is asked for containers that it does not show, before a daemon begins.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks at a stop.
const PAUSE: Duration = Duration::from_millis(200);
/// The pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A replacement that a daemon before this one left.
#[derive(Clone, Debug)]
pub struct Left {
    /// As its journal had it, or where it goes on.
    pub replacement: Replacement,
    /// Whether it was decided where it goes on: an engine may refuse to show a container, or never answer for it.
    pub is_taken_up: bool,
}

/// Brings every journal as far as the engine alone allows. An engine that is away is waited for; one that answers, and not for
/// the containers of a journal, keeps nobody else waiting: the stage goes on asking.
///
/// # Errors
/// [`JournalError`] if a journal cannot be read; the daemon must not start over it.
pub async fn recover_with_engine(world: &World, hand: &dyn Hand) -> Result<Vec<Left>, JournalError> {
    let site = &Site::new(world, hand);
    let mut left = Vec::new();
    let mut patience = None;
    for mut replacement in site.journals.all()? {
        let found = replacement.phase;
        // Of what the daemon before this one asked for last nobody knows what becomes of it.
        late::may_be_renamed(site, &replacement.facts.predecessor);
        match take_up_soon(site, &mut replacement, &mut patience).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::error!(error = %error, txn = replacement.txn, "left to the stage, which goes on asking");
                left.push(Left { replacement, is_taken_up: false });
                continue;
            }
        }
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
                    if let Some(event) = error.given_up(site, &replacement, act, failures).await {
                        failures = 0;
                        refused::do_blindly(site, &replacement, act).await;
                        super::give_up(site, &mut replacement, event, &error);
                        continue;
                    }
                    if failures >= refused::REFUSALS_MAX {
                        tracing::error!(error = %error, txn = replacement.txn, "left to the stage, which goes on trying");
                        break;
                    }
                    tracing::warn!(error = %error, txn = replacement.txn, "recovery tries again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        left.push(replacement.into());
    }
    Ok(left)
}

impl From<Replacement> for Left {
    fn from(replacement: Replacement) -> Self {
        Self { replacement, is_taken_up: true }
    }
}

/// Takes a replacement up within what is left of everybody's patience, which begins when the engine answers, and not for this.
async fn take_up_soon(
    site: &Site<'_>,
    replacement: &mut Replacement,
    patience: &mut Option<Instant>,
) -> Result<bool, EngineError> {
    loop {
        let error = match try_to_take_up(site, replacement, Unshown::Waits).await {
            Ok(is_ours) => return Ok(is_ours),
            Err(error) => error,
        };
        if site.engine.info().await.is_ok() && Instant::now() >= *patience.get_or_insert(Instant::now() + PATIENCE) {
            return try_to_take_up(site, replacement, Unshown::IsDown).await;
        }
        tracing::warn!(error = %error, "waiting for the engine");
        tokio::time::sleep(RETRY).await;
    }
}

/// Takes a replacement up as soon as the engine shows its containers; `false`: it does not go on here. The end of the daemon leaves
/// it to the next start.
pub async fn take_up(site: &Site<'_>, replacement: &mut Replacement, shutdown: &CancellationToken) -> bool {
    let mut failures = 0;
    loop {
        let error = match try_to_take_up(site, replacement, Unshown::IsDown).await {
            Ok(is_ours) => return is_ours,
            Err(error) => error,
        };
        failures += 1;
        let stuck = format!("{} in phase {}: {error}", replacement.txn, replacement.phase.word());
        site.memory().replacing.say(&replacement.facts.container, format!("stuck: {stuck}"));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(Backoff::CONNECTION.wait(failures, site.ambient.random())) => {}
        }
    }
}

/// Decides where a replacement goes on; `false`: it does not, for what it owes is somebody else's by now.
async fn try_to_take_up(site: &Site<'_>, replacement: &mut Replacement, unshown: Unshown) -> Result<bool, EngineError> {
    match was_taken(site, replacement).await {
        Ok(true) => return Ok(false),
        Err(error) if unshown == Unshown::Waits => return Err(error),
        _ => {}
    }
    settle(site, replacement, unshown).await?;
    Ok(true)
}

/// Whether a person has given a name of their own to what a replacement owes, while nobody looked: then it is theirs. Another
/// replacement may be at work on it under that one.
async fn was_taken(site: &Site<'_>, replacement: &Replacement) -> Result<bool, EngineError> {
    let Some(id) = replacement.looked_after() else { return Ok(false) };
    let container = if_found(site.engine.container(id).await)?;
    let Some(new) = container.and_then(|container| meanwhile::given_name(replacement, &container)) else {
        return Ok(false);
    };
    tracing::info!(container = replacement.facts.container, new, "renamed by somebody: it is left to them");
    let_go(site, replacement).await;
    Ok(true)
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

/// What comes of one of two containers that the engine does not show while it shows the other, or that there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unshown {
    /// It is asked for again.
    Waits,
    /// It is taken for down: the other may be whole.
    IsDown,
}

/// Decides where to go on, from what the engine shows.
///
/// # Errors
/// [`EngineError`] if it does not show a container, and that cannot be passed over. Then the replacement is what it was.
pub async fn settle(world: &World, replacement: &mut Replacement, unshown: Unshown) -> Result<(), EngineError> {
    let look = async |id: &str| if_found(world.engine.container(id).await);
    let candidate = look(replacement.candidate.as_ref().unwrap_or(&replacement.candidate_name())).await;
    let predecessor = look(&replacement.facts.predecessor).await;
    let (candidate, predecessor) = match (candidate, predecessor, unshown) {
        (Err(error), Ok(shown), Unshown::IsDown) => (Some(taken_for_down(replacement, &error)), shown),
        (Ok(shown), Err(error), Unshown::IsDown) => (shown, Some(taken_for_down(replacement, &error))),
        (candidate, predecessor, _) => (candidate?, predecessor?),
    };
    let mut predecessor_runs = predecessor.as_ref().is_some_and(runs);
    // A stop that was sent goes on without us; until its time is over nobody knows whether it was.
    if replacement.phase == Phase::PolicyOff {
        let patience = Duration::from_millis(replacement.facts.grace_ms) + STOP_MARGIN;
        let deadline = Instant::now() + patience;
        while predecessor_runs && Instant::now() < deadline {
            tokio::time::sleep(PAUSE).await;
            predecessor_runs = look(&replacement.facts.predecessor).await?.is_some_and(|c| runs(&c));
        }
    }
    let seen = Seen {
        predecessor_exists: predecessor.is_some(),
        predecessor_runs,
        candidate_exists: candidate.is_some(),
        candidate_runs: candidate.as_ref().is_some_and(runs),
    };
    let found = candidate.map(|candidate| acts::text(&candidate, "/Id")).filter(|id| !id.is_empty());
    replacement.candidate = replacement.candidate.take().or(found);
    recover(replacement, seen);
    Ok(())
}

/// What is known of a container that the engine does not show: nothing, but that there is one.
fn taken_for_down(replacement: &Replacement, error: &EngineError) -> Value {
    tracing::error!(container = replacement.facts.container, error = %error, "taken for down");
    Value::Null
}

fn runs(container: &Value) -> bool {
    container.pointer("/State/Running").and_then(Value::as_bool).unwrap_or(false)
}
