//! What a person can do: deploy, roll back, try again, unlock.

use axum::http::StatusCode;
use deployer_agent::ledger::{Ledger, decode, verdicts_everywhere};
use deployer_agent::look::LookError;
use deployer_agent::runs;
use deployer_agent::world::World;
use deployer_core::image::Track;
use deployer_core::queue::Ticket;
use deployer_core::record::Pending;
use deployer_core::rollback::{NoWayBack, Rollback, roll_back};
use deployer_core::slot::{self, Claim};
use deployer_core::store::{Entry, Txn};
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
    let track = registered(world, &ask.of).await?;
    let pending = Pending { digest: None, at: world.ambient.now() };
    let ledger = Ledger::read(world, &track).await?;
    // A person need not wait until it is time to ask a registry again that was away.
    let txn = ledger.going_on(world, &track, ledger.forgetting_setbacks(world, &track, Txn::new()));
    world.memory().asking.come_in(&track);
    world.store.txn(txn.put(world.keys.pending(&track), &pending)).await?;
    Ok(format!("asked the registry about {track}"))
}

/// Tells what the registry said of a track, and what became of it.
pub async fn history(world: &World, ask: Ask) -> Result<History, ActionError> {
    Ok(status::history(world, &registered(world, &ask.of).await?).await?)
}

/// Withdraws what was deployed last, so that the entry before it becomes the target.
pub async fn rollback(world: &World, ask: Ask) -> Result<String, ActionError> {
    let track = registered(world, &ask.of).await?;
    for _ in 0..TRIES_MAX {
        let ledger = ledger(world, &track).await?;
        let record = ledger.record.as_ref().map(|record| &record.value);
        let verdicts = verdicts_everywhere(world, &track).await?;
        let back = record.map_or(Err(NoWayBack::NoVersion), |record| roll_back(record, &verdicts));
        let Rollback { record, withdrawn, next } = back.map_err(|no_way| {
            ActionError::Mistake(match no_way {
                NoWayBack::NoVersion => format!("{track} has no version to go back from"),
                NoWayBack::NoneBefore(seq) => {
                    format!("{track} has no version before {seq}; push one, or deploy another tag")
                }
            })
        })?;
        if ledger.write_record(world, &track, &record).await? {
            world.account.tell("rollback", &track, format!("version {withdrawn} withdrawn"));
            let text = format!(
                "version {withdrawn} of {track} withdrawn; going back to version {} ({})",
                next.seq,
                next.digest.short()
            );
            return Ok(text);
        }
    }
    Err(contended(&track))
}

/// Lifts what keeps the newest version from being deployed: its withdrawal, its bad verdicts, and trouble of any node.
pub async fn retry(world: &World, ask: Ask) -> Result<String, ActionError> {
    let track = registered(world, &ask.of).await?;
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
        world.store.txn(ledger.going_on(world, &track, lift)).await?;
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
    forget_ticket(world, scope, &entry).await?;
    Ok(format!("slot {} is free", ask.of))
}

/// Takes the holder's ticket along, which whoever is next in line waits for.
async fn forget_ticket(world: &World, scope: &str, claim: &Entry) -> Result<(), StoreError> {
    let Ok(claim) = decode::<Claim>(claim.clone()).map(|read| read.value) else { return Ok(()) };
    let (tickets, _) = world.store.list(&world.keys.line(scope)).await?;
    let of_claim = tickets.into_iter().filter(|ticket| {
        let ticket = decode::<Ticket>(ticket.clone()).map(|read| read.value);
        ticket.is_ok_and(|ticket| ticket.node == claim.node && ticket.container == claim.container)
    });
    let keys: Vec<String> = of_claim.map(|ticket| ticket.key).collect();
    if !keys.is_empty() {
        world.store.txn(keys.into_iter().fold(Txn::new(), Txn::delete)).await?;
    }
    Ok(())
}

