//! The engine's events as wakes: reconnects for ever, and wakes everything each time, since events in between
//! are lost. Repeated events, and those of other people's containers, wake nobody.

use std::collections::VecDeque;
use std::sync::Arc;

use deployer_core::backoff::Backoff;
use deployer_core::image::{ImageRef, Track};
use deployer_core::replacement::is_transitional;
use deployer_engine::EngineEvent;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::keep;
use crate::look::Wake;
use crate::world::World;

/// Events remembered to tell a repeated one.
const SEEN_MAX: usize = 256;
/// Actions after which a look can find something new.
const ACTIONS: [&str; 14] = [
    "tag",
    "untag",
    "pull",
    "push",
    "load",
    "delete",
    "create",
    "start",
    "die",
    "stop",
    "health_status",
    "rename",
    "update",
    "destroy",
];

/// The trigger.
pub struct EngineEvents {
    /// What the stages share.
    pub world: Arc<World>,
    /// Where wakes go.
    pub wakes: mpsc::Sender<Wake>,
}

impl EngineEvents {
    /// Works until the update stage is gone.
    pub async fn run(self) {
        let mut failures = 0;
        let mut seen: VecDeque<(i64, String, String)> = VecDeque::new();
        while !self.wakes.is_closed() {
            match self.world.engine.events().await {
                Ok(mut events) => {
                    // Subscribed first, then everything looked at: nothing falls in between.
                    let _ = self.wakes.send(Wake::All).await;
                    while let Some(event) = events.next().await {
                        match event {
                            Ok(event) => {
                                failures = 0;
                                self.take(event, &mut seen).await;
                            }
                            Err(error) => {
                                tracing::warn!(error = %error, "the engine's events broke off");
                                break;
                            }
                        }
                    }
                }
                Err(error) => tracing::warn!(error = %error, "the engine's events cannot be had"),
            }
            failures += 1;
            tokio::time::sleep(Backoff::CONNECTION.wait(failures, self.world.ambient.random())).await;
        }
    }

    async fn take(&self, event: EngineEvent, seen: &mut VecDeque<(i64, String, String)>) {
        let mark = (event.time_nano, event.id.clone(), event.action.clone());
        if seen.contains(&mark) {
            return;
        }
        seen.push_back(mark);
        if seen.len() > SEEN_MAX {
            seen.pop_front();
        }
        if let Some(wake) = self.wake(&event) {
            let _ = self.wakes.send(wake).await;
        }
    }

    fn wake(&self, event: &EngineEvent) -> Option<Wake> {
        if !ACTIONS.contains(&event.action.as_str()) {
            return None;
        }
        if event.kind == "container" {
            // What a replacement does to its own containers is nothing to look at before its end, which rings the bell.
            if event.attributes.get("name").is_some_and(|name| is_transitional(name)) {
                return None;
            }
            let is_ours = self.world.settings.manage.includes(&event.attributes);
            let track = event.attributes.get("image").and_then(|image| Track::of_container(image).ok());
            // The set of instances may have changed, so it is not the track alone that needs a look.
            return is_ours.then_some(match (event.action.as_str(), track) {
                ("health_status", Some(track)) => Wake::Track(track),
                _ => Wake::All,
            });
        }
        // A pull and a push give the name with its tag as the ID, and without it as an attribute; a tag the other way.
        let named = || event.attributes.get("name").into_iter().chain([&event.id]);
        if named().any(|name| ImageRef::parse(name).is_ok_and(|image| keep::is_private(&image.name))) {
            return None;
        }
        match named().find_map(|name| Track::parse(name).ok()) {
            // The end of a pull under way rings the bell for its track.
            Some(track) if self.world.memory().pulling.contains_key(&track) => None,
            Some(track) => self.is_registered(&track).then_some(Wake::Track(track)),
            None => (event.action == "load").then_some(Wake::All),
        }
    }

    fn is_registered(&self, track: &Track) -> bool {
        self.world.registered.borrow().as_ref().is_some_and(|tracks| tracks.contains(track))
    }
}
