//! What a person can do: deploy, roll back, try again, unlock.

use axum::http::StatusCode;
use deployer_agent::ledger::{Ledger, verdicts_everywhere};
use deployer_agent::look::LookError;
use deployer_agent::situation::TrackView;
use deployer_agent::survey::Survey;
use deployer_agent::update::try_again;
use deployer_agent::world::World;
use deployer_core::image::Track;
use deployer_core::plan::Answer;
use deployer_core::record::Pending;
use deployer_core::slot;
use deployer_core::store::Txn;
use deployer_store::StoreError;
use thiserror::Error;

use super::Ask;
use crate::status::{self, History};

/// Tries of a compare-and-swap against others who change the same record.
const TRIES_MAX: u32 = 10;

/// Why nothing was done.
#[derive(Debug, Error)]
pub enum ActionError {
    /// The person asked for something that cannot be.
    #[error("{0}")]
    Mistake(String),
    /// The store or the engine does not answer.
    #[error("{0}")]
    Away(String),
}

impl ActionError {
    /// 422 for a mistake of the person, 503 for trouble of ours.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Mistake(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<StoreError> for ActionError {
    fn from(error: StoreError) -> Self {
        Self::Away(error.to_string())
    }
}

impl From<LookError> for ActionError {
    fn from(error: LookError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Away(format!("{error}{cause}"))
    }
}

/// Asks for a track to be resolved and deployed, as a notification does.
pub async fn deploy(world: &World, ask: Ask) -> Result<String, ActionError> {
    let track = registered(world, &ask.of)?;
    let pending = Pending { digest: None, at: world.ambient.now() };
    // A person need not wait until it is time to ask a registry again that was away.
    world.memory().asking.wait_no_more(&track);
    let setbacks = Ledger::read(world, &track).await?.setbacks;
    let txn = setbacks.iter().fold(Txn::new(), |txn, setback| txn.delete(world.keys.setback(&track, &setback.node)));
    world.store.txn(txn.put(world.keys.pending(&track), &pending)).await?;
    Ok(format!("asked the registry about {track}"))
}

/// Tells what the registry said of a track, and what became of it.
pub async fn history(world: &World, ask: Ask) -> Result<History, ActionError> {
    Ok(status::history(world, &registered(world, &ask.of)?).await?)
}

/// Withdraws the target, so that the entry before it becomes the target.
pub async fn rollback(world: &World, ask: Ask) -> Result<String, ActionError> {
    let track = registered(world, &ask.of)?;
    for _ in 0..TRIES_MAX {
        let ledger = ledger(world, &track).await?;
        let record = ledger.record.as_ref().map(|record| &record.value);
        let verdicts = verdicts_everywhere(world, &track).await?;
        let (Some(record), Some(target)) = (record, status::target(record, &verdicts)) else {
            return Err(ActionError::Mistake(format!("{track} has no version to go back from")));
        };
        let withdrawn = record.with_withdrawn(target.seq, true);
        let next = status::target(withdrawn.as_ref(), &verdicts).cloned();
        let (Some(withdrawn), Some(next)) = (withdrawn, next) else {
            let text = format!("{track} has no version before {}; push one, or deploy another tag", target.seq);
            return Err(ActionError::Mistake(text));
        };
        if ledger.write_record(world, &track, &withdrawn).await? {
            world.account.tell("rollback", &track, format!("version {} withdrawn", target.seq));
            let text = format!(
                "version {} of {track} withdrawn; going back to version {} ({})",
                target.seq,
                next.seq,
                next.digest.short()
            );
            return Ok(text);
        }
    }
    Err(contended(&track))
}

/// Lifts what keeps the newest version from being deployed: its withdrawal, its bad verdicts, and trouble here.
pub async fn retry(world: &World, ask: Ask) -> Result<String, ActionError> {
    let track = registered(world, &ask.of)?;
    for _ in 0..TRIES_MAX {
        let ledger = ledger(world, &track).await?;
        let Some(record) = &ledger.record else {
            return Err(ActionError::Mistake(format!("{track} has no version yet")));
        };
        let Some(newest) = record.value.newest().cloned() else { return Err(contended(&track)) };
        if let Some(restored) = record.value.with_withdrawn(newest.seq, false)
            && !ledger.write_record(world, &track, &restored).await?
        {
            continue;
        }
        let verdicts = verdicts_everywhere(world, &track).await?;
        let bad = verdicts.iter().filter(|(_, verdicts)| verdicts.is_bad(&newest.digest));
        let lift = bad.fold(Txn::new(), |txn, (service, _)| txn.delete(world.keys.verdict(service, &newest.digest)));
        // The nodes that halted the rollout see that somebody lifted it, and try again.
        let lift = if ledger.halt.is_some() { lift.delete(world.keys.halt(&track)) } else { lift };
        if !lift.then.is_empty() {
            world.store.txn(lift).await?;
        }
        let survey = Survey::of(world).await.map_err(LookError::from)?;
        try_again(world, &TrackView::of(world, &survey, &track, Answer::NotAsked).await?);
        world.bell.notify_one();
        world.account.tell("retry", &track, format!("version {} is tried again", newest.seq));
        return Ok(format!("version {} of {track} ({}) is tried again", newest.seq, newest.digest.short()));
    }
    Err(contended(&track))
}

