//! The update stage: the only one that decides.
//!
//! A wake marks a track dirty. A look surveys the engine, reads the store, decides for every container of the
//! track, and either asks the registry and looks again, or hands a key to the pull or the restart stage.

use std::sync::Arc;

use deployer_core::backoff::Backoff;
use deployer_core::dirty::Dirty;
use deployer_core::image::{Digest, Track};
use deployer_core::plan::{Action, Answer};
use deployer_core::record::{Record, Source};
use deployer_core::store::Txn;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::{EngineError, ResolveError};
use crate::ledger::{self, Instance, Ledger};
use crate::situation::TrackView;
use crate::store::StoreError;
use crate::survey::Survey;
use crate::world::{Retry, World};

/// Looks under way at once. More wait as dirty keys, which cost nothing.
const LOOKS_MAX: usize = 8;
/// Rounds of asking the registry in one look, against a registry whose answers never settle.
const ROUNDS_MAX: u32 = 5;
/// Times that a registry is asked for a digest that a notification named and the tag never shows: about two
/// minutes. After that the notification counts as overtaken by a later push.
const NOT_YET_MAX: u32 = 6;

/// Says that something may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Anything.
    All,
    /// One track.
    Track(Track),
}

/// Why a look could not be finished; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The engine does not answer.
    #[error("the engine was not heard")]
    Engine(#[from] EngineError),
    /// The store does not answer.
    #[error("the store was not heard")]
    Store(#[from] StoreError),
}

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
            seen = now;
            while looks.len() < LOOKS_MAX
                && let Some(key) = dirty.take()
            {
                looks.push(self.look(key));
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
                            further.into_iter().for_each(|track| dirty.mark(Some(track)));
                        }
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
                () = self.world.bell.notified() => dirty.mark(None),
                () = wait_for(alarm) => {}
            }
        }
    }

    /// When something that failed is due again.
    fn next_retry(&self, now: Instant) -> Option<Instant> {
        let memory = self.world.memory();
        let due = memory.asked.values().chain(memory.pulls.values()).map(|retry| retry.due);
        due.filter(|due| *due > now).min()
    }

    /// Whether something that failed has come due since the last time this was asked.
    fn came_due(&self, seen: Instant, now: Instant) -> bool {
        let memory = self.world.memory();
        let mut due = memory.asked.values().chain(memory.pulls.values()).map(|retry| retry.due);
        due.any(|due| due > seen && due <= now)
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
                None => look_around(&world).await,
                Some(track) => look_at(&world, track, &pulls, &replacements).await.map(|()| Vec::new()),
            };
            (key, outcome)
        }
    }
}

async fn wait_for(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => tokio::time::sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}

/// Registers this node's instances, and names the tracks for which something is to be done.
async fn look_around(world: &World) -> Result<Vec<Track>, LookError> {
    let survey = Survey::take(world).await?;
    let mut wanted = Vec::new();
    let mut busy = Vec::new();
    for track in survey.tracks(world).into_keys() {
        remember_tag(world, &survey, &track);
        let view = TrackView::of(world, &survey, &track, Answer::NotAsked).await?;
        if view.decisions.iter().any(|decision| decision.row.action != Action::Leave) {
            busy.push(track.clone());
        }
        for container in survey.running(world, &track).filter(|container| container.is_meant_to_run()) {
            let instance = Instance {
                node: world.settings.node.clone(),
                image: track.clone(),
                container: container.summary.name.clone(),
            };
            wanted.push((container.service(&track), instance));
        }
    }
    let mut registered = ledger::register(world, &wanted).await?;
    // A container that is being restarted or replaced stands still for a moment, and a notification that comes
    // just then must not count as another cluster's.
    registered.extend(survey.tracks(world).into_keys());
    registered.extend(world.memory().transitions.values().cloned());
    world.registered.send_replace(Some(registered));
    Ok(busy)
}

