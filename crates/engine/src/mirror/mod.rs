//! The engine mirror: what an engine has, kept in memory as small typed facts.
//!
//! Everything is listed once, and from then on each container or image that an event names is inspected (`follow`). An
//! inspection that began later always stands above one that began earlier, whichever ends first; whoever has acted says so
//! ([`Mirror::acted_on`]), and what is shown next ([`Mirror::current`]) has its outcome. Nothing is decided here, except
//! whose a container is, by the judge that is passed in, since only its whole inspection tells.

mod deeds;
mod facts;
mod follow;
mod notes;
mod snapshot;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deployer_core::deed::Deed;
use deployer_core::ownership::{Owner, has_marks};
use deployer_core::successor::UserFields;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::{ContainerSummary, Engine, EngineError, if_found};
pub use facts::{Container, Health, nanos};
use notes::Notes;
pub use snapshot::{Hearing, Snapshot};

/// Inspections at once. More would only keep the engine's other callers waiting.
const INSPECTIONS_MAX: usize = 4;
/// Tries to list the images, of which an engine may be removing one. Beyond it, the engine is not heard.
const LIST_TRIES: u32 = 4;
/// The pause between two of them.
const LIST_AGAIN: Duration = Duration::from_millis(250);
/// How long a reader waits for the first list; one that takes longer counts as not heard.
const FIRST_LIST_LIMIT: Duration = Duration::from_secs(10);

/// Says whose a container is, by its raw inspection.
pub type Judge = Box<dyn Fn(&Value) -> Owner + Send + Sync>;

/// A container or an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A container, by full ID.
    Container(String),
    /// An image, by ID, `name:tag` or `name@digest`.
    Image(String),
}

/// The mirror of one engine.
pub struct Mirror {
    engine: Arc<dyn Engine>,
    judge: Box<dyn Fn() -> Judge + Send + Sync>,
    shown: watch::Sender<Arc<Snapshot>>,
    notes: Mutex<Notes>,
    /// Whoever asks for images waits here for the others: a tag moves from image to image, so that answers which overtake
    /// each other would be mixed up.
    images: tokio::sync::Mutex<()>,
    is_followed: AtomicBool,
}

/// Which containers of a list are inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// All: events were missed.
    All,
    /// Those of which it says something new, and those of a supervisor, which may have ended.
    Differing,
}

impl Mirror {
    /// A mirror that shows nothing yet. A judge is made for each round of inspections, since it looks at the machine.
    pub fn new(engine: Arc<dyn Engine>, judge: impl Fn() -> Judge + Send + Sync + 'static) -> Self {
        let shown = watch::Sender::new(Arc::new(Snapshot::empty()));
        let (judge, is_followed) = (Box::new(judge), AtomicBool::new(false));
        Self { engine, judge, shown, notes: Mutex::default(), images: tokio::sync::Mutex::default(), is_followed }
    }

