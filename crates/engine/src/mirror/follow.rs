//! What keeps the mirror true: the engine's events, and a list of everything after each gap and now and then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_core::backoff::Backoff;
use deployer_core::dirty::Dirty;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::facts::Health;
use super::{Depth, INSPECTIONS_MAX, Mirror, Thing};
use crate::engine::{EngineError, EngineEvent};

/// How often everything is listed although every event was heard: what an engine forgets to tell is healed by that.
const LISTED_EVERY: Duration = Duration::from_secs(600);
/// How long an engine that is listened to anew may take before it counts as not heard.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);
/// Events that were heard for so long broke off by chance: they are asked for again at once, and nobody is told.
const STEADY: Duration = Duration::from_secs(60);
const WHAT: &str = "watch the engine's events";

/// A look that is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    At(Thing),
    Around(Depth),
}

impl Mirror {
    /// Follows the engine for ever, and listens anew whenever it broke off. From this call on readers wait for what it
    /// hears.
    pub fn run(self: Arc<Self>, ambient: Arc<Ambient>) -> impl Future<Output = ()> {
        self.is_followed.store(true, Ordering::Relaxed);
        async move { self.listen(&ambient).await }
    }

    async fn listen(&self, ambient: &Ambient) {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let error = self.follow().await;
            tracing::warn!(error = %error, "the engine's events broke off");
            self.miss();
            failures = if begun.elapsed() >= STEADY { 0 } else { failures + 1 };
            if failures > 0 {
                self.lose(&error);
                sleep(Backoff::CONNECTION.wait(failures, ambient.random())).await;
            }
        }
    }

    /// Follows the engine until it is not heard any more. It is listened to before it is listed, so that nothing falls in
    /// between, and events are taken while it is looked at.
    async fn follow(&self) -> EngineError {
        let mut events = match timeout(LISTEN_LIMIT, self.engine.events()).await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return error,
            Err(_) => return silent(),
        };
        let (mut dirty, mut looks) = (Dirty::default(), FuturesUnordered::new());
        dirty.mark(Look::Around(Depth::All));
        let (mut is_listed, deadline) = (false, Instant::now() + LISTEN_LIMIT);
        let mut list_again = Instant::now() + LISTED_EVERY;
        loop {
            while looks.len() < INSPECTIONS_MAX
                && let Some(look) = dirty.take()
            {
                looks.push(async move { (self.look(&look).await, look) });
            }
            tokio::select! {
                biased;
                Some((outcome, look)) = looks.next() => {
                    dirty.done(&look);
                    if let Err(error) = outcome {
                        return error;
                    }
                    if look == Look::Around(Depth::All) {
                        is_listed = true;
                        self.hear();
                    }
                }
                event = events.next() => match event {
                    Some(Ok(event)) => self.take_event(&event).into_iter().for_each(|thing| dirty.mark(Look::At(thing))),
                    Some(Err(error)) => return error,
                    None => return silent(),
                },
                () = sleep_until(deadline), if !is_listed => {
                    is_listed = true;
                    self.lose(&silent());
                }
                () = sleep_until(list_again) => {
                    list_again += LISTED_EVERY;
                    dirty.mark(Look::Around(Depth::Differing));
                }
            }
        }
    }

    async fn look(&self, look: &Look) -> Result<(), EngineError> {
        match look {
            Look::At(thing) => self.look_again(thing).await,
            Look::Around(depth) => self.list(*depth).await,
        }
    }

    /// Takes what an event says, and names what has to be looked at for the rest.
    fn take_event(&self, event: &EngineEvent) -> Option<Thing> {
        match event.kind.as_str() {
            "container" => self.take_container_event(event).then(|| Thing::Container(event.id.clone())),
            // A pull and a push give a name as the ID, the others the image's own.
            "image" => Some(Thing::Image(event.id.clone())),
            _ => None,
        }
    }

    /// Whether the container has to be looked at.
    fn take_container_event(&self, event: &EngineEvent) -> bool {
        self.notes().deeds.note(event);
        match event.action.as_str() {
            "health_status" => Health::of_word(&event.detail).is_none_or(|health| !self.take_health(&event.id, health)),
            "create" | "start" | "die" | "pause" | "unpause" | "rename" => true,
            // Its end came before, unless there was nothing to end, as between two tries of a restart policy.
            "stop" => self.snapshot().containers.get(&event.id).is_none_or(|known| known.state != "exited"),
            "destroy" => {
                let ticket = self.notes().ticket();
                self.remove(&event.id, ticket);
                false
            }
            _ => false,
        }
    }
}

fn silent() -> EngineError {
    EngineError::Timeout { what: WHAT.to_owned(), limit: LISTEN_LIMIT }
}
