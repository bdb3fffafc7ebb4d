//! Changes of the engine's mirror as wakes. What is nothing new, and what other people's containers do, wakes nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deployer_core::image::{ImageName, Track};
use deployer_core::replacement::is_transitional;
use deployer_engine::ImageSummary;
use deployer_engine::mirror::{Container, Snapshot};
use tokio::sync::mpsc;

use crate::keep;
use crate::look::Wake;
use crate::world::World;

/// The trigger.
pub struct EngineEvents {
    /// What the stages share.
    pub world: Arc<World>,
    /// Where wakes go.
    pub wakes: mpsc::Sender<Wake>,
}

impl EngineEvents {
    /// Works until the update stage is gone. While a wake waits for its place, changes gather in the mirror.
    pub async fn run(self) {
        let mut shown = self.world.mirror.subscribe();
        let mut before = self.world.mirror.snapshot();
        loop {
            tokio::select! {
                biased;
                () = self.wakes.closed() => return,
                // The mirror lives as long as the world.
                _ = shown.changed() => {}
            }
            let now = Arc::clone(&shown.borrow_and_update());
            for wake in self.woken(&before, &now) {
                let _ = self.wakes.send(wake).await;
            }
            before = now;
        }
    }

    /// Whom a change of the mirror concerns. Nobody while the engine is not heard: everything is looked at when it is.
    fn woken(&self, before: &Snapshot, now: &Snapshot) -> Vec<Wake> {
        if before.hearing != now.hearing {
            return vec![Wake::All];
        }
        if now.is_heard().is_err() {
            return Vec::new();
        }
        // What a replacement does to its own containers is nothing to look at before its end, which rings the bell.
        let is_ours = |container: &Arc<Container>| {
            self.world.settings.manage.includes(&container.labels) && !is_transitional(&container.name)
        };
        // The set of instances, or who of them is up, may have changed, so it is not the track alone that needs a look.
        if changes(&before.containers, &now.containers).any(|(was, is)| is.or(was).is_some_and(is_ours)) {
            return vec![Wake::All];
        }
        let named = changes(&before.images, &now.images).flat_map(|(was, is)| self.renamed(was, is));
        named.collect::<BTreeSet<Track>>().into_iter().map(Wake::Track).collect()
    }

    /// The tracks whose image may have changed with the names of one.
    fn renamed(&self, was: Option<&Arc<ImageSummary>>, is: Option<&Arc<ImageSummary>>) -> BTreeSet<Track> {
        let none = ImageSummary::default();
        let (was, is) = (was.map_or(&none, Arc::as_ref), is.map_or(&none, Arc::as_ref));
        let is_changed = |name: &ImageName| was.digests.get(name) != is.digests.get(name);
        let registered = self.world.registered.borrow();
        let memory = self.world.memory();
        let may_differ = |track: &&Track| {
            let is_moved = was.tags.contains(*track) != is.tags.contains(*track);
            (is_moved || is_changed(track.name())) && !keep::is_private(track.name())
        };
        // The end of a pull under way rings the bell for its track.
        let tracks = registered.iter().flatten().filter(may_differ);
        tracks.filter(|track| !memory.pulling.contains_key(*track)).cloned().collect()
    }
}

/// What differs between two maps: what was there, and what is.
fn changes<'a, T>(
    before: &'a BTreeMap<String, Arc<T>>,
    now: &'a BTreeMap<String, Arc<T>>,
) -> impl Iterator<Item = (Option<&'a Arc<T>>, Option<&'a Arc<T>>)> {
    let gone = before.iter().filter(|(id, _)| !now.contains_key(*id)).map(|(_, was)| (Some(was), None));
    let new = now.iter().map(|(id, is)| (before.get(id), Some(is)));
    let new = new.filter(|(was, is)| was.zip(*is).is_none_or(|(was, is)| !Arc::ptr_eq(was, is)));
    gone.chain(new)
}