/// Ends a claim whose holder will not end it.
pub async fn unlock(world: &World, ask: Ask) -> Result<String, ActionError> {
    let parsed = ask.of.rsplit_once('/').and_then(|(scope, slot)| Some((scope, slot.parse::<u32>().ok()?)));
    let Some((scope, slot)) = parsed else {
        return Err(ActionError::Mistake(format!(
            "'{}' is not SCOPE/SLOT; `deployer status` shows the slots taken",
            ask.of
        )));
    };
    let Some(entry) = world.store.get(&world.keys.claim(scope, slot)).await? else {
        return Err(ActionError::Mistake(format!("slot {} is free", ask.of)));
    };
    if !world.store.txn(slot::remove_unmoved(&world.keys, scope, slot, &entry)).await?.succeeded {
        return Err(ActionError::Mistake(format!("slot {} moved on meanwhile; look again", ask.of)));
    }
    tracing::warn!(slot = ask.of, "a person ended a claim");
    Ok(format!("slot {} is free", ask.of))
}

fn registered(world: &World, image: &str) -> Result<Track, ActionError> {
    let track = Track::parse(image).map_err(|error| ActionError::Mistake(error.to_string()))?;
    match world.registered.borrow().as_ref() {
        None => {
            Err(ActionError::Away("the engine and the store were not listed yet; try again in a moment".to_owned()))
        }
        Some(tracks) if tracks.contains(&track) => Ok(track),
        Some(tracks) => {
            let known: Vec<String> = tracks.iter().map(ToString::to_string).collect();
            let hint = if known.is_empty() { "nothing is managed yet".to_owned() } else { known.join(", ") };
            Err(ActionError::Mistake(format!("no managed container runs {track}; managed are: {hint}")))
        }
    }
}

/// What a person decides serves no notification: one that waits for the registry goes on waiting.
async fn ledger(world: &World, track: &Track) -> Result<Ledger, StoreError> {
    Ok(Ledger { pending: None, ..Ledger::read(world, track).await? })
}

fn contended(track: &Track) -> ActionError {
    ActionError::Away(format!("the record of {track} keeps changing; try again"))
}

#[cfg(test)]
mod tests {
    use deployer_core::availability::Instance;
    use deployer_core::record::{Opinion, Record, Source};

    use super::*;
    use deployer_agent::ledger::write_verdict;
    use deployer_agent::stand_in::{container, digest, fixture, track};

    #[tokio::test]
    async fn a_notification_that_waits_outlives_rollback_and_retry() {
        let fixture = fixture().await;
        let world = &fixture.world;
        fixture.engine.state().containers = vec![container("old", "web", "running")];
        world.registered.send_replace(Some([track()].into()));
        let record = Record::adopt(Some(&digest('1')), &digest('2'), Source::Hook, 0);
        let pending = Pending { digest: None, at: 0 };
        let txn = Txn::new().put(world.keys.record(&track()), &record).put(world.keys.pending(&track()), &pending);
        world.store.txn(txn).await.expect("stored");
        let of = || Ask { of: track().to_string() };
        rollback(world, of()).await.expect("rolled back");
        retry(world, of()).await.expect("tried again");
        let ledger = Ledger::read(world, &track()).await.expect("read");
        assert_eq!(ledger.record.map(|record| record.value), Some(record));
        assert!(ledger.pending.is_some());
    }
    /// What is asked of a node whose machine has no container of the track.
    #[tokio::test]
    async fn a_track_that_only_other_nodes_run_is_rolled_back_and_tried_again_from_here() {
        let fixture = fixture().await;
        let world = &fixture.world;
        world.registered.send_replace(Some([track()].into()));
        let elsewhere = Instance { node: "b".into(), image: track(), container: "web".into(), off: false };
        let key = world.keys.instance("shop", "b", "web");
        world.instances.send_replace(Some([(key, elsewhere)].into()));
        let record =
            Record::adopt(Some(&digest('1')), &digest('2'), Source::Hook, 0).advanced(digest('3'), Source::Hook, 0);
        world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
        write_verdict(world, "shop", &digest('3'), Opinion::Bad, "it exits").await.expect("stored");
        let of = || Ask { of: track().to_string() };
        let seen = async || {
            let history = history(world, of()).await.expect("known");
            let withdrawn: Vec<u64> = history.versions.iter().filter(|v| v.withdrawn).map(|v| v.seq).collect();
            (history.target, withdrawn, history.verdicts.len())
        };
        assert_eq!(seen().await, (Some(2), vec![], 1), "the bad one is passed over");
        rollback(world, of()).await.expect("rolled back");
        assert_eq!(seen().await, (Some(1), vec![2], 1));
        retry(world, of()).await.expect("tried again");
        assert_eq!(seen().await, (Some(3), vec![2], 0), "the verdict is lifted");
    }
}