    /// What is shown now, be the engine heard or not.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shown.borrow())
    }

    /// Changes with everything that is shown.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shown.subscribe()
    }

    /// What is so now, after every act that was told of. While nobody follows the engine, as in a recovery, everything is
    /// looked at.
    ///
    /// # Errors
    /// [`EngineError`] if the engine is not heard.
    pub async fn current(&self) -> Result<Arc<Snapshot>, EngineError> {
        if !self.is_followed.load(Ordering::Relaxed) {
            self.list(Depth::All).await?;
            return Ok(self.snapshot());
        }
        let mut shown = self.subscribe();
        let is_listed = shown.wait_for(|snapshot| snapshot.hearing != Hearing::NotYet);
        // The sender lives as long as this mirror; one that is not heard in time says so below.
        let _ = tokio::time::timeout(FIRST_LIST_LIMIT, is_listed).await;
        self.snapshot().is_heard()?;
        let acted_on = self.notes().acted_on();
        for thing in acted_on {
            self.look_again(&thing).await?;
        }
        let snapshot = self.snapshot();
        snapshot.is_heard()?;
        Ok(snapshot)
    }

    /// Says that something was, or is about to be, done to a thing: it is looked at before anybody decides again. Costs
    /// no call.
    pub fn acted_on(&self, thing: Thing) {
        self.notes().act(thing);
    }

    /// Looks at one thing now.
    ///
    /// # Errors
    /// [`EngineError`] if the engine does not answer.
    pub async fn look_again(&self, thing: &Thing) -> Result<(), EngineError> {
        match thing {
            Thing::Container(id) => {
                let judge = (self.judge)();
                match self.inspect(id, &judge).await {
                    Err(error) if !error.is_ambiguous() => {
                        tracing::warn!(container = id, error = %error, "a container that cannot be inspected");
                        self.list_containers(Depth::Differing).await
                    }
                    outcome => outcome,
                }
            }
            Thing::Image(reference) => match self.inspect_image(reference).await {
                // An engine that is about to remove an image shows half of it: `layer does not exist`.
                Err(error) if !error.is_ambiguous() => {
                    tracing::debug!(image = reference, error = %error, "an image that cannot be inspected");
                    self.list_images().await
                }
                outcome => outcome,
            },
        }
    }

    /// Lists and inspects everything.
    ///
    /// # Errors
    /// [`EngineError`] if a list cannot be had. A container that goes away meanwhile is left out.
    pub async fn refresh(&self) -> Result<(), EngineError> {
        self.list(Depth::All).await?;
        self.hear();
        Ok(())
    }

    /// Says that the process of a container that was started at a moment is about to be ended by this program itself.
    pub fn ends(&self, id: &str, started: i64) {
        self.notes().deeds.end(id, started);
    }

    /// Says that a stop of a container was not answered, and may yet be carried out.
    pub fn may_end_late(&self, id: &str) {
        self.notes().deeds.stop_late(id);
    }

    /// What others did to a container's process since that was started, by the engine's clock and in order: its own failure
    /// leaves no deed. A container that is gone is remembered for a while. Deeds from before the engine was
    /// heard ([`Hearing::Heard`]) may be missing.
    pub fn deeds(&self, id: &str, started: i64) -> Vec<Deed> {
        self.notes().deeds.of(id, started)
    }

    /// Takes a container for somebody's who was found otherwise.
    pub fn found_owner(&self, id: &str, owner: Owner) {
        self.show(|snapshot| {
            let Some(known) = snapshot.containers.get(id) else { return false };
            snapshot.take_container(Container { owner, ..(**known).clone() })
        });
    }

    async fn list(&self, depth: Depth) -> Result<(), EngineError> {
        tokio::try_join!(self.list_images(), self.list_containers(depth)).map(drop)
    }

    async fn list_images(&self) -> Result<(), EngineError> {
        let _turn = self.images.lock().await;
        let ticket = self.notes().ticket();
        let mut tries = 1;
        let images = loop {
            match self.engine.images().await {
                Err(error) if tries < LIST_TRIES && !error.is_ambiguous() => {
                    tries += 1;
                    tokio::time::sleep(LIST_AGAIN).await;
                }
                images => break images?,
            }
        };
        self.show(|snapshot| snapshot.take_images(images));
        self.notes().saw_images(ticket);
        Ok(())
    }

    async fn list_containers(&self, depth: Depth) -> Result<(), EngineError> {
        let ticket = self.notes().ticket();
        let lines = self.engine.containers().await?;
        let before = self.snapshot();
        for id in before.containers.keys().filter(|id| lines.iter().all(|line| line.id != **id)) {
            self.remove(id, ticket);
        }
        let mut due = lines;
        due.retain(|line| {
            let known = before.containers.get(&line.id).filter(|known| known.agrees_with(line));
            known.is_none_or(|known| depth == Depth::All || matches!(known.owner, Owner::Supervisor { .. }))
        });
        let is_of_one = |image: &String| before.containers.values().any(|known| known.image_id == *image);
        self.notes().defaults.retain(|image, _| is_of_one(image));
        drop(before);
        let judge = (self.judge)();
        let inspections = due.into_iter().map(|line| self.inspect_listed(line, ticket, &judge).boxed());
        let inspections: Vec<_> = inspections.collect();
        futures_util::stream::iter(inspections).buffer_unordered(INSPECTIONS_MAX).try_collect().await
    }

    /// One that the engine cannot inspect hides no other: of it the list is believed, as far as that goes.
    async fn inspect_listed(&self, line: ContainerSummary, ticket: u64, judge: &Judge) -> Result<(), EngineError> {
        match self.inspect(&line.id, judge).await {
            Err(error) if !error.is_ambiguous() => {
                tracing::warn!(container = line.name, error = %error, "a container that cannot be inspected");
                let known = self.snapshot().containers.get(&line.id).map(|known| known.with_line(&line));
                if let Some(container) = known {
                    self.take(container, ticket);
                }
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn inspect(&self, id: &str, judge: &Judge) -> Result<(), EngineError> {
        let ticket = self.notes().ticket();
        match if_found(self.engine.container(id).await)? {
            Some(raw) => {
                let raw = self.without_images_words(id, raw).await?;
                // Whose it is changes only when a supervisor ends; one that comes later is found before a replacement.
                let known = self.snapshot().containers.get(id).map(|known| known.owner.clone());
                let known = known.filter(|known| !matches!(known, Owner::Supervisor { .. }));
                let owner = known.unwrap_or_else(|| judge(&raw));
                if let Some(container) = Container::of_inspection(&raw, owner) {
                    self.take(container, ticket);
                }
            }
            None => self.remove(id, ticket),
        }
        Ok(())
    }

    /// An inspection without the labels and variables of the container's image, which is asked for once.
    async fn without_images_words(&self, id: &str, raw: Value) -> Result<Value, EngineError> {
        let image = raw.get("Image").and_then(Value::as_str).unwrap_or_default();
        if !has_marks(&raw) || image.is_empty() {
            return Ok(raw);
        }
        let known = self.notes().defaults.get(image).cloned();
        let defaults = match known {
            Some(defaults) => defaults,
            None => match if_found(self.engine.image(image).await) {
                Ok(None) => return Ok(raw),
                Ok(Some(inspection)) => {
                    let of = |field| inspection.pointer(field).cloned().unwrap_or_default();
                    let kept = json!({"Config": {"Labels": of("/Config/Labels"), "Env": of("/Config/Env")}});
                    let defaults = Arc::new(kept);
                    self.notes().defaults.insert(image.to_owned(), Arc::clone(&defaults));
                    defaults
                }
                Err(error) if error.is_ambiguous() => return Err(error),
                Err(error) => {
                    tracing::warn!(container = id, image, error = %error, "an image that cannot be inspected");
                    return Ok(raw);
                }
            },
        };
        let (own, left_out) = UserFields::alone(&raw, &defaults);
        if !left_out.is_empty() && !self.snapshot().containers.contains_key(id) {
            tracing::info!(container = id, labels = left_out.join(", "), "labels of the image count for nothing");
        }
        Ok(own)
    }

    async fn inspect_image(&self, reference: &str) -> Result<(), EngineError> {
        let _turn = self.images.lock().await;
        let ticket = self.notes().ticket();
        let found = if_found(self.engine.image_summary(reference).await)?;
        self.show(|snapshot| match found {
            Some(image) => snapshot.take_image(image),
            None => snapshot.lose_image(reference),
        });
        self.notes().saw(&Thing::Image(reference.to_owned()), ticket);
        Ok(())
    }

    /// Shows a container as a call of this ticket found it.
    fn take(&self, mut container: Container, ticket: u64) {
        let mut notes = self.notes();
        if notes.is_news(&container.id, ticket) {
            if container.state == "running" {
                container.health = notes.health_after(&container.id, ticket).or(container.health);
            }
            self.show(|snapshot| snapshot.take_container(container));
        }
    }

    /// Shows a container no more that a call of this ticket did not find.
    fn remove(&self, id: &str, ticket: u64) {
        let mut notes = self.notes();
        if notes.is_news(id, ticket) {
            notes.note_gone(id);
            self.show(|snapshot| snapshot.containers.remove(id).is_some());
        }
    }

    /// Shows a running container as healthy as an event says. Gives back whether it is known to run.
    fn take_health(&self, id: &str, health: Health) -> bool {
        let mut notes = self.notes();
        let known = self.snapshot().containers.get(id).filter(|known| known.state == "running").cloned();
        let Some(known) = known else { return false };
        notes.note_health(id, health);
        self.show(|snapshot| snapshot.take_container(Container { health: Some(health), ..(*known).clone() }));
        true
    }

    /// Everything was listed, and every event from before that on is heard.
    fn hear(&self) {
        self.show(|snapshot| {
            snapshot.hearing = Hearing::Heard { since: Instant::now() };
            true
        });
    }

    /// Something may have happened that was not heard: whoever asks since when all was is told, and nobody else.
    fn miss(&self) {
        self.shown.send_if_modified(|shown| {
            if let Hearing::Heard { since } = &mut Arc::make_mut(shown).hearing {
                *since = Instant::now();
            }
            false
        });
    }

    /// The engine is not heard any more.
    fn lose(&self, error: &EngineError) {
        self.shown.send_if_modified(|shown| {
            let is_new = !matches!(shown.hearing, Hearing::Lost { .. });
            if is_new {
                Arc::make_mut(shown).hearing = Hearing::Lost { since: Instant::now(), why: error.to_string() };
            }
            is_new
        });
    }

    /// Changes what is shown by what the engine told. Nobody is told of what is nothing new.
    fn show(&self, change: impl FnOnce(&mut Snapshot) -> bool) {
        self.shown.send_if_modified(|shown| {
            let shown = Arc::make_mut(shown);
            shown.true_at = Instant::now();
            change(shown)
        });
    }

    /// Never held across a wait.
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
