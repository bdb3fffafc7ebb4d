//! The update stage: the only one that decides.
//!
//! A wake marks a track dirty. A look surveys the engine, reads the store, decides for every container of the
//! track, and either asks the registry and looks again, or hands a key to the pull or the restart stage. `around` looks
//! at everything and tells the other nodes of it; `resolve` asks the registry, one node for the whole cluster; `verify`
//! asks it for what this machine alone has.

mod around;
mod resolve;
mod verify;

use std::sync::Arc;

use deployer_core::backoff::Backoff;
use deployer_core::dirty::Dirty;
use deployer_core::image::Track;
use deployer_core::plan::{Action, Answer};
use deployer_core::record::Source;
use deployer_core::store::Txn;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use around::{look_around, remember_tag, taken_by_persons};
use resolve::Asked;

use crate::fault::caught;
use crate::ledger::Ledger;
use crate::look::{LookError, Wake};
use crate::publish;
use crate::situation::TrackView;
use crate::survey::Survey;
use crate::turn;
use crate::words::Words;
use crate::world::World;

/// Looks under way at once. More wait as dirty keys, which cost nothing.
const LOOKS_MAX: usize = 8;
/// Rounds of asking the registry in one look, against a registry whose answers never settle.
const ROUNDS_MAX: u32 = 5;
/// The pauses before the registry is asked again.
const PAUSES: [(Action, Backoff); 3] = [
    (Action::AskAgainSoon, Backoff::NOT_THERE_YET),
    (Action::AskTwice, Backoff::SECOND_THOUGHT),
    (Action::AskAgainLater, Backoff::REGISTRY),
];

/// The stage with its channels.
pub struct Update {
    /// What the stages share.
    pub world: Arc<World>,
    /// Wakes from the triggers.
    pub wakes: mpsc::Receiver<Wake>,
    /// Tracks whose target is to be brought here.
    pub pulls: mpsc::Sender<Track>,
    /// Names of containers to be replaced.
    pub replacements: mpsc::Sender<String>,
}

impl Update {
    /// Works until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut dirty: Dirty<Option<Track>> = Dirty::default();
        let mut looks = FuturesUnordered::new();
        let mut failures = 0;
        let mut again: Option<Instant> = None;
        let mut seen = Instant::now();
        dirty.mark(None);
        loop {
            let now = Instant::now();
            // Whatever else woke this stage may have come in the place of the alarm.
            if self.came_due(seen, now) || again.is_some_and(|again| again <= now) {
                again = None;
                dirty.mark(None);
            }
            self.world.memory().looks.came_due(seen, now).into_iter().for_each(|key| dirty.mark(key));
            seen = now;
            while looks.len() < LOOKS_MAX
                && let Some(key) = dirty.take()
            {
                // What panicked a moment ago is marked again when its time has come.
                if self.world.memory().looks.rests(&key, now) {
                    dirty.done(&key);
                } else {
                    looks.push(self.look(key));
                }
            }
            let alarm = self.next_retry(now).into_iter().chain(again).min();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some((key, outcome)) = looks.next() => {
                    dirty.done(&key);
                    match outcome {
                        Ok(further) => {
                            failures = 0;
                            self.world.memory().looks.end(&key);
                            further.into_iter().for_each(|track| dirty.mark(Some(track)));
                        }
                        Err(LookError::Fault(fault)) => self.world.note_fault(key, &fault),
                        Err(error) => {
                            failures += 1;
                            tracing::warn!(error = &error as &dyn std::error::Error, "look again later");
                            again = Some(Instant::now() + Backoff::CONNECTION.wait(failures, self.world.ambient.random()));
                        }
                    }
                }
                wake = self.wakes.recv() => match wake {
                    Some(Wake::All) => dirty.mark(None),
                    Some(Wake::Track(track)) => dirty.mark(Some(track)),
                    None => return,
                },
                () = self.world.bell.notified() => {
                    let rung = self.world.memory().looks.take_rung();
                    rung.into_iter().for_each(|track| dirty.mark(Some(track)));
                    dirty.mark(None);
                }
                () = wait_for(alarm) => {}
            }
        }
    }

    /// When something that failed is due again.
    fn next_retry(&self, now: Instant) -> Option<Instant> {
        self.world.memory().dues().filter(|due| *due > now).min()
    }

    /// Whether something that failed has come due since the last time this was asked.
    fn came_due(&self, seen: Instant, now: Instant) -> bool {
        self.world.memory().dues().any(|due| due > seen && due <= now)
    }

    /// One look, at everything or at one track. Gives back the tracks that need a look of their own.
    fn look(
        &self,
        key: Option<Track>,
    ) -> impl Future<Output = (Option<Track>, Result<Vec<Track>, LookError>)> + Send + use<> {
        let world = Arc::clone(&self.world);
        let (pulls, replacements) = (self.pulls.clone(), self.replacements.clone());
        async move {
            let outcome = match &key {
                None => caught(look_around_and_mind_persons(&world, &replacements)).await,
                Some(track) => caught(look_at(&world, track, &pulls, &replacements))
                    .await
                    .map(|outcome| outcome.map(|()| Vec::new())),
            };
            if let Ok(Err(LookError::Engine(_))) = &outcome {
                tell_that_the_engine_is_away(&world).await;
                // It may be long before this node can go on, and the others should not wait for that.
                turn::give_back(&world, |_| false).await;
            }
            (key, outcome.unwrap_or_else(|fault| Err(fault.into())))
        }
    }
}