async fn registered(world: &World, image: &str) -> Result<Track, ActionError> {
    let track = Track::parse(image).map_err(|error| ActionError::Mistake(error.to_string()))?;
    if world.registered.borrow().is_none() {
        let text = "the engine and the store were not listed yet; try again in a moment";
        return Err(ActionError::Away(text.to_owned()));
    }
    if runs::is_run(world, &track).await? {
        return Ok(track);
    }
    let known: Vec<String> = runs::tracks(world).await?.iter().map(ToString::to_string).collect();
    let hint = if known.is_empty() { "nothing is managed yet".to_owned() } else { known.join(", ") };
    Err(ActionError::Mistake(format!("no managed container runs {track}; managed are: {hint}")))
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
    use deployer_agent::concern::Concern;
    use deployer_core::availability::Run;
    use deployer_core::availability::{Instance, Report};
    use deployer_core::record::{Opinion, Record, Source};

    use super::*;
    use deployer_agent::fixture::{digest, fixture, track};
    use deployer_agent::ledger::write_verdict;
    use serde_json::json;

    #[tokio::test]
    async fn a_notification_that_waits_outlives_rollback_and_retry() {
        let fixture = fixture().await;
        let world = &fixture.world;
        fixture.run("web");
        world.follow([(track(), "web".to_owned())].into_iter().collect());
        let record = Record::adopt(Some(&digest(1)), &digest(2), Source::Hook, 0);
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

    /// What only one of two services found bad was deployed to the other, which is what a person means.
    #[tokio::test]
    async fn a_rollback_takes_back_what_any_service_runs_and_each_service_is_shown_by_its_own_target() {
        let fixture = fixture().await;
        let world = &fixture.world;
        world.follow([(track(), "api".to_owned()), (track(), "shop".to_owned())].into_iter().collect());
        let instances = [("api", "a"), ("shop", "b")].map(|(service, node)| {
            let instance = Instance { node: node.into(), image: track(), container: "web".into(), off: false };
            (world.keys.instance(service, node, "web"), instance)
        });
        let record = Record::adopt(Some(&digest(1)), &digest(2), Source::Hook, 0).advanced(digest(3), Source::Hook, 0);
        let report = Report {
            up: true,
            id: "id".into(),
            image_id: "image".into(),
            digest: Some(digest(3)),
            state: "current".into(),
            reason: String::new(),
        };
        let sign =
            json!({"node": "b", "boot": "b", "state": "b", "version": "1", "scope": "cluster", "lease": 1, "at": 0});
        let txn = Txn::new()
            .put(world.keys.record(&track()), &record)
            .put(world.keys.run(&track(), "a"), &Run { services: ["api".to_owned()].into() })
            .put(world.keys.run(&track(), "b"), &Run { services: ["shop".to_owned()].into() })
            .put(world.keys.instance("shop", "b", "web"), &instances[1].1)
            .put(world.keys.report("shop", "b", "web"), &report)
            .put(world.keys.node("b"), &sign);
        world.store.txn(txn).await.expect("stored");
        write_verdict(world, "api", &digest(3), Opinion::Bad, "it exits").await.expect("stored");
        let seen = status::status(world).await.expect("read");
        let shown = &seen.tracks[0].containers;
        assert_eq!(shown.iter().map(|c| c.state.as_str()).collect::<Vec<_>>(), ["current"], "{shown:?}");
        let said = rollback(world, Ask { of: track().to_string() }).await.expect("rolled back");
        assert!(said.starts_with("version 3 "), "{said}");
    }

    #[tokio::test]
    async fn deploy_and_retry_speak_the_word_that_ends_trouble_everywhere() {
        let fixture = fixture().await;
        let world = &fixture.world;
        world.follow([(track(), "web".to_owned())].into_iter().collect());
        let record = Record::adopt(None, &digest(1), Source::Hook, 0);
        world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
        let word = async || Ledger::read(world, &track()).await.expect("read").retry;
        let mut last = word().await;
        for again in [false, true] {
            let of = Ask { of: track().to_string() };
            let _ = if again { retry(world, of).await } else { deploy(world, of).await }.expect("done");
            assert!(word().await > last, "retry: {again}");
            last = word().await;
        }
    }

    /// What is asked of a node whose machine has no container of the track.
    #[tokio::test]
    async fn a_track_that_only_other_nodes_run_is_rolled_back_and_tried_again_from_here() {
        let fixture = fixture().await;
        let world = &fixture.world;
        world.follow(Concern::default());
        let elsewhere = Run { services: ["shop".to_owned()].into() };
        world.store.txn(Txn::new().put(world.keys.run(&track(), "b"), &elsewhere)).await.expect("stored");
        let record = Record::adopt(Some(&digest(1)), &digest(2), Source::Hook, 0).advanced(digest(3), Source::Hook, 0);
        world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
        write_verdict(world, "shop", &digest(3), Opinion::Bad, "it exits").await.expect("stored");
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