/// Decides for one track until nothing more follows from asking the registry.
async fn look_at(
    world: &World,
    track: &Track,
    pulls: &mpsc::Sender<Track>,
    replacements: &mpsc::Sender<String>,
) -> Result<(), LookError> {
    let mut answer = Answer::NotAsked;
    // What the store held before the registry was asked: its answer may be older than anything that came since.
    let mut before = Ledger::default();
    let mut digest = None;
    let mut source = Source::Check;
    // One survey is enough: the stage that takes up what is handed out makes its own.
    let survey = Survey::take(world).await?;
    remember_tag(world, &survey, track);
    for _ in 0..ROUNDS_MAX {
        let view = TrackView::of(world, &survey, track, answer).await?;
        let actions: Vec<Action> = view.decisions.iter().map(|decision| decision.row.action).collect();
        let wants = |action| actions.contains(&action);
        if wants(Action::Resolve) {
            source = why_asked(&view);
            (answer, digest) = ask(world, track, &view).await;
            before = view.ledger;
        } else if wants(Action::Advance) {
            if let Some(digest) = digest.take() {
                advance(world, &survey, &view, &before, digest, source).await?;
            }
            answer = Answer::NotAsked;
        } else if wants(Action::Settle) {
            settle(world, &view, &before).await?;
            accept_tag(world, &survey, track);
            answer = Answer::NotAsked;
        } else if wants(Action::AskAgainSoon) {
            ask_again(world, &view, Backoff::NOT_THERE_YET);
            answer = Answer::NotAsked;
        } else if wants(Action::AskAgainLater) {
            ask_again(world, &view, Backoff::REGISTRY);
            answer = Answer::NotAsked;
        } else {
            return hand_out(&view, pulls, replacements).await;
        }
    }
    Ok(())
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

/// Asks the registry, once for everybody who waits.
async fn ask(world: &World, track: &Track, view: &TrackView) -> (Answer, Option<Digest>) {
    let outcome = world.engine.resolve(track).await;
    let (answer, reason) = match &outcome {
        Ok(resolved) => (classify(world, view, &resolved.digest), String::new()),
        Err(error @ ResolveError::Absent { .. }) => (Answer::Absent, error.to_string()),
        Err(error @ ResolveError::Denied { .. }) => (Answer::Denied, error.to_string()),
        Err(error) => (Answer::Unavailable, error.to_string()),
    };
    match answer {
        Answer::Absent | Answer::Denied | Answer::Unavailable => note_trouble(world, track, &reason),
        Answer::NotYet => {
            note_trouble(world, track, "the tag does not show the digest yet that the notification named")
        }
        _ => drop(world.memory().asked.remove(track)),
    }
    mark_checked(world, view, answer).await;
    (answer, outcome.ok().map(|resolved| resolved.digest))
}

/// What the registry's digest means for the record. A digest that a notification named and that is no longer
/// under the tag was overtaken if the record knows it, or if the tag never showed it.
fn classify(world: &World, view: &TrackView, digest: &Digest) -> Answer {
    let record = view.ledger.record.as_ref().map(|record| &record.value);
    if record.and_then(Record::newest).map(|newest| &newest.digest) != Some(digest) {
        return Answer::Other;
    }
    let named = view.ledger.pending.as_ref().and_then(|pending| pending.value.digest.as_ref());
    let is_known = |named: &Digest| record.is_some_and(|r| r.history().iter().any(|v| v.digest == *named));
    let tries = world.memory().asked.get(&view.track).map_or(0, |retry| retry.failures);
    match named {
        Some(named) if named != digest && !is_known(named) && tries < NOT_YET_MAX => Answer::NotYet,
        _ => Answer::Newest,
    }
}

fn note_trouble(world: &World, track: &Track, reason: &str) {
    let mut memory = world.memory();
    let failures = memory.asked.get(track).map_or(0, |retry| retry.failures) + 1;
    memory
        .asked
        .insert(track.clone(), Retry { failures, due: Instant::now(), reason: reason.to_owned(), is_hopeless: false });
}

fn ask_again(world: &World, view: &TrackView, backoff: Backoff) {
    let random = world.ambient.random();
    let mut memory = world.memory();
    let Some(retry) = memory.asked.get_mut(&view.track) else { return };
    let wait = backoff.wait(retry.failures, random);
    retry.due = Instant::now() + wait;
    let text = format!("{}; asking again in {} s", retry.reason, wait.as_secs());
    drop(memory);
    world.account.tell("registry", &view.track, text);
}

/// The mark that keeps everybody from asking again within the check period.
async fn mark_checked(world: &World, view: &TrackView, answer: Answer) {
    let Some(period) = world.settings.registry_check else { return };
    let track = &view.track;
    if matches!(answer, Answer::Other | Answer::Newest) && !view.ledger.is_checked {
        let mark = async {
            let lease = world.store.grant(period).await?;
            world.store.txn(Txn::new().put_leased(world.keys.checked(track), &world.settings.node, lease)).await
        };
        if let Err(error) = mark.await {
            tracing::warn!(error = %error, "the registry may be asked again sooner than needed");
        }
    }
}

fn why_asked(view: &TrackView) -> Source {
    let is_moved = view.decisions.iter().any(|decision| decision.row.name == "moved_by_hand");
    match &view.ledger.pending {
        Some(_) => Source::Hook,
        None if is_moved => Source::LocalTag,
        None => Source::Check,
    }
}

async fn advance(
    world: &World,
    survey: &Survey,
    view: &TrackView,
    before: &Ledger,
    digest: Digest,
    source: Source,
) -> Result<(), LookError> {
    let now = world.ambient.now();
    let record = match &before.record {
        Some(record) => record.value.advanced(digest.clone(), source, now),
        None => Record::adopt(running_digest(survey, view, &digest).as_ref(), &digest, source, now),
    };
    if before.write_record(world, &view.track, &record).await? {
        accept_tag(world, survey, &view.track);
        let seq = record.newest().map_or(0, |newest| newest.seq);
        world.account.tell("record", &view.track, format!("version {seq} is {}", digest.short()));
    }
    Ok(())
}

/// The digest that containers of the track run now; the registry's own if it is among several.
fn running_digest(survey: &Survey, view: &TrackView, registry: &Digest) -> Option<Digest> {
    let image = &view.decisions.first()?.container.summary.image_id;
    let digests = survey.digests_of(&view.track, image);
    digests.iter().find(|digest| *digest == registry).or(digests.first()).cloned()
}

async fn settle(world: &World, view: &TrackView, before: &Ledger) -> Result<(), LookError> {
    if before.pending.is_some() {
        before.drop_pending(world, &view.track).await?;
        let ids: Vec<&String> = view.decisions.iter().map(|decision| &decision.container.summary.id).collect();
        // A new push says: go on where this machine had halted.
        world.memory().failed_here.retain(|(id, _), _| !ids.contains(&id));
        world.account.tell("hook", &view.track, "the registry has nothing newer".to_owned());
    }
    Ok(())
}

/// Takes the local tag as seen when a track is first looked at.
fn remember_tag(world: &World, survey: &Survey, track: &Track) {
    let id = survey.image_under(track).map(|image| image.id.clone());
    world.memory().local_tags.entry(track.clone()).or_insert(id);
}

/// Takes the local tag as it is, once the registry was asked about its move.
fn accept_tag(world: &World, survey: &Survey, track: &Track) {
    let id = survey.image_under(track).map(|image| image.id.clone());
    world.memory().local_tags.insert(track.clone(), id);
}

#[cfg(test)]
mod tests;