async fn look_around_and_mind_persons(
    world: &World,
    replacements: &mpsc::Sender<String>,
) -> Result<Vec<Track>, LookError> {
    let busy = look_around(world).await?;
    for container in taken_by_persons(world).await? {
        let _ = replacements.send(container).await;
    }
    Ok(busy)
}

/// Tells the others that nothing here can be counted on, at once: an engine that is stopped takes its containers along, and
/// the next to go down may be another node's. A look at everything says how things are when it is heard again.
async fn tell_that_the_engine_is_away(world: &World) {
    if let Err(error) = publish::engine_is_away(world).await {
        tracing::warn!(error = %error, "the others could not be told that the engine is away");
    }
}

async fn wait_for(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => tokio::time::sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}

/// Decides for one track until nothing more follows from asking the registry.
async fn look_at(
    world: &World,
    track: &Track,
    pulls: &mpsc::Sender<Track>,
    replacements: &mpsc::Sender<String>,
) -> Result<(), LookError> {
    let mut answer = Answer::NotAsked;
    let mut said = Answer::NotAsked;
    // What the store held before the registry was asked: its answer may be older than anything that came since.
    let mut before = Ledger::default();
    let mut digest = None;
    let mut source = Source::Check;
    // One survey is enough: the stage that takes up what is handed out makes its own.
    let survey = Survey::of(world).await?;
    remember_tag(world, &survey, track);
    for _ in 0..ROUNDS_MAX {
        let view = TrackView::of(world, &survey, track, answer).await?;
        let actions: Vec<Action> = view.decisions.iter().map(|decision| decision.row.action).collect();
        let wants = |action| actions.contains(&action);
        if wants(Action::Verify) {
            verify::verify(world, &survey, track, view.ledger.retry).await;
            continue;
        }
        if wants(Action::Resolve) {
            source = resolve::why(&view);
            match resolve::ask(world, track, &view).await? {
                Asked::Answered(answered, resolved, read) => (answer, digest, before) = (answered, resolved, read),
                Asked::Elsewhere => answer = Answer::NotAsked,
            }
            said = answer;
            continue;
        }
        answer = Answer::NotAsked;
        if wants(Action::Advance) {
            if let Some(digest) = digest.take() {
                resolve::advance(world, &survey, &view, &before, digest, source).await?;
            }
        } else if wants(Action::Settle) {
            resolve::settle(world, &survey, &view, &before).await?;
        } else if wants(Action::GiveUp) {
            resolve::give_up(world, &survey, &view, &before).await?;
        } else if let Some((_, backoff)) = PAUSES.iter().find(|(action, _)| wants(*action)) {
            resolve::set_back(world, track, &before, said, *backoff, Txn::new()).await?;
        } else {
            tell_others(world, &survey, &view);
            return hand_out(&view, pulls, replacements).await;
        }
    }
    Ok(())
}

/// Asks for a look at everything if the others should hear something new of this track; where something is to be done,
/// its end leads to one anyway. That look alone speaks, so that nothing older is said after something newer.
fn tell_others(world: &World, survey: &Survey, view: &TrackView) {
    if survey.running(world, &view.track).next().is_none() {
        return;
    }
    let mut words = Words::default();
    words.tell(world, survey, view);
    if !words.is_said(world) {
        world.bell.notify_one();
    }
}

/// A full channel makes this stage wait, and its wakes gather as dirty keys: nothing is lost.
async fn hand_out(
    view: &TrackView,
    pulls: &mpsc::Sender<Track>,
    replacements: &mpsc::Sender<String>,
) -> Result<(), LookError> {
    // A closed channel means that the daemon is shutting down.
    if view.decisions.iter().any(|decision| decision.row.action == Action::Pull) {
        let _ = pulls.send(view.track.clone()).await;
    }
    for decision in view.decisions.iter().filter(|decision| decision.row.action == Action::Replace) {
        let _ = replacements.send(decision.container.summary.name.clone()).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
